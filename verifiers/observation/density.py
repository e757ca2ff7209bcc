"""Base of observation models with a density for every score, and their conversion to symbols.

Densities are fitted to weighted queries. The queries of a level have weight 1, and all queries
together have an additional weight ``smoothing``: with few queries of a level its density is close
to the pooled one, which is uninformative, and with many to the level's own. Under "joint" a score
vector's density is fitted to its own queries and, with a total weight ``shrinkage``, to those of
"own".

Missing signals (`envs.signals`) are a point mass beside the density and a symbol of their own, with
smoothed counts as in `Histogram`. Infinite signals lie at the ends of the scale.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Protocol, Self

import numpy as np

from routing_pomdp.envs.arrays import FloatArray, IntArray
from routing_pomdp.envs.model.binning import Binning, inner_edges
from routing_pomdp.envs.settings.checks import check_settings
from routing_pomdp.envs.settings.ranges import Positive, Symbols
from routing_pomdp.verifiers.observation.histogram import (
    Conditioning,
    Counting,
    least_informative,
    medians,
    row_of,
)
from routing_pomdp.verifiers.observation.scale import LogitScale, Scale

# Likelihood that is spread evenly over symbols, so that no signal makes a score impossible.
_FLOOR = 1e-6


class Densities(Protocol):
    """``G`` densities over logits."""

    def pdf(self, z: FloatArray) -> FloatArray:
        """``(G, m)`` at logits ``(m,)``; each integrates to one over the real line."""

    def cdf(self, z: FloatArray) -> FloatArray:
        """``(G, m)`` mass below logits ``(m,)``."""


@dataclass(eq=False)
class DensityObservation(ABC):
    """Fits a density of each model's signal for every score, on the logit scale.

    Attributes:
        bins: ``K``, or ``K - 1`` if a missing signal is a symbol too: how many symbols signals are
            turned into for the finite model.
        binning: as `Histogram`, on the logit scale. Likelihoods are the densities' mass in each
            bin, not counts, so more bins need no more data.
        conditioning: "own": ``f_i(o | y_i)``; "joint": ``f_i(o | y)``.
        scale: of signals in logits, see `LogitScale`.
        smoothing: total weight, in queries, of all queries in each level's density.
        shrinkage: under "joint", weight of "own" in queries.
        missing: as `Histogram`.
        missing_: fitted, whether a missing signal is a symbol.
        silent_: fitted, ``(N - 1,)`` the symbol of a missing signal.
        absent_: fitted, ``(N - 1, S)`` the probability that a signal is missing.
        scale_: fitted, ``N - 1`` scales.
        edges_: fitted, ``N - 1`` arrays of inner bin edges in logits.
        densities_: fitted, of each model.
        group_: fitted, ``(N - 1, S)`` index of each score vector's density.
        likelihood: fitted, ``(N - 1, S, K)``.
        representative: fitted, ``(N - 1, K, 1)`` the median training signal of each bin.

    Raises:
        ValueError: a value is out of its range.
    """

    bins: Symbols = 8
    binning: Binning = "quantile"
    conditioning: Conditioning = "own"
    scale: Scale = "auto"
    smoothing: Positive = 2.0
    shrinkage: Positive = 16.0
    missing: bool = False
    missing_: bool = field(init=False, repr=False)
    silent_: IntArray = field(init=False, repr=False)
    absent_: FloatArray = field(init=False, repr=False)
    scale_: list[LogitScale] = field(init=False, repr=False)
    edges_: list[FloatArray] = field(init=False, repr=False)
    densities_: list[Densities] = field(init=False, repr=False)
    group_: IntArray = field(init=False, repr=False)
    likelihood: FloatArray = field(init=False, repr=False)
    representative: FloatArray = field(init=False, repr=False)

    def __post_init__(self) -> None:
        check_settings(self, "observation")
        self.missing_ = self.missing

    @abstractmethod
    def _fit(self, z: FloatArray, weight: FloatArray) -> Densities:
        """``G`` densities fitted to logits ``(n,)`` with weights ``(G, n)``."""

    @property
    def n_symbols(self) -> int:
        return self.bins + self.missing_

    def fit(self, signal: FloatArray, level: IntArray, score_vectors: IntArray) -> Self:
        """Estimates densities, edges and likelihoods; arguments as `Histogram.fit`.

        Raises:
            ValueError: signals have more than one number, or do not fit the scale.
        """
        _, n_verified, width = signal.shape
        if width != 1:
            raise ValueError(
                f"observation={type(self).__name__} takes one number an answer, the verifier gives "
                f"{width}: use observation=product or observation=merged"
            )
        kind = LogitScale.fit(signal, self.scale).kind  # the same for all models
        self.scale_, self.edges_, self.densities_ = [], [], []
        self.group_ = np.empty((n_verified, len(score_vectors)), dtype=np.int64)
        absent = np.isnan(signal[..., 0])
        self.missing_ = self.missing or bool(absent.any())
        self.silent_ = np.full(n_verified, self.bins)
        self.absent_ = np.zeros((n_verified, len(score_vectors)))
        self.likelihood = np.zeros((n_verified, len(score_vectors), self.n_symbols))
        self.representative = np.empty((n_verified, self.n_symbols, 1))
        rows = row_of(level, score_vectors)
        counting = Counting(self, level, score_vectors)
        for model in range(n_verified):
            present = ~absent[:, model]
            raw, own, vector = signal[present, model, 0], level[present, model], rows[present]
            self.scale_.append(LogitScale.fit(raw, kind))
            z = self.scale_[model](raw)
            target = level[present] if self.conditioning == "joint" else own[:, None]
            self.edges_.append(inner_edges(z, target, self.bins, self.binning))
            if not len(z):  # without signals any density will do
                z, own, vector = np.zeros(len(rows)), level[:, model], rows
            weight, self.group_[model] = self._weights(own, score_vectors[:, model], vector)
            self.densities_.append(self._fit(z, weight))
            used = len(self.edges_[model]) + 1
            below = self.densities_[model].cdf(self.edges_[model])
            share = np.maximum(np.diff(below, axis=1, prepend=0.0, append=1.0), 0.0) + _FLOOR / used
            share /= share.sum(axis=1, keepdims=True)
            if self.missing_:
                symbol = np.where(present, 0, self.bins)
                counted = counting.likelihood(model, symbol, 1, self.n_symbols)
                self.absent_[model] = self.likelihood[model, :, self.bins] = counted[:, self.bins]
            emitted = 1 - self.absent_[model][:, None]
            self.likelihood[model, :, :used] = emitted * share[self.group_[model]]
            if not self.missing_:
                self.silent_[model] = least_informative(self.likelihood[model])
            self.representative[model, :, 0] = self._representative(model, raw)
        return self

    def symbols(self, model: int, signal: FloatArray) -> IntArray:
        """Symbols ``(n,)`` of one model's signals ``(n, 1)``."""
        z = self.scale_[model](signal[:, 0])
        symbol = np.searchsorted(self.edges_[model], z, side="right")
        return np.where(np.isnan(z), self.silent_[model], symbol)

    def density(self, model: int, signal: FloatArray) -> FloatArray:
        """``(n, S)`` densities of one model's signals ``(n, 1)`` given each score vector, per unit
        of logit. For a missing signal it is the probability, or 1 if a missing signal is no
        symbol."""
        z, absent = self.scale_[model](signal[:, 0]), self.absent_[model]
        silent = np.isnan(z)
        density = self.densities_[model].pdf(np.where(silent, 0.0, z))[self.group_[model]].T
        nothing = absent if self.missing_ else np.ones_like(absent)
        return np.where(silent[:, None], nothing, (1 - absent) * density)

    def _weights(
        self, own: IntArray, own_of_vector: IntArray, vector: IntArray
    ) -> tuple[FloatArray, IntArray]:
        """Weights ``(G, n)`` of the queries in each density, and each score vector's density."""
        n, levels = len(own), int(own_of_vector.max()) + 1
        weight = (own == np.arange(levels)[:, None]) + self.smoothing / n
        if self.conditioning == "own":
            return weight, own_of_vector
        group = own_of_vector.copy()  # a vector without training queries has the density of "own"
        trained = np.unique(vector)
        group[trained] = levels + np.arange(len(trained))
        fallback = weight[own_of_vector[trained]]
        fallback *= self.shrinkage / fallback.sum(axis=1, keepdims=True)
        return np.concatenate([weight, (vector == trained[:, None]) + fallback]), group

    def _representative(self, model: int, signal: FloatArray) -> FloatArray:
        edges = self.edges_[model]
        if not len(signal):
            return np.append(np.zeros(self.bins), [np.nan] * self.missing_)
        symbol = self.symbols(model, signal[:, None])
        # Empty bins get their middle; unused ones, with likelihood 0, the largest signal.
        middle = self.scale_[model].inverse((edges[:-1] + edges[1:]) / 2)
        fallback = np.full(self.bins, signal.max())
        fallback[1 : 1 + len(middle)] = middle
        return np.append(medians(signal, symbol, fallback), [np.nan] * self.missing_)
