"""One panel for readers who have never seen a frontier: a router, mixing, and the single models."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FuncFormatter, MaxNLocator

from routing_pomdp.evaluation.frontier import height
from routing_pomdp.evaluation.plots.figures import COLOURS
from routing_pomdp.evaluation.plots.panels import Panel

_GREY = "#5F5F5F"


def headline_figure(panel: Panel, title: str, *, share_right: bool, level: float = 0.95) -> Figure:
    """A router's frontier with its confidence band above random mixing of the single models.

    The arrow stands where the router is farthest above mixing.

    Args:
        panel: of one curve, with its band.
        title: of the figure.
        share_right: whether scores are 0 or 1, so that a mean score is a share of right answers.
        level: of the band.

    Raises:
        ValueError: no curve or more than one, or a curve without its band.
    """
    curve = panel.curves[0] if len(panel.curves) == 1 else None
    if curve is None or (band := curve.band) is None:
        raise ValueError(
            f"headline figure: {len(panel.curves)} curves; expected one, with its confidence band"
        )
    figure = Figure(figsize=(7.6, 4.7), layout="constrained")
    axes = figure.subplots()
    low, high = panel.window
    cost = np.unique(np.concatenate([np.linspace(low, high, 400), curve.frontier.cost]))
    cost = cost[(cost >= max(low, curve.frontier.cost[0])) & (cost <= high)]
    router, mixing = height(curve.frontier, cost), height(panel.static, cost)
    axes.fill_between(*band, color=COLOURS[0], alpha=0.18, lw=0)
    axes.plot(cost, router, color=COLOURS[0], lw=2.4)
    axes.plot(cost, mixing, color=_GREY, lw=1.6, ls="--")
    halo = [withStroke(linewidth=3, foreground="white")]
    points = sorted(panel.models, key=lambda model: model.cost)
    axes.plot(
        [model.cost for model in points], [model.score for model in points], ls="none",
        marker="o", ms=7, color="white", markeredgecolor="black", zorder=5, clip_on=False,
    )  # fmt: skip
    for model in points:
        last = model.cost > low + 0.8 * (high - low)
        axes.annotate(
            f"always {model.name}", (model.cost, model.score),
            xytext=(0, 10) if last else (10, -14), textcoords="offset points",
            ha="right" if last else "left", fontsize=10, path_effects=halo, zorder=6,
        )  # fmt: skip
    # Where the arrow stands, there is room for both labels to its right.
    inside = (cost > low + 0.05 * (high - low)) & (cost < low + 0.5 * (high - low))
    at = int(np.argmax(np.where(inside, router - mixing, -np.inf)))
    axes.annotate(
        "", (cost[at], router[at]), xytext=(cost[at], mixing[at]),
        arrowprops={"arrowstyle": "<->", "color": "black", "lw": 1.1, "shrinkA": 0, "shrinkB": 0},
    )  # fmt: skip
    points_more = 100 * (router[at] - mixing[at])
    axes.annotate(
        f"{points_more:+.1f} points at the same cost", (cost[at], (router[at] + mixing[at]) / 2),
        xytext=(7, 0), textcoords="offset points", va="center", fontsize=10, path_effects=halo,
    )  # fmt: skip
    right = low + 0.6 * (high - low)
    axes.annotate(
        f"routing ({curve.label}), {level:.0%} interval",
        (right, float(np.interp(right, *band[[0, 2]]))), xytext=(0, 5),
        textcoords="offset points", ha="center", va="bottom", fontsize=10.5, color=COLOURS[0],
        path_effects=halo,
    )  # fmt: skip
    axes.annotate(
        "single models, mixed at random",
        (right, float(height(panel.static, right))), xytext=(0, -9), textcoords="offset points",
        ha="left", va="top", fontsize=10.5, color=_GREY, path_effects=halo,
    )  # fmt: skip
    axes.set_title(title, loc="left", fontsize=11)
    axes.set_xlabel(f"mean cost of a query ({panel.unit})")
    axes.set_ylabel("questions answered right" if share_right else "mean score")
    if share_right:
        axes.yaxis.set_major_locator(MaxNLocator(steps=[1, 2, 5, 10]))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.0f}%"))
    axes.margins(x=0.02, y=0.1)
    axes.grid(color="#E6E6E6", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    return figure
