"""A run's guarantee: its policies calibrated on validation, and what was certified got on test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from routing_pomdp.envs import RoutingData
from routing_pomdp.evaluation.bootstrap import percentile_interval, weight_blocks
from routing_pomdp.evaluation.evaluate import evaluate
from routing_pomdp.evaluation.frontier_outcomes import FrontierOutcomes
from routing_pomdp.evaluation.guarantee import Calibration, Guarantee, order_of_tests
from routing_pomdp.evaluation.measures import best_single_model
from routing_pomdp.solvers import Policy, QueryPolicy, Solver, Training
from routing_pomdp.solvers.pre_query import PreQueryConditioned

CERTIFIED = ("certified_saving", "certified_loss", "certified_loss_bound")
"""The measures of a guarantee; the first two have an interval on test."""

# Training queries on which policies are replayed for their mean costs.
_REPLAYED = 1000


@dataclass(frozen=True, eq=False)
class Tolerance:
    """What a run's guarantee asks, and the queries that it is found on.

    Attributes:
        solver: its name.
        epsilon: tolerated loss, in score.
        delta: probability that the guarantee may not hold.
        train: where the reference is chosen and policies' costs are seen, for the order of tests.
        validation: the calibration queries: no policy has seen them.
        by_dataset: whether every data set must keep the tolerance.
    """

    solver: str
    epsilon: float
    delta: float
    train: RoutingData
    validation: RoutingData
    by_dataset: bool = False

    def calibration(
        self, policies: Sequence[Policy | QueryPolicy], prices: Sequence[float]
    ) -> tuple[Calibration, int]:
        """Policies replayed on the calibration queries, and the reference among the models."""
        reference = best_single_model(
            self.train.score.mean(axis=0), self.train.call_cost.mean(axis=0)
        )
        rows = np.linspace(0, len(self.train) - 1, min(len(self.train), _REPLAYED))
        some = self.train.take(rows.astype(np.int64))
        cost = np.array([evaluate(policy, some).cost.mean() for policy in policies])
        plays = [evaluate(policy, self.validation) for policy in policies]
        return Calibration(
            score=np.stack([play.score for play in plays], axis=1),
            cost=np.stack([play.cost for play in plays], axis=1),
            reference_score=self.validation.score[:, reference],
            reference_cost=self.validation.call_cost[:, reference],
            order=order_of_tests(prices, cost, float(some.call_cost[:, reference].mean())),
            group=self._group(),
        ), reference

    def _group(self) -> NDArray[Any] | None:
        if not self.by_dataset:
            return None
        if self.validation.rollouts is None:
            raise ValueError(
                "evaluation.guarantee.by_dataset needs a log: the queries name no data set"
            )
        return np.asarray(self.validation.rollouts.dataset, dtype=str)


def apart(
    solver: Solver, training: Training, validation: RoutingData, seed: int
) -> tuple[Solver, RoutingData]:
    """A solver that knows none of the calibration queries, and these.

    A solver that makes use of what a run offers may stop by the validation queries, or choose by
    them: it is given half of them, and the other half calibrates.

    Args:
        solver: as configured.
        training: what the run offers.
        validation: all validation queries.
        seed: of the halving.
    """
    inner = solver.solver if isinstance(solver, PreQueryConditioned) else solver
    if inner.with_training(training) is inner:
        return solver, validation
    order = np.random.default_rng(seed).permutation(len(validation))
    own, calibrating = np.sort(order[: len(order) // 2]), np.sort(order[len(order) // 2 :])
    halved = replace(training, validation=validation.take(own))
    return solver.with_training(halved), validation.take(calibrating)


def guarantee_on_test(
    guarantee: Guarantee,
    test: FrontierOutcomes,
    reference: int,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> dict[str, Any]:
    """A guarantee as a row, with what its policy saves and loses on test.

    Args:
        guarantee: as certified.
        test: outcomes of the solver that it chose, or of any where it chose the reference.
        reference: column of the reference among the models.
        resamples: of the bootstrap.
        level: of the intervals.
        seed: of the bootstrap.
    """
    found = guarantee.as_dict() | {
        "says": str(guarantee),
        "certified_saving": 0.0,
        "certified_saving_interval": (0.0, 0.0),
        "certified_loss": 0.0,
        "certified_loss_interval": (0.0, 0.0),
        "certified_loss_bound": 100 * guarantee.loss_bound,
    }
    if guarantee.solver is None:
        return found
    cost, paid = test.model_cost[:, reference], test.cost[:, guarantee.index]
    lost = test.model_score[:, reference] - test.score[:, guarantee.index]
    draws = [
        np.stack([1 - weights @ paid / (weights @ cost), 100 * weights @ lost / len(test)])
        for weights in weight_blocks(len(test), resamples, seed)
    ]
    saving, loss = (
        percentile_interval(drawn, resamples, level) for drawn in np.concatenate(draws, axis=1)
    )
    return found | {
        "certified_saving": float(1 - paid.mean() / cost.mean()),
        "certified_saving_interval": saving,
        "certified_loss": float(100 * lost.mean()),
        "certified_loss_interval": loss,
    }
