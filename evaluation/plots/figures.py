"""Figures in the cost–quality plane: one for a comparison, small multiples for a sweep.

They use matplotlib's objects without pyplot, so that drawing leaves no global state and needs no
display. Callers import this module only to draw, since matplotlib is slow to import.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from routing_pomdp.envs.arrays import FloatArray
from routing_pomdp.envs.files.atomic import replacing
from routing_pomdp.evaluation.frontier import Frontier, height
from routing_pomdp.evaluation.plots.panels import Curve, ModelPoint, Panel, check_panels

# Okabe & Ito (2008), distinct under every common colour blindness, without yellow, which is too
# faint on white. Black is the oracle's and grey random mixing's.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "h")
_GREY = "#767676"
_DIRECT_LABELS = 4


@dataclass(frozen=True)
class Style:
    """Colour, marker and dash of one solver, the same in every panel."""

    colour: str
    marker: str
    dash: str

    def handle(self, label: str) -> Line2D:
        """Its entry in a legend."""
        return Line2D(
            [], [], color=self.colour, marker=self.marker, ls=self.dash, markersize=5, label=label
        )


def frontier_figure(
    curves: Sequence[Curve],
    static: Frontier,
    oracle: Frontier,
    models: Sequence[ModelPoint],
    title: str,
    *,
    cost_unit: str = "cost unit of the log",
    score_name: str = "score",
    log_cost: bool = False,
) -> Figure:
    """Frontiers of several solvers with the single models, random mixing and the oracle.

    The figure spans the window of AIQ, from always-``M_0`` to always-``M_{N-1}``. Solid lines are
    frontiers, faint markers all operating points, and faint areas confidence bands. A note in the
    corner counts the points beyond the window.

    Args:
        curves: one per solver; up to four are labelled at their lines, more in a legend.
        static: hull of the single models.
        oracle: the oracle's frontier.
        models: the single models, cheapest first.
        title: title of the figure.
        cost_unit: unit of the cost axis, such as "USD".
        score_name: name of the score axis, such as "accuracy".
        log_cost: whether the cost axis is logarithmic; mixing is then a curve.

    Raises:
        ValueError: there are no models, or a logarithmic axis and a cost that is not positive.
    """
    panel = Panel("", "", curves, static, oracle, models)
    check_panels([panel], log_cost)
    direct = len(curves) <= _DIRECT_LABELS
    figure = Figure(figsize=(7.2, 4.6), layout="constrained")
    axes = figure.subplots()
    looks = styles(curve.label for curve in curves)
    _draw(axes, panel, looks, log_cost)
    _name_models(axes, panel)
    axes.set_title(title, loc="left", fontsize=11)
    axes.set_xlabel(f"mean cost per query ({cost_unit})")
    axes.set_ylabel(f"mean {score_name}")
    if direct:
        _label_lines(axes, panel, looks)
    else:
        figure.legend(handles=_legend(looks), loc="outside right upper", frameon=False, fontsize=9)
    return figure


def sweep_figure(
    panels: Sequence[Panel],
    title: str = "",
    *,
    score_name: str = "score",
    log_cost: bool = False,
) -> Figure:
    """Small multiples of ``frontier_figure``: rows by columns in the order of first appearance.

    A solver has the same colour and marker in every panel. A cell without a panel stays empty. The
    unit of costs is shown at each panel if units differ, otherwise at the figure.

    Args:
        panels: at most one for each cell.
        title: title of the figure.
        score_name: name of the score axes.
        log_cost: whether the cost axes are logarithmic.

    Raises:
        ValueError: there is no panel, two panels are in one cell, a panel has no models, or a
            cost on a logarithmic axis is not positive.
    """
    check_panels(panels, log_cost)
    rows = list(dict.fromkeys(panel.row for panel in panels))
    columns = list(dict.fromkeys(panel.column for panel in panels))
    size = (2.5 * len(columns) + 1.7, 2.1 * len(rows) + 0.9)
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(len(rows), len(columns), squeeze=False, sharey="row")
    looks = styles(curve.label for panel in panels for curve in panel.curves)
    for axes in grid.flat:
        axes.set_visible(False)
    for panel in panels:
        axes = grid[rows.index(panel.row), columns.index(panel.column)]
        axes.set_visible(True)
        _draw(axes, panel, looks, log_cost, small=True)
        axes.set_title(f"{panel.row} · {panel.column}", loc="left", fontsize=9)
        axes.tick_params(labelsize=8)
        if any(other.unit != panel.unit for other in panels):
            axes.set_xlabel(panel.unit, fontsize=8)
    units = list(dict.fromkeys(panel.unit for panel in panels))
    common = f" ({units[0]})" if len(units) == 1 else ""
    figure.supxlabel(f"mean cost per query{common}", fontsize=10)
    figure.supylabel(f"mean {score_name}", fontsize=10)
    if title:
        figure.suptitle(title, fontsize=11)
    figure.legend(handles=_legend(looks), loc="outside right upper", frameon=False, fontsize=9)
    return figure


def save_figure(fig: Figure, stem: Path | str) -> tuple[Path, Path]:
    """Writes ``stem.png`` (150 dpi) and ``stem.svg``, with their folder; returns both paths.

    The SVG has no date and no random ids: equal figures give equal files.
    """
    stem = Path(stem)
    stem.parent.mkdir(parents=True, exist_ok=True)
    # Not with_suffix: it would cut a stem such as "mmlu-ratio-0.5" at its last dot.
    png, svg = (stem.with_name(f"{stem.name}.{kind}") for kind in ("png", "svg"))
    with replacing(png) as file:
        fig.savefig(file, format="png", dpi=150)
    with replacing(svg) as file, matplotlib.rc_context({"svg.hashsalt": "frontier"}):
        fig.savefig(file, format="svg", metadata={"Date": None})
    return png, svg


def _draw(
    axes: Axes, panel: Panel, looks: dict[str, Style], log_cost: bool, small: bool = False
) -> None:
    thin = 0.8 if small else 1.0
    models = [model.cost for model in panel.models]
    if log_cost:
        axes.set_xscale("log")
    _line(axes, panel, panel.oracle, color="black", linewidth=thin, zorder=2)
    _line(axes, panel, panel.static, color=_GREY, linewidth=1.2 * thin, ls="--", zorder=2)
    for curve in panel.curves:
        style = looks[curve.label]
        colour = style.colour
        if curve.band is not None:
            axes.fill_between(*curve.band, color=colour, alpha=0.1, lw=0, zorder=1)
        _line(axes, panel, curve.frontier, color=colour, lw=1.9 * thin, ls=style.dash, zorder=4)
        axes.plot(
            curve.cost, curve.score, ls="none", marker=style.marker, color=colour,
            markersize=3 if small else 4.5, alpha=0.6, markeredgewidth=0, zorder=3,
        )  # fmt: skip
    axes.plot(
        models, [model.score for model in panel.models],
        ls="none", marker="*", markersize=7 if small else 11, color="white",
        markeredgecolor="black", markeredgewidth=thin, zorder=5,
    )  # fmt: skip
    left = min(models + [float(np.min(curve.cost)) for curve in panel.curves])
    right = max(models)
    if log_cost:
        margin = (right / left) ** 0.03
        axes.set_xlim(left / margin, right * margin)
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 3.0)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
    else:
        margin = 0.03 * (right - left)
        axes.set_xlim(left - margin, right + margin)
        axes.ticklabel_format(axis="x", scilimits=(-3, 5), useMathText=True)
    beyond = sum(int((curve.cost > axes.get_xlim()[1]).sum()) for curve in panel.curves)
    if beyond:
        axes.annotate(
            f"more expensive points not shown: {beyond}", (0.99, 0.02), xycoords="axes fraction",
            ha="right", fontsize=6.5 if small else 8, color=_GREY,
        )  # fmt: skip
    axes.grid(color="#E6E6E6", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _line(axes: Axes, panel: Panel, hull: Frontier, **style: Any) -> None:
    low, high = max(panel.window[0], float(hull.cost[0])), panel.window[1]
    if low >= high:
        return
    # The points between the vertices make mixing a curve on a logarithmic axis.
    between = np.geomspace(low, high, 200) if low > 0 else np.linspace(low, high, 200)
    inside = hull.cost[(hull.cost > low) & (hull.cost < high)]
    cost = np.unique(np.concatenate([[low, high], between[1:-1], inside]))
    axes.plot(cost, height(hull, cost), **style)


def _name_models(axes: Axes, panel: Panel) -> None:
    to_axes = axes.transData + axes.transAxes.inverted()
    for model in panel.models:
        # Towards the middle of the figure, so that names stay inside.
        left = to_axes.transform((model.cost, model.score))[0] < 0.6
        axes.annotate(
            model.name, (model.cost, model.score), xytext=(6, -11) if left else (-6, 7),
            ha="left" if left else "right", textcoords="offset points", fontsize=8.5, zorder=6,
            color="#303030", path_effects=[withStroke(linewidth=2.5, foreground="white")],
        )  # fmt: skip


def _label_lines(axes: Axes, panel: Panel, looks: dict[str, Style]) -> None:
    lines = [(curve.label, curve.frontier, looks[curve.label]) for curve in panel.curves]
    lines.append(("oracle", panel.oracle, Style("black", "", "-")))
    lines.append(("random mixing", panel.static, Style(_GREY, "", "--")))
    lines.sort(key=lambda line: float(height(line[1], panel.window[1])))
    bottom, top = axes.get_ylim()
    ends = np.array([float(height(hull, panel.window[1])) for _, hull, _ in lines])
    beside = axes.get_yaxis_transform()
    heights = _apart(ends, 0.05 * (top - bottom))
    for (label, _, style), y in zip(lines, heights, strict=True):
        axes.plot(
            [1.015, 1.035, 1.055], [y] * 3, transform=beside, clip_on=False, lw=1.5,
            color=style.colour, ls=style.dash, marker=style.marker, markevery=[1], markersize=5,
        )  # fmt: skip
        axes.annotate(
            label, (1.065, y), xycoords=beside, va="center", fontsize=9, color=style.colour,
            annotation_clip=False,
        )  # fmt: skip
    axes.set_ylim(bottom, top)


def _apart(heights: FloatArray, gap: float) -> FloatArray:
    """Increasing heights moved as little as possible (least squares) to be ``gap`` apart."""
    steps = gap * np.arange(len(heights))
    free = heights - steps
    # Isotonic regression by its min–max formula; there are only a few labels.
    count = range(len(free))
    moved = [
        max(min(free[j : k + 1].mean() for k in count[i:]) for j in count[: i + 1]) for i in count
    ]
    return np.array(moved) + steps


def styles(labels: Iterable[str]) -> dict[str, Style]:
    """A style for each label, in the order of first appearance."""
    return {
        label: Style(
            colour=COLOURS[i % len(COLOURS)],
            marker=_MARKERS[i % len(_MARKERS)],
            dash=("-", "-.", ":")[i // len(COLOURS) % 3],
        )
        for i, label in enumerate(dict.fromkeys(labels))
    }


def _legend(looks: dict[str, Style]) -> list[Artist]:
    handles: list[Artist] = [look.handle(label) for label, look in looks.items()]
    handles.append(Line2D([], [], color="black", linewidth=1.0, label="oracle"))
    handles.append(Line2D([], [], color=_GREY, linewidth=1.2, ls="--", label="random mixing"))
    handles.append(
        Line2D([], [], color="white", marker="*", markeredgecolor="black", markersize=10,
               label="single models")
    )  # fmt: skip
    return handles
