"""Simulated queries for training, drawn from a smooth model of a small log.

A network that learns from a few hundred queries alone overfits them. Simulated queries come from a
kernel density model of the log, as in AutoMix's POMDP (arXiv 2310.12963, §3.3). The scores of all
models are those of one logged query. The signal of each model is that of a query with similar
scores, plus noise; similarity and noise have Gaussian kernels with Scott's bandwidth. With few
queries, this smoothing makes signals less informative than the log itself. The model is fitted to
bootstrap resamples of the log, each of which gives a share of the queries, so that a network learns
the expectation over the uncertainty of the model (the bootstrap as a posterior: Rubin, Annals of
Statistics 1981).
"""

from __future__ import annotations

import numpy as np
from scipy.special import ndtr, ndtri

from routing_pomdp.envs import RoutingData
from routing_pomdp.envs.arrays import FloatArray, IntArray
from routing_pomdp.envs.profiles.marginal import FEW_VALUES, fit_marginal
from routing_pomdp.envs.profiles.statistics import midranks

_CHUNK = 64  # score vectors whose kernels are in memory at once


def simulated(data: RoutingData, n: int, resamples: int, rng: np.random.Generator) -> RoutingData:
    """Queries simulated from a log, with the log's mean costs.

    Args:
        data: the log, with every model called on every query.
        n: number of queries to draw.
        resamples: number of bootstrap resamples of the log with a model each; 0 for one model of
            the log itself.
        rng: random generator.
    """
    size, score = len(data), np.empty((n, data.n_models))
    signal = np.full((n, data.n_models, data.n_signals), np.nan)
    for share in np.array_split(np.arange(n), max(1, resamples)):
        rows = rng.integers(size, size=size) if resamples else np.arange(size)
        score[share], signal[share, :-1] = _draws(
            data.score[rows], data.signal[rows, :-1], len(share), rng
        )
    return RoutingData(
        score=score,
        call_cost=np.broadcast_to(data.call_cost.mean(axis=0), score.shape),
        verify_cost=np.broadcast_to(data.verify_cost.mean(axis=0), score.shape),
        signal=signal,
    )


def _draws(
    score: FloatArray, signal: FloatArray, n: int, rng: np.random.Generator
) -> tuple[FloatArray, FloatArray]:
    """Simulated scores ``(n, N)`` and signals ``(n, N - 1, D)`` from logged ``(T, N)`` and
    ``(T, N - 1, D)``.

    A signal with noise is scaled back to its variance, which keeps its marginal distribution.
    Missing and infinite signals have no noise.
    """
    size, models, width = len(score), *signal.shape[1:]
    # Scott's rule, in standard deviations.
    bandwidth = size ** (-1 / (score.shape[1] + width + 4))
    # Every query is drawn equally often, which keeps the mean scores of the log.
    picked = score[np.resize(rng.permutation(size), n)]
    drawn = np.empty((n, models, width))
    for model in range(models):
        like = _like(picked, score, bandwidth, rng)
        for number in range(width):
            column = signal[:, model, number]
            drawn[:, model, number] = column[like]
            smooth = np.isfinite(column)
            if len(np.unique(column[smooth])) <= FEW_VALUES:
                continue  # discrete signals have no noise
            normal = np.zeros(size)
            normal[smooth] = ndtri(midranks(column[smooth]))
            blurred = normal[like] + bandwidth * rng.standard_normal(n)
            level = ndtr(blurred / np.hypot(1, bandwidth))
            near = fit_marginal(column[smooth]).quantile(level)
            drawn[:, model, number] = np.where(smooth[like], near, column[like])
    return picked, drawn


def _like(
    picked: FloatArray, score: FloatArray, bandwidth: float, rng: np.random.Generator
) -> IntArray:
    """For each of ``picked (n, N)`` a random row of ``score (T, N)``, weighted by the kernel."""
    spread = score.std(axis=0)
    width = bandwidth * np.where(spread > 0, spread, 1)
    vectors, which = np.unique(picked, axis=0, return_inverse=True)
    which, row = which.ravel(), np.empty(len(picked), dtype=np.int64)
    for first in range(0, len(vectors), _CHUNK):
        apart = (vectors[first : first + _CHUNK, None] - score) / width
        reach = np.exp(-0.5 * (apart**2).sum(axis=2)).cumsum(axis=1)
        for vector, total in enumerate(reach, start=first):
            rows = np.flatnonzero(which == vector)
            row[rows] = total.searchsorted(rng.random(len(rows)) * total[-1], side="right")
    return np.minimum(row, len(score) - 1)  # rounding can give an index beyond the last row
