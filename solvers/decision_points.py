"""Decision points of logged queries, and the score returned at each.

A **decision point** is a history without the values of its signals: the stage and which answers
were verified; where any called answer may be returned, also which models were called. There are few
of them (31 for five models and every option), so a learner can process all decision points of a
query at once. Where the log has every model's answer, the return of each action is known at every
decision point, given the later decisions: learning needs no exploration, and its only noise is the
sample of queries.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self, TypeVar

import numpy as np

from routing_pomdp.envs import STAY, History, RoutingData, RoutingPOMDP, Rules
from routing_pomdp.envs.arrays import BoolArray, FloatArray, IntArray
from routing_pomdp.solvers.action_costs import action_cost_matrix
from routing_pomdp.solvers.settings import check_count

if TYPE_CHECKING:
    from torch import Tensor

Array = TypeVar("Array", FloatArray, "Tensor")

_CALLED, _VERIFIED = 1, 2
_MOST = 2**14  # decision points; a network has values for each


@dataclass(frozen=True, eq=False)
class DecisionPoints:
    """The ``P`` decision points of some rules; decision point 0 is where an episode starts.

    Attributes:
        rules: the legal actions.
        seen: ``(P, N - 1)`` state of each model but the last: 0 if it was not called or its answer
            no longer matters, 1 if its answer was not verified, 2 if it was.
        stage: ``(P,)``.
        legal: ``(P, n_actions)``.
        following: ``(P, n_actions)`` the decision point that an action leads to, -1 if it ends the
            episode.
        depth: ``(P,)`` the largest number of decisions that can follow the one at this point.
    """

    rules: Rules
    seen: IntArray
    stage: IntArray
    legal: BoolArray
    following: IntArray
    depth: IntArray

    @classmethod
    def of(cls, rules: Rules) -> Self:
        """All decision points that can be reached under ``rules``."""
        start = (0,) * (rules.n_models - 1)
        if not rules.free_start:
            start = (_VERIFIED if rules.verified_at_once[0] else _CALLED, *start[1:])
        found, links, legals = {start: 0}, list[list[int]](), list[BoolArray]()
        waiting = [start]
        for point in waiting:  # breadth-first search: the list grows while it is read
            stage = _stage(point)
            legal = rules.masks[stage + 1, int(point[stage] == _VERIFIED and stage >= 0)]
            following = [-1] * rules.n_actions
            for action in np.flatnonzero(legal):
                after = _after(rules, point, int(action))
                if after is None:
                    continue
                if after not in found:
                    found[after] = len(found)
                    check_count("decision points", len(found), _MOST, rules.n_models)
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
        """``(P, N - 1)`` which models' signals are observed."""
        return self.seen == _VERIFIED

    @cached_property
    def code(self) -> FloatArray:
        """``(P, 3N - 2)`` network inputs of a decision point: the stage, one-hot of ``N``; which
        answers matter; which signals are observed."""
        stage = np.eye(self.rules.n_models)[self.stage + 1]
        return np.concatenate([stage, self.seen > 0, self.verified], axis=1).astype(np.float64)

    @cached_property
    def pays(self) -> FloatArray:
        """``(P, n_actions, 2N)`` which action costs each action pays."""
        return action_cost_matrix(self.rules)[self.stage + 1]

    @cached_property
    def target(self) -> IntArray:
        """``(P, n_actions)`` the model called last after each action."""
        return self.rules.targets(self.stage)

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
        """``(n, P, 2)`` the score returned if the episode ends at each decision point, and if it
        ends there with a call of the last model; NaN where nothing was called yet."""
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
    """Open-loop value at each model: the best plan without further observations.

    It is a lower bound on the optimal value. With the training means it is the value of `Static`.
    It returns the answer of the last model called, also where the rules allow any called answer.

    Args:
        rules: the legal actions.
        mean: ``(..., N)`` expected scores, a NumPy array or a tensor.
        action_costs: ``(..., 2N)``, broadcast against ``mean``.

    Returns:
        ``N`` arrays ``(...)``: the value after model ``j`` was called and paid.
    """
    maximum: Any = np.maximum if isinstance(mean, np.ndarray) else type(mean).maximum
    n, last = rules.n_models, rules.n_models - 1
    worth = [mean[..., model] + 0 * action_costs[..., model] for model in range(n)]
    for model in range(last - 1, -1, -1):
        for later in range(model + 1, model + 1 + rules.reach(model)):
            action_cost = action_costs[..., later]
            if rules.verified_at_once[later]:
                action_cost = action_cost + action_costs[..., n + later]
            worth[model] = maximum(worth[model], worth[later] - action_cost)
    return worth


def _stage(point: tuple[int, ...]) -> int:
    return max((model for model, digit in enumerate(point) if digit), default=-1)


def _after(rules: Rules, point: tuple[int, ...], action: int) -> tuple[int, ...] | None:
    """The decision point that an action leads to; None if the episode ends."""
    stage, digits = _stage(point), list(point)
    if action == rules.verify_action:
        digits[stage] = _VERIFIED
        return tuple(digits)
    target = stage + action
    if action == STAY or target == rules.n_models - 1:
        return None
    if rules.answer == "last":  # an earlier answer without a signal no longer matters
        digits = [digit * (digit == _VERIFIED) for digit in digits]
    digits[target] = _VERIFIED if rules.verified_at_once[target] else _CALLED
    return tuple(digits)


def _history(data: RoutingData, seen: IntArray, stage: int, called_last: bool) -> History:
    n = len(data)
    called = np.tile(np.append(seen > 0, called_last), (n, 1))
    verified = np.tile(np.append(seen == _VERIFIED, False), (n, 1))
    signal = np.where(verified[..., None], data.signal, np.nan)
    return History(np.arange(n), np.full(n, stage), called, verified, signal)
