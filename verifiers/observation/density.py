"""Observation models with a density for every score: what they share, and how they become symbols.

A density is fitted to weighted queries. Those of a level have weight 1 and all queries together a
little more, ``smoothing``: with few queries of a level its density is the pooled one, which says
nothing, and with many it is the level's own. Under "joint" a score vector's density is fitted to
its own queries and, with weight ``shrinkage`` in all, to what "own" fits.

Missing signals (`envs.signals`) are a point mass beside the density, and a symbol of its own, by
smoothed counts as in `Histogram`. Infinite ones lie where the scale is cut off.
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
    least_telling,
    medians,
    row_of,
)
from routing_pomdp.verifiers.observation.scale import LogitScale, Scale

# Share of a symbol's likelihood that is spread evenly: no signal proves a score impossible.
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
        bins: ``K``, or ``K - 1`` beside the symbol of a missing signal: symbols that a signal is
            turned into for the finite model.
        binning: as `Histogram`, on the logit scale; likelihoods are the densities' mass in each
            bin, not counts, so more bins cost no data.
        conditioning: "own": ``f_i(o | y_i)``; "joint": ``f_i(o | y)``.
        scale: how a signal becomes a logit, see `LogitScale`.
        smoothing: weight, in queries, of all queries in each level's density.
        shrinkage: under "joint", weight of "own" in queries.
        missing: as `Histogram`.
        missing_: fitted, whether a missing signal is a symbol.
        silent_: fitted, ``(N - 1,)`` the symbol that one is taken for.
        absent_: fitted, ``(N - 1, S)`` the probability that a signal is missing.
        scale_: fitted, ``N - 1`` scales.
        edges_: fitted, ``N - 1`` arrays of inner bin edges in logits.
        densities_: fitted, of each model.
        group_: fitted, ``(N - 1, S)`` which of the densities is each score vector's.
        likelihood: fitted, ``(N - 1, S, K)``.
        representative: fitted, ``(N - 1, K, 1)`` the median training signal of each bin.

    Raises:
        ValueError: a value out of its range, with the key.
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
        """``G`` densities of logits ``(n,)``, each with its weights ``(G, n)``."""

    @property
    def n_symbols(self) -> int:
        return self.bins + self.missing_

    def fit(self, signal: FloatArray, level: IntArray, score_vectors: IntArray) -> Self:
        """Estimates densities, edges and likelihoods; arguments as `Histogram.fit`.

        Raises:
            ValueError: signals of more than one number, or not of the scale.
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
        silence = np.isnan(signal[..., 0])
        self.missing_ = self.missing or bool(silence.any())
        self.silent_ = np.full(n_verified, self.bins)
        self.absent_ = np.zeros((n_verified, len(score_vectors)))
        self.likelihood = np.zeros((n_verified, len(score_vectors), self.n_symbols))
        self.representative = np.empty((n_verified, self.n_symbols, 1))
        rows = row_of(level, score_vectors)
        counting = Counting(self, level, score_vectors)
        for model in range(n_verified):
            some = ~silence[:, model]
            raw, own, vector = signal[some, model, 0], level[some, model], rows[some]
            self.scale_.append(LogitScale.fit(raw, kind))
            z = self.scale_[model](raw)
            target = level[some] if self.conditioning == "joint" else own[:, None]
            self.edges_.append(inner_edges(z, target, self.bins, self.binning))
            if not len(z):  # any density will do: none of its signals will come
                z, own, vector = np.zeros(len(rows)), level[:, model], rows
            weight, self.group_[model] = self._weights(own, score_vectors[:, model], vector)
            self.densities_.append(self._fit(z, weight))
            used = len(self.edges_[model]) + 1
            below = self.densities_[model].cdf(self.edges_[model])
            share = np.maximum(np.diff(below, axis=1, prepend=0.0, append=1.0), 0.0) + _FLOOR / used
            share /= share.sum(axis=1, keepdims=True)
            if self.missing_:
                symbol = np.where(some, 0, self.bins)
                counted = counting.likelihood(model, symbol, 1, self.n_symbols)
                self.absent_[model] = self.likelihood[model, :, self.bins] = counted[:, self.bins]
            there = 1 - self.absent_[model][:, None]
            self.likelihood[model, :, :used] = there * share[self.group_[model]]
            if not self.missing_:
                self.silent_[model] = least_telling(self.likelihood[model])
            self.representative[model, :, 0] = self._representative(model, raw)
        return self

    def symbols(self, model: int, signal: FloatArray) -> IntArray:
        """Symbols ``(n,)`` of one model's signals ``(n, 1)``."""
        z = self.scale_[model](signal[:, 0])
        symbol = np.searchsorted(self.edges_[model], z, side="right")
        return np.where(np.isnan(z), self.silent_[model], symbol)

    def density(self, model: int, signal: FloatArray) -> FloatArray:
        """``(n, S)`` the density of one model's signals ``(n, 1)`` given each score vector, per
        unit of logit: the likelihood before it is cut into symbols. Of a missing one it is the
        probability; the same for all where none is counted on."""
        z, absent = self.scale_[model](signal[:, 0]), self.absent_[model]
        silent = np.isnan(z)
        density = self.densities_[model].pdf(np.where(silent, 0.0, z))[self.group_[model]].T
        nothing = absent if self.missing_ else np.ones_like(absent)
        return np.where(silent[:, None], nothing, (1 - absent) * density)

    def _weights(
        self, own: IntArray, own_of_vector: IntArray, vector: IntArray
    ) -> tuple[FloatArray, IntArray]:
        """Weights ``(G, n)`` of the queries in each density, and each score vector's ``(S,)``."""
        n, levels = len(own), int(own_of_vector.max()) + 1
        weight = (own == np.arange(levels)[:, None]) + self.smoothing / n
        if self.conditioning == "own":
            return weight, own_of_vector
        group = own_of_vector.copy()  # a vector that was never seen has the density of "own"
        seen = np.unique(vector)
        group[seen] = levels + np.arange(len(seen))
        fallback = weight[own_of_vector[seen]]
        fallback *= self.shrinkage / fallback.sum(axis=1, keepdims=True)
        return np.concatenate([weight, (vector == seen[:, None]) + fallback]), group

    def _representative(self, model: int, signal: FloatArray) -> FloatArray:
        edges = self.edges_[model]
        if not len(signal):
            return np.append(np.zeros(self.bins), [np.nan] * self.missing_)
        symbol = self.symbols(model, signal[:, None])
        # An empty bin lies between two others; an unused one has likelihood 0.
        middle = self.scale_[model].inverse((edges[:-1] + edges[1:]) / 2)
        fallback = np.full(self.bins, signal.max())
        fallback[1 : 1 + len(middle)] = middle
        return np.append(medians(signal, symbol, fallback), [np.nan] * self.missing_)
