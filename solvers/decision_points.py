"""Decision points of logged queries, and what each model would have returned at each.

A **decision point** is what a history says but for the signals' values: the stage, and whose
answers were verified; where any paid-for answer may be returned, also whose were called. There are
few of them (31 for five models and every option), so that a learner can look at all decision points
of a query at once. Where every model was called on a query, whatever is decided at the later
decision points, what each action returns is known at every decision point: no exploration, and no
noise but that of the queries themselves.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from routing_pomdp.envs import STAY, History, RoutingData, RoutingPOMDP, Rules
from routing_pomdp.solvers.action_costs import action_cost_matrix
from routing_pomdp.solvers.settings import check_count

if TYPE_CHECKING:
    from torch import Tensor

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]
Array = TypeVar("Array", FloatArray, "Tensor")

_CALLED, _VERIFIED = 1, 2
_MOST = 2**14  # decision points, for each of which a network has values


@dataclass(frozen=True, eq=False)
class DecisionPoints:
    """The ``P`` decision points of some rules; decision point 0 is where an episode starts.

    Attributes:
        rules: the decisions on offer.
        seen: ``(P, N - 1)`` of each model that a decision can follow: 0 if nothing matters of it,
            1 if its answer was not verified, 2 if it was.
        stage: ``(P,)``.
        legal: ``(P, n_actions)``.
        following: ``(P, n_actions)`` the decision point that an action leads to, -1 if it ends the
            episode.
        depth: ``(P,)`` the most decisions that can follow those of a place.
    """

    rules: Rules
    seen: IntArray
    stage: IntArray
    legal: BoolArray
    following: IntArray
    depth: IntArray

    @classmethod
    def of(cls, rules: Rules) -> Self:
        """Every decision point that can be reached under ``rules``."""
        start = (0,) * (rules.n_models - 1)
        if not rules.free_start:
            start = (_CALLED if rules.verify else _VERIFIED, *start[1:])
        found, links, legals = {start: 0}, list[list[int]](), list[BoolArray]()
        waiting = [start]
        for point in waiting:  # grows while it is read: breadth first
            stage = _stage(point)
            legal = rules.masks[stage + 1, int(point[stage] == _VERIFIED and stage >= 0)]
            following = [-1] * rules.n_actions
            for action in np.flatnonzero(legal):
                after = _after(rules, point, int(action))
                if after is None:
                    continue
                if after not in found:
                    found[after] = len(found)
                    check_count("places", len(found), _MOST, rules.n_models)
                    waiting.append(after)
                following[action] = found[after]
            links.append(following)
            legals.append(legal)
        following_of = np.array(links)
        depth = np.zeros(len(found), dtype=np.int64)
        for _ in range(2 * rules.n_models):
            depth = np.where(following_of < 0, -1, depth[following_of]).max(axis=1) + 1
        seen = np.array(list(found))
        stages = np.array([_stage(point) for point in found])
        return cls(rules, seen, stages, np.array(legals), following_of, depth)

    def __len__(self) -> int:
        return len(self.seen)

    @property
    def verified(self) -> BoolArray:
        """``(P, N - 1)`` whose signals are seen."""
        return self.seen == _VERIFIED

    @cached_property
    def code(self) -> FloatArray:
        """``(P, 3N - 2)`` a decision point as a network sees it: the stage, one out of ``N``; whose
        answers matter; whose signals are seen."""
        stage = np.eye(self.rules.n_models)[self.stage + 1]
        return np.concatenate([stage, self.seen > 0, self.verified], axis=1).astype(np.float64)

    @cached_property
    def pays(self) -> FloatArray:
        """``(P, n_actions, 2N)`` which action costs an action pays."""
        return action_cost_matrix(self.rules)[self.stage + 1]

    @cached_property
    def target(self) -> IntArray:
        """``(P, n_actions)`` the model called last after each action."""
        rungs = np.arange(self.rules.n_actions)
        if self.rules.verify:
            rungs[self.rules.verify_action] = 0
        return np.minimum(self.stage[:, None] + rungs, self.rules.n_models - 1)

    def index(self, history: History) -> IntArray:
        """The decision point of each history, ``(n,)``."""
        digit = history.called[:, :-1] + history.verified[:, :-1].astype(np.int64)
        if self.rules.answer == "last":
            before = np.arange(history.n_models - 1) != history.stage[:, None]
            digit[before & (digit == _CALLED)] = 0
        return self._index[digit @ self._weights]

    @cached_property
    def _weights(self) -> IntArray:
        return 3 ** np.arange(self.rules.n_models - 1)

    @cached_property
    def _index(self) -> IntArray:
        index = np.full(3 ** (self.rules.n_models - 1), -1)
        index[self.seen @ self._weights] = np.arange(len(self))
        return index

    def answers(self, problem: RoutingPOMDP, data: RoutingData) -> FloatArray:
        """``(n, P, 2)`` the score returned at each point: if the episode ends there, and if it
        ends with a call of the last model. NaN where nothing was called yet."""
        n = len(data)
        scores = np.full((n, len(self), 2), np.nan)
        for point, seen in enumerate(self.seen):
            for k, called_last in enumerate((False, True)):
                stage = self.rules.n_models - 1 if called_last else int(self.stage[point])
                if stage >= 0 and self.rules.answer == "last":
                    scores[:, point, k] = data.score[:, stage]
                elif stage >= 0:
                    history = _history(data, seen, stage, called_last)
                    answer = problem.best_answer(history)
                    scores[:, point, k] = data.score[np.arange(n), answer]
        return scores


def open_loop(rules: Rules, mean: Array, action_costs: Array) -> list[Array]:
    """What standing at each model is worth to whom nothing more will be shown.

    Whoever expects scores ``mean`` and looks at no further signal knows already where to stop:
    planning "open loop", a lower bound on what a perfect router gets from there on. From the
    training means it is what `Static` does. Where any paid-for answer may be returned, it still
    counts the last one alone.

    Args:
        rules: the decisions on offer.
        mean: ``(..., N)`` expected scores, NumPy's or torch's.
        action_costs: ``(..., 2N)`` that broadcast with them.

    Returns:
        ``N`` arrays ``(...)``: after model ``j`` was called and paid.
    """
    maximum: Any = np.maximum if isinstance(mean, np.ndarray) else type(mean).maximum
    n, last = rules.n_models, rules.n_models - 1
    worth = [mean[..., model] + 0 * action_costs[..., model] for model in range(n)]
    for model in range(last - 1, -1, -1):
        for later in range(model + 1, model + 1 + rules.reach(model)):
            action_cost = action_costs[..., later]
            if not rules.verify and later < last:
                action_cost = action_cost + action_costs[..., n + later]
            worth[model] = maximum(worth[model], worth[later] - action_cost)
    return worth


def _stage(point: tuple[int, ...]) -> int:
    return max((model for model, digit in enumerate(point) if digit), default=-1)


def _after(rules: Rules, point: tuple[int, ...], action: int) -> tuple[int, ...] | None:
    """Where an action leads; None where the episode ends."""
    stage, digits = _stage(point), list(point)
    if action == rules.verify_action:
        digits[stage] = _VERIFIED
        return tuple(digits)
    target = stage + action
    if action == STAY or target == rules.n_models - 1:
        return None
    if rules.answer == "last":  # an earlier answer without a signal no longer matters
        digits = [digit * (digit == _VERIFIED) for digit in digits]
    digits[target] = _CALLED if rules.verify else _VERIFIED
    return tuple(digits)


def _history(data: RoutingData, seen: IntArray, stage: int, called_last: bool) -> History:
    n = len(data)
    called = np.tile(np.append(seen > 0, called_last), (n, 1))
    verified = np.tile(np.append(seen == _VERIFIED, False), (n, 1))
    signal = np.where(verified[..., None], data.signal, np.nan)
    return History(np.arange(n), np.full(n, stage), called, verified, signal)
