"""Pruning of a set of alpha vectors to those that are best somewhere on the belief simplex."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import highspy
import numpy as np

from routing_pomdp.envs.arrays import FloatArray, IntArray

# The least by which a kept vector improves the value somewhere; also HiGHS's smallest tolerance.
TOLERANCE = 1e-10
_ROUNDING = 1e-12  # the same without a linear program
_PROBES = 256  # random beliefs whose best vectors are kept without a linear program


class OutOfTimeError(RuntimeError):
    """A time limit has passed."""


@dataclass(frozen=True)
class Deadline:
    """A time after which pruning stops.

    Attributes:
        at: in seconds of `time.monotonic`.
    """

    at: float = math.inf

    @classmethod
    def after(cls, seconds: float | None) -> Self:
        """The deadline ``seconds`` from now; None for never."""
        return cls() if seconds is None else cls(time.monotonic() + seconds)

    @property
    def passed(self) -> bool:
        return time.monotonic() > self.at

    def check(self) -> None:
        """Raise OutOfTimeError once it has passed."""
        if self.passed:
            raise OutOfTimeError


NEVER = Deadline()


def prune(vectors: FloatArray, deadline: Deadline = NEVER) -> IntArray:
    """Indices of the smallest subset of vectors with the same upper surface over the simplex.

    Dominated vectors are removed first. The best vectors at some random beliefs are kept. Each of
    the rest needs one linear program, which finds the belief where it rises most above those kept
    (Lark's filter: White, Annals of OR 1991). With two states, sorting finds the upper envelope of
    lines without a linear program.

    Args:
        vectors: ``(m, S)``, at least one.
        deadline: time limit.

    Returns:
        Indices, ascending. Of equal vectors the first is kept.

    Raises:
        OutOfTimeError: the deadline passes.
    """
    deadline.check()
    _, distinct = np.unique(vectors, axis=0, return_index=True)
    distinct.sort()
    # States with equal columns are one state to a linear program.
    _, columns = np.unique(vectors[distinct], axis=1, return_index=True)
    points = vectors[np.ix_(distinct, np.sort(columns))]
    if points.shape[1] == 1:
        return distinct[[int(points.argmax())]]
    if points.shape[1] == 2:
        return distinct[_envelope(points)]
    kept = undominated(points, deadline)
    return distinct[kept[_by_programs(points[kept], deadline)]]


def cross_sum(left: FloatArray, right: FloatArray) -> FloatArray:
    """All sums of a vector of ``left`` and one of ``right``, ``(l · r, S)``."""
    return (left[:, None] + right[None]).reshape(-1, left.shape[1])


def pruned_sum(
    sets: Sequence[FloatArray], max_vectors: int, deadline: Deadline = NEVER
) -> FloatArray:
    """The pruned cross-sum of several sets, pruned after each set (incremental pruning: Cassandra,
    Littman & Zhang, UAI 1997).

    Raises:
        ValueError: there are more sums to prune than ``max_vectors``.
        OutOfTimeError: the deadline passes.
    """
    total = sets[0][prune(sets[0], deadline)]
    for vectors in sets[1:]:
        addends = vectors[prune(vectors, deadline)]
        if total.shape[1] == 2:
            total = _sum_of_envelopes(total, addends)
            continue
        if len(total) * len(addends) > max_vectors:
            raise ValueError(
                f"exact pruning would compare {len(total) * len(addends):,} sums of alpha vectors, "
                f"more than max_vectors={max_vectors:,}"
            )
        sums = cross_sum(total, addends)
        total = sums[prune(sums, deadline)]
    return total


def undominated(points: FloatArray, deadline: Deadline = NEVER) -> IntArray:
    """Indices, ascending, of the vectors that no other one dominates; of equal ones the first."""
    # A vector can only be dominated by one with a larger sum.
    order = np.argsort(-points.sum(axis=1), kind="stable")
    kept: list[int] = []
    ordered = points[order]
    front = np.empty_like(points)
    for point in range(len(order)):
        deadline.check()
        if not (front[: len(kept)] >= ordered[point]).all(axis=1).any():
            front[len(kept)] = ordered[point]
            kept.append(int(order[point]))
    return np.sort(np.array(kept))


def _envelope(lines: FloatArray) -> IntArray:
    """Indices of the upper envelope of lines over [0, 1], given by their ends ``(m, 2)``: the part
    of the points' convex hull from the rightmost to the uppermost (Andrew's monotone chain)."""
    hull: list[tuple[float, float, int]] = []
    ends = lines.tolist()
    for i in np.lexsort((-lines[:, 1], -lines[:, 0])).tolist():
        left, right = ends[i]
        if hull and right <= hull[-1][1] + _ROUNDING:
            continue
        while len(hull) > 1:
            (first_left, first_right, _), (mid_left, mid_right, _) = hull[-2:]
            # Rise of the middle line above the crossing of the other two.
            turn = (mid_left - first_left) * (right - mid_right)
            turn -= (mid_right - first_right) * (left - mid_left)
            if turn > _ROUNDING * (first_left - left + right - first_right):
                break
            hull.pop()
        hull.append((left, right, i))
    return np.sort(np.array([i for _, _, i in hull]))


def _sum_of_envelopes(a: FloatArray, b: FloatArray) -> FloatArray:
    """The pruned cross-sum of two pruned sets over two states: one line of each set is best
    between neighbouring corners of the two envelopes."""
    a, b = (lines[np.argsort(lines[:, 1] - lines[:, 0])] for lines in (a, b))
    corners = [
        (drop := lines[:-1, 0] - lines[1:, 0]) / (drop + lines[1:, 1] - lines[:-1, 1])
        for lines in (a, b)
    ]
    before = np.concatenate([[0.0], np.sort(np.concatenate(corners))])
    first, second = (np.searchsorted(at, before, side="right") for at in corners)
    return a[first] + b[second]


def _by_programs(points: FloatArray, deadline: Deadline) -> IntArray:
    if len(points) == 1:
        return np.zeros(1, dtype=np.int64)
    n_states = points.shape[1]
    draw = np.random.default_rng(0).dirichlet(np.full(n_states, 0.5), _PROBES)
    probes = np.concatenate([np.eye(n_states), draw])
    kept = np.zeros(len(points), dtype=bool)
    kept[(probes @ points.T).argmax(axis=1)] = True
    program = _Surface(points[kept])
    rest = np.flatnonzero(~kept).tolist()
    while rest:
        deadline.check()
        candidate = rest.pop()
        rise, belief = program.rise(points[candidate])
        if rise <= TOLERANCE:
            continue
        # The best vector at that belief is needed; the candidate may not be.
        rest.append(candidate)
        best = rest.pop(int((points[rest] @ belief).argmax()))
        kept[best] = True
        program.add(points[best])
    return np.flatnonzero(kept)


class _QuietHighs(highspy.Highs):
    """HiGHS without its banner, which the constructor prints when it registers callbacks."""

    def enableCallbacks(self) -> None:  # noqa: N802
        self.silent()


class _Surface:
    """The linear program ``max w·b - z`` over beliefs ``b`` with ``z >= u·b`` for all vectors ``u``
    of a growing upper surface. Only ``w`` changes between calls, so each starts from the last
    basis."""

    def __init__(self, vectors: FloatArray) -> None:
        n = vectors.shape[1]
        self._columns = np.arange(n + 1, dtype=np.int32)
        solver = self._solver = _QuietHighs()
        for option in ("primal_feasibility_tolerance", "dual_feasibility_tolerance"):
            solver.setOptionValue(option, TOLERANCE)
        solver.setOptionValue("presolve", "off")
        solver.setOptionValue("threads", 1)
        inf = highspy.kHighsInf
        solver.addVars(n + 1, np.append(np.zeros(n), -inf), np.full(n + 1, inf))
        solver.addRow(1.0, 1.0, n, self._columns[:-1], np.ones(n))
        solver.changeObjectiveSense(highspy.ObjSense.kMaximize)
        solver.changeColCost(n, -1.0)
        for vector in vectors:
            self.add(vector)

    def add(self, vector: FloatArray) -> None:
        coefficients = np.append(vector, -1.0)
        self._solver.addRow(-highspy.kHighsInf, 0.0, len(coefficients), self._columns, coefficients)

    def rise(self, vector: FloatArray) -> tuple[float, FloatArray]:
        """The largest rise of ``vector`` above the surface, and the belief where it occurs."""
        solver, n = self._solver, len(vector)
        solver.changeColsCost(n, self._columns[:-1], vector)
        solver.run()
        if solver.getModelStatus() != highspy.HighsModelStatus.kOptimal:
            solver.clearSolver()  # the old basis may be ill-conditioned
            solver.run()
        if solver.getModelStatus() != highspy.HighsModelStatus.kOptimal:
            return np.inf, np.full(n, 1 / n)  # keeping a superfluous vector is no error
        return solver.getObjectiveValue(), np.array(solver.getSolution().col_value[:n])
