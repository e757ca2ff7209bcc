"""Curves of a measure over the cost ratio or the number of training queries of a sweep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from routing_pomdp.envs.arrays import FloatArray
from routing_pomdp.evaluation.plots.figures import styles
from routing_pomdp.evaluation.runs.run_folder import Run
from routing_pomdp.evaluation.sweeps.comparison import ComparisonCell, comparison_cells

SWEPT = {
    "costs.ratio": "cost ratio",
    "evaluation.train_size": "training queries",
}
"""Config keys of the horizontal axis, with their labels."""


@dataclass(frozen=True, eq=False)
class MeasureCurve:
    """One solver's measure along a swept key, with its interval; NaN where undefined.

    Attributes:
        label: label of the solver.
        at: ``(k,)`` values of the key, ascending.
        value: ``(k,)`` the measure.
        low: ``(k,)`` lower end of its interval.
        high: ``(k,)`` upper end of its interval.
    """

    label: str
    at: FloatArray
    value: FloatArray
    low: FloatArray
    high: FloatArray


def measure_curves(
    runs: Sequence[Run], key: str, measure: str
) -> dict[ComparisonCell, list[MeasureCurve]]:
    """Settings without ``key`` -> one curve per solver that has more than one point.

    Args:
        runs: the runs of one sweep.
        key: a key of `SWEPT`.
        measure: a name in a run's measures.
    """
    rows: dict[tuple[ComparisonCell, str], list[tuple[float, ...]]] = {}
    for run, cell in zip(runs, comparison_cells(runs, key), strict=True):
        if key == "costs.ratio" and run.about["config"]["costs"].get("ratio") is None:
            continue
        at = run.about["queries"]["train"] if key != "costs.ratio" else run.about["costs"]
        found = (run.measures.get(measure), *run.intervals.get(measure, (None, None)))
        numbers = (float("nan") if value is None else float(value) for value in found)
        rows.setdefault(cell, []).append((float(at), *numbers))
    curves: dict[ComparisonCell, list[MeasureCurve]] = {}
    for (setting, label), points in sorted(rows.items(), key=_by_name):
        if len(points) > 1:
            columns = np.array(sorted(points)).T
            curves.setdefault(setting, []).append(MeasureCurve(label, *columns))
    return curves


def _ticks(panel: Sequence[MeasureCurve]) -> list[float]:
    """Tick positions: the points of the curves, without the smaller of two that are too close."""
    points = np.unique(np.concatenate([curve.at for curve in panel]))
    apart = (points[-1] / points[0]) ** 0.08
    kept: list[float] = []
    for point in reversed(points.tolist()):
        if not kept or kept[-1] / point >= apart:
            kept.append(point)
    return kept


def _by_name(item: tuple[tuple[ComparisonCell, str], object]) -> tuple[str, str, str]:
    (setting, label), _ = item
    return setting.row, setting.column, label


def curve_figure(
    curves: dict[ComparisonCell, list[MeasureCurve]], key: str, measure: str
) -> Figure:
    """Small multiples, one panel per setting; bands are the runs' confidence intervals.

    Args:
        curves: from `measure_curves`, at least one.
        key: the key of the horizontal axis.
        measure: the measure of the vertical axis.
    """
    columns = min(3, len(curves))
    rows = -(-len(curves) // columns)
    figure = Figure(figsize=(3.1 * columns + 1.8, 2.5 * rows + 0.4), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    looks = styles(curve.label for panel in curves.values() for curve in panel)
    for axes in grid.flat[len(curves) :]:
        axes.set_visible(False)
    for axes, (setting, panel) in zip(grid.flat, curves.items(), strict=False):
        for curve in panel:
            look = looks[curve.label]
            axes.fill_between(curve.at, curve.low, curve.high, color=look.colour, alpha=0.1, lw=0)
            axes.plot(
                curve.at, curve.value, color=look.colour, ls=look.dash, marker=look.marker,
                markersize=4, lw=1.6,
            )  # fmt: skip
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(FixedLocator(_ticks(panel)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.tick_params(labelsize=8)
        axes.set_title(
            " · ".join(filter(None, (setting.row, setting.column))), loc="left", fontsize=9
        )
        axes.grid(color="#E6E6E6", linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
        if measure in ("gap_closed", "delta_ibc"):
            axes.axhline(0, color="#767676", ls="--", lw=1)  # random mixing
    figure.supxlabel(SWEPT[key], fontsize=10)
    figure.supylabel(measure.replace("_", " "), fontsize=10)
    figure.legend(
        handles=[look.handle(label) for label, look in looks.items()],
        loc="outside right upper", frameon=False, fontsize=8,
    )  # fmt: skip
    return figure
