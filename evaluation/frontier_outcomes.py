"""Outcomes of one solver's policies at many prices, over the same queries.

A solver has ``M`` operating points, one per price, on ``n`` queries. The ``N`` single models,
cheapest first (SLM = column 0, LLM = column N-1), and the oracle at ``M_o`` prices are references.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from routing_pomdp.envs.arrays import FloatArray
from routing_pomdp.evaluation.frontier import Frontier, Point, frontier


@dataclass(frozen=True, eq=False)
class FrontierMeans:
    """Mean outcomes: ``(..., M)`` of the solver, ``(..., N)`` models, ``(..., M_o)`` oracle."""

    score: FloatArray
    cost: FloatArray
    model_score: FloatArray
    model_cost: FloatArray
    oracle_score: FloatArray
    oracle_cost: FloatArray

    @property
    def slm(self) -> Point:
        """Always ``M_0``, the cheapest model."""
        return Point(self.model_cost[..., 0], self.model_score[..., 0])

    @property
    def llm(self) -> Point:
        """Always ``M_{N-1}``, the most expensive model."""
        return Point(self.model_cost[..., -1], self.model_score[..., -1])

    def select(self, keep: NDArray[np.bool_]) -> FrontierMeans:
        """The batch entries where ``keep (R,)`` is true."""
        return FrontierMeans(*(getattr(self, name)[keep] for name in _ARRAYS))

    def router_frontier(self) -> Frontier:
        """The solver's frontier, starting at always-``M_0``."""
        return _anchored(self.slm, self.cost, self.score)

    def static_frontier(self) -> Frontier:
        """The hull of the single models: the frontier of random mixing."""
        return frontier(self.model_cost, self.model_score)

    def oracle_frontier(self) -> Frontier:
        """The oracle's frontier, starting at always-``M_0``."""
        return _anchored(self.slm, self.oracle_cost, self.oracle_score)


@dataclass(frozen=True, eq=False)
class FrontierOutcomes:
    """Outcomes of each query, all on the same ``n`` queries in the same order.

    Attributes:
        score: ``(n, M)`` score of the returned answer at each operating point.
        cost: ``(n, M)`` cost paid, verification included, in the log's unit.
        model_score: ``(n, N)`` score of each single model.
        model_cost: ``(n, N)`` cost of each single model's answer.
        oracle_score: ``(n, M_o)``.
        oracle_cost: ``(n, M_o)``.

    Raises:
        ValueError: an array is not two-dimensional, empty, not finite, of another shape than its
            partner or of another number of queries; a cost is negative.
    """

    score: FloatArray
    cost: FloatArray
    model_score: FloatArray
    model_cost: FloatArray
    oracle_score: FloatArray
    oracle_cost: FloatArray

    def __post_init__(self) -> None:
        for name in _ARRAYS:
            values = np.asarray(getattr(self, name), dtype=np.float64)
            _check_outcomes(name, values)
            object.__setattr__(self, name, values)
        if len({len(getattr(self, name)) for name in _ARRAYS}) > 1:
            found = ", ".join(f"{name} {len(getattr(self, name))}" for name in _ARRAYS)
            raise ValueError(f"outcomes: numbers of queries differ ({found}); expected one n")
        for prefix in ("", "model_", "oracle_"):
            pair = [getattr(self, f"{prefix}{kind}").shape for kind in ("score", "cost")]
            if pair[0] != pair[1]:
                raise ValueError(
                    f"outcomes: {prefix}score has shape {pair[0]} and {prefix}cost {pair[1]}; "
                    "expected the same, one column per operating point"
                )

    def __len__(self) -> int:
        return len(self.score)

    def means(self, weights: FloatArray | None = None) -> FrontierMeans:
        """Means over queries.

        Args:
            weights: ``(R, n)`` weights of the queries in each of R resamples; without them every
                query counts once.

        Returns:
            Arrays ``(M,)``, or ``(R, M)`` with weights.
        """
        arrays = (getattr(self, name) for name in _ARRAYS)
        if weights is None:
            return FrontierMeans(*(values.mean(axis=0) for values in arrays))
        total = weights.sum(axis=1, keepdims=True)
        return FrontierMeans(*(weights @ values / total for values in arrays))


_ARRAYS = tuple(field.name for field in fields(FrontierOutcomes))


def _anchored(slm: Point, cost: FloatArray, score: FloatArray) -> Frontier:
    return frontier(
        np.concatenate([slm.cost[..., None], cost], axis=-1),
        np.concatenate([slm.score[..., None], score], axis=-1),
    )


def _check_outcomes(name: str, values: FloatArray) -> None:
    if values.ndim != 2 or values.size == 0:
        raise ValueError(
            f"outcomes: {name} has shape {values.shape}; expected (queries, columns), neither empty"
        )
    bad = ~np.isfinite(values)
    wanted = "a finite number"
    if name.endswith("cost"):
        bad |= values < 0
        wanted = "a finite cost, 0 or more"
    if bad.any():
        row, column = (int(i) for i in np.argwhere(bad)[0])
        raise ValueError(
            f"outcomes: {name} is {values[row, column]} at query {row}, column {column}; "
            f"expected {wanted}: select the queries that every policy was evaluated on"
        )
