"""The statistics that a profile is to reproduce, measured on a log or a simulation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from routing_pomdp.envs.arrays import FloatArray
from routing_pomdp.envs.logs.rollouts import Rollouts


@dataclass(frozen=True, eq=False)
class Statistics:
    """Accuracies, and how scores and signals hang together.

    Attributes:
        accuracy: ``(N,)`` mean scores.
        auroc: ``(N, N)`` at ``[i, j]`` the probability that model ``j``'s signal is higher on a
            query that model ``i`` gets right than on one that it gets wrong (ties count half). For
            a graded score it is ``½ + cov / var``, the same number generalised: how much the
            signal's rank climbs with the score. NaN where the score is constant or there is no
            signal.
        phi: ``(N, N)`` Pearson correlations of the scores; NaN for a constant.
        spearman: ``(N, N)`` rank correlations of the signals, ties sharing their rank; NaN for a
            constant or missing signal.
        correlation: ``(2N, 2N)`` Pearson correlations of the scores and of the signals' ranks,
            which hold all of the above.
        spread: ``(2N,)`` their standard deviations, ranks counted from 0 to 1.
    """

    accuracy: FloatArray
    auroc: FloatArray
    phi: FloatArray
    spearman: FloatArray
    correlation: FloatArray
    spread: FloatArray


def describe(rollouts: Rollouts, signal: str) -> Statistics:
    """Measure a log.

    Args:
        rollouts: complete on its models; a model's signal is logged everywhere or nowhere.
        signal: the name of the signal.
    """
    N = rollouts.score.shape[1]
    ranks = [midranks(column) for column in rollouts.signals[signal].T]
    columns = np.column_stack([rollouts.score, *ranks])
    centred = columns - columns.mean(axis=0)
    covariance = centred.T @ centred / len(columns)
    # A column that takes one value has an undefined correlation, whatever its rounding errors.
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
    """``(n,)`` ranks from 0 to 1, ties in the middle of theirs; NaN without a signal."""
    if np.isnan(column).any():
        return np.full(len(column), np.nan)
    _, which, count = np.unique(column, return_inverse=True, return_counts=True)
    return ((np.cumsum(count) - count / 2) / len(column))[which]
