"""Exact value iteration over the whole belief simplex, for any finite POMDP.

The value function is convex and piecewise linear in the belief (Sondik, 1971): a set of alpha
vectors, each with an action, backed up by incremental pruning (Cassandra, Littman & Zhang, UAI
1997).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from routing_pomdp.envs.arrays import FloatArray, IntArray
from routing_pomdp.envs.model.finite_pomdp import FinitePOMDP
from routing_pomdp.solvers.exact.pruning import NEVER, Deadline, OutOfTimeError, prune, pruned_sum


@dataclass(frozen=True, eq=False)
class AlphaVectors:
    """A value function over beliefs, and the policy that is greedy in it.

    Attributes:
        vectors: ``(m, S)``.
        actions: ``(m,)`` the action of each vector; ascending, so that ties go to the lower one.
    """

    vectors: FloatArray
    actions: IntArray

    def value(self, belief: FloatArray) -> FloatArray:
        """Values ``(n,)`` at beliefs ``(n, S)``, times their mass if they are unnormalised."""
        return (belief @ self.vectors.T).max(axis=-1)

    def act(self, belief: FloatArray) -> IntArray:
        """Actions ``(n,)`` at beliefs ``(n, S)``."""
        value = belief @ self.vectors.T
        # Ties up to rounding go to the first action: rounding depends on the batch.
        best = value.max(axis=-1, keepdims=True)
        return self.actions[(value >= best - 1e-12).argmax(axis=-1)]

    @classmethod
    def pruned(
        cls, vectors: FloatArray, actions: IntArray, deadline: Deadline = NEVER
    ) -> AlphaVectors:
        """The smallest subset of candidates ``(m, S)`` with the same value function."""
        order = np.argsort(actions, kind="stable")
        kept = order[prune(vectors[order], deadline)]
        return cls(vectors[kept], actions[kept])


@dataclass(frozen=True, eq=False)
class Solution:
    """A result of value iteration.

    Attributes:
        value: the value function with the first action of an optimal policy.
        iterations: number of backups made.
        error: bound on the difference from the optimal value, apart from rounding and the tolerance
            of pruning; 0 if a finite horizon was reached.
        stopped: whether the time limit stopped it.
    """

    value: AlphaVectors
    iterations: int
    error: float
    stopped: bool = False


def value_iteration(
    pomdp: FinitePOMDP,
    horizon: int | None = None,
    precision: float = 1e-9,
    max_vectors: int = 10_000,
    seconds: float | None = None,
    progress: Callable[[Solution], None] | None = None,
) -> Solution:
    """Solves a finite POMDP at every belief.

    Args:
        pomdp: with a discount below 1 if the horizon is infinite.
        horizon: number of decisions, at least 1; None for infinitely many.
        precision: error of an infinite horizon's value at which it stops.
        max_vectors: the largest set of vectors.
        seconds: a time limit, at which the last full backup is returned; None for no limit.
        progress: called with the current solution after each backup.

    Raises:
        ValueError: the horizon is below 1, there is neither horizon nor discount, the time limit is
            not above 0, there are more vectors than allowed, or the problem is too large for
            memory.
    """
    if horizon is not None and horizon < 1:
        raise ValueError(f"the horizon is {horizon}: expected at least 1")
    if horizon is None and pomdp.discount == 1:
        raise ValueError("an infinite horizon needs a discount below 1: set a horizon")
    if not precision > 0:
        raise ValueError(f"the precision is {precision}: expected a number > 0")
    if seconds is not None and not seconds > 0:
        raise ValueError(f"the time limit is {seconds} seconds: expected a number > 0")
    deadline = Deadline.after(seconds)
    kernel = pomdp.discount * pomdp.kernel
    value = AlphaVectors.pruned(pomdp.reward, np.arange(len(pomdp.actions)))
    moved = float(np.abs(pomdp.reward).max())
    solution = Solution(value, 1, moved * _still_to_come(pomdp.discount, 1, horizon))
    while True:
        if progress:
            progress(solution)
        done = solution.iterations
        if done == horizon or (horizon is None and solution.error <= precision):
            return solution
        following = solution.value.vectors
        try:
            value = _backup(pomdp.reward, kernel, following, max_vectors, deadline)
        except OutOfTimeError:
            return replace(solution, stopped=True)
        moved = min(moved * pomdp.discount, _distance(value.vectors, following))
        error = moved * _still_to_come(pomdp.discount, done + 1, horizon)
        solution = Solution(value, done + 1, error)


def _still_to_come(discount: float, done: int, horizon: int | None) -> float:
    """Bound on the change by all remaining backups, as a multiple of the last one's change: each
    changes a value by at most the discount times the change before."""
    if horizon is None:
        return discount / (1 - discount)
    return float(sum(discount**step for step in range(1, horizon - done + 1)))


def _backup(
    reward: FloatArray,
    kernel: FloatArray,
    following: FloatArray,
    max_vectors: int,
    deadline: Deadline,
) -> AlphaVectors:
    vectors, actions = [], []
    for action, by_symbol in enumerate(kernel):
        # Symbols of probability 0 add nothing.
        emitted = [weight for weight in by_symbol if weight.any()]
        sums = pruned_sum([following @ weight.T for weight in emitted], max_vectors, deadline)
        vectors.append(reward[action] + sums)
        actions.append(np.full(len(sums), action))
    return AlphaVectors.pruned(np.concatenate(vectors), np.concatenate(actions), deadline)


def _distance(left: FloatArray, right: FloatArray) -> float:
    """An upper bound on the distance of two value functions: the largest distance of a vector to
    its nearest vector of the other."""
    apart = np.abs(left[:, None] - right[None]).max(axis=2)
    return float(max(apart.min(axis=1).max(), apart.min(axis=0).max()))
