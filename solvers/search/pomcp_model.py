"""A routing problem as pomdp-py plans in it: observed decision points, grown where a search goes.

pomdp-py has no terminal states, so the step that ends an episode counts for more steps than its
tree is deep, which stops the simulation there; states, actions and observations are made once and
compared by identity, which is what makes its tree fast.
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
from routing_pomdp.solvers.exact.bounds import clairvoyant, informed, open_loop

Rollout = Literal["bounds", "qmdp", "stay", "random"]
"""What a new node is worth before anything is tried from it: the middle of its bounds, QMDP's
value, its answer as it is, or a play of random actions."""


class State(pomdp_py.State):
    """A decision point and a hidden score vector."""

    __hash__ = object.__hash__
    __eq__ = object.__eq__

    def __init__(self, point: DecisionPoint, vector: int) -> None:
        self.point, self.vector = point, vector

    def __deepcopy__(self, memo: Any) -> State:
        return self  # states never change


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
        return self  # the root's copy of the belief is only read: copying it costs a plan's tenth


@dataclass(eq=False)
class Edge:
    """What an action leads to: the end, one decision point, or one decision point for each symbol.

    Attributes:
        reward: the same for every score vector. Returning an answer earns its posterior mean at
            that decision point: the expectation of what a sampled score would earn, without its
            noise.
        after: the decision points that can follow, made when they are first reached; none at the
            end.
        joint: ``(K, C)`` the unnormalised beliefs there.
        guess: ``(K,)`` the middle of the bounds there, times their probability.
        node: of the graph, where they are.
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
        edges: where the actions lead that can be the best.
        preferred: each action with its first visits and value.
        worth: its value before anything is tried from it.
        mass: of its belief, which is not normalised.
    """

    mass: float = 1.0
    edges: dict[Action, Edge] = field(default_factory=dict)
    preferred: list[tuple[Action, int, float]] = field(default_factory=list)
    worth: float = 0.0
    states: dict[int, State] = field(default_factory=dict)

    def backed_up(self) -> dict[Action, float]:
        """What each action is worth by the beliefs that were reached below it: the best action
        follows wherever an observation was seen, the middle of the bounds elsewhere."""
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
    """The generative model, grown where a search goes."""

    def __init__(self, problem: RoutingPOMDP, prior_visits: int, rollout: Rollout) -> None:
        self._problem, self._prior_visits, self._rollout = problem, prior_visits, rollout
        self._graph = DecisionGraph.of(problem)
        self._lower, self._upper = open_loop(self._graph), informed(self._graph)
        self._known = clairvoyant(self._graph)
        self._actions = [Action(index) for index in range(problem.rules.n_actions)]
        self.observations = [Observation() for _ in range(problem.n_symbols)]
        self._end = State(DecisionPoint(), 0)
        # Ends a simulation with the value of a whole rollout.
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
            # More steps than any tree is deep: the simulation stops without another node.
            return self._end, self.observations[0], edge.reward, 1_000_000
        symbol = 0
        if len(edge.after) > 1:
            symbol = bisect_right(self._cumulative[edge.model][state.vector], random.random())
        following = edge.after[symbol]
        if following is None:
            following = edge.after[symbol] = self._explored(edge.node, edge.joint[symbol])
        return following.state(state.vector), self.observations[symbol], edge.reward, 1

    def _explored(self, i: int, joint: FloatArray) -> DecisionPoint:
        """A node's decision point and unnormalised belief, with the actions that can be the
        best there: what is certainly worse would ruin the averages by its visits."""
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
            # Of the answers that an end can return, the best.
            if choice.action not in found or edge.reward > found[choice.action][0].reward:
                found[choice.action] = edge, low, high
        floor = max(low for _, low, _ in found.values())
        ceiling = max(high for _, _, high in found.values())
        point = DecisionPoint(mass=float(mass), worth=(floor + ceiling) / 2)
        if self._rollout == "qmdp":
            point.worth = float(self._known[i].value(joint) / mass)
        elif self._rollout == "stay" and STAY in found:
            point.worth = found[STAY][0].reward
        for action, (edge, _, high) in found.items():
            if high >= floor - 1e-9:
                point.edges[self._actions[action]] = edge
                point.preferred.append((self._actions[action], self._prior_visits, high))
        return point


class TreePolicy(pomdp_py.RolloutPolicy):
    """Legal actions in the tree, and beyond it a settled value or random actions."""

    def __init__(self, settle: Action, rollout: Rollout) -> None:
        self._settle = None if rollout == "random" else settle

    def get_all_actions(self, state: State, history: Any = None) -> list[Action]:
        return list(state.point.edges)

    def rollout(self, state: State, history: Any) -> Action:
        return self._settle or random.choice(list(state.point.edges))


class Preferred(pomdp_py.ActionPrior):
    def get_preferred_actions(self, state: State, history: Any) -> list[tuple[Action, int, float]]:
        return state.point.preferred
