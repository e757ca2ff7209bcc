"""Selection of an operating point on validation by price, budget or floor, and its test outcome."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

import numpy as np

from routing_pomdp.envs.arrays import FloatArray
from routing_pomdp.evaluation.bootstrap import percentile_interval, weight_blocks
from routing_pomdp.evaluation.frontier_outcomes import FrontierOutcomes
from routing_pomdp.evaluation.measures import (
    best_single_model,
    check_same_points,
    pick_for_saving,
)

# What was asked for, how much of it, and the shares of the operating points that were chosen.
_Choice: TypeAlias = tuple[str, float, FloatArray]


@dataclass(frozen=True)
class Chosen:
    """A selected policy, or a mixture of two, with its outcomes on validation and test.

    Costs are shares of the most expensive model's mean cost on the same queries.

    Attributes:
        by: "price", "budget" or "floor".
        target: the price, the budget as a share of the most expensive model's cost, or the points
            of score that may be lost to the best single model on validation.
        promised_score: mean on validation.
        promised_cost: mean on validation.
        score: mean on test.
        cost: mean on test.
        score_interval: bootstrap interval on test.
        cost_interval: bootstrap interval on test.
        kept: whether budget or floor is kept on test; None for a price.
    """

    by: str
    target: float
    promised_score: float
    promised_cost: float
    score: float
    cost: float
    score_interval: tuple[float, float]
    cost_interval: tuple[float, float]
    kept: bool | None

    def as_dict(self) -> dict[str, Any]:
        """The fields as a dictionary."""
        return asdict(self)


def mixture_for_budget(validation: FrontierOutcomes, budget: float) -> FloatArray:
    """Shares ``(M + 1,)`` of the operating points, always-``M_0`` last, in the mixture that scores
    best on validation at a mean cost: two neighbours on the hull that spend all of it.

    Args:
        validation: outcomes of ``M`` operating points.
        budget: a mean cost per query, as a share of the most expensive model's.

    Raises:
        ValueError: the cheapest model costs more.
    """
    means = validation.means()
    cost = np.append(means.cost, means.slm.cost) / means.llm.cost
    score = np.append(means.score, means.slm.score)
    if budget < cost[-1]:
        raise ValueError(
            f"a budget of {budget:g} of the last model's cost buys nothing: the cheapest model "
            f"costs {cost[-1]:.3g} of it; raise the budget"
        )
    within = np.flatnonzero(cost <= budget)
    best = within[np.argmax(score[within])]
    share, top = np.eye(len(cost))[best], score[best]
    for low in within:
        for high in np.flatnonzero(cost > budget):
            weight = (budget - cost[low]) / (cost[high] - cost[low])
            mixed = (1 - weight) * score[low] + weight * score[high]
            if mixed > top + 1e-12:
                top = mixed
                share = np.zeros(len(cost))
                share[low], share[high] = 1 - weight, weight
    return share


class OperatingPointSelection:
    """Selects among a solver's operating points on validation and scores the selection on test."""

    def __init__(
        self,
        test: FrontierOutcomes,
        validation: FrontierOutcomes,
        resamples: int = 1000,
        level: float = 0.95,
        seed: int = 0,
    ) -> None:
        check_same_points(test.means(), validation.means())
        self._test, self._validation = test, validation
        means = validation.means()
        self._reference = best_single_model(means.model_score, means.model_cost)
        self._resamples, self._level, self._seed = resamples, level, seed

    def at_price(self, prices: Sequence[float], price: float) -> Chosen:
        """The policy of one of the family's prices."""
        return self._scored([self._price(prices, price)])[0]

    def at_budget(self, budget: float) -> Chosen:
        """The best mixture within a mean cost; raises like `mixture_for_budget`."""
        return self._scored([self._budget(budget)])[0]

    def at_floor(self, points: float) -> Chosen:
        """The cheapest policy within so many points of the reference's score, or the reference."""
        return self._scored([self._floor(points)])[0]

    def at_each(
        self, prices: Sequence[float], budgets: Sequence[float], floors: Sequence[float]
    ) -> list[Chosen]:
        """`at_price` of every price, then `at_budget`, then `at_floor`, on one set of resamples."""
        return self._scored(
            [self._price(prices, price) for price in prices]
            + [self._budget(budget) for budget in budgets]
            + [self._floor(points) for points in floors]
        )

    def _price(self, prices: Sequence[float], price: float) -> _Choice:
        return "price", price, np.append(np.asarray(prices) == price, False).astype(float)

    def _budget(self, budget: float) -> _Choice:
        return "budget", budget, mixture_for_budget(self._validation, budget)

    def _floor(self, points: float) -> _Choice:
        at = pick_for_saving(self._validation.means(), points, self._reference)
        share = np.zeros(self._validation.score.shape[1] + 1)
        if at >= 0:
            share[at] = 1.0
        return "floor", points, share

    def _scored(self, choices: Sequence[_Choice]) -> list[Chosen]:
        mixed = [self._mixed(self._test, share) for _, _, share in choices]
        most_expensive = self._test.model_cost[:, -1]
        n = len(most_expensive)
        samples: list[list[FloatArray]] = [[] for _ in choices]
        for weights in weight_blocks(n, self._resamples, self._seed):
            unit = weights @ most_expensive
            for drawn, (score, cost) in zip(samples, mixed, strict=True):
                drawn.append(np.stack([weights @ score / n, weights @ cost / unit]))
        return [
            self._chosen(choice, *outcome, np.concatenate(drawn, axis=1))
            for choice, outcome, drawn in zip(choices, mixed, samples, strict=True)
        ]

    def _chosen(
        self, choice: _Choice, score: FloatArray, cost: FloatArray, drawn: FloatArray
    ) -> Chosen:
        """One choice with its scores and costs ``(n,)`` on test, and their resampled means."""
        by, target, share = choice
        promised_score, promised_cost = (
            float(values.mean()) for values in self._mixed(self._validation, share)
        )
        unit = self._test.model_cost[:, -1].mean()
        kept = None
        if by == "budget":
            kept = bool(cost.mean() / unit <= target + 1e-12)
        elif by == "floor":
            best = self._test.model_score[:, self._reference].mean()
            kept = bool(score.mean() >= best - target / 100 - 1e-12)
        return Chosen(
            by,
            target,
            promised_score,
            promised_cost / float(self._validation.model_cost[:, -1].mean()),
            float(score.mean()),
            float(cost.mean() / unit),
            percentile_interval(drawn[0], self._resamples, self._level),
            percentile_interval(drawn[1], self._resamples, self._level),
            kept,
        )

    def _mixed(
        self, outcomes: FrontierOutcomes, share: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """Expected score and cost of each query, ``(n,)``; without shares, of the reference."""
        if not share.any():
            at = self._reference
            return outcomes.model_score[:, at], outcomes.model_cost[:, at]
        score = np.column_stack([outcomes.score, outcomes.model_score[:, 0]]) @ share
        cost = np.column_stack([outcomes.cost, outcomes.model_cost[:, 0]]) @ share
        return score, cost
