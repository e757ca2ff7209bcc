"""A one-factor latent-class model, for few training queries: classes are values of one difficulty.

A one-factor item-response model (Bock & Aitkin, Psychometrika 1981): each query has an easiness
``θ``, standard normal, and every categorical table is the class-free one tilted by it,
``p(j | θ) ∝ base_j · exp(d_j + s_j θ)`` (a multinomial logit with a slope for each category: Bock's
nominal model). The offsets ``d`` and slopes ``s`` have normal priors around 0, where ``θ`` has no
effect. On a few quadrature points it is a latent-class model with far fewer parameters.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import numpy as np
from scipy.sparse import csr_array

from routing_pomdp.envs.arrays import FloatArray
from routing_pomdp.envs.model.latent_classes import Cells, ClassTables, log_joint, log_sum

_ITERATIONS = 200
_INNER = 3  # ascent steps in each M-step
_REACH = 2.0  # largest |θ| of the points, in standard deviations


def fit_factor(cells: Cells, points: int, strength: float, tolerance: float = 1e-5) -> ClassTables:
    """The tables of the largest posterior density that EM finds, one class for each point.

    Args:
        cells: training queries.
        points: ``C``, at least 2.
        strength: precision of the slopes' normal prior.
        tolerance: EM stops when it gains less than this a query.
    """
    (last,) = deque(factor_ascent(cells, points, strength, tolerance), maxlen=1)
    return last[1]


def factor_ascent(
    cells: Cells, points: int, strength: float, tolerance: float = 1e-5
) -> Iterator[tuple[float, ClassTables]]:
    """Log posterior density, up to a constant, and tables after each iteration."""
    theta = np.linspace(-_REACH, _REACH, points)
    share = np.exp(-0.5 * theta**2)
    share /= share.sum()
    theta = theta / np.sqrt(share @ theta**2)
    design = np.stack([np.ones(points), theta], axis=1)
    precision = np.array([1.0, strength])
    bases = [cells.level_share, cells.symbol_share]
    if cells.pre_share is not None:
        bases.append(cells.pre_share)
    tilts = [np.zeros((*base.shape, 2)) for base in bases]
    indicators = cells.indicators
    transposed = indicators.T.tocsr()
    difficulty = cells.difficulty
    spread = difficulty.std()
    standardised = (difficulty - difficulty.mean()) / (spread if spread > 0 else 1.0)
    weight = share * np.exp(-((standardised[:, None] - theta) ** 2))
    weight /= weight.sum(axis=1, keepdims=True)
    before = -np.inf
    for _ in range(_ITERATIONS):
        counts = _counts(transposed, weight, cells)[: len(bases)]
        tilts = [
            _climbed(tilt, base, count, design, precision)
            for tilt, base, count in zip(tilts, bases, counts, strict=True)
        ]
        shares = [_tilted(base, tilt, design) for base, tilt in zip(bases, tilts, strict=True)]
        pre = shares[2] if len(shares) > 2 else np.empty((points, 0))
        tables = ClassTables(share, shares[0], shares[1], pre)
        likelihood, weight = log_sum(log_joint(tables, indicators))
        prior = sum(float((precision * tilt**2).sum()) for tilt in tilts)
        objective = float(likelihood.sum()) - 0.5 * prior
        yield objective, tables
        if objective - before < tolerance * len(cells):
            break
        before = objective


def _counts(transposed: csr_array, weight: FloatArray, cells: Cells) -> list[FloatArray]:
    """Expected counts at each point ``(C, ...)``, of the levels, symbols and pre-query symbols."""
    n_verified, levels, symbols = cells.symbol_share.shape
    every = np.asarray(transposed @ weight).T
    symbol, last, pre = np.split(every, np.cumsum([n_verified * levels * symbols, levels]), axis=1)
    symbol = symbol.reshape(-1, n_verified, levels, symbols)
    return [np.concatenate([symbol.sum(axis=3), last[:, None]], axis=1), symbol, pre]


def _tilted(base: FloatArray, tilt: FloatArray, design: FloatArray) -> FloatArray:
    """``(C, ..., J)`` shares ``∝ base · exp(tilt · design)``."""
    logit = np.moveaxis(tilt @ design.T, -1, 0)
    odds = base * np.exp(logit - logit.max(axis=-1, keepdims=True))
    return np.asarray(odds / odds.sum(axis=-1, keepdims=True))


def _climbed(
    tilt: FloatArray, base: FloatArray, count: FloatArray, design: FloatArray, precision: FloatArray
) -> FloatArray:
    """Improved offsets and slopes ``(..., J, 2)``: ascent steps on a quadratic lower bound of the
    penalised likelihood (Böhning, Annals of the Institute of Statistical Mathematics 1992), none of
    which can decrease it."""
    total = count.sum(axis=-1)  # (C, ...)
    bound = 0.5 * np.einsum("c...,ca,cb->...ab", total, design, design) + np.diag(precision)
    step = np.linalg.inv(bound)
    for _ in range(_INNER):
        residual = count - total[..., None] * _tilted(base, tilt, design)
        gradient = np.einsum("c...j,ca->...ja", residual, design) - precision * tilt
        tilt = tilt + np.einsum("...ab,...jb->...ja", step, gradient)
    return tilt
