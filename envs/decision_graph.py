"""`DecisionGraph`: a routing problem as its observed positions and the choices at each.

What a router has called is observed, what is hidden (the score vector) never changes. So a problem
is a small graph without cycles: nodes are what was called, edges are choices, and the value at a
node is a function of the belief over score vectors alone, convex and piecewise linear. Solvers of
alpha vectors work on this form, and `flatten` turns it into a plain POMDP.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from envs.finite_pomdp import FinitePOMDP
from envs.history import History
from envs.pomdp import RoutingPOMDP
from envs.rules import ESCALATE, STAY

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

_MOST_BYTES = 2**31  # of a flattened problem's largest array


@dataclass(frozen=True, eq=False)
class Choice:
    """One edge. Under the answer rule ``best`` an end is as many choices as there are answers.

    Attributes:
        action: as of `Rules`.
        reward: ``(S,)`` for each score vector.
        answer: the model whose answer is returned; -1 where the episode goes on.
        following: the node that comes next; -1 at the end.
        symbol: ``(S, K)`` likelihoods of the symbol that is then seen; None if none is.
    """

    action: int
    reward: FloatArray
    answer: int = -1
    following: int = -1
    symbol: FloatArray | None = None

    def after(self, joint: FloatArray) -> FloatArray:
        """Unnormalised beliefs ``(n, S)`` to what they become, ``(n, K, S)``; ``K`` is 1 if
        nothing is seen."""
        if self.symbol is None:
            return joint[:, None]
        return joint[:, None] * self.symbol.T

    def before(self, vectors: FloatArray) -> FloatArray:
        """Alpha vectors ``(m, S)`` of the following node as seen from this one, ``(K, m, S)``:
        for each symbol, weighted by its likelihood."""
        if self.symbol is None:
            return vectors[None]
        return self.symbol.T[:, None] * vectors


@dataclass(frozen=True, eq=False)
class Node:
    """One observed position.

    Attributes:
        called: the models whose answers can be returned: all that were called under the answer
            rule ``best``, else the last one; none before the first call.
        verified: whether the last answer was.
        choices: at least one.
    """

    called: tuple[int, ...]
    verified: bool
    choices: list[Choice] = field(default_factory=list)

    @property
    def stage(self) -> int:
        return self.called[-1] if self.called else -1


@dataclass(frozen=True, eq=False)
class DecisionGraph:
    """Every position that can be reached.

    Attributes:
        problem: that it describes.
        nodes: the root, where nothing is called yet, comes first, and every choice leads to a
            later node. A forced start is a root with one choice.
    """

    problem: RoutingPOMDP
    nodes: list[Node]

    @classmethod
    def of(cls, problem: RoutingPOMDP) -> DecisionGraph:
        rules, n = problem.rules, problem.n_models
        keys: set[tuple[tuple[int, ...], bool]] = {((), False)}
        for stage in range(-1, n - 1):
            for called in {called for called, _ in keys if (called or (-1,))[-1] == stage}:
                if rules.verify and called:
                    keys.add((called, True))
                for target in range(stage + 1, min(stage + 1 + rules.reach(stage), n - 1)):
                    kept = called if rules.answer == "best" else ()
                    keys.add(((*kept, target), not rules.verify))
        order = sorted(keys, key=lambda key: ((key[0] or (-1,))[-1], key[1], key[0]))
        place = {key: i for i, key in enumerate(order)}
        nodes = [Node(*key) for key in order]
        for node in nodes:
            _add_choices(problem, node, place)
        return cls(problem, nodes)

    def index(self, history: History) -> IntArray:
        """The node of each history, ``(n,)``; all of them before the last call."""
        return self._place[self._mask(history), history.last_verified.astype(np.int64)]

    def _mask(self, history: History) -> IntArray:
        if self.problem.rules.answer == "last":
            return np.where(history.stage < 0, 0, 1 << np.maximum(history.stage, 0))
        return history.called[:, :-1] @ (1 << np.arange(self.problem.n_models - 1))

    @cached_property
    def _place(self) -> IntArray:
        """``(2 ** (N - 1), 2)``: node by the set of called models and by whether it is verified."""
        place = np.full((1 << (self.problem.n_models - 1), 2), -1)
        for i, node in enumerate(self.nodes):
            place[sum(1 << model for model in node.called), int(node.verified)] = i
        return place


def _add_choices(
    problem: RoutingPOMDP, node: Node, place: dict[tuple[tuple[int, ...], bool], int]
) -> None:
    rules, n, stage = problem.rules, problem.n_models, node.stage
    symbols = [*problem.likelihood]
    choices = node.choices
    choices += [Choice(STAY, problem.score[:, answer], answer) for answer in node.called]
    for action in range(ESCALATE, ESCALATE + rules.reach(stage)):
        target = stage + action
        kept = node.called if rules.answer == "best" else ()
        paid = problem.call_price[target]
        if target == n - 1:
            choices += [
                Choice(action, problem.score[:, answer] - paid, answer)
                for answer in (*kept, target)
            ]
            continue
        following = place[(*kept, target), not rules.verify]
        paid += 0.0 if rules.verify else problem.verify_price[target]
        symbol = None if rules.verify else symbols[target]
        reward = np.full(len(problem.prior), -paid)
        choices.append(Choice(action, reward, following=following, symbol=symbol))
    if rules.verify and node.called and not node.verified:
        reward = np.full(len(problem.prior), -problem.verify_price[stage])
        choices.append(
            Choice(
                rules.verify_action,
                reward,
                following=place[node.called, True],
                symbol=symbols[stage],
            )
        )


def flatten(problem: RoutingPOMDP, discount: float = 1.0) -> FinitePOMDP:
    """The same problem without structure: one state a node and score vector, and an end.

    An action is a pair of what is done and whose answer is returned. Where an action is not on
    offer it ends the episode at a loss larger than any gain, so that it is never optimal.

    Args:
        problem: its value is the optimal one of ``horizon`` `2N + 1` or more.
        discount: 1, or just below for solvers that need it (SARSOP).

    Raises:
        ValueError: more states than fit into memory.
    """
    graph = DecisionGraph.of(problem)
    n_vectors, n_nodes = len(problem.prior), len(graph.nodes)
    n_states = n_nodes * n_vectors + 1
    labels = {(c.action, c.answer): None for node in graph.nodes for c in node.choices}
    actions = {pair: i for i, pair in enumerate(sorted(labels))}
    if len(actions) * n_states**2 * 8 > _MOST_BYTES:
        raise ValueError(
            f"the flat problem has {n_states:,} states and {len(actions)} actions: its transition "
            f"table would take {len(actions) * n_states**2 * 8 / 2**30:.0f} GiB"
        )
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
                # One node is entered by several actions, with the same symbols each time, but
                # for VERIFY, which has an entry of its own.
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
