"""Exact value iteration over the whole belief simplex, for any finite POMDP.

Values are convex and piecewise linear in the belief (Sondik, 1971): a set of alpha vectors, each
with the action that it prescribes, backed up by incremental pruning (Cassandra, Littman & Zhang,
UAI 1997).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from envs.finite_pomdp import FinitePOMDP
from solvers.pruning import prune, pruned_sum

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


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
    def pruned(cls, vectors: FloatArray, actions: IntArray) -> AlphaVectors:
        """What is left of candidates ``(m, S)``: the fewest with the same value."""
        order = np.argsort(actions, kind="stable")
        kept = order[prune(vectors[order])]
        return cls(vectors[kept], actions[kept])


@dataclass(frozen=True, eq=False)
class Solution:
    """What value iteration found.

    Attributes:
        value: the value function with the first action of an optimal policy.
        iterations: backups made.
        error: the most by which a value can differ from the optimal one, rounding and the
            tolerance of pruning aside; 0 for a finite horizon.
    """

    value: AlphaVectors
    iterations: int
    error: float


def value_iteration(
    pomdp: FinitePOMDP,
    horizon: int | None = None,
    precision: float = 1e-9,
    max_vectors: int = 10_000,
) -> Solution:
    """Solves a finite POMDP at every belief.

    Args:
        pomdp: with a discount below 1 if the horizon is infinite.
        horizon: decisions to make, at least 1; None for infinitely many.
        precision: of an infinite horizon's value.
        max_vectors: the largest set of vectors it takes on.

    Raises:
        ValueError: a horizon below 1, no horizon and no discount, or more vectors than allowed.
    """
    if horizon is not None and horizon < 1:
        raise ValueError(f"the horizon is {horizon}: expected at least 1")
    if horizon is None and pomdp.discount == 1:
        raise ValueError("an infinite horizon needs a discount below 1: set a horizon")
    if not precision > 0:
        raise ValueError(f"the precision is {precision}: expected a number > 0")
    kernel = pomdp.discount * pomdp.kernel
    actions = np.arange(len(pomdp.actions))
    value = AlphaVectors.pruned(pomdp.reward, actions)
    iterations, error = 1, 0.0
    if horizon is None:
        # No backup can move a value further than γ times the last one moved it.
        growth = pomdp.discount / (1 - pomdp.discount)
        error = growth * float(np.abs(pomdp.reward).max())
    while iterations < (horizon or np.inf) and (horizon or error > precision):
        following = value.vectors
        value = _backup(pomdp.reward, kernel, following, max_vectors)
        iterations += 1
        if horizon is None:
            error = min(error * pomdp.discount, growth * _distance(value.vectors, following))
    return Solution(value, iterations, error)


def _backup(
    reward: FloatArray, kernel: FloatArray, following: FloatArray, max_vectors: int
) -> AlphaVectors:
    vectors, actions = [], []
    for action, by_symbol in enumerate(kernel):
        # Symbols that never come add nothing.
        emitted = [weight for weight in by_symbol if weight.any()]
        sums = pruned_sum([following @ weight.T for weight in emitted], max_vectors)
        vectors.append(reward[action] + sums)
        actions.append(np.full(len(sums), action))
    return AlphaVectors.pruned(np.concatenate(vectors), np.concatenate(actions))


def _distance(left: FloatArray, right: FloatArray) -> float:
    """An upper bound of how far two surfaces lie apart: each vector to its nearest of the other."""
    apart = np.abs(left[:, None] - right[None]).max(axis=2)
    return float(max(apart.min(axis=1).max(), apart.min(axis=0).max()))
