"""The heuristics of AutoMix's release (the package automix-llm 1.0.3), with equal decisions.

The release routes between two models. It bins the confidence, lists candidate rules and keeps the
one with the best **IBC lift** on the training queries, ``(IBC_M − IBC_base)/IBC_base``. It does not
use a price. Its candidates:

- simple (``POMDPSimple``): queries are *needy* (the large model is better), *hopeless* (neither
  scores) or *good* (the rest), counted by bin; a bin escalates if its expected reward does, for
  5,000 values of the reward;
- greedy (``GreedyPOMDP``): bins in the order of their smoothed gain; the best 1, 2 … escalate;
- union (``POMDP``): both, and all single and double thresholds on the grid of bins.

With 2, 4, 8 and 16 bins the decisions equal the release's, ties included. Other numbers are
refused: the release mislabels their bins by rounding.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Annotated, Literal

import numpy as np
from scipy.ndimage import gaussian_filter

from routing_pomdp.envs import STAY, History, RoutingData, RoutingPOMDP, Rules
from routing_pomdp.envs.arrays import BoolArray, FloatArray
from routing_pomdp.envs.settings.ranges import Range
from routing_pomdp.solvers.automix.thresholds import require_confidence, silent_confidence
from routing_pomdp.solvers.cascades.threshold import require_one_signal
from routing_pomdp.solvers.settings import Pair
from routing_pomdp.solvers.solver import Actions, Policy, Solver

Bins = Literal[2, 4, 8, 16]  # at no other does the release bin as it says
_REWARDS = 5000


@dataclass(frozen=True)
class Candidates:
    """Rules that escalate by the nearest grid point of the confidence, or between two of them.

    Attributes:
        by_bin: ``(c, bins + 1)`` whether a confidence nearest to each grid point escalates.
        bands: ``(b, 2)`` escalate from the first confidence to the second, both included.
    """

    by_bin: BoolArray
    bands: FloatArray

    def __len__(self) -> int:
        return len(self.by_bin) + len(self.bands)

    def decide(self, confidence: FloatArray) -> BoolArray:
        """Whether each rule escalates each query, ``(c + b, m)``."""
        nearest = np.floor(confidence * (self.by_bin.shape[1] - 1) + 0.5).astype(np.int64)
        low, high = self.bands[:, :1], self.bands[:, 1:]
        return np.concatenate([self.by_bin[:, nearest], (confidence >= low) & (confidence <= high)])

    def take(self, rule: int) -> Candidates:
        """A single rule."""
        n = len(self.by_bin)
        return Candidates(self.by_bin[rule : rule + 1], self.bands[max(rule - n, 0) :][: rule >= n])


@dataclass(frozen=True, eq=False)
class PairData:
    """Training queries of two models: scores and confidences ``(n,)``, and mean costs."""

    small: FloatArray
    large: FloatArray
    confidence: FloatArray
    costs: tuple[float, float]
    verifier_cost: float

    def outcomes(self, escalates: BoolArray) -> tuple[FloatArray, FloatArray]:
        """Mean score and cost of each rule, ``(c,)`` each, summed in the release's order."""
        small_cost, large_cost = self.costs
        score = np.where(escalates, self.large, self.small).mean(axis=1)
        up = escalates.sum(axis=1)
        total = (len(self.small) - up) * small_cost + up * (large_cost + small_cost)
        return score, total / len(self.small) + self.verifier_cost

    def lift(self, escalates: BoolArray) -> FloatArray:
        """IBC lift of each rule, ``(c,)``."""
        score, cost = self.outcomes(escalates)
        small, large = self.small.mean(), self.large.mean()
        with np.errstate(divide="ignore", invalid="ignore"):
            base = np.divide(large - small, self.costs[1] - self.costs[0])
            return ((score - small) / (cost - self.costs[0]) - base) / base


@dataclass(frozen=True)
class Released(Solver):
    """Base class of the released heuristics.

    `solve` gives the release's choice, whatever the price. A frontier needs several operating
    points: `solve_frontier` gives the best training IBC lift within each of several equal cost
    regions between the small model and the large one (the protocol of the paper's tables). The most
    expensive region goes to the smallest prices.

    Attributes:
        bins: grid steps of the confidence: 2, 4, 8 or 16.
        models: indexes of the small and the large model; None where there are only two.
        regions: number of cost regions of a frontier.
    """

    bins: Bins = 8
    models: Pair | None = None
    regions: Annotated[int, Range(1, 1000)] = 5

    @abstractmethod
    def candidates(self, train: PairData) -> Candidates:
        """The rules to choose from, in the release's order, which decides ties."""

    def solve(self, problem: RoutingPOMDP, train: RoutingData) -> Policy:
        """The rule with the best training IBC lift.

        Raises:
            ValueError: a signal has several components or is not a confidence in [0, 1], or there
                are more than two models and ``models`` is None.
        """
        pair = self._pair(problem, train)
        rules = self.candidates(pair)
        best = _first_best(pair.lift(rules.decide(pair.confidence)))
        small, large = self._models(problem)
        return PairPolicy.of(
            problem, small, large, rules.take(best), silent_confidence(train, small)
        )

    def solve_frontier(
        self, problem: RoutingPOMDP, prices: Sequence[float], train: RoutingData
    ) -> list[Policy]:
        pair, models = self._pair(problem, train), self._models(problem)
        rules = self.candidates(pair)
        escalates = rules.decide(pair.confidence)
        lift, cost = pair.lift(escalates), pair.outcomes(escalates)[1]
        edges = np.linspace(*pair.costs, self.regions + 1)
        chosen = []
        for low, high in pairwise(edges.tolist()):
            inside = np.flatnonzero((cost >= low) & (cost <= high))
            if len(inside):
                chosen.append(int(inside[_first_best(lift[inside])]))
        if not chosen:
            chosen = [_first_best(lift)]
        order = np.argsort(np.argsort(prices, kind="stable"), kind="stable")
        region = len(chosen) - 1 - order * len(chosen) // len(prices)
        silent = silent_confidence(train, models[0])
        return [
            PairPolicy.of(problem.at(price), *models, rules.take(chosen[r]), silent)
            for price, r in zip(prices, region, strict=True)
        ]

    def _models(self, problem: RoutingPOMDP) -> tuple[int, int]:
        n, models = problem.n_models, self.models
        if models is None and n == 2:
            return 0, 1
        if models is None:
            raise ValueError(
                f"this heuristic of AutoMix's release routes between two models, the log has {n}: "
                f"set solver.models, such as [0,{n - 1}], or choose two by rollouts.models"
            )
        if len(models) != 2 or not 0 <= models[0] < models[1] < n:
            raise ValueError(
                f"solver.models is {list(models)}: expected two indexes, 0 … {n - 1}, the cheaper "
                "first"
            )
        return models[0], models[1]

    def _pair(self, problem: RoutingPOMDP, train: RoutingData) -> PairData:
        small, large = self._models(problem)
        require_one_signal(train, "automix_*")
        require_confidence(train, [small], "automix_*")
        call = problem.costs.call
        return PairData(
            small=np.ascontiguousarray(train.score[:, small]),
            large=np.ascontiguousarray(train.score[:, large]),
            confidence=_filled(train.signal[:, small, 0], silent_confidence(train, small)),
            costs=(float(call[small]), float(call[large])),
            verifier_cost=float(problem.costs.verify[small]),
        )


@dataclass(frozen=True)
class AutoMixSimple(Released):
    """``POMDPSimple``: rewards for three classes of queries, counted by bin."""

    def candidates(self, train: PairData) -> Candidates:
        """The pattern of escalating bins for each of 5,000 rewards; a bin without training queries
        never escalates."""
        grid = np.arange(self.bins + 1) / self.bins
        near = np.abs(train.confidence - grid[:, None]) < 0.5 / self.bins
        needy = train.large > train.small
        hopeless = ~needy & (train.small == 0)
        classes = np.stack([needy, ~needy & ~hopeless, hopeless])
        counts = near.astype(np.float64) @ classes.T
        total = near.sum(axis=1, keepdims=True)
        p = np.divide(counts, total, out=np.zeros_like(counts), where=total > 0)
        reward = np.arange(_REWARDS, dtype=np.float64)[:, None]
        stay = p[:, 0] * -reward + p[:, 2] * (-reward - 1)
        climb = p[:, 0] * -100 + p[:, 1] * -100 + p[:, 2] * (-reward - 100)
        patterns = climb > stay
        new = np.append(True, (patterns[1:] != patterns[:-1]).any(axis=1))
        # The release keeps them in a set, whose order decides ties.
        distinct = list({tuple(map(int, pattern)) for pattern in patterns[new]})
        none = np.empty((0, 2))
        return Candidates(np.array(distinct, dtype=bool), none)


@dataclass(frozen=True)
class AutoMixGreedy(Released):
    """``GreedyPOMDP``: the bins with the largest smoothed gain escalate."""

    def candidates(self, train: PairData) -> Candidates:
        """The best bin, the best two, and so on.

        The release counts gains in bins that begin at the grid points, and decides by the nearest
        grid point.
        """
        bins = np.floor(train.confidence * self.bins).astype(np.int64)
        delta = train.large - train.small
        gain = np.array(
            [delta[bins == k].mean() if (bins == k).any() else 0 for k in range(self.bins + 1)]
        )
        order = np.argsort(gaussian_filter(gain, sigma=2), kind="stable")[::-1]
        rank = np.empty_like(order)
        rank[order] = np.arange(len(order))
        return Candidates(rank <= np.arange(len(order))[:, None], np.empty((0, 2)))


@dataclass(frozen=True)
class AutoMixUnion(Released):
    """``POMDP``: simple, greedy, double and single thresholds together."""

    def candidates(self, train: PairData) -> Candidates:
        grid = np.arange(self.bins + 1) / self.bins
        first, second = np.triu_indices(self.bins, k=1)
        double = np.stack([grid[first], grid[second]], axis=1)
        single = np.stack([np.full(self.bins + 1, -np.inf), grid], axis=1)
        parts = [kind(self.bins).candidates(train) for kind in (AutoMixSimple, AutoMixGreedy)]
        return Candidates(
            np.concatenate([part.by_bin for part in parts]), np.concatenate([double, single])
        )


@dataclass(frozen=True, eq=False)
class PairPolicy:
    """Calls the small model, verifies its answer, and keeps it or calls the large one.

    Attributes:
        problem: with rules under which all other models can be skipped.
        small: index of the small model.
        large: index of the large model.
        rule: a single rule.
        silent: the confidence that replaces a missing one.
    """

    problem: RoutingPOMDP
    small: int
    large: int
    rule: Candidates
    silent: float

    @classmethod
    def of(
        cls, problem: RoutingPOMDP, small: int, large: int, rule: Candidates, silent: float
    ) -> PairPolicy:
        rules = Rules(problem.n_models, skip=True, free_start=True, verify=True)
        return cls(replace(problem, rules=rules), small, large, rule, silent)

    def act(self, history: History) -> Actions:
        action = np.full(len(history), STAY)
        action[history.stage < 0] = self.small + 1
        called = history.stage == self.small
        action[called & ~history.last_verified] = self.problem.rules.verify_action
        rows = np.flatnonzero(called & history.last_verified)
        confidence = _filled(history.signal[rows, self.small, 0], self.silent)
        escalates = self.rule.decide(confidence)[0]
        action[rows[escalates]] = self.large - self.small
        return action


def _filled(confidence: FloatArray, silent: float) -> FloatArray:
    return np.where(np.isnan(confidence), silent, confidence)


def _first_best(lift: FloatArray) -> int:
    """The index that Python's ``max`` would return, NaN included."""
    return max(range(len(lift)), key=lift.tolist().__getitem__)
