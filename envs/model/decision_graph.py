"""`DecisionGraph`: a routing problem as an acyclic graph of decision points and choices.

The called models are observed, and the hidden score vector never changes. So the decision points
form a small acyclic graph: a node is the set of called models, an edge is a choice. The value at a
node is a convex, piecewise linear function of the belief over score vectors. Score vectors that no
symbol so far can separate form one class, so that early nodes have small beliefs. Alpha-vector
solvers work on this graph, and `flatten` turns it into a plain POMDP.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from routing_pomdp.envs.arrays import FloatArray, IntArray
from routing_pomdp.envs.history import History
from routing_pomdp.envs.model.finite_pomdp import FinitePOMDP, require_memory
from routing_pomdp.envs.model.routing_pomdp import RoutingPOMDP, with_fields
from routing_pomdp.envs.rules import ESCALATE, STAY


@dataclass(frozen=True, eq=False)
class Choice:
    """One edge. Under the answer rule ``best``, ending has one choice for each possible answer.

    Attributes:
        action: as in `Rules`.
        reward: ``(C,)`` expected in each class of the node.
        answer: the model whose answer is returned; -1 if the episode continues.
        calls: the model that is called; -1 for none.
        verifies: the model whose answer is verified; -1 for none.
        following: the next node; -1 at the end.
        parent: ``(C',)`` the class of this node that contains each class of the next node.
        share: ``(C',)`` the probability of each of those within its parent.
        symbol: ``(C', K)`` likelihoods of the symbol that is observed; None without observation.
    """

    action: int
    reward: FloatArray
    answer: int = -1
    calls: int = -1
    verifies: int = -1
    following: int = -1
    parent: IntArray = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    share: FloatArray = field(default_factory=lambda: np.empty(0))
    symbol: FloatArray | None = None

    def after(self, joint: FloatArray) -> FloatArray:
        """Unnormalised beliefs ``(n, K, C')`` at the next node, by symbol, from beliefs ``(n, C)``;
        ``K`` is 1 without observation."""
        moved = (joint[:, self.parent] * self.share)[:, None]
        return moved if self.symbol is None else moved * self.symbol.T

    def before(self, vectors: FloatArray) -> FloatArray:
        """Alpha vectors ``(m, C')`` of the next node backed up to this one, ``(K, m, C)``: for each
        symbol, weighted by its likelihood."""
        weighted = (self.share * vectors)[None]
        if self.symbol is not None:
            weighted = weighted * self.symbol.T[:, None]
        return np.add.reduceat(weighted[..., self._order], self._starts, axis=-1)

    @cached_property
    def _order(self) -> IntArray:
        return np.argsort(self.parent, kind="stable")

    @cached_property
    def _starts(self) -> IntArray:
        return np.searchsorted(self.parent[self._order], np.arange(len(self.reward)))


@dataclass(frozen=True, eq=False)
class Node:
    """One decision point.

    Attributes:
        called: the models whose answers can be returned: all that were called under the answer
            rule ``best``, else the last one; none before the first call.
        verified: whether the last answer was verified.
        members: ``(S,)`` the class of each score vector, -1 for none.
        prior: ``(C,)`` of the classes.
        choices: at least one.
    """

    called: tuple[int, ...]
    verified: bool
    members: IntArray
    prior: FloatArray
    choices: list[Choice] = field(default_factory=list)

    @property
    def stage(self) -> int:
        return self.called[-1] if self.called else -1

    @property
    def first(self) -> IntArray:
        """``(C,)`` one score vector of each class."""
        return self._order[self._starts]

    def belief(self, vectors: FloatArray) -> FloatArray:
        """Beliefs over classes ``(n, C)`` from those over score vectors ``(n, S)``."""
        return np.add.reduceat(vectors[:, self._order], self._starts, axis=1)

    @cached_property
    def _order(self) -> IntArray:
        order = np.argsort(self.members, kind="stable")
        return order[self.members[order] >= 0]

    @cached_property
    def _starts(self) -> IntArray:
        return np.searchsorted(self.members[self._order], np.arange(len(self.prior)))


Key = tuple[tuple[int, ...], bool]


@dataclass(frozen=True, eq=False)
class DecisionGraph:
    """All reachable decision points of a problem.

    Attributes:
        problem: the problem.
        merged: see `of`.
        nodes: in topological order, the root first. Nothing is called at the root; a forced start
            is its only choice.
    """

    problem: RoutingPOMDP
    merged: bool
    nodes: list[Node]

    @classmethod
    def of(cls, problem: RoutingPOMDP, merged: bool = True) -> DecisionGraph:
        """The graph of a problem.

        Args:
            problem: any.
            merged: whether score vectors that no symbol so far can separate form one class. Their
                posterior stays proportional to the prior, so no information is lost; under the
                conditioning ``own`` a class is the scores of the called models. Otherwise every
                score vector is a class of its own at every node.
        """
        problem.require_seen()
        rules, n = problem.rules, problem.n_models
        keys: set[Key] = {((), False)}
        for stage in range(-1, n - 1):
            for called in {called for called, _ in keys if (called or (-1,))[-1] == stage}:
                if rules.verify and called:
                    keys.add((called, True))
                for target in range(stage + 1, min(stage + 1 + rules.reach(stage), n - 1)):
                    kept = called if rules.answer == "best" else ()
                    keys.add(((*kept, target), bool(rules.verified_at_once[target])))
        order = sorted(keys, key=lambda key: ((key[0] or (-1,))[-1], key[1], key[0]))
        node_of = {key: i for i, key in enumerate(order)}
        split = _Classes(problem) if merged else None
        nodes = []
        for key in order:
            members = split.of(*key) if split else np.arange(len(problem.prior))
            possible = members >= 0
            prior = np.bincount(members[possible], problem.prior[possible]).astype(np.float64)
            nodes.append(Node(*key, members, prior))
        for node in nodes:
            node.choices.extend(_choices(problem, node, nodes, node_of, merged))
        return cls(problem, merged, nodes)

    def at(self, price: float) -> DecisionGraph:
        """The same graph at another price, on which the rewards alone depend."""
        problem, nodes = self.problem.at(price), []
        for node in self.nodes:
            choices = [
                with_fields(choice, reward=_reward(problem, node, choice, self.merged))
                for choice in node.choices
            ]
            nodes.append(with_fields(node, choices=choices))
        return with_fields(self, problem=problem, nodes=nodes)

    def index(self, history: History) -> IntArray:
        """The node of each history, ``(n,)``.

        Raises:
            ValueError: a history cannot occur under the rules.
        """
        node = self._found(history)
        if (node < 0).any():
            called = np.flatnonzero(history.called[int(node.argmin())]).tolist()
            raise ValueError(f"the rules lead to no history in which models {called} are called")
        return node

    def reaches(self, history: History) -> NDArray[np.bool_]:
        """``(n,)`` which histories can occur under the rules."""
        return self._found(history) >= 0

    def _found(self, history: History) -> IntArray:
        return self._node_of[self._mask(history), history.last_verified.astype(np.int64)]

    def _mask(self, history: History) -> IntArray:
        if self.problem.rules.answer == "last":
            return np.where(history.stage < 0, 0, 1 << np.maximum(history.stage, 0))
        return history.called[:, :-1] @ (1 << np.arange(self.problem.n_models - 1))

    @cached_property
    def _node_of(self) -> IntArray:
        """``(2 ** (N - 1), 2)``: node by set of called models and whether the last is verified."""
        node_of = np.full((1 << (self.problem.n_models - 1), 2), -1)
        for i, node in enumerate(self.nodes):
            node_of[sum(1 << model for model in node.called), int(node.verified)] = i
        return node_of


class _Classes:
    """Groups score vectors by the likelihoods of the models that may have been verified."""

    def __init__(self, problem: RoutingPOMDP) -> None:
        self._best = problem.rules.answer == "best"
        self._possible = problem.prior > 0
        # For each model, score vectors with equal likelihoods form one group.
        self._group = [
            np.unique(rows, axis=0, return_inverse=True)[1].ravel() for rows in problem.likelihood
        ]

    def of(self, called: tuple[int, ...], verified: bool) -> IntArray:
        """``(S,)`` the class of each score vector; -1 where the prior is 0."""
        observed = called if self._best else range((called or (-1,))[-1] + 1)
        group = [self._group[model] for model in (observed if verified else observed[:-1])]
        key = np.stack([np.zeros_like(self._group[0]), *group], axis=1)
        members = np.full(len(key), -1)
        possible = self._possible
        members[possible] = np.unique(key[possible], axis=0, return_inverse=True)[1].ravel()
        return members


def _reward(problem: RoutingPOMDP, node: Node, choice: Choice, merged: bool) -> FloatArray:
    """The immediate reward of a choice in each class, ``(C,)``: score returned less costs paid."""
    call, verify = problem.prices_in
    paid = np.zeros(len(problem.prior))
    if choice.calls >= 0:
        paid = call[:, choice.calls]
    if choice.verifies >= 0:
        paid = paid + verify[:, choice.verifies]
    earned = problem.score[:, choice.answer] - paid if choice.answer >= 0 else paid
    if merged:  # of each class, in the proportions of the prior
        earned = np.asarray(node.belief((problem.prior * earned)[None])[0] / node.prior)
    return earned if choice.answer >= 0 else -earned


def _choices(
    problem: RoutingPOMDP, node: Node, nodes: list[Node], node_of: dict[Key, int], merged: bool
) -> Iterator[Choice]:
    rules, n, stage = problem.rules, problem.n_models, node.stage

    def made(action: int, **fields: Any) -> Choice:
        choice = Choice(action, np.empty(0), **fields)
        return replace(choice, reward=_reward(problem, node, choice, merged))

    def goes_on(action: int, key: Key, **fields: int) -> Choice:
        after = nodes[node_of[key]]
        one, seen = after.first, fields.get("verifies")
        return made(
            action,
            following=node_of[key],
            parent=node.members[one],
            share=after.prior / node.prior[node.members[one]] if merged else np.ones(len(one)),
            symbol=None if seen is None else problem.likelihood[seen][one],
            **fields,
        )

    for answer in node.called:
        yield made(STAY, answer=answer)
    for action in range(ESCALATE, ESCALATE + rules.reach(stage)):
        target = stage + action
        kept = node.called if rules.answer == "best" else ()
        if target == n - 1:
            for answer in (*kept, target):
                yield made(action, answer=answer, calls=target)
        elif rules.verified_at_once[target]:
            yield goes_on(action, ((*kept, target), True), calls=target, verifies=target)
        else:
            yield goes_on(action, ((*kept, target), False), calls=target)
    if rules.verify and node.called and not node.verified:
        yield goes_on(rules.verify_action, (node.called, True), verifies=stage)


def flatten(problem: RoutingPOMDP, discount: float = 1.0) -> FinitePOMDP:
    """The problem as a plain POMDP: one state for each pair of node and score vector, and an end.

    An action is a pair of a routing action and the model whose answer is returned. Where it is not
    legal it ends the episode with a loss larger than any gain, so that it is never optimal.

    Args:
        problem: its value is the POMDP's optimal value at a horizon of ``2N + 1`` or more.
        discount: 1, or just below for solvers that need it (SARSOP).

    Raises:
        ValueError: the states do not fit into memory.
    """
    graph = DecisionGraph.of(problem, merged=False)
    n_vectors, n_nodes = len(problem.prior), len(graph.nodes)
    n_states = n_nodes * n_vectors + 1
    labels = {(c.action, c.answer): None for node in graph.nodes for c in node.choices}
    actions = {pair: i for i, pair in enumerate(sorted(labels))}
    require_memory((len(actions), n_states, n_states), "the flat problem's transitions")
    end, nothing = n_states - 1, problem.n_symbols
    transition = np.zeros((len(actions), n_states, n_states))
    observation = np.zeros((len(actions), n_states, problem.n_symbols + 1))
    observation[:, :, nothing] = 1.0
    rewards = np.concatenate([c.reward for node in graph.nodes for c in node.choices])
    reward = np.full((len(actions), n_states), rewards.min() - np.ptp(rewards) - 1.0)
    reward[:, end] = 0.0
    transition[:, :, end] = 1.0
    rows = np.arange(n_vectors)
    for i, node in enumerate(graph.nodes):
        for choice in node.choices:
            action, here = actions[choice.action, choice.answer], i * n_vectors + rows
            reward[action, here] = choice.reward
            if choice.following < 0:
                continue
            there = choice.following * n_vectors + rows
            transition[action, here, end] = 0.0
            transition[action, here, there] = 1.0
            if choice.symbol is not None:
                # Several actions lead to one node, each with the same symbols; only VERIFY differs,
                # and it has entries of its own.
                observation[action, there] = 0.0
                observation[action, there, :nothing] = choice.symbol
    start = np.zeros(n_states)
    start[:n_vectors] = problem.prior
    return FinitePOMDP(
        transition,
        observation,
        reward,
        discount,
        start,
        states=(*(_state_name(n, y) for n in graph.nodes for y in range(n_vectors)), "end"),
        actions=tuple(_action_name(problem, *pair) for pair in actions),
        observations=(*(f"symbol-{k}" for k in range(problem.n_symbols)), "none"),
    )


def _state_name(node: Node, vector: int) -> str:
    called = "-".join(map(str, node.called)) or "none"
    return f"called-{called}{'-verified' if node.verified else ''}-y{vector}"


def _action_name(problem: RoutingPOMDP, action: int, answer: int) -> str:
    label = problem.rules.label(action).replace("+", "-")
    return label if answer < 0 else f"{label}-answer-{answer}"
