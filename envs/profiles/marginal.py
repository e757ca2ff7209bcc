"""One variable's distribution as a piecewise-linear quantile function with atoms."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike

from routing_pomdp.envs.arrays import FloatArray

# Dense in both tails: a log-probability's information lies within a percent of 0, and it has a
# heavy lower tail.
_GRID = np.concatenate([[0.0, 0.01, 0.025], np.linspace(0.05, 0.95, 19), [0.975, 0.99, 1.0]])
FEW_VALUES = 12  # a variable with at most so many values is stored exactly
_ATOM_SHARE = 0.02
_MOST_DIGITS = 12  # differences beyond are rounding errors


@dataclass(frozen=True, eq=False)
class Marginal:
    """A quantile function ``Q``: linear between knots, with atoms and gaps.

    Two knots of one value are an atom (``Q`` is flat over its probability), two knots of one
    level are a gap (``Q`` jumps over values that never occur). Correctness of a model that is
    right with probability p is ``levels = [0, 1-p, 1-p, 1]``, ``values = [0, 0, 1, 1]``.

    Attributes:
        levels: ``(k,)`` cumulative probabilities, non-decreasing from 0 to 1.
        values: ``(k,)`` quantiles at the levels, non-decreasing.

    Raises:
        ValueError: there are fewer than two knots, lengths differ, knots decrease or are not
            finite, or levels do not run from 0 to 1.
    """

    levels: FloatArray
    values: FloatArray

    def __post_init__(self) -> None:
        levels = np.asarray(self.levels, dtype=np.float64)
        values = np.asarray(self.values, dtype=np.float64)
        object.__setattr__(self, "levels", levels)
        object.__setattr__(self, "values", values)
        if levels.ndim != 1 or levels.shape != values.shape or len(levels) < 2:
            raise ValueError(
                f"levels and values have shapes {levels.shape} and {values.shape}: expected two "
                "lists of one length, of at least 2 knots"
            )
        if not (np.isfinite(levels).all() and np.isfinite(values).all()):
            raise ValueError("levels and values must be finite numbers")
        if levels[0] != 0 or levels[-1] != 1:
            raise ValueError(
                f"levels run from {levels[0]:g} to {levels[-1]:g}: expected cumulative "
                "probabilities from 0 to 1"
            )
        for name, knots in (("levels", levels), ("values", values)):
            if (np.diff(knots) < 0).any():
                knot = int(np.argmax(np.diff(knots) < 0)) + 1
                raise ValueError(f"{name} must not decrease, but knot {knot} is below the last one")

    def quantile(self, level: FloatArray) -> FloatArray:
        """``Q`` at any array of levels in (0, 1)."""
        return np.interp(level, self.levels, self.values)

    @cached_property
    def mean(self) -> float:
        return float(np.trapezoid(self.values, self.levels))

    @property
    def constant(self) -> bool:
        """Whether the variable has only one value."""
        return bool(self.values[0] == self.values[-1])

    def midranks(self) -> Marginal:
        """The distribution of ``F(x) - P(x)/2``, a value's mid-rank in [0, 1].

        As a function of the level it is the level itself where ``Q`` increases, and the middle of
        the levels over an atom.
        """
        low = self.levels[np.searchsorted(self.values, self.values, side="left")]
        high = self.levels[np.searchsorted(self.values, self.values, side="right") - 1]
        middle = (low + high) / 2
        flat = np.diff(self.values) == 0
        start = np.where(flat, middle[:-1], self.levels[:-1])
        end = np.where(flat, middle[1:], self.levels[1:])
        return Marginal(
            np.stack([self.levels[:-1], self.levels[1:]], axis=1).ravel(),
            np.stack([start, end], axis=1).ravel(),
        )


def fit_marginal(sample: ArrayLike) -> Marginal:
    """The quantile function of a sample.

    A variable of few distinct values (correctness, vote shares) is stored exactly. Otherwise a
    value with at least 2% of the sample is stored exactly, as an atom, and the rest as quantiles at
    25 levels.

    Args:
        sample: ``(n,)`` finite numbers.
    """
    values, count = np.unique(np.asarray(sample, dtype=np.float64), return_counts=True)
    cumulative = np.concatenate([[0], np.cumsum(count)]) / count.sum()
    low, high = cumulative[:-1], cumulative[1:]
    few = len(values) <= FEW_VALUES
    atom = np.full(len(values), True) if few else count >= max(2, _ATOM_SHARE * count.sum())
    # A value that is no atom is a knot in the middle of its step; the outer knots are 0 and 1.
    left = np.where(atom, low, (low + high) / 2)
    right = np.where(atom, high, (low + high) / 2)
    left[0], right[-1] = 0.0, 1.0
    if few:
        levels, knots = np.stack([left, right], axis=1).ravel(), np.repeat(values, 2)
    else:
        inside = (_GRID[:, None] > left[atom]) & (_GRID[:, None] < right[atom])
        grid = _GRID[~inside.any(axis=1)]
        grid = np.setdiff1d(grid, np.concatenate([left[atom], right[atom]]))
        smooth = np.interp(grid, np.stack([left, right], axis=1).ravel(), np.repeat(values, 2))
        levels = np.concatenate([left[atom], right[atom], grid])
        knots = np.concatenate([values[atom], values[atom], smooth])
        order = np.lexsort([knots, levels])
        levels, knots = levels[order], knots[order]
    return Marginal(np.round(levels, 6), _significant(knots))


def _significant(values: FloatArray, digits: int = 5) -> FloatArray:
    """Values rounded to ``digits`` significant digits, or to more if these would merge two values.

    Decimals would not separate -1e-7 from -1e-5, nor 5 digits 0.9999992 from 0.9999998.
    """
    apart = len(np.unique(_rounded(values, _MOST_DIGITS)))
    return next(
        rounded
        for more in range(digits, _MOST_DIGITS + 1)
        if len(np.unique(rounded := _rounded(values, more))) == apart
    )


def _rounded(values: FloatArray, digits: int) -> FloatArray:
    return np.array([float(f"{value:.{digits}g}") for value in values])
