"""Baselines: single models, their random mixture and the oracle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from routing_pomdp.envs import STAY, History, RoutingData, RoutingPOMDP, Rules
from routing_pomdp.envs.arrays import FloatArray
from routing_pomdp.envs.settings.ranges import CountOrZero, Seed, Share
from routing_pomdp.solvers.solver import Actions, OraclePolicy, Policy, Solver


@dataclass(frozen=True, eq=False)
class FixedChoice:
    """Calls one model per query, chosen in advance, and returns its answer unverified.

    Attributes:
        problem: with a free start and VERIFY as an action, so that the policy pays for its one
            call only.
        choice: ``(n_queries,)`` the model for each row of the data, or ``()`` one for all.
    """

    problem: RoutingPOMDP
    choice: NDArray[np.int64]

    @classmethod
    def of(cls, problem: RoutingPOMDP, choice: NDArray[np.int64]) -> FixedChoice:
        rules = Rules(problem.n_models, free_start=True, verify=True)
        return cls(replace(problem, rules=rules), choice)

    def act(self, history: History) -> Actions:
        choice = self.choice[history.query] if self.choice.ndim else self.choice
        return np.where(history.stage < 0, choice + 1, STAY)


@dataclass(frozen=True)
class Static(Solver):
    """The single model with the best return on the training queries.

    Attributes:
        model: the index of a fixed model; None to choose the best.
    """

    model: CountOrZero | None = None

    def solve(self, problem: RoutingPOMDP, train: RoutingData) -> Policy:
        if self.model is not None and not 0 <= self.model < problem.n_models:
            raise ValueError(
                f"solver.model is {self.model}: expected null or 0 … {problem.n_models - 1}"
            )
        gain = train.score.mean(axis=0) - problem.call_price
        chosen = int(np.argmax(gain)) if self.model is None else self.model
        return FixedChoice.of(problem, np.array(chosen))


@dataclass(frozen=True)
class RandomMix(Solver):
    """Random mixture of the most expensive and the cheapest model.

    At any one price a mixture is never better than the better of the two, so a frontier ignores the
    prices and uses evenly spaced shares, one per price.

    Attributes:
        share: probability of the most expensive model, for a single price.
        seed: seed of the draw for each query.
    """

    share: Share = 0.5
    seed: Seed = 0

    def solve(self, problem: RoutingPOMDP, train: RoutingData) -> Policy:
        return RandomMixPolicy(FixedChoice.of(problem, np.array(0)).problem, self.share, self.seed)

    def solve_frontier(
        self, problem: RoutingPOMDP, prices: Sequence[float], train: RoutingData
    ) -> list[Policy]:
        shares = np.linspace(1, 0, len(prices))
        return [
            replace(self, share=float(share)).solve(problem.at(price), train)
            for price, share in zip(prices, shares, strict=True)
        ]


@dataclass(frozen=True, eq=False)
class RandomMixPolicy:
    problem: RoutingPOMDP
    share: float
    seed: int

    def act(self, history: History) -> Actions:
        last = self.problem.n_models - 1
        choice = np.where(uniform(self.seed, history.query) < self.share, last, 0)
        return np.where(history.stage < 0, choice + 1, STAY)


def uniform(seed: int, row: NDArray[np.int64]) -> FloatArray:
    """A uniform draw in [0, 1) for each row, ``(n,)``. It depends only on seed and row, not on the
    batch (SplitMix64: Steele et al., OOPSLA 2014)."""
    mixed = (row.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    mixed ^= np.uint64(np.random.SeedSequence(seed).generate_state(1, np.uint64)[0])
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB), (31, 1)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    return (mixed >> np.uint64(11)).astype(np.float64) * 2.0**-53


@dataclass(frozen=True)
class Oracle(Solver):
    """Reads every score: an upper bound for every router that calls one model per query."""

    def solve(self, problem: RoutingPOMDP, train: RoutingData) -> OraclePolicy:
        return BestScorePolicy(problem)


@dataclass(frozen=True, eq=False)
class BestScorePolicy(OraclePolicy):
    problem: RoutingPOMDP

    def for_queries(self, data: RoutingData) -> Policy:
        """Calls, on each query, the model of the best ``score - λ · cost / c_{N-1}``; ties go to
        the cheaper model."""
        rate = self.problem.price / self.problem.costs.unit
        gain = data.score - rate * data.call_cost
        return FixedChoice.of(self.problem, gain.argmax(axis=1))
