"""`Histogram`: observation likelihoods by counting signals in bins."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

from envs.checks import check_settings
from envs.ranges import Positive, Symbols
from verifiers.binning import Binning, inner_edges

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

Conditioning = Literal["own", "joint"]


@dataclass(eq=False)
class Histogram:
    """Bins each model's signal; ``Z`` is the smoothed share of each bin.

    Attributes:
        bins: ``K``. Fewer are used for a model whose signals tie so often that bins would be
            empty.
        binning: edges at equal shares of the training signals ("quantile", the default: no
            monotone transform of the signal changes it), at equal widths over their range
            ("uniform"), or where they gain most information on the level that the signal is
            conditioned on ("supervised": at most ``bins``, as many as the data bear).
        conditioning: "own": ``Z_i(o | y_i)``. "joint": ``Z_i(o | y)``, for a signal that says
            more of the query than of the answer; a Dirichlet posterior around "own".
        smoothing: pseudo-counts for each level, spread like the model's pooled signals.
        shrinkage: under "joint", the weight of "own" in queries: a score vector seen ``n`` times
            has the likelihood ``(counts + shrinkage · own) / (n + shrinkage)``.
        edges_: fitted, ``N - 1`` arrays of inner bin edges; a signal on an edge lies above it.
        likelihood: fitted, ``(N - 1, S, K)``.
        representative: fitted, ``(N - 1, K, 1)`` the median training signal of each bin.

    Raises:
        ValueError: a value out of its range, with the key.
    """

    bins: Symbols = 8
    binning: Binning = "quantile"
    conditioning: Conditioning = "own"
    smoothing: Positive = 2.0
    shrinkage: Positive = 16.0
    edges_: list[FloatArray] = field(init=False, repr=False)
    likelihood: FloatArray = field(init=False, repr=False)
    representative: FloatArray = field(init=False, repr=False)

    def __post_init__(self) -> None:
        check_settings(self, "observation")

    @property
    def n_symbols(self) -> int:
        return self.bins

    def fit(self, signal: FloatArray, level: IntArray, score_vectors: IntArray) -> Self:
        """Estimates edges and likelihoods.

        Args:
            signal: ``(n, N - 1, 1)`` training signals.
            level: ``(n, N)`` score levels of every model.
            score_vectors: ``(S, N)`` the levels of every score vector.

        Raises:
            ValueError: signals of more than one number.
        """
        _, n_verified, width = signal.shape
        if width != 1:
            raise ValueError(
                f"observation=histogram bins one number an answer, the verifier gives {width}"
            )
        n_vectors, levels = len(score_vectors), int(score_vectors.max()) + 1
        vector = row_of(level, score_vectors)
        self.edges_ = [
            inner_edges(
                signal[:, model, 0],
                level if self.conditioning == "joint" else level[:, [model]],
                self.bins,
                self.binning,
            )
            for model in range(n_verified)
        ]
        self.likelihood = np.empty((n_verified, n_vectors, self.bins))
        self.representative = np.empty((n_verified, self.bins, 1))
        for model in range(n_verified):
            symbol = self.symbols(model, signal[:, model])
            used = len(self.edges_[model]) + 1
            pooled = np.bincount(symbol, minlength=self.bins) + 0.5 * (np.arange(self.bins) < used)
            counts = _count(level[:, model], symbol, levels, self.bins)
            own = _dirichlet_mean(counts, self.smoothing * pooled / pooled.sum())
            likelihood = own[score_vectors[:, model]]
            if self.conditioning == "joint":
                joint = _count(vector, symbol, n_vectors, self.bins)
                likelihood = _dirichlet_mean(joint, self.shrinkage * likelihood)
            self.likelihood[model] = likelihood
            self.representative[model, :, 0] = self._representative(model, signal[:, model, 0])
        return self

    def symbols(self, model: int, signal: FloatArray) -> IntArray:
        """Bins ``(n,)`` of one model's signals ``(n, 1)``."""
        return np.searchsorted(self.edges_[model], signal[:, 0], side="right")

    def _representative(self, model: int, signal: FloatArray) -> FloatArray:
        edges = self.edges_[model]
        symbol = np.searchsorted(edges, signal, side="right")
        # An empty bin (of equal widths) is represented by its lower edge; an unused one, which
        # has likelihood 0, by the largest signal.
        fallback = np.full(self.bins, signal.max())
        fallback[: len(edges) + 1] = np.concatenate([[signal.min()], edges])
        return medians(signal, symbol, fallback)


def medians(signal: FloatArray, symbol: IntArray, fallback: FloatArray) -> FloatArray:
    """The median signal of each symbol, ``(K,)``, or ``fallback`` ``(K,)`` where there is none."""
    return np.array(
        [
            np.median(signal[symbol == k]) if (symbol == k).any() else other
            for k, other in enumerate(fallback)
        ]
    )


def row_of(level: IntArray, score_vectors: IntArray) -> IntArray:
    """The row of ``score_vectors`` that each query's levels are, ``(n,)``."""
    weight = (score_vectors.max() + 1) ** np.arange(score_vectors.shape[1])
    keys = score_vectors @ weight
    order = np.argsort(keys)
    return order[np.searchsorted(keys[order], level @ weight)]


def _count(row: IntArray, column: IntArray, rows: int, columns: int) -> FloatArray:
    flat = np.bincount(row * columns + column, minlength=rows * columns)
    return flat.reshape(rows, columns).astype(np.float64)


def _dirichlet_mean(counts: FloatArray, prior: FloatArray) -> FloatArray:
    """Posterior means of rows of counts under Dirichlet priors that they are added to."""
    posterior = counts + prior
    return posterior / posterior.sum(axis=1, keepdims=True)
