"""Simulated queries for training: more of what a small log says, with its own doubt about it.

A log of two hundred queries says little of what signals are worth, and a network that learns from
them alone learns their accidents. A Gaussian copula on the log's marginals (`envs.profiles`) has
few parameters, and as many queries can be drawn from it as a network needs. It is fitted to
bootstrap resamples of the log, each of which gives a share of the queries: a network then learns
what to expect under all of these models together, which is less than any one of them promises
(Rubin, Annals of Statistics 1981: the bootstrap as a posterior).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from envs import Replay
from envs.profiles.copula import fit_correlation, uniforms
from envs.profiles.marginal import fit_marginal

FloatArray = NDArray[np.float64]

# How far a simulated correlation may be from the log's, in the copula's least squares.
_TOLERANCE = 0.05


def simulated(replay: Replay, n: int, resamples: int, rng: np.random.Generator) -> Replay:
    """Queries like those of a log, with the log's mean costs.

    Args:
        replay: every model called on every query.
        n: how many queries to draw.
        resamples: bootstrap resamples that a copula is fitted to; 0 for one copula, fitted to the
            log itself.
        rng: of resamples and draws.
    """
    models, width = replay.n_models, (replay.n_models - 1) * replay.n_signals
    columns = np.concatenate(
        [replay.score, replay.signal[:, :-1].reshape(len(replay), width)], axis=1
    )
    parts = []
    for share in np.array_split(np.arange(n), max(1, resamples)):
        rows = rng.integers(len(columns), size=len(columns)) if resamples else slice(None)
        parts.append(_draws(columns[rows], models, len(share), rng))
    drawn = np.concatenate(parts)
    signal = np.full((n, models, replay.n_signals), np.nan)
    signal[:, :-1] = drawn[:, models:].reshape(n, models - 1, replay.n_signals)
    return Replay(
        score=np.clip(drawn[:, :models], 0, 1),
        call_cost=np.broadcast_to(replay.call_cost.mean(axis=0), (n, models)),
        verify_cost=np.broadcast_to(replay.verify_cost.mean(axis=0), (n, models)),
        signal=signal,
    )


def _draws(columns: FloatArray, scores: int, n: int, rng: np.random.Generator) -> FloatArray:
    """``(n, d)`` draws of a copula fitted to ``d`` columns; the first ``scores`` are scores."""
    marginals = [fit_marginal(column) for column in columns.T]
    # Scores correlate as they are, signals by their ranks: their scale means nothing.
    measured = np.column_stack(
        [columns[:, :scores], *(_midranks(column) for column in columns[:, scores:].T)]
    )
    levels = [*marginals[:scores], *(marginal.midranks() for marginal in marginals[scores:])]
    varies = np.ptp(measured, axis=0) > 0
    correlation = np.full((len(levels), len(levels)), np.nan)
    if varies.any():
        found = np.atleast_2d(np.corrcoef(measured[:, varies].T))
        correlation[np.ix_(varies, varies)] = found
    tolerance = np.full_like(correlation, _TOLERANCE)
    latent = fit_correlation(levels, correlation, tolerance)
    uniform = uniforms(latent, n, rng)
    return np.stack(
        [marginal.quantile(level) for marginal, level in zip(marginals, uniform, strict=True)],
        axis=1,
    )


def _midranks(column: FloatArray) -> FloatArray:
    """``(n,)`` ranks between 0 and 1, ties in the middle of theirs."""
    _, which, count = np.unique(column, return_inverse=True, return_counts=True)
    ranks: FloatArray = ((np.cumsum(count) - count / 2) / len(column))[which]
    return ranks
