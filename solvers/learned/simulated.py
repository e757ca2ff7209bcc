"""Simulated queries for training: more of what a small log says, with its own doubt about it.

A log of two hundred queries says little of what signals are worth, and a network that learns from
them alone learns their accidents. Simulated queries are drawn from a smooth picture of it: scores
are those of a logged query, all models' together; each model's signal is one that it gave on a
query of like scores, blurred. Likeness and blur are Gaussian kernels of Scott's bandwidth, as in
AutoMix's POMDP (arXiv 2310.12963, §3.3), whose model of signals this is: with few queries it
promises less of a signal than the log itself would. It is fitted to bootstrap resamples of the log,
each of which gives a share of the queries: a network then learns what to expect under all of these
models together (Rubin, Annals of Statistics 1981: the bootstrap as a posterior).
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
    """Queries like those of a log, with the log's mean costs.

    Args:
        data: every model called on every query.
        n: how many queries to draw.
        resamples: bootstrap resamples of the log that have a model each; 0 for one model, of the
            log itself.
        rng: of resamples and draws.
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
    """Scores ``(n, N)`` and signals ``(n, N - 1, D)`` like those of ``(T, N)``, ``(T, N - 1, D)``.

    A blurred signal is scaled back to the variance that it had, so that its distribution stays. One
    that is missing or infinite stays what it is: nothing lies near it.
    """
    size, models, width = len(score), *signal.shape[1:]
    bandwidth = size ** (-1 / (score.shape[1] + width + 4))  # Scott's rule, in deviations
    picked = score[np.resize(rng.permutation(size), n)]  # each as often: their means are the log's
    drawn = np.empty((n, models, width))
    for model in range(models):
        like = _like(picked, score, bandwidth, rng)
        for number in range(width):
            column = signal[:, model, number]
            drawn[:, model, number] = column[like]
            smooth = np.isfinite(column)
            if len(np.unique(column[smooth])) <= FEW_VALUES:
                continue  # nothing lies between them
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
    """For each of ``picked (n, N)`` a row of ``score (T, N)``, likelier the nearer they are."""
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
    return np.minimum(row, len(score) - 1)  # a product may round up to the whole
