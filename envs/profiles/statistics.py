"""The statistics that a profile reproduces, measured on a log or a simulation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from routing_pomdp.envs.arrays import BoolArray, FloatArray
from routing_pomdp.envs.logs.rollouts import Rollouts


@dataclass(frozen=True, eq=False)
class Statistics:
    """Accuracies, and the dependence between scores and signals.

    Attributes:
        accuracy: ``(N,)`` mean scores.
        auroc: ``(N, N)`` at ``[i, j]`` the probability that model ``j``'s signal is higher on a
            query that model ``i`` gets right than on one that it gets wrong (ties count half). For
            graded scores it is generalised to ``½ + cov(score, rank) / var(score)``. NaN if the
            score is constant or there is no signal.
        phi: ``(N, N)`` Pearson correlations of the scores; NaN for a constant.
        spearman: ``(N, N)`` rank correlations of the signals, with mid-ranks for ties; NaN for a
            constant or missing signal.
        correlation: ``(2N, 2N)`` Pearson correlations of the scores and the signals' ranks.
        spread: ``(2N,)`` standard deviations of the scores and of the ranks, which are in [0, 1].
    """

    accuracy: FloatArray
    auroc: FloatArray
    phi: FloatArray
    spearman: FloatArray
    correlation: FloatArray
    spread: FloatArray


def describe(rollouts: Rollouts, signal: str) -> Statistics:
    """Measure a log. Missing signals are left out pair by pair.

    Args:
        rollouts: scores are complete on its models; signals may be missing.
        signal: the name of the signal.
    """
    N = rollouts.score.shape[1]
    ranks = [midranks(column) for column in rollouts.signals[signal].T]
    columns = np.column_stack([rollouts.score, *ranks])
    there = ~np.isnan(columns)
    covariance, variance = _pairwise(np.where(there, columns, 0.0), there)
    # A constant column has no correlation, even if rounding makes its variance positive.
    constant = np.array(
        [len(column[has]) == 0 or np.ptp(column[has]) == 0
         for column, has in zip(columns.T, there.T, strict=True)]
    )  # fmt: skip
    variance = np.where(constant[:, None] | (variance <= 0), np.nan, variance)
    correlation = covariance / np.sqrt(variance * variance.T)
    return Statistics(
        accuracy=rollouts.score.mean(axis=0),
        auroc=0.5 + covariance[:N, N:] / variance[:N, N:] + np.where(constant[N:], np.nan, 0),
        phi=correlation[:N, :N],
        spearman=correlation[N:, N:],
        correlation=correlation,
        spread=np.sqrt(np.diag(variance)),
    )


def _pairwise(columns: FloatArray, there: BoolArray) -> tuple[FloatArray, FloatArray]:
    """``(d, d)`` covariances of columns over the rows that have both, and at ``[i, j]`` the
    variance of ``i`` over them. Cells that are not ``there`` hold 0."""
    has = there.astype(np.float64)
    centred = np.where(there, columns - columns.sum(axis=0) / np.maximum(has.sum(axis=0), 1), 0.0)
    both = np.maximum(has.T @ has, 1)
    mean = centred.T @ has / both
    return (
        centred.T @ centred / both - mean * mean.T,
        (centred**2).T @ has / both - mean**2,
    )


def midranks(column: FloatArray) -> FloatArray:
    """``(n,)`` ranks from 0 to 1, ties in the middle of theirs; NaN where it is missing."""
    there = ~np.isnan(column)
    found = np.full(len(column), np.nan)
    if there.any():
        _, which, count = np.unique(column[there], return_inverse=True, return_counts=True)
        found[there] = ((np.cumsum(count) - count / 2) / there.sum())[which]
    return found
