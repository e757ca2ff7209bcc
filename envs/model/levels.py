"""Discretised scores, and the smoothed prior of score vectors."""

from __future__ import annotations

import numpy as np

from routing_pomdp.envs.arrays import FloatArray, IntArray


def score_levels(score: FloatArray, levels: int | None) -> tuple[IntArray, FloatArray]:
    """`discretise` with a default: for None 2 levels if all scores are 0 or 1, else 5."""
    if levels is None:
        levels = 2 if np.isin(score, (0, 1)).all() else 5
    return discretise(score, levels)


def discretise(score: FloatArray, levels: int) -> tuple[IntArray, FloatArray]:
    """Levels ``(n, N)`` of scores and the value ``(N, L)`` of each level for each model."""
    if levels < 2:
        raise ValueError(f"levels is {levels}: a score needs at least 2")
    level = np.rint(score * (levels - 1)).astype(np.int64)
    grid = np.linspace(0, 1, levels)
    values = np.tile(grid, (score.shape[1], 1))
    for k in range(levels):
        of_level = level == k
        count = of_level.sum(0)
        mean = np.where(of_level, score, 0.0).sum(0) / np.maximum(count, 1)
        values[:, k] = np.where(count > 0, mean, grid[k])
    return level, values


def smoothed_prior(level: IntArray, levels: int, strength: float) -> tuple[IntArray, FloatArray]:
    """Levels ``(S, N)`` of all score vectors and their Dirichlet posterior means ``(S,)``.

    Args:
        level: ``(n, N)`` of training queries.
        levels: ``L``.
        strength: of the prior, in queries. Its base measure is the product of the models' own level
            frequencies, with half a count added to each level.
    """
    n, n_models = level.shape
    vectors = np.stack(np.unravel_index(np.arange(levels**n_models), (levels,) * n_models), 1)
    frequency = np.stack([(level == k).sum(0) + 0.5 for k in range(levels)], 1)
    frequency = frequency / frequency.sum(1, keepdims=True)
    base = np.prod(frequency[np.arange(n_models), vectors], axis=1)
    row = np.ravel_multi_index(tuple(level.T), (levels,) * n_models)
    counts = np.bincount(row, minlength=len(vectors))
    prior = (counts + strength * base) / (n + strength)
    return vectors, prior / prior.sum()
