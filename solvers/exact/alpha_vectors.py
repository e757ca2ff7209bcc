"""Exact alpha vectors of a routing problem, over all beliefs or over the reachable ones.

The general solver of `value_iteration` has one state for each score vector and position. Here the
position is observed and the score vector constant. A node therefore needs alpha vectors over score
vectors only, and a backup multiplies by an observation likelihood instead of a transition matrix.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from routing_pomdp.envs import History, RoutingData, RoutingPOMDP
from routing_pomdp.envs.arrays import FloatArray
from routing_pomdp.envs.model.decision_graph import Choice, DecisionGraph, Node
from routing_pomdp.envs.settings.ranges import Count
from routing_pomdp.solvers.exact.pruning import pruned_sum
from routing_pomdp.solvers.exact.value_iteration import AlphaVectors
from routing_pomdp.solvers.solver import Actions, Solver

Region = Literal["simplex", "statistic", "reachable"]


@dataclass(frozen=True)
class AlphaVectorIteration(Solver):
    """Backward induction on sets of alpha vectors.

    Attributes:
        region: the beliefs for which the value is exact. "simplex": all beliefs, whatever the
            prior; the sets grow steeply with models and symbols (3 models with 8 symbols are fast,
            4 are not). "statistic": all beliefs over the states that the called models can
            distinguish, and the prior within each; few dimensions at early nodes. "reachable": the
            beliefs after some history; elsewhere the value is a lower bound.
        max_vectors: the largest set of candidate vectors, for the first two regions.
        max_histories: the largest number of histories, for "reachable".
    """

    region: Region = "reachable"
    max_vectors: Count = 10_000
    max_histories: Count = 2**20

    def solve(self, problem: RoutingPOMDP, train: RoutingData | None = None) -> AlphaPolicy:
        """The optimal policy with its alpha vectors.

        Raises:
            ValueError: there are more vectors or histories than allowed.
        """
        return self.solve_frontier(problem, [problem.price])[0]

    def solve_frontier(
        self, problem: RoutingPOMDP, prices: Sequence[float], train: RoutingData | None = None
    ) -> list[AlphaPolicy]:
        """Policies in one graph; which beliefs can be met does not depend on the price."""
        graph = DecisionGraph.of(problem, merged=self.region != "simplex")
        beliefs = self._reachable(graph) if self.region == "reachable" else None
        return [self._solved(graph.at(price), beliefs) for price in prices]

    def _solved(self, graph: DecisionGraph, beliefs: list[FloatArray] | None) -> AlphaPolicy:
        values: dict[int, AlphaVectors] = {}
        for i in reversed(range(len(graph.nodes))):
            node = graph.nodes[i]
            if beliefs is None:
                values[i] = self._everywhere(node, values)
            elif len(beliefs[i]):
                values[i] = best_at(beliefs[i], node, values)
        return AlphaPolicy(graph, values)

    def _everywhere(self, node: Node, values: dict[int, AlphaVectors]) -> AlphaVectors:
        vectors, actions = [], []
        for choice in node.choices:
            found = choice.reward[None]
            if choice.following >= 0:
                projected = choice.before(values[choice.following].vectors)
                found = choice.reward + pruned_sum(list(projected), self.max_vectors)
            vectors.append(found)
            actions.append(np.full(len(found), choice.action))
        return AlphaVectors.pruned(np.concatenate(vectors), np.concatenate(actions))

    def _reachable(self, graph: DecisionGraph) -> list[FloatArray]:
        """Unnormalised beliefs ``(n, C)`` that can be reached at each node."""
        reached = [np.empty((0, len(node.prior))) for node in graph.nodes]
        reached[0] = graph.nodes[0].prior[None]
        for i, node in enumerate(graph.nodes):
            if len(reached[i]) > self.max_histories:
                raise ValueError(
                    f"{len(reached[i]):,} histories lead to one position, more than "
                    f"solver.max_histories={self.max_histories:,}: use fewer observation.bins or "
                    "solver=point_based"
                )
            # Under the answer rule `last`, different histories of a node can have equal beliefs.
            reached[i] = np.unique(reached[i], axis=0)
            for choice in node.choices:
                if choice.following >= 0:
                    after = choice.after(reached[i])
                    after = after.reshape(-1, after.shape[2])
                    after = after[after.any(axis=1)]
                    reached[choice.following] = np.concatenate([reached[choice.following], after])
        return reached


def best_at(joint: FloatArray, node: Node, values: dict[int, AlphaVectors]) -> AlphaVectors:
    """Point-based backup: the alpha vectors of ``node`` that are best at some of the beliefs
    ``(n, C)``, given those of the following nodes (Pineau, Gordon & Thrun, IJCAI 2003)."""
    backed = [_backed(joint, choice, values) for choice in node.choices]
    worth = np.stack([np.einsum("ns,ns->n", joint, vectors) for vectors in backed], axis=1)
    mass = joint.sum(axis=1, keepdims=True)
    # Ties up to rounding go to the lower action, as in backward induction.
    chosen = (worth >= worth.max(axis=1, keepdims=True) - 1e-12 * mass).argmax(axis=1)
    vectors = np.stack(backed)[chosen, np.arange(len(joint))]
    actions = np.array([choice.action for choice in node.choices])[chosen]
    rows = np.unique(np.column_stack([actions, vectors]), axis=0)
    return AlphaVectors(rows[:, 1:], rows[:, 0].astype(np.int64))


def _backed(joint: FloatArray, choice: Choice, values: dict[int, AlphaVectors]) -> FloatArray:
    """Alpha vectors ``(n, C)`` of ``choice``, each followed by the best vectors at one belief."""
    total = np.tile(choice.reward, (len(joint), 1))
    if choice.following >= 0:
        for projected in choice.before(values[choice.following].vectors):
            total += projected[(joint @ projected.T).argmax(axis=1)]
    return total


@dataclass(frozen=True, eq=False)
class AlphaPolicy:
    """The greedy policy of the alpha vectors of each node.

    Attributes:
        graph: the decision graph of the problem.
        values: the alpha vectors of each reachable node.
    """

    graph: DecisionGraph
    values: dict[int, AlphaVectors]

    @property
    def problem(self) -> RoutingPOMDP:
        return self.graph.problem

    @property
    def value(self) -> float:
        """The value of the alpha vectors at the prior."""
        root = self.graph.nodes[0]
        return float(self.values[0].value(root.belief(self.problem.prior[None]))[0])

    def act(self, history: History) -> Actions:
        belief = self.problem.belief(self.problem.encode(history))
        point = self.graph.index(history)
        action = np.empty(len(history), dtype=np.int64)
        for i in np.unique(point).tolist():
            rows = np.flatnonzero(point == i)
            action[rows] = self.values[i].act(self.graph.nodes[i].belief(belief[rows]))
        return action
