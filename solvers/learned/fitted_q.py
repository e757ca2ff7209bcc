"""Backward-induction regression on the log itself: fitted Q without a model of the signals.

Every model is logged on every training query, so what an action would have returned is known there
for each of them, given what is decided afterwards. Going backwards, each action's return is
regressed on the signals seen so far, and what follows is the action of the largest prediction
(Longstaff & Schwartz, Review of Financial Studies 2001, §1; fitted Q-iteration: Ernst et al., JMLR
2005, over a finite horizon). The decisions that later returns rest on are made by predictions from
other folds of the training queries: a maximum over predictions of their own would promise too much.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, NamedTuple

import numpy as np

from routing_pomdp.envs import STAY, History, RoutingData, RoutingPOMDP, Rules
from routing_pomdp.envs.arrays import FloatArray
from routing_pomdp.envs.settings.ranges import Folds, Range, Seed
from routing_pomdp.solvers.settings import check_count
from routing_pomdp.solvers.signal_regression import FittedRegression, SignalRegression
from routing_pomdp.solvers.solver import Actions, FrontierSolver, Policy

_MOST_PLACES = 2**13  # each has a regression of its own


class DecisionPoint(NamedTuple):
    """What has been seen, up to the signals' values: the stage, and whose answers were verified."""

    stage: int
    verified: frozenset[int]


@dataclass(frozen=True)
class FittedQ(FrontierSolver):
    """Ridge regression on piecewise linear functions of the signals' ranks, by cross-validation.

    Nothing is believed of the signals but that the training queries are like the others. Where the
    answer rule is "best", it plans as if the last answer were returned.

    Attributes:
        knots: of the piecewise linear functions of each signal, ends included.
        folds: of the cross-fitting.
        seed: of the folds.
    """

    knots: Annotated[int, Range(2, 1000)] = 4
    folds: Folds = 5
    seed: Seed = 0

    def solve_frontier(
        self, problem: RoutingPOMDP, prices: Sequence[float], train: RoutingData
    ) -> list[Policy]:
        """Policies for all prices, whose regressions differ in their targets alone.

        Raises:
            ValueError: fewer training queries than folds.
        """
        if len(train) < self.folds:
            raise ValueError(
                f"solver=fitted_q learns from {len(train)} training queries, fewer than "
                f"solver.folds={self.folds}: log more, or lower solver.folds"
            )
        rules = problem.rules
        rate = np.asarray(prices, dtype=np.float64) / problem.costs.unit
        # returned[decision point]: (n, M) what each training query returns from there on.
        returned: dict[DecisionPoint, FloatArray] = {}
        models: dict[DecisionPoint, FittedRegression] = {}
        regression = SignalRegression(self.knots, self.folds, self.seed)
        for point in _points(rules):
            actions = _legal(rules, point)
            targets = np.stack(
                [_outcome(rules, point, action, rate, train, returned) for action in actions],
                axis=2,
            )
            models[point], guess = regression.fit(
                _features(train.signal, point), targets.reshape(len(train), -1)
            )
            chosen = guess.reshape(targets.shape).argmax(axis=2)[..., None]
            returned[point] = np.take_along_axis(targets, chosen, axis=2)[..., 0]
        return [FittedQPolicy(problem.at(price), models, i) for i, price in enumerate(prices)]


@dataclass(frozen=True, eq=False)
class FittedQPolicy:
    """The action of the largest predicted return.

    Attributes:
        problem: the problem whose rules it plays by.
        models: a regression for each decision point: of all prices' and actions' returns.
        at: which of the prices is this policy's.
    """

    problem: RoutingPOMDP
    models: dict[DecisionPoint, FittedRegression]
    at: int

    def act(self, history: History) -> Actions:
        rules, action = self.problem.rules, np.full(len(history), STAY)
        weights = 1 << np.arange(history.n_models)
        key = (history.stage + 1) * (1 << history.n_models) + history.verified @ weights
        for value in np.unique(key):
            rows = np.flatnonzero(key == value)
            first = rows[0]
            point = DecisionPoint(
                int(history.stage[first]),
                frozenset(np.flatnonzero(history.verified[first]).tolist()),
            )
            legal = np.array(_legal(rules, point))
            found = self.models[point].predict(_features(history.signal[rows], point))
            predicted = found.reshape(len(rows), -1, len(legal))[:, self.at]
            action[rows] = legal[predicted.argmax(axis=1)]
        return action


def _features(signal: FloatArray, point: DecisionPoint) -> FloatArray:
    """``(n, V · D)`` the signals seen."""
    return signal[:, sorted(point.verified)].reshape(len(signal), -1)


def _legal(rules: Rules, point: DecisionPoint) -> list[int]:
    verified = int(point.stage in point.verified)
    return np.flatnonzero(rules.masks[point.stage + 1, verified]).tolist()


def _next(rules: Rules, point: DecisionPoint, action: int) -> DecisionPoint | None:
    """Where an action leads; None where the episode ends."""
    if action == rules.verify_action:
        return DecisionPoint(point.stage, point.verified | {point.stage})
    target = point.stage + action
    if action == STAY or target == rules.n_models - 1:
        return None
    return _called(rules, target, point.verified)


def _called(rules: Rules, model: int, verified: frozenset[int]) -> DecisionPoint:
    """Where a call of a model leads, after which a decision follows."""
    return DecisionPoint(model, verified | {model} if rules.verified_at_once[model] else verified)


def _points(rules: Rules) -> list[DecisionPoint]:
    """Every decision point that can be reached, later ones first."""
    nothing = frozenset[int]()
    waiting = [DecisionPoint(-1, nothing) if rules.free_start else _called(rules, 0, nothing)]
    found: set[DecisionPoint] = set()
    while waiting:
        point = waiting.pop()
        if point in found:
            continue
        found.add(point)
        check_count("places", len(found), _MOST_PLACES, rules.n_models)
        following = (_next(rules, point, action) for action in _legal(rules, point))
        waiting += [after for after in following if after is not None]
    return sorted(
        found, key=lambda point: (-point.stage, -len(point.verified), *sorted(point.verified))
    )


def _outcome(
    rules: Rules,
    point: DecisionPoint,
    action: int,
    rate: FloatArray,
    train: RoutingData,
    returned: dict[DecisionPoint, FloatArray],
) -> FloatArray:
    """What an action returned on each training query at each price, ``(n, M)``."""
    if action == STAY:
        return np.repeat(train.score[:, point.stage, None], len(rate), axis=1)
    if action == rules.verify_action:
        paid = train.verify_cost[:, point.stage]
    else:
        target = point.stage + action
        paid = train.call_cost[:, target]
        if rules.verified_at_once[target]:
            paid = paid + train.verify_cost[:, target]
    after = _next(rules, point, action)
    gained = train.score[:, -1, None] if after is None else returned[after]
    return gained - paid[:, None] * rate
