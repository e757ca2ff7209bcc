"""The statistics that a profile reproduces, measured on a log or a simulation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from routing_pomdp.envs.arrays import FloatArray
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
    """The statistics of a log.

    Args:
        rollouts: complete on its models; a model's signal is logged on all queries or on none.
        signal: the name of the signal.
    """
    N = rollouts.score.shape[1]
    ranks = [midranks(column) for column in rollouts.signals[signal].T]
    columns = np.column_stack([rollouts.score, *ranks])
    centred = columns - columns.mean(axis=0)
    covariance = centred.T @ centred / len(columns)
    # A constant column has no correlation, even if rounding makes its variance positive.
    varies = np.ptp(columns, axis=0) > 0
    variance = np.where(varies, np.diag(covariance), np.nan)
    spread = np.sqrt(variance)
    correlation = covariance / np.outer(spread, spread)
    return Statistics(
        accuracy=rollouts.score.mean(axis=0),
        auroc=0.5 + covariance[:N, N:] / variance[:N, None] + np.where(varies[N:], 0, np.nan),
        phi=correlation[:N, :N],
        spearman=correlation[N:, N:],
        correlation=correlation,
        spread=spread,
    )


def midranks(column: FloatArray) -> FloatArray:
    """``(n,)`` mid-ranks from 0 to 1; NaN if a signal is missing."""
    if np.isnan(column).any():
        return np.full(len(column), np.nan)
    _, which, count = np.unique(column, return_inverse=True, return_counts=True)
    return ((np.cumsum(count) - count / 2) / len(column))[which]
