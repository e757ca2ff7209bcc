"""Cost–quality frontiers: the best mean score at every mean cost, from a set of operating points.

Two operating points can be mixed at random, so a set of them reaches its upper concave hull
(RouterBench, arXiv 2403.12031, §3, calls it the non-decreasing convex hull). Conventions used
throughout the package:

- **Left.** A router's frontier starts at always-``M_0``, the limit of any router as the price
  goes to infinity. The caller includes that point.
- **Right.** It is flat to the right of the best point: a higher budget need not be spent. It is
  *not* tied to always-``M_{N-1}``, so a bad router can fall below the hull of the single models.
- **Window.** AIQ averages over the costs between always-``M_0`` and always-``M_{N-1}``. More
  expensive points count only through mixtures with them inside the window.

Every function takes leading batch dimensions, written ``...``: one call handles all resamples of a
bootstrap.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from routing_pomdp.envs.arrays import FloatArray


class Point(NamedTuple):
    """A mean cost and a mean score, each ``(...)``."""

    cost: FloatArray
    score: FloatArray


@dataclass(frozen=True, eq=False)
class Frontier:
    """Vertices of a non-decreasing concave hull, cheapest first.

    Attributes:
        cost: ``(..., k)``, increasing. In a batch, a hull with fewer than ``k`` vertices repeats
            its last one.
        score: ``(..., k)``, increasing likewise.
    """

    cost: FloatArray
    score: FloatArray


def frontier(cost: ArrayLike, score: ArrayLike) -> Frontier:
    """The non-decreasing concave upper hull of operating points, in any order.

    Args:
        cost: ``(..., M)`` mean costs, M >= 1.
        score: ``(..., M)`` mean scores.

    Raises:
        ValueError: the shapes differ, there is no point, or a value is not finite.
    """
    cost, score = _checked_points(cost, score)
    # Gift wrapping from the cheapest point (of equally cheap ones, the best): the next vertex is
    # the point in the steepest direction. One pass per vertex handles the whole batch.
    cheapest = cost == cost.min(axis=-1, keepdims=True)
    at = np.where(cheapest, score, -np.inf).argmax(axis=-1)[..., None]
    vertices = [_take(cost, score, at)]
    for _ in range(cost.shape[-1] - 1):
        here = vertices[-1]
        run, rise = cost - here.cost, score - here.score
        better = (run > 0) & (rise > 0)
        if not better.any():
            break
        with np.errstate(over="ignore"):
            slope = np.divide(rise, run, out=np.full_like(rise, -np.inf), where=better)
        # Of collinear points take the farthest, so that no vertex lies inside a segment.
        steepest = better & (slope == slope.max(axis=-1, keepdims=True))
        at = np.where(steepest, rise, -np.inf).argmax(axis=-1)[..., None]
        goes_on = better.any(axis=-1, keepdims=True)
        there = _take(cost, score, at)
        vertices.append(
            Point(
                np.where(goes_on, there.cost, here.cost),
                np.where(goes_on, there.score, here.score),
            )
        )
    return Frontier(
        cost=np.concatenate([v.cost for v in vertices], axis=-1),
        score=np.concatenate([v.score for v in vertices], axis=-1),
    )


def height(frontier: Frontier, cost: ArrayLike) -> FloatArray:
    """Score reached at a mean cost: linear between vertices, flat right of the last.

    Args:
        frontier: vertices ``(..., k)``.
        cost: a number, or ``(..., Q)`` with the frontier's leading dimensions (any shape where
            the frontier is a single one).

    Returns:
        ``(...)`` for a number, else ``(..., Q)``. NaN left of the first vertex.
    """
    at = np.atleast_1d(np.asarray(cost, dtype=np.float64))
    vertices = frontier.cost.shape[-1]
    left = (frontier.cost[..., None, :] <= at[..., None]).sum(axis=-1) - 1
    shape = (*left.shape[:-1], vertices)
    x, y = np.broadcast_to(frontier.cost, shape), np.broadcast_to(frontier.score, shape)
    start = np.maximum(left, 0)
    end = np.minimum(start + 1, vertices - 1)
    x0, y0 = np.take_along_axis(x, start, -1), np.take_along_axis(y, start, -1)
    run, rise = np.take_along_axis(x, end, -1) - x0, np.take_along_axis(y, end, -1) - y0
    share = np.divide(at - x0, run, out=np.zeros_like(run), where=run > 0)
    heights = np.where(left < 0, np.nan, y0 + share * rise)
    return heights[..., 0] if np.ndim(cost) == 0 else heights


def aiq(frontier: Frontier, low: ArrayLike, high: ArrayLike) -> FloatArray:
    """AIQ: the mean height of a frontier between two costs, by exact integration.

    RouterBench (arXiv 2403.12031), §3: the area under the hull divided by the span of costs. Here
    the span is ``[C_SLM, C_LLM]``.

    Args:
        frontier: vertices ``(..., k)``.
        low: ``(...)`` cost of always-``M_0``.
        high: ``(...)`` cost of always-``M_{N-1}``.

    Returns:
        ``(...)`` in the score's unit.

    Raises:
        ValueError: ``high <= low``, or the frontier starts right of ``low``.
    """
    low, high = np.asarray(low, dtype=np.float64), np.asarray(high, dtype=np.float64)
    x, y = frontier.cost, frontier.score
    _check_window(x[..., 0], low, high)
    begin, end = low[..., None], high[..., None]
    run = np.diff(x, axis=-1)
    slope = np.divide(np.diff(y, axis=-1), run, out=np.zeros_like(run), where=run > 0)
    # Segments are clipped to the window; those outside it get a width of zero.
    left, right = np.clip(x[..., :-1], begin, end), np.clip(x[..., 1:], begin, end)
    middle = y[..., :-1] + slope * ((left + right) / 2 - x[..., :-1])
    flat = np.maximum(high - np.maximum(x[..., -1], low), 0.0) * y[..., -1]
    area = ((right - left) * middle).sum(axis=-1) + flat
    return area / (high - low)


def _take(cost: FloatArray, score: FloatArray, at: NDArray[np.intp]) -> Point:
    return Point(np.take_along_axis(cost, at, -1), np.take_along_axis(score, at, -1))


def _checked_points(cost: ArrayLike, score: ArrayLike) -> tuple[FloatArray, FloatArray]:
    cost, score = np.asarray(cost, dtype=np.float64), np.asarray(score, dtype=np.float64)
    if cost.shape != score.shape or cost.ndim == 0:
        raise ValueError(
            f"operating points: cost has shape {cost.shape} and score {score.shape}; "
            "expected the same shape (..., M): one cost and one score per point"
        )
    if cost.shape[-1] == 0:
        raise ValueError(
            f"operating points: shape {cost.shape} holds no point; a frontier needs at least one"
        )
    for name, values in (("cost", cost), ("score", score)):
        bad = ~np.isfinite(values)
        if bad.any():
            where = tuple(int(i) for i in np.argwhere(bad)[0])
            raise ValueError(
                f"operating points: {name}{list(where)} is {values[where]}; expected finite "
                "numbers: leave out points that were not evaluated"
            )
    return cost, score


def _check_window(first: FloatArray, low: FloatArray, high: FloatArray) -> None:
    if not np.all(high > low):
        raise ValueError(
            f"AIQ is a mean over an interval of costs, but high − low is {np.min(high - low):g}; "
            "expected the last model to cost more than the first on average: order the "
            "models cheapest first, or choose two that differ in cost"
        )
    if not np.all(first <= low):
        raise ValueError(
            f"the frontier's cheapest point costs {float(np.max(first - low)):g} more than the "
            "window's low end, so its height there is undefined: include the always-cheapest-model "
            "point in the frontier"
        )
