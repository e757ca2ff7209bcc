"""Point-based value iteration with two bounds, for problems too large to enumerate.

Heuristic search value iteration (Smith & Simmons, UAI 2004) on the graph of observed positions. A
trial descends from the prior towards the beliefs with the largest gap between the bounds, weighted
by their probability, then backs both bounds up along its path. The lower bound is a set of alpha
vectors for each position, so it is the value of an executable policy. The upper bound is
interpolated between beliefs ("sawtooth": Hauskrecht, JAIR 2000) and starts from the fast informed
bound.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from routing_pomdp.envs import History, RoutingData, RoutingPOMDP
from routing_pomdp.envs.arrays import FloatArray
from routing_pomdp.envs.model.decision_graph import Choice, DecisionGraph, Node
from routing_pomdp.envs.settings.ranges import Count, Positive
from routing_pomdp.solvers.exact.alpha_vectors import best_at
from routing_pomdp.solvers.exact.bounds import informed, open_loop
from routing_pomdp.solvers.exact.value_iteration import AlphaVectors
from routing_pomdp.solvers.solver import Actions, Log, Solver, Training

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PointBased(Solver):
    """Heuristic search value iteration, with a certified gap to the optimum.

    Attributes:
        gap: the gap between the two bounds at the prior, in score, at which it stops.
        max_trials: the largest number of trials; a remaining gap is logged as a warning.
        log: records one row per trial with both bounds.
    """

    gap: Positive = 1e-3
    max_trials: Count = 2000
    log: Log | None = field(default=None, repr=False, compare=False)

    def with_training(self, training: Training) -> PointBased:
        return replace(self, log=training.log)

    def solve(self, problem: RoutingPOMDP, train: RoutingData | None = None) -> PointBasedPolicy:
        """A policy with value at least ``lower``; the optimal value is at most ``upper``."""
        return self.solve_frontier(problem, [problem.price])[0]

    def solve_frontier(
        self, problem: RoutingPOMDP, prices: Sequence[float], train: RoutingData | None = None
    ) -> list[PointBasedPolicy]:
        graph = DecisionGraph.of(problem)
        return [self._solved(graph.at(price)) for price in prices]

    def _solved(self, graph: DecisionGraph) -> PointBasedPolicy:
        search = _Search(graph, self.gap)
        trials = 0
        lower, upper = search.at_root()
        while upper - lower > self.gap and trials < self.max_trials:
            search.trial()
            lower, upper = search.at_root()
            trials += 1
            if self.log is not None:
                self.log({"step": trials, "lower": lower, "upper": upper})
        if upper - lower > self.gap:
            _log.warning(
                "point_based stopped after %d trials with a gap of %.4f at price %g: "
                "raise solver.max_trials or solver.gap",
                trials,
                upper - lower,
                graph.problem.price,
            )
        return PointBasedPolicy(search.graph, search.lower, lower, upper, trials)


@dataclass(frozen=True, eq=False)
class PointBasedPolicy:
    """The policy with one step of look-ahead in the lower bound.

    Attributes:
        graph: the decision graph of the problem.
        values: the lower bound's alpha vectors at each node.
        lower: a lower bound on its value inside the model.
        upper: an upper bound on the optimal value inside the model.
        trials: number of trials made.
    """

    graph: DecisionGraph
    values: dict[int, AlphaVectors]
    lower: float
    upper: float
    trials: int

    @property
    def problem(self) -> RoutingPOMDP:
        return self.graph.problem

    def act(self, history: History) -> Actions:
        belief = self.problem.belief(self.problem.encode(history))
        point = self.graph.index(history)
        action = np.empty(len(history), dtype=np.int64)
        for i in np.unique(point).tolist():
            rows, node = np.flatnonzero(point == i), self.graph.nodes[i]
            worth = _lookahead(node.belief(belief[rows]), node, self.values)
            # Ties up to rounding go to the first action: rounding depends on the batch.
            first = (worth >= worth.max(axis=1, keepdims=True) - 1e-12).argmax(axis=1)
            action[rows] = np.array([choice.action for choice in node.choices])[first]
        return action


def _lookahead(joint: FloatArray, node: Node, values: dict[int, AlphaVectors]) -> FloatArray:
    """Q-values ``(n, choices)`` of ``node`` at (unnormalised) beliefs ``(n, C)``."""
    worth = []
    for choice in node.choices:
        total = joint @ choice.reward
        if choice.following >= 0:
            total = total + values[choice.following].value(choice.after(joint)).sum(axis=1)
        worth.append(total)
    return np.stack(worth, axis=1)


class _Search:
    """Both bounds of every position, tightened by trials."""

    def __init__(self, graph: DecisionGraph, gap: float) -> None:
        self.graph, self._gap = graph, gap
        self.lower = open_loop(graph)
        bound = informed(graph)
        self._upper = {i: _Sawtooth(vectors) for i, vectors in bound.items()}

    def at_root(self) -> tuple[float, float]:
        """Both bounds of the value at the prior."""
        prior = self.graph.nodes[0].prior[None]
        return float(self.lower[0].value(prior)[0]), float(self._upper[0].value(prior)[0])

    def trial(self) -> None:
        """One descent from the prior, with backups along its path in reverse."""
        path: list[tuple[int, FloatArray]] = []
        i, belief = 0, self.graph.nodes[0].prior
        while True:
            path.append((i, belief))
            worth = [self._from_above(choice, belief) for choice in self.graph.nodes[i].choices]
            choice = self.graph.nodes[i].choices[int(np.argmax(worth))]
            if choice.following < 0:
                break
            joint = choice.after(belief[None])[0]
            # Both bounds scale with the mass, so these are gaps weighted by their probability.
            apart = self._upper[choice.following].value(joint)
            apart = apart - self.lower[choice.following].value(joint)
            mass = joint.sum(axis=1)
            excess = apart - self._gap * mass
            symbol = int(np.argmax(excess))
            if excess[symbol] <= 0:
                break
            i, belief = choice.following, joint[symbol] / mass[symbol]
        for i, belief in reversed(path):
            self._back_up(i, belief)

    def _back_up(self, i: int, belief: FloatArray) -> None:
        node, upper = self.graph.nodes[i], self._upper[i]
        best = max(self._from_above(choice, belief) for choice in node.choices)
        upper.add(belief, best)
        self.lower[i] = _joined(self.lower[i], best_at(belief[None], node, self.lower), upper)

    def _from_above(self, choice: Choice, belief: FloatArray) -> float:
        worth = float(belief @ choice.reward)
        if choice.following >= 0:
            worth += self._upper[choice.following].value(choice.after(belief[None])[0]).sum()
        return worth


def _joined(known: AlphaVectors, found: AlphaVectors, upper: _Sawtooth) -> AlphaVectors:
    """The vectors of ``known`` and ``found``. Whenever their number is a power of two, only those
    that are best at a visited belief are kept."""
    vectors = np.concatenate([known.vectors, found.vectors])
    actions = np.concatenate([known.actions, found.actions])
    if len(vectors) > 32 and len(vectors) & (len(vectors) - 1) == 0:
        kept = np.unique((upper.beliefs @ vectors.T).argmax(axis=1))
        vectors, actions = vectors[kept], actions[kept]
    return AlphaVectors(vectors, actions)


class _Sawtooth:
    """An upper bound, interpolated between the corners of the simplex and some beliefs."""

    def __init__(self, bound: AlphaVectors) -> None:
        self._bound, self._corner = bound, bound.vectors.max(axis=0)
        self._size = 0
        self._beliefs = np.empty((8, len(self._corner)))
        self._drop = np.empty(8)

    @property
    def beliefs(self) -> FloatArray:
        """``(p, S)`` the interpolated beliefs, without the corners."""
        return self._beliefs[: self._size]

    def add(self, belief: FloatArray, value: float) -> None:
        """Adds an interpolation point."""
        if self._size == len(self._drop):
            self._beliefs = np.concatenate([self._beliefs, np.empty_like(self._beliefs)])
            self._drop = np.concatenate([self._drop, np.empty_like(self._drop)])
        self._beliefs[self._size] = belief
        self._drop[self._size] = min(value - belief @ self._corner, 0.0)
        self._size += 1

    def value(self, joint: FloatArray) -> FloatArray:
        """``(n,)`` values at (unnormalised) beliefs ``(n, S)``, times their mass."""
        found = self._bound.value(joint)
        if self._size:
            flat = joint @ self._corner
            for row, b in enumerate(joint):
                # The largest share of each known belief that fits into this one.
                with np.errstate(divide="ignore", invalid="ignore"):
                    ratio = np.where(self.beliefs > 0, b / self.beliefs, np.inf).min(axis=1)
                found[row] = min(found[row], flat[row] + (ratio * self._drop[: self._size]).min())
        return found
