"""Upper and lower bounds on a POMDP's value, and the policies that are greedy in the upper ones.

QMDP (Littman, Cassandra & Kaelbling, ICML 1995) assumes that the state is observed from the next
step on; the fast informed bound (Hauskrecht, JAIR 2000) assumes it one observation later. For QMDP
the state is a score vector. For the fast informed bound it is the class of score vectors that the
called models can distinguish: with whole score vectors, which never change, the two bounds would be
equal.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from routing_pomdp.envs import RoutingData, RoutingPOMDP
from routing_pomdp.envs.arrays import FloatArray
from routing_pomdp.envs.model.decision_graph import Choice, DecisionGraph
from routing_pomdp.envs.model.finite_pomdp import FinitePOMDP
from routing_pomdp.solvers.exact.alpha_vectors import AlphaPolicy
from routing_pomdp.solvers.exact.pruning import NEVER, Deadline, undominated
from routing_pomdp.solvers.exact.value_iteration import AlphaVectors
from routing_pomdp.solvers.solver import Solver


@dataclass(frozen=True)
class QMDP(Solver):
    """The QMDP policy: decides as if every score were observed after the next action, so it never
    pays for verification."""

    def solve(self, problem: RoutingPOMDP, train: RoutingData | None = None) -> AlphaPolicy:
        return self.solve_frontier(problem, [problem.price])[0]

    def solve_frontier(
        self, problem: RoutingPOMDP, prices: Sequence[float], train: RoutingData | None = None
    ) -> list[AlphaPolicy]:
        graphs = _graphs(problem, prices, merged=False)
        return [AlphaPolicy(graph, qmdp(graph)) for graph in graphs]


@dataclass(frozen=True)
class FIB(Solver):
    """The policy of the fast informed bound: decides as if each call revealed the scores of the
    models called before it."""

    def solve(self, problem: RoutingPOMDP, train: RoutingData | None = None) -> AlphaPolicy:
        return self.solve_frontier(problem, [problem.price])[0]

    def solve_frontier(
        self, problem: RoutingPOMDP, prices: Sequence[float], train: RoutingData | None = None
    ) -> list[AlphaPolicy]:
        return [AlphaPolicy(graph, informed(graph)) for graph in _graphs(problem, prices)]


def _graphs(
    problem: RoutingPOMDP, prices: Sequence[float], merged: bool = True
) -> list[DecisionGraph]:
    """A problem's graph at each price, made once."""
    graph = DecisionGraph.of(problem, merged)
    return [graph.at(price) for price in prices]


def qmdp(graph: DecisionGraph) -> dict[int, AlphaVectors]:
    """QMDP's alpha vectors, one per choice: its value if the class is observed afterwards."""
    return _backward(
        graph, lambda choice, vectors: choice.before(vectors.max(axis=0)[None]).sum(axis=(0, 1))
    )


def informed(graph: DecisionGraph) -> dict[int, AlphaVectors]:
    """Alpha vectors of the fast informed bound, one per choice: its value if the next symbol and
    then the present class are observed."""
    return _backward(graph, lambda choice, vectors: choice.before(vectors).max(axis=1).sum(axis=0))


def open_loop(graph: DecisionGraph) -> dict[int, AlphaVectors]:
    """A lower bound: one vector for each undominated open-loop plan."""
    return _backward(graph, lambda choice, plans: choice.before(plans).sum(axis=0))


def _backward(
    graph: DecisionGraph, onward: Callable[[Choice, FloatArray], FloatArray]
) -> dict[int, AlphaVectors]:
    """Alpha vectors of all nodes; ``onward`` maps a choice and the vectors of the following node to
    one or several vectors before the choice."""
    values: dict[int, AlphaVectors] = {}
    for i in reversed(range(len(graph.nodes))):
        vectors, actions = [], []
        for choice in graph.nodes[i].choices:
            found = choice.reward[None]
            if choice.following >= 0:
                found = found + np.atleast_2d(onward(choice, values[choice.following].vectors))
            vectors.append(found)
            actions.append(np.full(len(found), choice.action))
        whole = AlphaVectors(np.concatenate(vectors), np.concatenate(actions))
        kept = undominated(whole.vectors)
        values[i] = AlphaVectors(whole.vectors[kept], whole.actions[kept])
    return values


@dataclass(frozen=True)
class Bounds:
    """Bounds on the optimal value at the prior, ``blind <= exact <= fib <= qmdp``.

    Attributes:
        blind: value of the best open-loop plan.
        fib: the fast informed bound.
        qmdp: QMDP's bound.
    """

    blind: float
    fib: float
    qmdp: float

    @classmethod
    def of(cls, problem: RoutingPOMDP) -> Bounds:
        """The bounds at the problem's price."""
        return cls.at_prices(problem, [problem.price])[0]

    @classmethod
    def at_prices(cls, problem: RoutingPOMDP, prices: Sequence[float]) -> list[Bounds]:
        """The bounds at each price; with a pre-query signal, their mean over its symbols."""
        shares, found = zip(
            *((share, cls._at_prices(left, prices)) for share, left in problem.branches()),
            strict=True,
        )
        mean = [
            np.array(shares) @ [[b.blind, b.fib, b.qmdp] for b in bounds]
            - problem.at(price).pre_price
            for price, bounds in zip(prices, zip(*found, strict=True), strict=True)
        ]
        return [cls(*bounds.tolist()) for bounds in mean]

    @classmethod
    def _at_prices(cls, problem: RoutingPOMDP, prices: Sequence[float]) -> list[Bounds]:
        fib, qmdp = (bound.solve_frontier(problem, prices) for bound in (FIB(), QMDP()))
        return [
            cls(_blind(low.graph), low.value, high.value)
            for low, high in zip(fib, qmdp, strict=True)
        ]


def _blind(graph: DecisionGraph) -> float:
    """The value of the best policy without observations."""
    blind = np.zeros(len(graph.nodes))
    for i in reversed(range(len(graph.nodes))):
        node = graph.nodes[i]
        blind[i] = max(
            node.prior @ choice.reward + (choice.following >= 0) * blind[choice.following]
            for choice in node.choices
        )
    return float(blind[0])


# -- any finite POMDP -------------------------------------------------------------------------


def qmdp_bound(
    pomdp: FinitePOMDP, horizon: int | None = None, deadline: Deadline = NEVER
) -> FloatArray:
    """QMDP's vectors, one per action, ``(A, S)``; see `_iterate` for horizon and deadline."""

    def backup(q: FloatArray) -> FloatArray:
        return pomdp.reward + pomdp.discount * pomdp.transition @ q.max(axis=0)

    return _iterate(pomdp, horizon, backup, deadline)


def fib_bound(
    pomdp: FinitePOMDP, horizon: int | None = None, deadline: Deadline = NEVER
) -> FloatArray:
    """The fast informed bound's vectors, one per action, ``(A, S)``: never above QMDP's."""
    kernel = pomdp.discount * pomdp.kernel

    def backup(q: FloatArray) -> FloatArray:
        return pomdp.reward + (kernel @ q.T).max(axis=-1).sum(axis=1)

    return _iterate(pomdp, horizon, backup, deadline)


def _iterate(
    pomdp: FinitePOMDP,
    horizon: int | None,
    backup: Callable[[FloatArray], FloatArray],
    deadline: Deadline,
) -> FloatArray:
    """Backs up ``horizon`` times, or with None until convergence or the deadline, which leaves a
    looser bound.

    Raises:
        ValueError: the horizon is below 1, or there is neither horizon nor discount.
    """
    if horizon is not None and horizon < 1:
        raise ValueError(f"the horizon is {horizon}: expected at least 1")
    if horizon is None and pomdp.discount == 1:
        raise ValueError("an infinite horizon needs a discount below 1: set a horizon")
    # Iterates from above are upper bounds at every step.
    least = 0.0 if horizon is not None else pomdp.reward.max() / (1 - pomdp.discount)
    vectors = np.full(pomdp.reward.shape, least)
    steps = 0
    while horizon is None or steps < horizon:
        before, vectors, steps = vectors, backup(vectors), steps + 1
        tolerance = 1e-12 + 4 * np.finfo(float).eps * np.abs(vectors).max()  # with rounding
        still = np.abs(vectors - before).max() < tolerance
        if horizon is None and (still or deadline.passed):
            break
    return vectors
