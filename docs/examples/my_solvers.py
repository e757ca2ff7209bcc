# my_solvers.py, anywhere on PYTHONPATH
from dataclasses import dataclass

import numpy as np

from routing_pomdp.envs import ESCALATE, STAY, History, RoutingData, RoutingPOMDP
from routing_pomdp.envs.settings.ranges import Count
from routing_pomdp.envs.signals import SignalRange
from routing_pomdp.solvers import Solver


@dataclass(frozen=True)
class Neighbours(Solver):
    """Escalates where that paid on the training queries with the nearest signals."""

    neighbours: Count = 20

    def solve(self, problem: RoutingPOMDP, train: RoutingData) -> "NeighboursPolicy":
        return NeighboursPolicy(problem, train, self.neighbours)


@dataclass(frozen=True, eq=False)
class NeighboursPolicy:
    problem: RoutingPOMDP
    train: RoutingData
    neighbours: int

    def act(self, history: History) -> np.ndarray:
        rules, train = self.problem.rules, self.train
        action = np.where(history.stage < 0, ESCALATE, STAY)  # before the first call: model 0
        unread = rules.can_verify(history)  # with env=full a signal is NaN until VERIFY is played
        action[unread] = rules.verify_action
        for model in range(self.problem.n_models - 1):
            rows = np.flatnonzero((history.stage == model) & ~unread)
            own = self.ranked(history.signal[rows, model])
            others = self.ranked(train.signal[:, model])
            near = abs(own[:, None] - others).argsort(axis=1, kind="stable")[:, : self.neighbours]
            gain = (train.score[near, model + 1] - train.score[near, model]).mean(axis=1)
            action[rows] = np.where(gain > self.problem.call_price[model + 1], ESCALATE, STAY)
        return action

    def ranked(self, signal: np.ndarray) -> np.ndarray:
        """Signals as finite numbers: ±∞ at the ends of what training showed, NaN far below."""
        seen = SignalRange.fit(self.train.signal)
        return np.where(np.isnan(signal), 2 * seen.low - seen.high, seen.finite(signal))[:, 0]
