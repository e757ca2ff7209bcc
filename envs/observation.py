"""`Observation`: how signals become symbols."""

from __future__ import annotations

from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


class Observation(Protocol):
    """Turns a verifier's signals into symbols with estimated likelihoods ``Z``."""

    @property
    def n_symbols(self) -> int:
        """``K``, the most symbols that any model has."""

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
