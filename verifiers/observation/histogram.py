"""`Histogram`: observation likelihoods by counting signals in bins.

A missing signal (`envs.signals`) is a symbol of its own, the last one, if any training signal was
missing or ``missing`` is set. For a model without missing training signals its likelihood is the
same small number for all scores, from half a pseudo-query: it is uninformative.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, Self

import numpy as np

from routing_pomdp.envs.arrays import FloatArray, IntArray
from routing_pomdp.envs.model.binning import Binning, inner_edges
from routing_pomdp.envs.settings.checks import check_settings
from routing_pomdp.envs.settings.ranges import Positive, Symbols
from routing_pomdp.envs.signals import HALF

Conditioning = Literal["own", "joint"]


@dataclass(eq=False)
class Histogram:
    """Bins each model's signal; ``Z`` is the smoothed share of each bin.

    Attributes:
        bins: ``K``, or ``K - 1`` if a missing signal is a symbol too. Fewer are used for a model
            whose signals tie so often that bins would be empty.
        binning: edges at equal shares of the training signals ("quantile", the default, invariant
            under monotone transforms), at equal widths over their range ("uniform"), or of the
            greatest information gain about the level that the signal is conditioned on
            ("supervised": at most ``bins``, as many as the data support).
        conditioning: "own": ``Z_i(o | y_i)``. "joint": ``Z_i(o | y)``, for a signal that depends
            more on the query than on the answer; a Dirichlet posterior mean around "own".
        smoothing: pseudo-counts for each level, distributed like the model's pooled signals.
        shrinkage: under "joint", the weight of "own" in queries: a score vector with ``n`` training
            queries has the likelihood ``(counts + shrinkage · own) / (n + shrinkage)``.
        missing: reserves a symbol for missing signals even if training has none. Otherwise a
            missing signal is mapped to the least informative bin.
        edges_: fitted, ``N - 1`` arrays of inner bin edges; a signal on an edge lies above it.
        missing_: fitted, whether a missing signal is a symbol.
        silent_: fitted, ``(N - 1,)`` the symbol of a missing signal.
        likelihood: fitted, ``(N - 1, S, K)``.
        representative: fitted, ``(N - 1, K, 1)`` the median training signal of each bin; NaN for a
            missing one.

    Raises:
        ValueError: a value is out of its range.
    """

    bins: Symbols = 8
    binning: Binning = "quantile"
    conditioning: Conditioning = "own"
    smoothing: Positive = 2.0
    shrinkage: Positive = 16.0
    missing: bool = False
    edges_: list[FloatArray] = field(init=False, repr=False)
    missing_: bool = field(init=False, repr=False)
    silent_: IntArray = field(init=False, repr=False)
    likelihood: FloatArray = field(init=False, repr=False)
    representative: FloatArray = field(init=False, repr=False)

    def __post_init__(self) -> None:
        check_settings(self, "observation")
        self.missing_ = self.missing

    @property
    def n_symbols(self) -> int:
        return self.bins + self.missing_

    def fit(self, signal: FloatArray, level: IntArray, score_vectors: IntArray) -> Self:
        """Estimates edges and likelihoods.

        Args:
            signal: ``(n, N - 1, 1)`` training signals.
            level: ``(n, N)`` score levels of every model.
            score_vectors: ``(S, N)`` the levels of every score vector.

        Raises:
            ValueError: signals have more than one number.
        """
        _, n_verified, width = signal.shape
        if width != 1:
            raise ValueError(
                f"observation=histogram bins one number an answer, the verifier gives {width}"
            )
        present = ~np.isnan(signal[..., 0])
        self.missing_ = self.missing or not bool(present.all())
        self.silent_ = np.full(n_verified, self.bins)
        self.edges_ = [
            inner_edges(
                signal[present[:, model], model, 0],
                (level if self.conditioning == "joint" else level[:, [model]])[present[:, model]],
                self.bins,
                self.binning,
            )
            for model in range(n_verified)
        ]
        counting = Counting(self, level, score_vectors)
        self.likelihood = np.empty((n_verified, len(score_vectors), self.n_symbols))
        self.representative = np.empty((n_verified, self.n_symbols, 1))
        for model in range(n_verified):
            symbol = self.symbols(model, signal[:, model])
            used = len(self.edges_[model]) + 1
            self.likelihood[model] = counting.likelihood(model, symbol, used, self.n_symbols)
            raw = signal[present[:, model], model, 0]
            self.representative[model, :, 0] = self._representative(model, raw)
            if not self.missing_:
                self.silent_[model] = least_informative(self.likelihood[model])
        return self

    def symbols(self, model: int, signal: FloatArray) -> IntArray:
        """Symbols ``(n,)`` of one model's signals ``(n, 1)``."""
        symbol = np.searchsorted(self.edges_[model], signal[:, 0], side="right")
        return np.where(np.isnan(signal[:, 0]), self.silent_[model], symbol)

    def _representative(self, model: int, signal: FloatArray) -> FloatArray:
        """``(K,)`` the representative of each symbol, from signals that are not missing."""
        edges = self.edges_[model]
        symbol = np.searchsorted(edges, signal, side="right")
        # Empty bins (of equal widths) get their lower edge; unused ones, with likelihood 0, the
        # largest signal.
        fallback = np.full(self.bins, signal.max() if len(signal) else 0.0)
        if len(signal):
            fallback[: len(edges) + 1] = np.concatenate([[signal.min()], edges])
        return np.append(medians(signal, symbol, fallback), [np.nan] * self.missing_)


class Counting:
    """Likelihoods of symbols by smoothed counts, for an observation model with the settings
    ``conditioning``, ``smoothing`` and ``shrinkage``; arguments as `Histogram.fit`."""

    def __init__(self, settings: Any, level: IntArray, score_vectors: IntArray) -> None:
        self._settings, self._level, self._vectors = settings, level, score_vectors
        self._vector = row_of(level, score_vectors)

    def likelihood(self, model: int, symbol: IntArray, used: int, n_symbols: int) -> FloatArray:
        """``(S, K)`` likelihoods from one model's training symbols ``(n,)``. The first ``used``
        symbols are possible; if ``K`` is larger than ``bins``, the last one is a missing signal."""
        settings, n_vectors = self._settings, len(self._vectors)
        levels, at = int(self._vectors.max()) + 1, np.arange(n_symbols)
        silent = at >= settings.bins
        possible = (at < used) | (silent & bool((symbol >= settings.bins).any()))
        pooled = np.bincount(symbol, minlength=n_symbols) + HALF * possible
        counts = _count(self._level[:, model], symbol, levels, n_symbols)
        own = _dirichlet_mean(counts, settings.smoothing * pooled / pooled.sum())
        likelihood = own[self._vectors[:, model]]
        if settings.conditioning == "joint":
            joint = _count(self._vector, symbol, n_vectors, n_symbols)
            likelihood = _dirichlet_mean(joint, settings.shrinkage * likelihood)
        unseen = silent & ~possible
        if unseen.any():
            chance = HALF / (len(symbol) + HALF)
            likelihood = np.where(unseen, chance, (1 - chance) * likelihood)
        return likelihood


def count_on_missing(observation: Any) -> None:
    """Sets an observation model, or the one that it contains, to reserve a symbol for missing
    signals even if training has none."""
    while hasattr(observation, "of"):
        observation = observation.of
    if hasattr(observation, "missing"):
        observation.missing = True


def least_informative(likelihood: FloatArray) -> int:
    """The symbol whose likelihoods ``(S, K)`` differ least between score vectors."""
    low, high = likelihood.min(axis=0), likelihood.max(axis=0)
    return int(np.where(low > 0, high / np.where(low > 0, low, 1.0), np.inf).argmin())


def medians(signal: FloatArray, symbol: IntArray, fallback: FloatArray) -> FloatArray:
    """The median signal of each symbol, ``(K,)``; ``fallback`` ``(K,)`` without signals."""
    return np.array(
        [
            _median(signal[symbol == k]) if (symbol == k).any() else other
            for k, other in enumerate(fallback)
        ]
    )


def _median(signal: FloatArray) -> float:
    if np.isinf(signal).any():  # the mean of -∞ and a number would be -∞
        return float(np.sort(signal)[(len(signal) - 1) // 2])
    return float(np.median(signal))


def row_of(level: IntArray, score_vectors: IntArray) -> IntArray:
    """The row of ``score_vectors`` that equals each query's levels, ``(n,)``."""
    weight = (score_vectors.max() + 1) ** np.arange(score_vectors.shape[1])
    keys = score_vectors @ weight
    order = np.argsort(keys)
    return order[np.searchsorted(keys[order], level @ weight)]


def _count(row: IntArray, column: IntArray, rows: int, columns: int) -> FloatArray:
    flat = np.bincount(row * columns + column, minlength=rows * columns)
    return flat.reshape(rows, columns).astype(np.float64)


def _dirichlet_mean(counts: FloatArray, prior: FloatArray) -> FloatArray:
    """Posterior means of rows of counts under Dirichlet priors with these pseudo-counts."""
    posterior = counts + prior
    return posterior / posterior.sum(axis=1, keepdims=True)
