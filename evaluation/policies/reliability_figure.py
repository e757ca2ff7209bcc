"""Reliability diagrams: what was held likely against what was so."""

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
_NAMES = {LEARNED: "learned belief", FITTED: "the fitted model's"}
# More panels than these in a row would not fit a page.
_COLUMNS = 5


def belief_figure(
    rows: Sequence[Mapping[str, Any]],
    diagrams: Mapping[str, Sequence[Mapping[str, Any]]],
    models: Sequence[str],
    title: str,
) -> Figure:
    """A panel a model: a learned belief and the fitted problem's at all places of test queries.

    Points are bins of equally many beliefs, upright lines the intervals of their mean scores; in
    the corner stands the expected calibration error of each.

    Args:
        rows: as of `BeliefQuality`.
        diagrams: as of `BeliefQuality`.
        models: their names, cheapest first.
        title: of the figure.
    """
    columns = min(_COLUMNS, len(models))
    lines = -(-len(models) // columns)
    figure = Figure(figsize=(2.3 * columns + 2.0, 2.35 * lines + 0.7), layout="constrained")
    grid = figure.subplots(lines, columns, squeeze=False, sharex=True, sharey=True)
    error = {(row["belief"], row["model"]): row["error"] for row in rows}
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
                0.97, 0.12 - 0.09 * line, f"error {error[belief, model]:.3f}", fontsize=7.5,
                color=colour, ha="right", transform=axes.transAxes,
            )  # fmt: skip
        axes.set_title(model, loc="left", fontsize=9)
    for row in grid:
        row[0].set_ylabel("mean score", fontsize=9)
    figure.supxlabel("believed", fontsize=9)
    handles = [
        Line2D([], [], color=colour, ls=dash, marker=marker, markersize=4, label=_NAMES[belief])
        for belief, (colour, dash, marker) in _LOOKS.items()
    ]
    handles.append(Line2D([], [], color=_GREY, lw=0.9, ls="--", label="calibrated"))
    figure.legend(handles=handles, loc="outside right upper", frameon=False, fontsize=8.5)
    figure.suptitle(title, fontsize=10, x=0.01, ha="left")
    return figure


def draw_diagonal(axes: Axes) -> None:
    """Axes of a reliability diagram, with the line on which what is calibrated lies."""
    axes.plot([0, 1], [0, 1], color=_GREY, lw=0.9, ls="--", zorder=1)
    axes.set_xlim(-0.03, 1.03)
    axes.set_ylim(-0.03, 1.03)
    axes.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
    draw_plain(axes)


def draw_reliability(
    axes: Axes, held: ArrayLike, score: ArrayLike, low: ArrayLike, high: ArrayLike, **style: Any
) -> None:
    """One line of a diagram: mean scores over what was held likely, with their intervals."""
    look: dict[str, Any] = {"lw": 1.3, "marker": "o", "markersize": 3.2} | style
    axes.plot(
        np.asarray(held), np.asarray(score), markeredgecolor="white", markeredgewidth=0.3, zorder=3,
        **look,
    )  # fmt: skip
    axes.vlines(
        np.asarray(held), np.asarray(low), np.asarray(high), color=look["color"], lw=0.8,
        alpha=0.5, zorder=2,
    )  # fmt: skip


def draw_plain(axes: Axes) -> None:
    """A faint grid, and no more frame than is needed."""
    axes.grid(color="#E6E6E6", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
