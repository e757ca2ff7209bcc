"""Latent classes of queries, which model the dependence between several models' scores and signals.

Latent class analysis (Lazarsfeld & Henry 1968; for dependent raters: Dawid & Skene, Applied
Statistics 1979, with difficulty as in Uebersax 1999). Every query has a hidden class ``z``. Given
the class, the models' score levels are independent; given class and level, the signals are. The
tables are fitted by EM (Dempster, Laird & Rubin 1977) with Dirichlet priors whose means are the
class-free tables, so that a class of few queries is close to the average of all queries.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array

from routing_pomdp.envs.arrays import FloatArray, IntArray

_ITERATIONS = 300
_NOISE = 0.15  # standard deviation, in levels, of the noise in later starts' difficulty


@dataclass(frozen=True)
class Strength:
    """Strengths of the Dirichlet priors, in queries.

    Attributes:
        level: of each model's shares of score levels in a class.
        symbol: of the shares of symbols in a class and level.
        share: of each class.
    """

    level: float = 4.0
    symbol: float = 16.0
    share: float = 1.0


@dataclass(frozen=True, eq=False)
class Cells:
    """Training queries as EM takes them: a level and a symbol for each model.

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
        """``(n, J)`` indicators of each model's (level, symbol): ``L · K`` columns for each model,
        then ``L`` for the last model's level, then ``P`` for the pre-query symbol."""
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
        """``(n,)`` mean level plus 0.3 times the mean level expected from the symbols; EM's starts
        sort queries by it."""
        grid = np.arange(self.level_share.shape[1])
        joint = self.level_share[:-1, :, None] * self.symbol_share
        expected = np.einsum("l,nlk->nk", grid, joint) / np.maximum(joint.sum(axis=1), 1e-300)
        by_symbol = expected[np.arange(self.symbol.shape[1]), self.symbol].mean(axis=1)
        return np.asarray(self.level.mean(axis=1) + 0.3 * by_symbol)


@dataclass(frozen=True, eq=False)
class ClassTables:
    """Probabilities of a latent-class model; leading axes ``...`` hold several models.

    Attributes:
        share: ``(..., C)`` of the classes.
        level: ``(..., C, N, L)`` of the score levels in each class.
        symbol: ``(..., C, N - 1, L, K)`` of the symbols in each class and level.
        pre: ``(..., C, P)`` of the pre-query symbols; ``P`` is 0 without a pre-query signal.
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
        """``(..., n, C)`` log P(class, levels and symbols) of each query."""
        return log_joint(self, cells.indicators)

    def log_likelihood(self, cells: Cells) -> FloatArray:
        """``(..., n)`` log-likelihood of each query."""
        return log_sum(self.log_joint(cells))[0]

    def responsibilities(self, cells: Cells) -> FloatArray:
        """``(..., n, C)`` posterior of each query's class given its levels and symbols."""
        return log_sum(self.log_joint(cells))[1]


def fit_classes(
    cells: Cells,
    n_classes: int,
    strength: Strength,
    starts: int = 1,
    seed: int = 0,
    tolerance: float = 1e-5,
) -> ClassTables:
    """The tables of the largest posterior density that EM finds from several starts.

    Args:
        cells: training queries.
        n_classes: ``C``.
        strength: of the priors.
        starts: how many. The first sorts queries into classes by difficulty, the others by
            difficulty plus noise.
        seed: of the noise.
        tolerance: EM stops when every start gains less than this a query.
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
    """Log posterior densities ``(starts,)``, up to a constant, and tables after each iteration."""
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
    """``(starts, n, C)`` initial responsibilities."""
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
    symbol, last, pre = np.split(counts, ends, axis=-1)
    symbol = symbol.reshape(starts, n_classes, n_verified, levels, symbols)
    level = np.concatenate([symbol.sum(axis=-1), last[:, :, None]], axis=2)
    share = weight.sum(axis=1) + strength.share
    if cells.pre_share is not None:
        pre = _shares(pre + strength.symbol * cells.pre_share)
    return ClassTables(
        _shares(share),
        _shares(level + strength.level * cells.level_share),
        _shares(symbol + strength.symbol * cells.symbol_share),
        pre,
    )


def _shares(counts: FloatArray) -> FloatArray:
    return counts / counts.sum(axis=-1, keepdims=True)


def _log(share: FloatArray) -> FloatArray:
    # A symbol that never occurs has the share 0, but then no query has it.
    return np.log(np.maximum(share, 1e-300))


def log_joint(tables: ClassTables, indicators: csr_array) -> FloatArray:
    """As `ClassTables.log_joint`, from the queries' `Cells.indicators`."""
    lead = tables.share.shape
    cell = _log(tables.symbol) + _log(tables.level[..., :-1, :, None])
    logs = [cell.reshape(*lead, -1), _log(tables.level[..., -1, :]), _log(tables.pre)]
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
