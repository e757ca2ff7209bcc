"""Fitted Q on the log: backward-induction regression without a model of the signals.

The log has every model on every training query, so the return of each action is known, given the
later decisions. Backwards over the decision points, each action's return is regressed on the
signals so far, and the action with the largest prediction is taken (Longstaff & Schwartz, Review of
Financial Studies 2001, §1; fitted Q-iteration: Ernst et al., JMLR 2005, over a finite horizon).
Later decisions are made by cross-validated predictions: the maximum over in-sample predictions
would be biased upwards.
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

_MOST_POINTS = 2**13  # each has a regression of its own


class DecisionPoint(NamedTuple):
    """A history without the values of its signals: the stage and which answers were verified."""

    stage: int
    verified: frozenset[int]


@dataclass(frozen=True)
class FittedQ(FrontierSolver):
    """Cross-fitted ridge regression on piecewise linear functions of the signals' ranks.

    It has no model of the signals. Under the answer rule "best" it plans as if the last answer were
    returned.

    Attributes:
        knots: number of knots of the piecewise linear functions, ends included.
        folds: number of folds of the cross-fitting.
        seed: seed of the folds.
    """

    knots: Annotated[int, Range(2, 1000)] = 4
    folds: Folds = 5
    seed: Seed = 0

    def solve_frontier(
        self, problem: RoutingPOMDP, prices: Sequence[float], train: RoutingData
    ) -> list[Policy]:
        """Policies, one per price, with one regression for the targets of all prices.

        Raises:
            ValueError: there are fewer training queries than folds.
        """
        if len(train) < self.folds:
            raise ValueError(
                f"solver=fitted_q learns from {len(train)} training queries, fewer than "
                f"solver.folds={self.folds}: log more, or lower solver.folds"
            )
        rules = problem.rules
        rate = np.asarray(prices, dtype=np.float64) / problem.costs.unit
        # Return of each training query from a decision point on, (n, M) for M prices.
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
    """The action with the largest predicted return.

    Attributes:
        problem: the problem whose rules it follows.
        models: for each decision point, a regression of the returns of all actions at all prices.
        at: index of this policy's price.
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
    """``(n, V · D)`` the observed signals."""
    return signal[:, sorted(point.verified)].reshape(len(signal), -1)


def _legal(rules: Rules, point: DecisionPoint) -> list[int]:
    verified = int(point.stage in point.verified)
    return np.flatnonzero(rules.masks[point.stage + 1, verified]).tolist()


def _next(rules: Rules, point: DecisionPoint, action: int) -> DecisionPoint | None:
    """The decision point that an action leads to; None if the episode ends."""
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
        check_count("decision points", len(found), _MOST_POINTS, rules.n_models)
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
    """Return of an action on each training query at each price, ``(n, M)``."""
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
