"""Bin edges for a signal: quantile, uniform or supervised."""

from __future__ import annotations

from typing import Literal

import numpy as np
from scipy.special import xlogy

from routing_pomdp.envs.arrays import FloatArray, IntArray
from routing_pomdp.envs.signals import SignalRange

Binning = Literal["quantile", "uniform", "supervised"]

# The most cuts that supervised bins choose from; more cost time and gain little.
_CANDIDATES = 64


def inner_edges(signal: FloatArray, target: IntArray, bins: int, binning: Binning) -> FloatArray:
    """Increasing inner edges of at most ``bins`` bins; a signal on an edge lies above it.

    Args:
        signal: ``(n,)``, none missing. Infinities are the lowest and the highest; "uniform" ignores
            them.
        target: ``(n, T)`` levels that supervised bins should separate; the others ignore them.
        bins: at most; fewer if signals tie, or if more supervised bins gain nothing.
        binning: edges at equal shares of the signals ("quantile", invariant under monotone
            transforms), at equal widths ("uniform"), or of the greatest information gain
            ("supervised").
    """
    if binning == "uniform":
        signal = signal[np.isfinite(signal)]
    else:
        signal = SignalRange.fit(signal[:, None]).finite(signal[:, None])[:, 0]
    if not len(signal):
        return signal
    if binning == "supervised":
        return _supervised(signal, target, bins)
    share = np.arange(1, bins) / bins
    if binning == "uniform":
        edges = signal.min() + share * np.ptp(signal)
    else:
        edges = np.quantile(signal, share)
    # An edge at or below the smallest signal would make an empty bin.
    return np.unique(edges[edges > signal.min()])


def _supervised(signal: FloatArray, target: IntArray, bins: int) -> FloatArray:
    """The edges of the greatest penalised information gain, by dynamic programming.

    The gain is the mutual information of bin and target, summed over targets, times ``n``, in nats.
    Each cut is penalised by ``½ p log n`` (BIC), where ``p`` counts the shares that one more bin
    estimates, and the position of the cut. Without a penalty more bins always gain.
    """
    edges = np.unique(signal)[1:]
    if len(edges) > _CANDIDATES:
        # Quantiles of the signals, not of their distinct values: cuts lie where the queries are.
        share = np.arange(1, _CANDIDATES + 1) / (_CANDIDATES + 1)
        quantiles = np.unique(np.quantile(signal, share, method="higher"))
        edges = quantiles[quantiles > signal.min()]
    block = np.searchsorted(edges, signal, side="right")
    n_blocks, levels = len(edges) + 1, int(target.max()) + 1
    counts = np.zeros((n_blocks + 1, target.shape[1], levels))
    for column, values in enumerate(target.T):
        flat = np.bincount(block * levels + values, minlength=n_blocks * levels)
        counts[1:, column] = flat.reshape(n_blocks, levels)
    below = counts.cumsum(axis=0)
    within = np.maximum(below[None] - below[:, None], 0)  # [i, j]: blocks i … j - 1 as one bin
    fit = (xlogy(within, within).sum(-1) - xlogy(within.sum(-1), within.sum(-1))).sum(-1)
    fit[np.tril_indices(n_blocks + 1)] = -np.inf  # a bin has at least one block
    observed = (below[-1] > 0).sum(axis=1)
    penalty = 0.5 * float((observed - 1).sum() + 1) * np.log(len(signal))
    best, came_from = fit[0], []
    gain = [best[-1]]
    for _ in range(1, min(bins, n_blocks)):
        through = best[:, None] + fit
        came_from.append(through.argmax(axis=0))
        best = through.max(axis=0)
        gain.append(best[-1])
    cuts, block_end = [], n_blocks
    for step in range(int(np.argmax(gain - penalty * np.arange(len(gain)))) - 1, -1, -1):
        block_end = int(came_from[step][block_end])
        cuts.append(edges[block_end - 1])
    return np.array(cuts[::-1])
