"""Latent classes of queries: what makes scores, signals and costs of several models depend.

Latent class analysis (Lazarsfeld & Henry 1968; for raters who depend on each other: Dawid & Skene,
Applied Statistics 1979, with difficulty as in Uebersax 1999): every query has a hidden class ``z``,
and given it the models' score levels are independent, as are signals given class and level. The
tables are fitted by EM (Dempster, Laird & Rubin 1977), with Dirichlet priors whose means are the
class-free tables: a class of few queries looks like all queries together.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array

from routing_pomdp.envs.arrays import FloatArray, IntArray

_ITERATIONS = 300
_NOISE = 0.15  # of the difficulty that later starts sort queries by, in levels


@dataclass(frozen=True)
class Strength:
    """How many queries of a class the class-free tables count as.

    Attributes:
        level: for the shares of each model's score levels.
        symbol: for those of the symbols, of each class and level.
        share: queries added to each class.
    """

    level: float = 4.0
    symbol: float = 16.0
    share: float = 1.0


@dataclass(frozen=True, eq=False)
class Cells:
    """Training queries as the EM sees them: for each model one cell, its level and symbol.

    Attributes:
        level: ``(n, N)`` score levels.
        symbol: ``(n, N - 1)`` symbols.
        level_share: ``(N, L)`` class-free shares of the levels, all positive.
        symbol_share: ``(N - 1, L, K)`` class-free shares of the symbols at each level.
        pre: ``(n,)`` symbols of a pre-query signal, if there is one.
        pre_share: ``(P,)`` their class-free shares.
    """

    level: IntArray
    symbol: IntArray
    level_share: FloatArray
    symbol_share: FloatArray
    pre: IntArray | None = None
    pre_share: FloatArray | None = None

    def __len__(self) -> int:
        return len(self.level)

    @property
    def indicators(self) -> csr_array:
        """``(n, J)``: one 1 a query in each model's columns: ``L · K`` of them, then the last
        model's ``L``, then ``P``."""
        (n, n_models), (_, levels, symbols) = self.level.shape, self.symbol_share.shape
        block = levels * symbols
        cell = self.level[:, :-1] * symbols + self.symbol + block * np.arange(n_models - 1)
        width = block * (n_models - 1)
        columns = [cell, width + self.level[:, -1:]]
        width += levels
        if self.pre is not None and self.pre_share is not None:
            columns.append(width + self.pre[:, None])
            width += len(self.pre_share)
        column = np.concatenate(columns, axis=1)
        begin = np.arange(n + 1) * column.shape[1]
        return csr_array((np.ones(column.size), column.ravel(), begin), shape=(n, width))

    @property
    def difficulty(self) -> FloatArray:
        """``(n,)`` mean level, with a little of what the signals say: what starts sort by."""
        grid = np.arange(self.level_share.shape[1])
        joint = self.level_share[:-1, :, None] * self.symbol_share
        expected = np.einsum("l,nlk->nk", grid, joint) / np.maximum(joint.sum(axis=1), 1e-300)
        seen = expected[np.arange(self.symbol.shape[1]), self.symbol].mean(axis=1)
        return np.asarray(self.level.mean(axis=1) + 0.3 * seen)


@dataclass(frozen=True, eq=False)
class ClassTables:
    """A fitted latent-class model; leading axes ``...`` are several of them.

    Attributes:
        share: ``(..., C)`` of the classes.
        level: ``(..., C, N, L)`` of the score levels in each class.
        symbol: ``(..., C, N - 1, L, K)`` of the symbols at each level.
        pre: ``(..., C, P)`` of a pre-query signal; ``P`` is 0 without one.
    """

    share: FloatArray
    level: FloatArray
    symbol: FloatArray
    pre: FloatArray

    @property
    def n_classes(self) -> int:
        return self.share.shape[-1]

    def take(self, start: int) -> ClassTables:
        return ClassTables(
            self.share[start], self.level[start], self.symbol[start], self.pre[start]
        )

    def log_joint(self, cells: Cells) -> FloatArray:
        """``(..., n, C)`` logarithms of P(class, levels and symbols of each query)."""
        return log_joint(self, cells.indicators)

    def log_likelihood(self, cells: Cells) -> FloatArray:
        """``(..., n)`` of each query."""
        return log_sum(self.log_joint(cells))[0]

    def responsibilities(self, cells: Cells) -> FloatArray:
        """``(..., n, C)`` what each query's levels and symbols say of its class."""
        return log_sum(self.log_joint(cells))[1]


def fit_classes(
    cells: Cells,
    n_classes: int,
    strength: Strength,
    starts: int = 1,
    seed: int = 0,
    tolerance: float = 1e-5,
) -> ClassTables:
    """The tables of the largest posterior density that EM finds from some starts.

    Args:
        cells: training queries.
        n_classes: ``C``.
        strength: of the priors.
        starts: the first sorts queries into classes by difficulty, the others by difficulty and
            noise.
        seed: of the noise.
        tolerance: it stops once no start gains as much a query.
    """
    (last,) = deque(ascents(cells, n_classes, strength, starts, seed, tolerance), maxlen=1)
    objective, tables = last
    return tables.take(int(objective.argmax()))


def ascents(
    cells: Cells,
    n_classes: int,
    strength: Strength,
    starts: int = 1,
    seed: int = 0,
    tolerance: float = 1e-5,
) -> Iterator[tuple[FloatArray, ClassTables]]:
    """Each iteration's log posterior densities ``(starts,)``, up to a constant, and tables."""
    indicators = cells.indicators
    transposed = indicators.T.tocsr()
    weight = _starts(cells, n_classes, starts, seed)
    before = np.full(starts, -np.inf)
    for _ in range(_ITERATIONS if n_classes > 1 else 1):
        tables = _tables(transposed, weight, cells, strength)
        likelihood, weight = log_sum(log_joint(tables, indicators))
        objective = likelihood.sum(axis=-1) + _log_prior(tables, cells, strength)
        yield objective, tables
        if (objective - before < tolerance * len(cells)).all():
            break
        before = objective


def _starts(cells: Cells, n_classes: int, starts: int, seed: int) -> FloatArray:
    """``(starts, n, C)`` responsibilities to begin with."""
    n, rng = len(cells), np.random.default_rng(seed)
    weight = np.full((starts, n, n_classes), 0.1 / n_classes)
    difficulty = cells.difficulty
    for start in range(starts):
        noise = _NOISE * rng.standard_normal(n) if start else 0.0
        rank = np.argsort(np.argsort(difficulty + noise, kind="stable"), kind="stable")
        weight[start, np.arange(n), rank * n_classes // n] += 0.9
    return weight


def _tables(
    transposed: csr_array, weight: FloatArray, cells: Cells, strength: Strength
) -> ClassTables:
    """The M-step: posterior modes given responsibilities ``(starts, n, C)``."""
    starts, n, n_classes = weight.shape
    n_verified, levels, symbols = cells.symbol_share.shape
    flat = weight.swapaxes(0, 1).reshape(n, -1)
    counts = np.ascontiguousarray((transposed @ flat).T).reshape(starts, n_classes, -1)
    ends = np.cumsum([n_verified * levels * symbols, levels])
    seen, last, pre = np.split(counts, ends, axis=-1)
    seen = seen.reshape(starts, n_classes, n_verified, levels, symbols)
    level = np.concatenate([seen.sum(axis=-1), last[:, :, None]], axis=2)
    share = weight.sum(axis=1) + strength.share
    if cells.pre_share is not None:
        pre = _shares(pre + strength.symbol * cells.pre_share)
    return ClassTables(
        _shares(share),
        _shares(level + strength.level * cells.level_share),
        _shares(seen + strength.symbol * cells.symbol_share),
        pre,
    )


def _shares(counts: FloatArray) -> FloatArray:
    return counts / counts.sum(axis=-1, keepdims=True)


def _log(share: FloatArray) -> FloatArray:
    # A symbol that a model never showed has the share 0, and no query's cell meets it.
    return np.log(np.maximum(share, 1e-300))


def log_joint(tables: ClassTables, indicators: csr_array) -> FloatArray:
    """As of `ClassTables`, from the queries' `Cells.indicators`."""
    lead = tables.share.shape
    seen = _log(tables.symbol) + _log(tables.level[..., :-1, :, None])
    logs = [seen.reshape(*lead, -1), _log(tables.level[..., -1, :]), _log(tables.pre)]
    flat = np.concatenate(logs, axis=-1).reshape(int(np.prod(lead)), -1)
    found = (indicators @ np.ascontiguousarray(flat.T)).reshape(-1, *lead)
    return np.moveaxis(found, 0, -2) + _log(tables.share)[..., None, :]


def log_sum(log_joint: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Log-likelihoods ``(..., n)`` and responsibilities ``(..., n, C)``."""
    most = log_joint.max(axis=-1, keepdims=True)
    joint = np.exp(log_joint - most)
    total = joint.sum(axis=-1, keepdims=True)
    return (most + np.log(total))[..., 0], joint / total


def _log_prior(tables: ClassTables, cells: Cells, strength: Strength) -> FloatArray:
    """``(...)`` log density of the Dirichlet priors, up to a constant."""
    found = strength.share * _log(tables.share).sum(axis=-1)
    parts: Sequence[tuple[float, FloatArray | None, FloatArray]] = (
        (strength.level, cells.level_share, tables.level),
        (strength.symbol, cells.symbol_share, tables.symbol),
        (strength.symbol, cells.pre_share, tables.pre),
    )
    for weight, base, table in parts:
        if base is not None:
            axes = tuple(range(table.ndim - base.ndim - 1, table.ndim))
            found = found + weight * (base * _log(table)).sum(axis=axes)
    return np.asarray(found)
