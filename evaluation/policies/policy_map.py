"""A policy's actions by stage and bin of the signal, counted on logged queries."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from routing_pomdp.envs import STAY, History, RoutingData, RoutingPOMDP
from routing_pomdp.envs.arrays import IntArray
from routing_pomdp.evaluation.evaluate import Outcome, evaluate
from routing_pomdp.solvers import Policy, QueryPolicy
from routing_pomdp.solvers.solver import Actions, decided, for_queries


@dataclass(frozen=True, eq=False)
class PolicyMap:
    """Counts of decisions by stage, signal bin and action.

    The bins of a model's signal are the symbols of the fitted observation model, whatever the
    policy uses.

    Attributes:
        count: ``(N, K + 1, N + 1)``. First axis: the stage, ``i`` after the call of model ``i - 1``
            and 0 before the first call. Second axis: the bin of that answer's signal; the last one
            if it was not verified. Third axis: the action; ``j < N`` calls model ``j``, or returns
            the answer if ``j`` is the current model; ``N`` verifies.
    """

    count: IntArray

    @classmethod
    def empty(cls, problem: RoutingPOMDP) -> PolicyMap:
        n, bins = problem.n_models, problem.n_symbols
        return cls(np.zeros((n, bins + 1, n + 1), dtype=np.int64))

    @property
    def shares(self) -> NDArray[np.float64]:
        """Shares of actions by stage and bin, ``(N, K + 1, N + 1)``; NaN where never reached."""
        total = self.count.sum(axis=2, keepdims=True)
        return np.divide(self.count, total, out=np.full(self.count.shape, np.nan), where=total > 0)


def watch(
    policy: Policy | QueryPolicy, data: RoutingData, problem: RoutingPOMDP
) -> tuple[Outcome, PolicyMap]:
    """`evaluate` with the policy's map.

    Args:
        policy: the policy.
        data: the queries.
        problem: the fitted problem, whose observation model bins the signals.
    """
    watched = _Watched(for_queries(policy, data), problem)
    return evaluate(watched, data), watched.map


@dataclass(frozen=True, eq=False)
class _Watched:
    policy: Policy
    bins: RoutingPOMDP
    map: PolicyMap = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "map", PolicyMap.empty(self.bins))

    @property
    def problem(self) -> RoutingPOMDP:
        return self.policy.problem

    def act(self, history: History) -> Actions:
        action = decided(self.policy, history)
        rules = self.problem.rules
        done = np.where(
            action == rules.verify_action,
            self.bins.n_models,
            history.stage + np.where(action == STAY, 0, action),
        )
        np.add.at(self.map.count, (history.stage + 1, self._bin(history), done), 1)
        return action

    def _bin(self, history: History) -> IntArray:
        symbol = np.full(len(history), self.bins.n_symbols)
        for model in range(self.bins.n_models - 1):
            rows = np.flatnonzero((history.stage == model) & history.last_verified)
            if len(rows):
                symbol[rows] = self.bins.symbols(model, history.signal[rows, model])
        return symbol
