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
from numpy.typing import NDArray

from envs import STAY, History, Replay, RoutingPOMDP, Rules
from envs.ranges import Folds, Range, Seed
from solvers.settings import check_count
from solvers.signal_regression import FittedRegression, SignalRegression
from solvers.solver import Actions, FrontierSolver, Policy

FloatArray = NDArray[np.float64]
_MOST_PLACES = 2**13  # each has a regression of its own


class Place(NamedTuple):
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
        self, problem: RoutingPOMDP, prices: Sequence[float], train: Replay
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
        # returned[place]: (n, M) what each training query returns from there on.
        returned: dict[Place, FloatArray] = {}
        models: dict[Place, FittedRegression] = {}
        regression = SignalRegression(self.knots, self.folds, self.seed)
        for place in _places(rules):
            actions = _legal(rules, place)
            targets = np.stack(
                [_outcome(rules, place, action, rate, train, returned) for action in actions],
                axis=2,
            )
            models[place], guess = regression.fit(
                _features(train.signal, place), targets.reshape(len(train), -1)
            )
            chosen = guess.reshape(targets.shape).argmax(axis=2)[..., None]
            returned[place] = np.take_along_axis(targets, chosen, axis=2)[..., 0]
        return [FittedQPolicy(problem.at(price), models, i) for i, price in enumerate(prices)]


@dataclass(frozen=True, eq=False)
class FittedQPolicy:
    """The action of the largest predicted return.

    Attributes:
        problem: the problem whose rules it plays by.
        models: a regression for each place: of all prices' and actions' returns.
        at: which of the prices is this policy's.
    """

    problem: RoutingPOMDP
    models: dict[Place, FittedRegression]
    at: int

    def act(self, history: History) -> Actions:
        rules, action = self.problem.rules, np.full(len(history), STAY)
        weights = 1 << np.arange(history.n_models)
        key = (history.stage + 1) * (1 << history.n_models) + history.verified @ weights
        for value in np.unique(key):
            rows = np.flatnonzero(key == value)
            first = rows[0]
            place = Place(
                int(history.stage[first]),
                frozenset(np.flatnonzero(history.verified[first]).tolist()),
            )
            legal = np.array(_legal(rules, place))
            found = self.models[place].predict(_features(history.signal[rows], place))
            predicted = found.reshape(len(rows), -1, len(legal))[:, self.at]
            action[rows] = legal[predicted.argmax(axis=1)]
        return action


def _features(signal: FloatArray, place: Place) -> FloatArray:
    """``(n, V · D)`` the signals seen."""
    return signal[:, sorted(place.verified)].reshape(len(signal), -1)


def _legal(rules: Rules, place: Place) -> list[int]:
    verified = int(place.stage in place.verified)
    return np.flatnonzero(rules.masks[place.stage + 1, verified]).tolist()


def _next(rules: Rules, place: Place, action: int) -> Place | None:
    """Where an action leads; None where the episode ends."""
    if action == rules.verify_action:
        return Place(place.stage, place.verified | {place.stage})
    target = place.stage + action
    if action == STAY or target == rules.n_models - 1:
        return None
    return Place(target, place.verified if rules.verify else place.verified | {target})


def _places(rules: Rules) -> list[Place]:
    """Every place that can be reached, later ones first."""
    seen = frozenset[int]() if rules.verify else frozenset({0})
    waiting = [Place(-1, frozenset()) if rules.free_start else Place(0, seen)]
    found: set[Place] = set()
    while waiting:
        place = waiting.pop()
        if place in found:
            continue
        found.add(place)
        check_count("places", len(found), _MOST_PLACES, rules.n_models)
        following = (_next(rules, place, action) for action in _legal(rules, place))
        waiting += [after for after in following if after is not None]
    return sorted(
        found, key=lambda place: (-place.stage, -len(place.verified), *sorted(place.verified))
    )


def _outcome(
    rules: Rules,
    place: Place,
    action: int,
    rate: FloatArray,
    train: Replay,
    returned: dict[Place, FloatArray],
) -> FloatArray:
    """What an action returned on each training query at each price, ``(n, M)``."""
    if action == STAY:
        return np.repeat(train.score[:, place.stage, None], len(rate), axis=1)
    if action == rules.verify_action:
        paid = train.verify_cost[:, place.stage]
    else:
        target = place.stage + action
        paid = train.call_cost[:, target]
        if target < rules.n_models - 1 and not rules.verify:
            paid = paid + train.verify_cost[:, target]
    after = _next(rules, place, action)
    gained = train.score[:, -1, None] if after is None else returned[after]
    return gained - paid[:, None] * rate
