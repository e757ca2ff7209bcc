"""A routing problem as a generative model for pomdp-py, expanded where a search goes.

pomdp-py has no terminal states. The step that ends an episode therefore counts as more steps than
the tree is deep, which stops the simulation. States, actions and observations are created once and
compared by identity, for speed.
"""

from __future__ import annotations

import random
from bisect import bisect_right
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pomdp_py

from routing_pomdp.envs import STAY, RoutingPOMDP
from routing_pomdp.envs.arrays import FloatArray
from routing_pomdp.envs.model.decision_graph import DecisionGraph
from routing_pomdp.solvers.exact.bounds import informed, open_loop, qmdp

Rollout = Literal["bounds", "qmdp", "stay", "random"]
"""The initial value of a new node: the midpoint of its bounds, QMDP's value, the value of returning
its answer, or the return of random actions."""


class State(pomdp_py.State):
    """A decision point and a hidden score vector."""

    __hash__ = object.__hash__
    __eq__ = object.__eq__

    def __init__(self, point: DecisionPoint, vector: int) -> None:
        self.point, self.vector = point, vector

    def __deepcopy__(self, memo: Any) -> State:
        return self  # states are immutable


class Action(pomdp_py.Action):
    __hash__ = object.__hash__
    __eq__ = object.__eq__

    def __init__(self, index: int) -> None:
        self.index = index


class Observation(pomdp_py.Observation):
    __hash__ = object.__hash__
    __eq__ = object.__eq__


class Posterior(pomdp_py.Particles):
    def __deepcopy__(self, memo: Any) -> Posterior:
        return self  # the belief is only read; copying it takes a tenth of a plan's time


@dataclass(eq=False)
class Edge:
    """The outcome of an action: the end, one decision point, or one for each symbol.

    Attributes:
        reward: the expected reward at the decision point, the same for every score vector:
            returning an answer gives its posterior mean, without the noise of a sampled score.
        after: the following decision points, created when first reached; empty at the end.
        joint: ``(K, C)`` their unnormalised beliefs.
        guess: ``(K,)`` the midpoints of their bounds, times their probability.
        node: their node in the decision graph.
        model: the model called or verified.
    """

    reward: float
    after: list[DecisionPoint | None] = field(default_factory=list)
    joint: FloatArray = field(default_factory=lambda: np.empty((0, 0)))
    guess: FloatArray = field(default_factory=lambda: np.empty(0))
    node: int = -1
    model: int = -1


@dataclass(eq=False)
class DecisionPoint:
    """An observed history inside the search.

    Attributes:
        mass: the mass of its unnormalised belief.
        edges: the outcomes of the actions that can be optimal.
        preferred: each of these actions with its initial visits and value.
        worth: its initial value.
        states: one state for each score vector that was drawn here.
    """

    mass: float = 1.0
    edges: dict[Action, Edge] = field(default_factory=dict)
    preferred: list[tuple[Action, int, float]] = field(default_factory=list)
    worth: float = 0.0
    states: dict[int, State] = field(default_factory=dict)

    def backed_up(self) -> dict[Action, float]:
        """Q-values by a backup of the beliefs reached: the best action follows at expanded decision
        points, the midpoint of the bounds counts elsewhere."""
        worth = {}
        for action, edge in self.edges.items():
            onward = edge.guess.sum() / self.mass
            for guess, point in zip(edge.guess, edge.after, strict=True):
                if point is not None:
                    best = max(point.backed_up().values())
                    onward += (point.mass * best - guess) / self.mass
            worth[action] = edge.reward + float(onward)
        return worth

    def state(self, vector: int) -> State:
        state = self.states.get(vector)
        if state is None:
            state = self.states[vector] = State(self, vector)
        return state


class PlanningModel(pomdp_py.BlackboxModel):
    """The generative model, expanded where a search goes."""

    def __init__(self, problem: RoutingPOMDP, prior_visits: int, rollout: Rollout) -> None:
        self._problem, self._prior_visits, self._rollout = problem, prior_visits, rollout
        self._graph = DecisionGraph.of(problem)
        self._lower, self._upper = open_loop(self._graph), informed(self._graph)
        self._qmdp = qmdp(self._graph)
        self._actions = [Action(index) for index in range(problem.rules.n_actions)]
        self.observations = [Observation() for _ in range(problem.n_symbols)]
        self._end = State(DecisionPoint(), 0)
        # Ends a simulation with the node's initial value in place of a rollout.
        self.settle = Action(-1)
        self._cumulative = problem.likelihood.cumsum(axis=2)[:, :, :-1].tolist()

    def root(self, code: int) -> DecisionPoint:
        """The decision point of a history code."""
        codes = np.array([code])
        i = int(self._graph.index(self._problem.decode(codes))[0])
        return self._explored(i, self._graph.nodes[i].belief(self._problem.belief(codes))[0])

    def sample(self, state: State, action: Action) -> tuple[State, Observation, float, int]:
        point = state.point
        if action is self.settle:
            return self._end, self.observations[0], point.worth, 1_000_000
        edge = point.edges[action]
        if not edge.after:
            # More steps than the tree is deep: the simulation stops.
            return self._end, self.observations[0], edge.reward, 1_000_000
        symbol = 0
        if len(edge.after) > 1:
            symbol = bisect_right(self._cumulative[edge.model][state.vector], random.random())
        following = edge.after[symbol]
        if following is None:
            following = edge.after[symbol] = self._explored(edge.node, edge.joint[symbol])
        return following.state(state.vector), self.observations[symbol], edge.reward, 1

    def _explored(self, i: int, joint: FloatArray) -> DecisionPoint:
        """The decision point of a node and an unnormalised belief, with the actions that can be
        optimal there; visits to other actions would bias the averages."""
        found: dict[int, tuple[Edge, float, float]] = {}
        mass = joint.sum()
        for choice in self._graph.nodes[i].choices:
            edge = Edge(float(joint @ choice.reward / mass))
            low = high = edge.reward
            if choice.following >= 0:
                edge.node, edge.joint = choice.following, choice.after(joint[None])[0]
                edge.model = self._graph.nodes[choice.following].stage
                edge.after = [None] * len(edge.joint)
                lower = self._lower[choice.following].value(edge.joint)
                upper = self._upper[choice.following].value(edge.joint)
                edge.guess = (lower + upper) / 2
                low, high = low + float(lower.sum() / mass), high + float(upper.sum() / mass)
            # Of the answers that can be returned, keep the best.
            if choice.action not in found or edge.reward > found[choice.action][0].reward:
                found[choice.action] = edge, low, high
        floor = max(low for _, low, _ in found.values())
        ceiling = max(high for _, _, high in found.values())
        point = DecisionPoint(mass=float(mass), worth=(floor + ceiling) / 2)
        if self._rollout == "qmdp":
            point.worth = float(self._qmdp[i].value(joint) / mass)
        elif self._rollout == "stay" and STAY in found:
            point.worth = found[STAY][0].reward
        for action, (edge, _, high) in found.items():
            if high >= floor - 1e-9:
                point.edges[self._actions[action]] = edge
                point.preferred.append((self._actions[action], self._prior_visits, high))
        return point


class TreePolicy(pomdp_py.RolloutPolicy):
    """Legal actions in the tree; beyond it, `PlanningModel.settle` or random actions."""

    def __init__(self, settle: Action, rollout: Rollout) -> None:
        self._settle = None if rollout == "random" else settle

    def get_all_actions(self, state: State, history: Any = None) -> list[Action]:
        return list(state.point.edges)

    def rollout(self, state: State, history: Any) -> Action:
        return self._settle or random.choice(list(state.point.edges))


class Preferred(pomdp_py.ActionPrior):
    def get_preferred_actions(self, state: State, history: Any) -> list[tuple[Action, int, float]]:
        return state.point.preferred
