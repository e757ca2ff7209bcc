"""POMCP on continuous signals: progressive widening over weighted particles.

POMCPOW and PFT-DPW (Sunberg & Kochenderfer, ICAPS 2018) search a tree whose nodes are real-valued
observations: an action tried ``N`` times is followed by at most ``k N^α`` of them, each met again
in its turn. POMCPOW's nodes gather a weighted particle a visit; PFT-DPW's carry a weighted set.
The hidden part of a routing state, the score vector, has finitely many values and never changes, so
that nothing has to be propagated: a node gets all the particles of the root, with weights that are
multiplied by the density of its signal. That is PFT-DPW's filter and what POMCPOW's particles
become with visits. There are few actions: every one is expanded.

pomdp-py has no such search, and on continuous signals nearly every query has histories of its own,
each of which needs a plan. So all histories of a batch are searched in step, as arrays: 300
simulations take 85 ms by themselves and 1.5 ms a history in a large batch. Everything random comes
from a counter hashed with the history and the seed: a decision depends on nothing else.

As in `pomcp`, the search is informed: actions start from an upper bound, those that cannot be the
best are left out, and in the end a backup of what was reached decides. A new node is worth the
middle of its bounds, whose mean over signals is known from small cells of them: nodes stand for
what they differ from it (a control variate). Signals of new nodes are a low-discrepancy sequence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from routing_pomdp.envs import History, RoutingData, RoutingPOMDP
from routing_pomdp.envs.settings.ranges import Count, NotNegative, Positive, PositiveShare, Seed
from routing_pomdp.solvers.search.continuous import ContinuousPOMDP
from routing_pomdp.solvers.search.pomcpow_model import SearchTables, SignalPool
from routing_pomdp.solvers.solver import Actions, Solver

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
Decide = Literal["backup", "mean"]

_NUMBERS = 2**22  # weights of all nodes that are searched in step: 32 MB
# Roberts' sequence in two dimensions: multiples of powers of 1 over the plastic number.
_STEP = np.array([0.7548776662466927, 0.5698402909980532])


@dataclass(frozen=True)
class POMCPOW(Solver):
    """Monte-Carlo tree search on raw signals.

    Attributes:
        simulations: a plan.
        widening: ``k`` of the observations that an action may have, ``k N^α``.
        widening_power: ``α`` in (0, 1].
        particles: of the root, spread evenly over the exact posterior; null for every score vector
            with its exact weight.
        exploration: the constant of UCB1, in score.
        prior_visits: how many visits the upper bound counts for.
        decide: by a "backup" of the nodes that were reached, or by the "mean" of an action's
            simulations.
        seed: of the search.
    """

    simulations: Count = 300
    widening: Positive = 2.0
    widening_power: PositiveShare = 0.5
    particles: Count | None = None
    exploration: NotNegative = 0.1
    prior_visits: Count = 3
    decide: Decide = "backup"
    seed: Seed = 0

    def solve(self, problem: RoutingPOMDP, train: RoutingData | None = None) -> POMCPOWPolicy:
        """The policy at the problem's price; see `solve_frontier`."""
        return self.solve_frontier(problem, [problem.price])[0]

    def solve_frontier(
        self, problem: RoutingPOMDP, prices: Sequence[float], train: RoutingData | None = None
    ) -> list[POMCPOWPolicy]:
        """Policies that plan when they are asked; signals are drawn once for all prices.

        Raises:
            ValueError: an observation model without densities.
        """
        continuous = ContinuousPOMDP.of(problem)
        pool = SignalPool.of(continuous)
        models = [continuous.at(price) for price in prices]
        return [POMCPOWPolicy(m, self, pool, SearchTables.of(m, pool)) for m in models]


@dataclass(frozen=True, eq=False)
class POMCPOWPolicy:
    """Plans at each new history and remembers the action.

    Attributes:
        problem: that it plans in.
        solver: how it plans.
        pool: signals that a search draws from.
        tables: the problem as a search sees it.
        planned: bytes of a history -> action, for the histories asked for so far.
        searched: those that bounds did not decide, so that a search was run.
    """

    problem: ContinuousPOMDP
    solver: POMCPOW
    pool: SignalPool
    tables: SearchTables
    planned: dict[bytes, int] = field(default_factory=dict)
    searched: set[bytes] = field(default_factory=set)

    @property
    def plans(self) -> int:
        """How many histories were decided on."""
        return len(self.planned)

    def act(self, history: History) -> Actions:
        # Adding 0 makes a negative zero a positive one: equal signals have equal bytes, and so has
        # every missing one.
        rows = np.ascontiguousarray(history.to_array() + 0.0)
        rows[np.isnan(rows)] = np.nan
        keys = [row.tobytes() for row in rows]
        new = {key: i for i, key in enumerate(keys) if key not in self.planned}
        if new:
            chosen = np.array(list(new.values()))
            action, hard = self._plan(history.take(chosen), hashed(rows[chosen], self.solver.seed))
            self.planned.update(zip(new, action.tolist(), strict=True))
            self.searched.update(key for key, is_hard in zip(new, hard, strict=True) if is_hard)
        return np.array([self.planned[key] for key in keys], dtype=np.int64)

    def _plan(self, history: History, key: NDArray[np.uint64]) -> tuple[Actions, NDArray[np.bool_]]:
        """Actions of distinct histories ``(n,)``, whose hashes are ``key``, and which of them a
        search was needed for."""
        tables, weight = self.tables, self.problem.posterior(history)
        node = tables.graph.index(history)
        high, _ = tables.bounds(node, weight, None)
        best = high.argmax(axis=1)
        hard = (high > -np.inf).sum(axis=1) > 1
        rows, particles = np.flatnonzero(hard), self.solver.particles
        numbers = (self.solver.simulations + 1) * (particles or weight.shape[1])
        size = max(1, _NUMBERS // numbers)
        for begin in range(0, len(rows), size):
            part = rows[begin : begin + size]
            vector, given = None, weight[part]
            if particles is not None:
                vector = _systematic(given, _uniform(key[part], 0), particles)
                given = np.full(vector.shape, 1 / particles)
            search = Search(self, node[part], given, vector, key[part])
            best[part] = search.worth().argmax(axis=1)
        return tables.action[node, best], hard


class Search:
    """``B`` trees that grow in step, one simulation each at a time.

    Arrays have a row a tree and a column a node: the root is node 0, and what follows a node comes
    later. The choices of a node are those of its place in the decision graph.

    Attributes:
        size: ``(B,)`` nodes so far.
        weight: ``(B, M, P)`` of the particles, normalised.
        vector: ``(B, P)`` their score vectors; None for all of them.
        point: ``(B, M)`` in the decision graph.
        parent: ``(B, M)`` the node before.
        choice: ``(B, M)`` that was made there.
        sibling: ``(B, M)`` the next in the ring of nodes that follow the same choice.
        guess: ``(B, M)`` what a node is worth before anything is tried from it.
        visited: ``(B, M)`` whether anything was.
        count: ``(B, M, C)`` visits of each choice, and those that its bound counts for.
        mean: ``(B, M, C)`` of the returns; -inf for a choice that is left out.
        paid: ``(B, M, C)`` what each choice is expected to take from the return.
        ahead: ``(B, M, C)`` the mean of `guess` over the nodes that can follow it.
        children: ``(B, M, C)`` how many do so far.
        turn: ``(B, M, C)`` the one of them that was met last.
    """

    def __init__(
        self,
        policy: POMCPOWPolicy,
        point: IntArray,
        weight: FloatArray,
        vector: IntArray | None,
        key: NDArray[np.uint64],
    ) -> None:
        self.solver, self.pool, self.tables = policy.solver, policy.pool, policy.tables
        self.vector, self.key = vector, key
        n, nodes = len(point), self.solver.simulations + 1
        choices = self.tables.action.shape[1]
        self.size = np.zeros(n, dtype=np.int64)
        self.weight = np.empty((n, nodes, weight.shape[1]))
        self.point, self.parent, self.choice, self.sibling = np.zeros((4, n, nodes), dtype=np.int64)
        self.guess = np.zeros((n, nodes))
        self.visited = np.zeros((n, nodes), dtype=bool)
        self.count = np.full((n, nodes, choices), self.solver.prior_visits, dtype=np.int64)
        self.mean = np.full((n, nodes, choices), -np.inf)
        self.paid, self.ahead = np.zeros((2, n, nodes, choices))
        self.children, self.turn = np.zeros((2, n, nodes, choices), dtype=np.int64)
        # Looked up, not computed: a vectorised logarithm may round by its place in the batch.
        visits = np.arange(1 + nodes + choices * self.solver.prior_visits)
        self.log = np.log(np.maximum(visits, 1))
        self.limit = self.solver.widening * visits**self.solver.widening_power
        self._add(np.arange(n), point, weight)
        for _ in range(self.solver.simulations):
            self._simulate()

    def _add(self, rows: IntArray, point: IntArray, weight: FloatArray) -> IntArray:
        """A new node in each of the trees ``rows``: which one it is there, ``(len(rows),)``."""
        node = self.size[rows]
        self.size[rows] += 1
        given = None if self.vector is None else self.vector[rows]
        high, floor = self.tables.bounds(point, weight, given)
        self.paid[rows, node] = self.tables.expected_paid(point, weight, given)
        self.point[rows, node], self.weight[rows, node] = point, weight
        self.guess[rows, node] = (floor + high.max(axis=1)) / 2
        self.mean[rows, node] = high
        return node

    def _simulate(self) -> None:
        """One simulation in every tree: down to a new node or an end, and back."""
        tables, path = self.tables, []
        rows = np.arange(len(self.size))
        node, value = np.zeros_like(rows), np.zeros(len(rows))
        while len(rows):
            count, mean = self.count[rows, node], self.mean[rows, node]
            self.visited[rows, node] = True
            spread = self.log[count.sum(axis=1)][:, None] / count
            choice = (mean + self.solver.exploration * np.sqrt(spread)).argmax(axis=1)
            at = np.arange(len(rows)), choice
            point, children = self.point[rows, node], self.children[rows, node, choice]
            ends, seen = tables.following[point, choice] < 0, tables.seen[point, choice]
            value[rows[ends]] = mean[at][ends]
            tried = count[at] + 1 - self.solver.prior_visits
            most = np.where(seen < 0, 1.0, self.limit[tried])
            new = ~ends & ((children < most) | (children == 0))
            if new.any():
                self._follow(rows[new], node[new], choice[new], seen[new])
                value[rows[new]] = self.ahead[rows[new], node[new], choice[new]]
            on = np.flatnonzero(~ends & ~new)
            following = self.sibling[rows[on], self.turn[rows[on], node[on], choice[on]]]
            self.turn[rows[on], node[on], choice[on]] = following
            path.append((rows, node, choice, on, following))
            rows, node = rows[on], following
        for rows, node, choice, on, following in reversed(path):
            below = rows[on]
            value[below] += self.ahead[below, node[on], choice[on]] - self.guess[below, following]
            value[rows] -= self.paid[rows, node, choice]
            self.count[rows, node, choice] += 1
            gain = (value[rows] - self.mean[rows, node, choice]) / self.count[rows, node, choice]
            self.mean[rows, node, choice] += gain

    def _follow(self, rows: IntArray, node: IntArray, choice: IntArray, seen: IntArray) -> None:
        """New nodes after ``choice``, each with a signal that its particles are weighted by."""
        weight, nth = self.weight[rows, node], self.children[rows, node, choice]
        point = self.tables.following[self.point[rows, node], choice]
        told = np.flatnonzero(seen >= 0)
        if len(told):
            first = told[nth[told] == 0]
            given = None if self.vector is None else self.vector[rows[first]]
            self.ahead[rows[first], node[first], choice[first]] = self.tables.lookahead(
                point[first], seen[first], weight[first], given
            )
            draw = np.stack([_uniform(self.key[rows[told]], 2 * node[told] + d) for d in (1, 2)])
            draw = (draw + nth[told] * _STEP[:, None]) % 1.0
            weight[told] = self._weighed(weight[told], rows[told], seen[told], *draw)
        added = self._add(rows, point, weight)
        self.parent[rows, added], self.choice[rows, added] = node, choice
        mute = seen < 0
        self.ahead[rows[mute], node[mute], choice[mute]] = self.guess[rows[mute], added[mute]]
        before = np.where(nth == 0, added, self.turn[rows, node, choice])
        self.sibling[rows, added] = np.where(nth == 0, added, self.sibling[rows, before])
        self.sibling[rows, before] = added
        self.turn[rows, node, choice] = added
        self.children[rows, node, choice] += 1

    def _weighed(
        self,
        weight: FloatArray,
        rows: IntArray,
        model: IntArray,
        which: FloatArray,
        share: FloatArray,
    ) -> FloatArray:
        """Weights ``(n, P)`` after a signal of each ``model``, drawn given the particle at the
        share ``which`` of the weights, at the ``share`` of that particle's distribution."""
        below = weight.cumsum(axis=1)
        particle = (below <= which[:, None] * below[:, -1:]).sum(axis=1)
        particle = np.minimum(particle, weight.shape[1] - 1)
        group = self.pool.group[model]
        if self.vector is not None:
            group = np.take_along_axis(group, self.vector[rows], axis=1)
        source = np.take_along_axis(group, particle[:, None], axis=1)[:, 0]
        point = (share * self.pool.density.shape[2]).astype(np.int64)
        density = np.take_along_axis(self.pool.density[model, source, point], group, axis=1)
        joint = weight * density
        mass = joint.sum(axis=1, keepdims=True)
        return np.where(mass > 0, joint / np.where(mass > 0, mass, 1.0), weight)

    def worth(self) -> FloatArray:
        """``(B, C)`` what each choice of the root is worth; -inf for one that was never tried."""
        if self.solver.decide == "mean":
            tried = self.count[:, 0] > self.solver.prior_visits
            return np.where(tried, self.mean[:, 0], -np.inf)
        total, every = np.zeros_like(self.mean), np.arange(len(self.size))
        for node in range(self.mean.shape[1] - 1, -1, -1):
            point, children = self.point[:, node], self.children[:, node]
            # Where the episode goes on, the best follows at every node that was reached.
            onward = (
                self.ahead[:, node] - self.paid[:, node] + total[:, node] / np.maximum(children, 1)
            )
            going = np.where(children > 0, onward, -np.inf)
            worth = np.where(self.tables.following[point] < 0, self.mean[:, node], going)
            value = np.where(self.visited[:, node], worth.max(axis=1) - self.guess[:, node], 0.0)
            there = self.size > node
            total[every, self.parent[:, node], self.choice[:, node]] += np.where(there, value, 0.0)
        return worth


def hashed(rows: FloatArray, seed: int) -> NDArray[np.uint64]:
    """A hash of each row of numbers ``(n, m)`` and the seed."""
    found = _mixed(np.full(len(rows), seed, dtype=np.uint64))
    for column in np.ascontiguousarray(rows.T).view(np.uint64):
        found = _mixed(found ^ column)
    return found


def _uniform(key: NDArray[np.uint64], counter: IntArray | int) -> FloatArray:
    """Numbers in [0, 1) from hashes ``(n,)`` and counters."""
    with np.errstate(over="ignore"):
        mixed = _mixed(key + np.uint64(0x9E3779B97F4A7C15) * np.asarray(counter, dtype=np.uint64))
    return (mixed >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _mixed(bits: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of SplitMix64 (Steele, Lea & Flood, OOPSLA 2014)."""
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))


def _systematic(weight: FloatArray, shift: FloatArray, n: int) -> IntArray:
    """``n`` draws for each row of weights, with counts within one of ``n`` times the weights."""
    points = (np.arange(n) + shift[:, None]) / n
    below = weight.cumsum(axis=1)
    drawn = (below[:, None, :] <= points[:, :, None]).sum(axis=2)
    return np.minimum(drawn, weight.shape[1] - 1)
