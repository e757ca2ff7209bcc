"""A routing problem in the style of pomdp-py's README: the peer of the POMCP benchmark.

It has the core rules only. States, actions and observations hash and compare by value, the models
are the library's four classes, and rollouts are random.
"""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pomdp_py

from routing_pomdp.envs import ESCALATE, STAY, RoutingPOMDP


class State(pomdp_py.State):
    def __init__(self, stage: int, vector: int) -> None:
        self.stage, self.vector = stage, vector

    def __hash__(self) -> int:
        return hash((self.stage, self.vector))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, State) and (self.stage, self.vector) == (other.stage, other.vector)


class Action(pomdp_py.Action):
    def __init__(self, index: int) -> None:
        self.index = index

    def __hash__(self) -> int:
        return hash(self.index)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Action) and self.index == other.index


class Observation(pomdp_py.Observation):
    def __init__(self, symbol: int) -> None:
        self.symbol = symbol

    def __hash__(self) -> int:
        return hash(self.symbol)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Observation) and self.symbol == other.symbol


class Transition(pomdp_py.TransitionModel):
    def __init__(self, end: int) -> None:
        self._end = end

    def sample(self, state: State, action: Action) -> State:
        if action.index == STAY or state.stage >= self._end - 1:
            return State(self._end, state.vector)
        return State(state.stage + 1, state.vector)


class Signals(pomdp_py.ObservationModel):
    def __init__(self, problem: RoutingPOMDP) -> None:
        self._likelihood = problem.likelihood

    def sample(self, next_state: State, action: Action) -> Observation:
        if next_state.stage >= len(self._likelihood):
            return Observation(-1)
        row = self._likelihood[next_state.stage, next_state.vector]
        return Observation(int(np.searchsorted(row.cumsum()[:-1], random.random(), side="right")))


class Reward(pomdp_py.RewardModel):
    def __init__(self, problem: RoutingPOMDP) -> None:
        self._score, self._last = problem.score, problem.n_models - 1
        self._action_cost = problem.call_price.copy()
        self._action_cost[:-1] += problem.verify_price[:-1]

    def sample(self, state: State, action: Action, next_state: State) -> float:
        if state.stage >= self._last:
            return 0.0
        if action.index == STAY:
            return float(self._score[state.vector, state.stage])
        reward = -float(self._action_cost[state.stage + 1])
        if state.stage + 1 == self._last:
            reward += float(self._score[state.vector, self._last])
        return reward


class Choices(pomdp_py.RolloutPolicy):
    ACTIONS = (Action(STAY), Action(ESCALATE))

    def sample(self, state: State, **_: Any) -> Action:
        return random.choice(self.ACTIONS)

    def rollout(self, state: State, *_: Any) -> Action:
        return random.choice(self.ACTIONS)

    def get_all_actions(self, **_: Any) -> tuple[Action, ...]:
        return self.ACTIONS


def agent(problem: RoutingPOMDP, code: int, particles: int = 1000) -> pomdp_py.Agent:
    """An agent at a history of a problem with the core rules."""
    if problem.rules.skip or problem.rules.free_start or problem.rules.verify:
        raise ValueError("the naive model has only the core rules")
    history = problem.decode(np.array([code]))
    posterior = problem.belief(np.array([code]))[0]
    rng = np.random.default_rng(code)
    drawn = rng.choice(len(posterior), size=particles, p=posterior)
    stage = int(history.stage[0])
    return pomdp_py.Agent(
        pomdp_py.Particles([State(stage, int(vector)) for vector in drawn]),
        Choices(),
        Transition(problem.n_models),
        Signals(problem),
        Reward(problem),
    )


def planner(n_models: int, simulations: int) -> pomdp_py.POMCP:
    """A POMCP planner that searches to the end of an episode."""
    return pomdp_py.POMCP(
        max_depth=n_models,
        discount_factor=1.0,
        num_sims=simulations,
        exploration_const=1.0,
        rollout_policy=Choices(),
    )
