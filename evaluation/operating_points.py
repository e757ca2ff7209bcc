"""Selection of an operating point on validation by price, budget or floor, and its test outcome."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from routing_pomdp.envs.arrays import FloatArray
from routing_pomdp.evaluation.bootstrap import percentile_interval, weight_blocks
from routing_pomdp.evaluation.frontier_outcomes import FrontierOutcomes
from routing_pomdp.evaluation.measures import check_same_points, pick_for_saving


@dataclass(frozen=True)
class Chosen:
    """A selected policy, or a mixture of two, with its outcomes on validation and test.

    Costs are shares of the most expensive model's mean cost on the same queries.

    Attributes:
        by: "price", "budget" or "floor".
        target: the price, the budget as a share of the most expensive model's cost, or the points
            of score that may be lost to the most expensive model.
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
        self._resamples, self._level, self._seed = resamples, level, seed

    def at_price(self, prices: Sequence[float], price: float) -> Chosen:
        """The policy of one price."""
        share = np.append(np.asarray(prices) == price, False).astype(float)
        return self._scored("price", price, share)

    def at_budget(self, budget: float) -> Chosen:
        """The best mixture within a mean cost; raises like `mixture_for_budget`."""
        return self._scored("budget", budget, mixture_for_budget(self._validation, budget))

    def at_floor(self, points: float) -> Chosen:
        """The cheapest policy that loses at most ``points`` to the last model, or that model."""
        at = pick_for_saving(self._validation.means(), points)
        share = np.zeros(self._validation.score.shape[1] + 1)
        if at >= 0:
            share[at] = 1.0
        return self._scored("floor", points, share)

    def _scored(self, by: str, target: float, share: FloatArray) -> Chosen:
        promised_score, promised_cost = (
            float(values.mean()) for values in _mixed(self._validation, share)
        )
        score, cost = _mixed(self._test, share)
        last_cost = self._test.model_cost[:, -1]
        samples = []
        for weights in weight_blocks(len(score), self._resamples, self._seed):
            paid = weights @ cost / (weights @ last_cost)
            samples.append(np.stack([weights @ score / len(score), paid]))
        drawn = np.concatenate(samples, axis=1)
        kept = None
        if by == "budget":
            kept = bool(cost.mean() / last_cost.mean() <= target + 1e-12)
        elif by == "floor":
            best = self._test.model_score[:, -1].mean()
            kept = bool(score.mean() >= best - target / 100 - 1e-12)
        return Chosen(
            by,
            target,
            promised_score,
            promised_cost / float(self._validation.model_cost[:, -1].mean()),
            float(score.mean()),
            float(cost.mean() / last_cost.mean()),
            percentile_interval(drawn[0], self._resamples, self._level),
            percentile_interval(drawn[1], self._resamples, self._level),
            kept,
        )


def _mixed(outcomes: FrontierOutcomes, share: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Expected score and cost of each query, ``(n,)``; the last model's if all shares are 0."""
    if not share.any():
        return outcomes.model_score[:, -1], outcomes.model_cost[:, -1]
    score = np.column_stack([outcomes.score, outcomes.model_score[:, 0]]) @ share
    cost = np.column_stack([outcomes.cost, outcomes.model_cost[:, 0]]) @ share
    return score, cost
