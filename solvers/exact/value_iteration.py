"""Exact value iteration over the whole belief simplex, for any finite POMDP.

Values are convex and piecewise linear in the belief (Sondik, 1971): a set of alpha vectors, each
with the action that it prescribes, backed up by incremental pruning (Cassandra, Littman & Zhang,
UAI 1997).
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
        actions: ``(m,)`` what each prescribes; ascending, so that ties go to the lower action.
    """

    vectors: FloatArray
    actions: IntArray

    def value(self, belief: FloatArray) -> FloatArray:
        """``(n,)`` for beliefs ``(n, S)``; of an unnormalised one, its value times its mass."""
        return (belief @ self.vectors.T).max(axis=-1)

    def act(self, belief: FloatArray) -> IntArray:
        """Actions ``(n,)`` at beliefs ``(n, S)``."""
        value = belief @ self.vectors.T
        # What ties but for rounding must not be decided by the size of a batch.
        best = value.max(axis=-1, keepdims=True)
        return self.actions[(value >= best - 1e-12).argmax(axis=-1)]

    @classmethod
    def pruned(
        cls, vectors: FloatArray, actions: IntArray, deadline: Deadline = NEVER
    ) -> AlphaVectors:
        """What is left of candidates ``(m, S)``: the fewest with the same value."""
        order = np.argsort(actions, kind="stable")
        kept = order[prune(vectors[order], deadline)]
        return cls(vectors[kept], actions[kept])


@dataclass(frozen=True, eq=False)
class Solution:
    """What value iteration found.

    Attributes:
        value: the value function with the first action of an optimal policy.
        iterations: backups made.
        error: the most by which a value can differ from the optimal one, rounding and the
            tolerance of pruning aside; 0 for a finite horizon that was reached.
        stopped: the time limit was over first.
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
        horizon: decisions to make, at least 1; None for infinitely many.
        precision: of an infinite horizon's value.
        max_vectors: the largest set of vectors it takes on.
        seconds: a time limit, at which the last full backup is returned; None for no limit.
        progress: is called with what there is after each backup.

    Raises:
        ValueError: a horizon below 1, no horizon and no discount, a time limit that is not above
            0, more vectors than allowed, or a problem too large for memory.
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
    """The most by which the backups still to come can move a value, as a multiple of what the
    last one moved it by: each moves it by at most the discount times the one before."""
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
        # Symbols that never come add nothing.
        emitted = [weight for weight in by_symbol if weight.any()]
        sums = pruned_sum([following @ weight.T for weight in emitted], max_vectors, deadline)
        vectors.append(reward[action] + sums)
        actions.append(np.full(len(sums), action))
    return AlphaVectors.pruned(np.concatenate(vectors), np.concatenate(actions), deadline)


def _distance(left: FloatArray, right: FloatArray) -> float:
    """An upper bound of how far two surfaces lie apart: each vector to its nearest of the other."""
    apart = np.abs(left[:, None] - right[None]).max(axis=2)
    return float(max(apart.min(axis=1).max(), apart.min(axis=0).max()))
