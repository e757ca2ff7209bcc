"""Signals of a continuous problem: draws of them, and small cells of those that say the same."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from routing_pomdp.envs import RoutingPOMDP
from routing_pomdp.solvers.search.continuous import ContinuousPOMDP

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

_DRAWS = 2**12  # of all distributions, whose shares of the cells are their likelihoods
_PROBES = 64  # score vectors whose signals tell distributions apart


@dataclass(frozen=True, eq=False)
class Cells:
    """A fitted observation model: signals after which nearly the same is believed are one symbol.

    Nothing is estimated again: the likelihoods are those of a model with densities, and with many
    cells lose nothing of them. Bins of equal mass would lose what is learned from the tails.

    Attributes:
        problem: with the densities.
        group: ``(N - 1, S)`` which of ``G`` distributions of signals each score vector gives.
        likelihood: ``(N - 1, S, K)``.
        representative: ``(N - 1, K, D)`` a signal of each.
        centre: ``(N - 1, K, G)`` what each makes one believe of the distributions, as `_believed`.
    """

    problem: ContinuousPOMDP
    group: IntArray
    likelihood: FloatArray
    representative: FloatArray
    centre: FloatArray

    @classmethod
    def of(cls, problem: ContinuousPOMDP, cells: int) -> Self:
        """At most ``cells`` symbols a model."""
        n_verified, n_vectors = problem.n_models - 1, len(problem.prior)
        width = problem.representative.shape[2]
        groups = np.stack([_groups(problem, model) for model in range(n_verified)])
        likelihood = np.zeros((n_verified, n_vectors, cells))
        representative = np.zeros((n_verified, cells, width))
        centre = np.full((n_verified, cells, int(groups.max()) + 1), np.inf)
        for model, group in enumerate(groups):
            one = np.unique(group, return_index=True)[1]
            n = max(_DRAWS // len(one), 256)
            signal = drawn(problem, model, one, n)
            point = _believed(problem, model, group, signal)
            mass = np.bincount(group, problem.prior)
            members = _alike(point, np.repeat(mass / n, n), cells)
            for k, rows in enumerate(members):
                share = np.bincount(rows // n, minlength=len(one)) / n
                likelihood[model, :, k] = share[group]
                middle = point[rows].mean(axis=0)
                typical = ((point[rows] - middle) ** 2).sum(axis=1).argmin()
                representative[model, k] = signal[rows[typical]]
                centre[model, k, : len(one)] = middle
            representative[model, len(members) :] = representative[model, 0]
        return cls(problem, groups, likelihood, representative, centre)

    @property
    def n_symbols(self) -> int:
        return self.likelihood.shape[2]

    def fit(self, signal: FloatArray, level: IntArray, score_vectors: IntArray) -> Self:
        """As it is: fitted already."""
        return self

    def symbols(self, model: int, signal: FloatArray) -> IntArray:
        """The nearest cells ``(n,)`` of one model's signals ``(n, D)``."""
        point = _believed(self.problem, model, self.group[model], signal)
        apart = point[:, None] - self.centre[model, :, : point.shape[1]]
        return (apart**2).sum(axis=2).argmin(axis=1)


def discretised(problem: ContinuousPOMDP, cells: int) -> RoutingPOMDP:
    """The finite problem in which signals are cells: what enumerating solvers are given."""
    seen = Cells.of(problem, cells)
    finite = replace(problem, likelihood=seen.likelihood, observation=seen, shown=None)
    return RoutingPOMDP(**{f.name: getattr(finite, f.name) for f in fields(RoutingPOMDP)})


def _groups(problem: ContinuousPOMDP, model: int) -> IntArray:
    """``(S,)`` the distribution of one model's signals, by number, given each score vector."""
    some = np.linspace(0, len(problem.prior) - 1, _PROBES).round().astype(np.int64)
    at = densities(problem, model, drawn(problem, model, np.unique(some), 16))
    return np.unique(at, axis=1, return_inverse=True)[1].ravel().astype(np.int64)


def drawn(problem: ContinuousPOMDP, model: int, vectors: IntArray, n: int) -> FloatArray:
    """``(len(vectors) · n, D)``: ``n`` signals of each of some score vectors, evenly spread."""
    point, width = np.arange(n)[:, None], problem.representative.shape[2]
    # Even in a signal's first number; in the others by powers of the golden ratio.
    shares: FloatArray = (point * 0.6180339887498949 ** np.arange(width)) % 1.0
    shares[:, :1] = (point + 0.5) / n
    uniform = np.tile(shares, (len(vectors), 1))
    return problem.densities.sample(model, np.repeat(vectors, n), uniform)


def densities(problem: ContinuousPOMDP, model: int, signal: FloatArray) -> FloatArray:
    """``(n, S)`` densities of signals ``(n, D)`` given every score vector; the largest is 1."""
    density = problem.densities.density(model, signal)
    return density / np.maximum(density.max(axis=1, keepdims=True), np.finfo(float).tiny)


def _believed(
    problem: ContinuousPOMDP, model: int, group: IntArray, signal: FloatArray
) -> FloatArray:
    """``(n, G)`` square roots of what one signal makes one believe of its distribution, where
    Euclid's distance is Hellinger's."""
    one, mass = np.unique(group, return_index=True)[1], np.bincount(group, problem.prior)
    joint = densities(problem, model, signal)[:, one] * mass
    total = joint.sum(axis=1, keepdims=True)
    return np.sqrt(np.where(total > 0, joint / np.where(total > 0, total, 1.0), mass))


def _alike(point: FloatArray, weight: FloatArray, most: int) -> list[IntArray]:
    """Weighted points ``(m, G)`` in at most so many cells: that which scatters most is split at its
    middle, again and again."""
    cells = [np.arange(len(point))]
    cuts = [_cut(point, weight)]
    while len(cells) < most:
        worst = int(np.argmax([scatter for scatter, _, _ in cuts]))
        scatter, axis, middle = cuts[worst]
        if scatter <= 0:
            break
        members = cells[worst]
        above = point[members, axis] > middle
        cells[worst : worst + 1] = [members[~above], members[above]]
        cuts[worst : worst + 1] = [_cut(point[m], weight[m]) for m in cells[worst : worst + 2]]
    return cells


def _cut(point: FloatArray, weight: FloatArray) -> tuple[float, int, float]:
    """How much points scatter, along which axis most, and their middle there; 0 for points that
    cannot be told apart."""
    if not weight.any():
        return 0.0, 0, 0.0
    mean = weight @ point / weight.sum()
    scatter = weight @ (point - mean) ** 2
    axis = int(scatter.argmax())
    told = 0 < (point[:, axis] > mean[axis]).sum() < len(point)
    return float(scatter.sum()) * told, axis, float(mean[axis])
