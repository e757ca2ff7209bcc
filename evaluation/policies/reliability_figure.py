"""Reliability diagrams: mean scores over predicted scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import ArrayLike

from routing_pomdp.evaluation.plots.figures import COLOURS
from routing_pomdp.evaluation.policies.belief_quality import FITTED, LEARNED

_GREY = "#767676"
_LOOKS = {LEARNED: (COLOURS[0], "-", "o"), FITTED: (COLOURS[1], "--", "s")}
_NAMES = {LEARNED: "learned belief", FITTED: "fitted model's belief"}
_COLUMNS = 5  # that fit on a page


def belief_figure(
    rows: Sequence[Mapping[str, Any]],
    diagrams: Mapping[str, Sequence[Mapping[str, Any]]],
    models: Sequence[str],
    title: str,
) -> Figure:
    """One panel per model: reliability diagrams of a learned belief and of the fitted problem's.

    Points are quantile bins of the predictions at all decision points, vertical lines the intervals
    of their mean scores. The corner shows the expected calibration error (ECE) of each belief.

    Args:
        rows: see `BeliefQuality`.
        diagrams: see `BeliefQuality`.
        models: names of the models, cheapest first.
        title: title of the figure.
    """
    columns = min(_COLUMNS, len(models))
    lines = -(-len(models) // columns)
    figure = Figure(figsize=(2.3 * columns + 2.0, 2.35 * lines + 0.7), layout="constrained")
    grid = figure.subplots(lines, columns, squeeze=False, sharex=True, sharey=True)
    ece = {(row["belief"], row["model"]): row["error"] for row in rows}
    for axes in grid.flat[len(models) :]:
        axes.set_visible(False)
    for i, (axes, model) in enumerate(zip(grid.flat, models, strict=False)):
        draw_diagonal(axes)
        for line, (belief, (colour, dash, marker)) in enumerate(_LOOKS.items()):
            found = diagrams[belief][i]
            draw_reliability(
                axes, found["believed"], found["score"], found["score_low"], found["score_high"],
                color=colour, ls=dash, marker=marker,
            )  # fmt: skip
            axes.text(
                0.97, 0.12 - 0.09 * line, f"ECE {ece[belief, model]:.3f}", fontsize=7.5,
                color=colour, ha="right", transform=axes.transAxes,
            )  # fmt: skip
        axes.set_title(model, loc="left", fontsize=9)
    for row in grid:
        row[0].set_ylabel("mean score", fontsize=9)
    figure.supxlabel("predicted score", fontsize=9)
    handles = [
        Line2D([], [], color=colour, ls=dash, marker=marker, markersize=4, label=_NAMES[belief])
        for belief, (colour, dash, marker) in _LOOKS.items()
    ]
    handles.append(Line2D([], [], color=_GREY, lw=0.9, ls="--", label="calibrated"))
    figure.legend(handles=handles, loc="outside right upper", frameon=False, fontsize=8.5)
    figure.suptitle(title, fontsize=10, x=0.01, ha="left")
    return figure


def draw_diagonal(axes: Axes) -> None:
    """Draws the axes of a reliability diagram with the diagonal of perfect calibration."""
    axes.plot([0, 1], [0, 1], color=_GREY, lw=0.9, ls="--", zorder=1)
    axes.set_xlim(-0.03, 1.03)
    axes.set_ylim(-0.03, 1.03)
    axes.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
    draw_plain(axes)


def draw_reliability(
    axes: Axes, predicted: ArrayLike, score: ArrayLike, low: ArrayLike, high: ArrayLike,
    **style: Any,
) -> None:  # fmt: skip
    """Draws one line of a diagram: mean scores over predictions, with their intervals."""
    look: dict[str, Any] = {"lw": 1.3, "marker": "o", "markersize": 3.2} | style
    axes.plot(
        np.asarray(predicted), np.asarray(score), markeredgecolor="white", markeredgewidth=0.3,
        zorder=3, **look,
    )  # fmt: skip
    axes.vlines(
        np.asarray(predicted), np.asarray(low), np.asarray(high), color=look["color"], lw=0.8,
        alpha=0.5, zorder=2,
    )  # fmt: skip


def draw_plain(axes: Axes) -> None:
    """Draws a faint grid and removes the upper and right spines."""
    axes.grid(color="#E6E6E6", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
