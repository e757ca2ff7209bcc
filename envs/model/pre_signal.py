"""`PreSignal`: the observation model of a pre-query signal, observed before the first call.

The signal depends on all of a query's scores: a hard query is hard for every model. Its likelihood
is one factor ``Z(o | y)``. Once it is observed, the rest of the episode is a usual routing problem
with the prior ``p(y | o)``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from routing_pomdp.envs.arrays import FloatArray, IntArray
from routing_pomdp.envs.model.observation import Observation, draw_symbols


@dataclass(frozen=True, eq=False)
class PreSignal:
    """A pre-query signal of ``P`` symbols.

    Attributes:
        likelihood: ``(S, P)``: ``Z[s, o]`` = P(symbol o | score vector s).
        cost: mean cost of the signal, in the unit of the calls.
        observation: turns raw signals into symbols; None if signals are the symbols themselves.

    Raises:
        ValueError: likelihoods do not sum to one, or the cost is negative.
    """

    likelihood: FloatArray
    cost: float = 0.0
    observation: Observation | None = None

    def __post_init__(self) -> None:
        rows = self.likelihood
        if rows.ndim != 2 or not (
            np.all(rows >= 0) and np.allclose(rows.sum(-1), 1, rtol=0, atol=1e-9)
        ):
            raise ValueError(
                "likelihood of the pre-query signal must be (S, P), non-negative, and sum to one "
                "along its last axis"
            )
        if not 0 <= self.cost < np.inf:
            raise ValueError(f"cost of the pre-query signal is {self.cost}: expected >= 0")

    @classmethod
    def fit(
        cls,
        signal: FloatArray,
        cost: FloatArray,
        observation: Observation,
        level: IntArray,
        score_vectors: IntArray,
    ) -> Self:
        """Estimates it from training queries.

        Args:
            signal: ``(n, D)``.
            cost: ``(n,)``.
            observation: unfitted. The sum of all levels takes the role of a model's own level: the
                conditioning ``own`` depends on how many models are right, and ``joint`` has a
                likelihood for every score vector, shrunk toward that of ``own``.
            level: ``(n, N)`` score levels.
            score_vectors: ``(S, N)``.
        """
        fitted = observation.fit(signal[:, None], _with_sum(level), _with_sum(score_vectors))
        return cls(fitted.likelihood[0], float(cost.mean()), fitted)

    @property
    def n_symbols(self) -> int:
        """``P``."""
        return self.likelihood.shape[1]

    def symbols(self, signal: FloatArray) -> IntArray:
        """Symbols ``(n,)`` of signals ``(n, D)``."""
        if self.observation is None:
            return signal[:, 0].astype(np.int64)
        return self.observation.symbols(0, signal)

    def posteriors(self, prior: FloatArray) -> FloatArray:
        """``(P, S)`` posteriors of the score vectors after each symbol; the prior after an
        impossible one."""
        joint = prior * self.likelihood.T
        mass = joint.sum(axis=1, keepdims=True)
        return np.where(mass > 0, joint / np.where(mass > 0, mass, 1.0), prior)

    def sample(self, vector: IntArray, rng: np.random.Generator) -> FloatArray:
        """Signals ``(n, D)`` drawn for queries with score vectors ``(n,)``; each symbol is replaced
        by its representative signal."""
        return self.representative[draw_symbols(self.likelihood, vector, rng)]

    @property
    def representative(self) -> FloatArray:
        """``(P, D)``: a typical signal of each symbol."""
        if self.observation is None:
            return np.arange(self.n_symbols, dtype=np.float64)[:, None]
        return self.observation.representative[0]


def _with_sum(level: IntArray) -> IntArray:
    """Levels with their sum prepended as a column."""
    return np.column_stack([level.sum(axis=1), level])
