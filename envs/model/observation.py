"""`Observation`: the protocol of observation models, and the sampling of symbols."""

from __future__ import annotations

from typing import Protocol, Self

import numpy as np

from routing_pomdp.envs.arrays import FloatArray, IntArray


class Observation(Protocol):
    """An observation model: turns signals into symbols with estimated likelihoods ``Z``."""

    @property
    def n_symbols(self) -> int:
        """``K``, the largest number of symbols of any model."""

    def fit(self, signal: FloatArray, level: IntArray, score_vectors: IntArray) -> Self:
        """Estimates ``Z`` from signals ``(n, N - 1, D)`` and score levels ``(n, N)``;
        ``score_vectors`` ``(S, N)`` lists the levels of every score vector."""

    def symbols(self, model: int, signal: FloatArray) -> IntArray:
        """Symbols ``(n,)`` of one model's signals ``(n, D)``."""

    @property
    def likelihood(self) -> FloatArray:
        """``(N - 1, S, K)``: ``Z[i, s, k]`` = P(symbol k of model i | score vector s)."""

    @property
    def representative(self) -> FloatArray:
        """``(N - 1, K, D)``: a typical signal of each symbol."""


def draw_symbols(likelihood: FloatArray, vector: IntArray, rng: np.random.Generator) -> IntArray:
    """Symbols ``(n,)`` drawn for score vectors ``(n,)``, from likelihoods ``(S, K)``."""
    draw, symbol = rng.random(len(vector)), np.zeros(len(vector), dtype=np.int64)
    # The last edge, 1 up to rounding, is left out: a draw above it would have no symbol.
    # One edge at a time is several times faster than gathering all edges of every query.
    for edge in np.ascontiguousarray(likelihood.cumsum(axis=1)[:, :-1].T):
        symbol += draw >= edge.take(vector)
    return symbol
