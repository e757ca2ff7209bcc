"""A routing problem on raw signals as arrays that a search looks things up in."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from routing_pomdp.envs.model.decision_graph import Choice, DecisionGraph, Node
from routing_pomdp.solvers.exact.bounds import informed, open_loop
from routing_pomdp.solvers.exact.value_iteration import AlphaVectors
from routing_pomdp.solvers.search.continuous import ContinuousPOMDP
from routing_pomdp.solvers.search.signal_cells import Cells, densities, drawn

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

_ENTRIES = 2**20  # densities in a model's pool, at most, where it has many distributions
_CELLS = 64  # of signals, where bounds are expected over them
_NONE = -1e30  # worth of a choice that there is not: infinite would make 0 · ∞
_NUMBERS = 2**22  # of one temporary array


@dataclass(frozen=True, eq=False)
class SignalPool:
    """Signals drawn before any search, ``R`` of each distribution at evenly spread shares of it,
    with their exact densities: a draw inside a search is a look-up.

    Score vectors that give a model's signals the same density are one of its ``G`` groups.

    Attributes:
        group: ``(N - 1, S)`` of each score vector.
        density: ``(N - 1, G, R, G)`` of signal ``r`` of one group, given each group.
        cells: ``(N - 1, S, K)`` likelihoods of cells of signals, over which bounds are expected.
    """

    group: IntArray
    density: FloatArray
    cells: FloatArray

    @classmethod
    def of(cls, problem: ContinuousPOMDP) -> Self:
        """The pool of a problem, whatever its price."""
        cells = Cells.of(problem, _CELLS)
        group = cells.group
        groups = int(group.max()) + 1
        n = int(np.clip(_ENTRIES // groups**2, 32, 1024))
        density = np.ones((len(group), groups, n, groups))
        for model in range(len(group)):
            one = np.unique(group[model], return_index=True)[1]
            used = len(one)
            at = densities(problem, model, drawn(problem, model, one, n))[:, one]
            density[model, :used, :, :used] = at.reshape(used, n, used)
        return cls(group, density, cells.likelihood)


@dataclass(frozen=True, eq=False)
class SearchTables:
    """The decision graph of a problem at its price; ``C`` choices a node at most.

    Attributes:
        graph: of the problem.
        action: ``(nodes, C)`` of each choice.
        following: ``(nodes, C)`` the node that it leads to; -1 at an end, and where there is none.
        seen: ``(nodes, C)`` the model whose signal is seen on the way; -1 for none.
        paid: ``(nodes, C, S)`` what it takes from the return given each hidden state, where the
            episode goes on.
        high: ``(nodes, C, S)`` what it is worth at most given each score vector: the fast informed
            bound, exact at an end; very low where there is none.
        low: ``(nodes, m, S)`` what plans that look at nothing are worth there.
    """

    graph: DecisionGraph
    action: IntArray
    following: IntArray
    seen: IntArray
    paid: FloatArray
    high: FloatArray
    low: FloatArray

    @classmethod
    def of(cls, problem: ContinuousPOMDP, pool: SignalPool) -> Self:
        graph = DecisionGraph.of(replace(problem, likelihood=pool.cells, shown=None))
        upper, lower = informed(graph), open_loop(graph)
        nodes, n_vectors = graph.nodes, len(problem.prior)
        shape = len(nodes), max(len(node.choices) for node in nodes)
        action, following = np.zeros(shape, dtype=np.int64), np.full(shape, -1)
        seen, paid = np.full(shape, -1), np.zeros((*shape, n_vectors))
        high = np.full((*shape, n_vectors), _NONE)
        low = np.full((shape[0], max(len(v.vectors) for v in lower.values()), n_vectors), _NONE)
        for i, node in enumerate(nodes):
            low[i, : len(lower[i].vectors)] = _whole(node, lower[i].vectors)
            for c, choice in enumerate(node.choices):
                action[i, c], following[i, c] = choice.action, choice.following
                high[i, c] = _whole(node, _worth(choice, upper))
                if choice.following >= 0:
                    paid[i, c] = _whole(node, -choice.reward)
                    if choice.symbol is not None:
                        seen[i, c] = nodes[choice.following].stage
        return cls(graph, action, following, seen, paid, high, low)

    def bounds(
        self, node: IntArray, weight: FloatArray, vector: IntArray | None
    ) -> tuple[FloatArray, FloatArray]:
        """Upper bounds ``(n, C)`` of the choices at nodes ``(n,)``, -inf for one that cannot be the
        best, and the lower bound ``(n,)`` of the best.

        Args:
            node: of the graph.
            weight: ``(n, P)`` of particles, normalised.
            vector: ``(n, P)`` their score vectors; None if they are all of them, in order.
        """
        high = np.empty((len(node), self.high.shape[1]))
        floor = np.empty(len(node))
        size = max(1, _NUMBERS // self.high[0].size)
        for begin in range(0, len(node), size):
            part = slice(begin, begin + size)
            given = None if vector is None else vector[part]
            high[part] = _mean(self.high[node[part]], weight[part], given)
            floor[part] = _mean(self.low[node[part]], weight[part], given).max(axis=1)
        return np.where(high >= floor[:, None] - 1e-9, high, -np.inf), floor

    def expected_paid(
        self, node: IntArray, weight: FloatArray, vector: IntArray | None
    ) -> FloatArray:
        """``(n, C)`` what the choices at nodes ``(n,)`` are expected to take; as `bounds`."""
        found = np.empty((len(node), self.paid.shape[1]))
        size = max(1, _NUMBERS // self.paid[0].size)
        for begin in range(0, len(node), size):
            part = slice(begin, begin + size)
            given = None if vector is None else vector[part]
            found[part] = _mean(self.paid[node[part]], weight[part], given)
        return found

    def lookahead(
        self, node: IntArray, model: IntArray, weight: FloatArray, vector: IntArray | None
    ) -> FloatArray:
        """The middle of the bounds at nodes ``(n,)``, expected over the signal of a ``model``
        ``(n,)`` that is yet to be seen, ``(n,)``; arguments as of `bounds`."""
        expected = np.empty(len(node))
        for seen in np.unique(model).tolist():
            likelihood = self.graph.problem.likelihood[seen].T  # (K, S)
            rows = np.flatnonzero(model == seen)
            size = max(1, _NUMBERS // (likelihood.shape[0] * weight.shape[1]))
            for begin in range(0, len(rows), size):
                part = rows[begin : begin + size]
                symbol, total = likelihood, np.zeros(len(part))
                if vector is not None:
                    symbol = likelihood.T[vector[part]].transpose(0, 2, 1)
                for table in (self.high, self.low):
                    value = _given(table[node[part]], vector if vector is None else vector[part])
                    # One product of matrices for each row: rounded alike in every batch.
                    worth = symbol @ (value * weight[part, None]).transpose(0, 2, 1)
                    total += worth.max(axis=2).sum(axis=1)
                expected[part] = total / 2
        return expected


def _mean(table: FloatArray, weight: FloatArray, vector: IntArray | None) -> FloatArray:
    """``(n, m)`` means of ``(n, m, S)`` values, each row rounded alike in every batch."""
    return (_given(table, vector) * weight[:, None]).sum(axis=2)


def _given(table: FloatArray, vector: IntArray | None) -> FloatArray:
    """``(n, m, P)`` of ``(n, m, S)`` values: those of the particles."""
    return table if vector is None else np.take_along_axis(table, vector[:, None, :], axis=2)


def _worth(choice: Choice, upper: dict[int, AlphaVectors]) -> FloatArray:
    if choice.following < 0:
        return choice.reward
    return choice.reward + choice.before(upper[choice.following].vectors).max(axis=1).sum(axis=0)


def _whole(node: Node, vectors: FloatArray) -> FloatArray:
    """Vectors ``(…, C)`` over the classes of a node as vectors ``(…, S)``; 0 where the prior is."""
    return np.where(node.members >= 0, vectors[..., node.members], 0.0)
