"""Model regret of search solvers as a function of their number of simulations."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from routing_pomdp.envs import RoutingPOMDP
from routing_pomdp.envs.arrays import FloatArray
from routing_pomdp.evaluation.evaluate import model_value
from routing_pomdp.solvers import Exact, Policy

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from routing_pomdp.evaluation.plots.figures import Style

_SMALLEST = 1e-4  # the scale is linear below it, down to 0


@dataclass(frozen=True, eq=False)
class RegretCurve:
    """The regret of one search solver on one problem.

    Attributes:
        label: name of the solver.
        simulations: ``(k,)`` simulations per plan, ascending.
        regret: ``(k, M)`` exact value minus the policy's value, in score, at each price.
    """

    label: str
    simulations: Sequence[int]
    regret: FloatArray


def regret_curve(
    label: str,
    search: Callable[[int, float], Policy],
    problem: RoutingPOMDP,
    simulations: Sequence[int],
    prices: Sequence[float],
) -> RegretCurve:
    """The regret of a search solver inside a model.

    Args:
        label: name of the solver.
        search: gives the policy for a number of simulations and a price.
        problem: the finite model in which policies are evaluated.
        simulations: the numbers of simulations.
        prices: the prices for each number.
    """
    best = Exact().solve_frontier(problem, prices)
    regret = [
        [
            exact.value - model_value(search(n, price), problem.at(price))
            for price, exact in zip(prices, best, strict=True)
        ]
        for n in simulations
    ]
    # Rounding can make the regret of an optimal policy negative.
    return RegretCurve(label, tuple(simulations), np.maximum(np.array(regret), 0.0))


def regret_figure(
    curves: Mapping[str, Sequence[RegretCurve]], title: str, target: float = 0.005
) -> Figure:
    """One panel per problem: a line for the mean over prices, an area up to the worst price.

    Args:
        curves: at least one for each problem.
        title: title of the figure.
        target: a regret to mark by a dotted line.

    Raises:
        ValueError: there is nothing to draw.
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    from routing_pomdp.evaluation.plots.figures import styles

    if not curves or not all(curves.values()):
        raise ValueError("regret figure: no curve; expected at least one for each problem")
    columns = min(3, len(curves))
    rows = -(-len(curves) // columns)
    figure = Figure(figsize=(2.7 * columns + 2.0, 2.3 * rows + 0.6), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    looks = styles(curve.label for panel in curves.values() for curve in panel)
    most = max(float(curve.regret.max()) for panel in curves.values() for curve in panel)
    for axes in grid.flat[len(curves) :]:
        axes.set_visible(False)
    for axes, (name, panel) in zip(grid.flat, curves.items(), strict=False):
        _draw(axes, panel, looks, max(most, target), target)
        axes.set_title(name, loc="left", fontsize=9)
    for column in range(columns):
        # The lowest panel of a column shows the axis.
        lowest = [axes for axes in grid[:, column] if axes.get_visible()][-1]
        lowest.tick_params(labelbottom=True)
    figure.supxlabel("simulations per plan", fontsize=10)
    figure.supylabel("model regret, in score", fontsize=10)
    handles: list[Artist] = [look.handle(label) for label, look in looks.items()]
    handles.append(Patch(color="#B0B0B0", alpha=0.4, lw=0, label="up to the worst price"))
    figure.legend(handles=handles, loc="outside right upper", frameon=False, fontsize=8)
    figure.suptitle(title, fontsize=10, x=0.01, ha="left")
    return figure


def _draw(
    axes: Axes, panel: Sequence[RegretCurve], looks: dict[str, Style], most: float, target: float
) -> None:
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    for curve in panel:
        look, mean = looks[curve.label], curve.regret.mean(axis=1)
        axes.fill_between(
            curve.simulations, mean, curve.regret.max(axis=1), color=look.colour, alpha=0.12, lw=0
        )
        axes.plot(
            curve.simulations, mean, color=look.colour, ls=look.dash, marker=look.marker,
            markersize=4, lw=1.6, clip_on=False,
        )  # fmt: skip
    axes.axhline(target, color="#767676", ls=":", lw=1)
    axes.set_xscale("log")
    axes.set_yscale("symlog", linthresh=_SMALLEST, linscale=0.5)
    axes.set_ylim(0, 1.5 * most)
    axes.yaxis.set_major_locator(FixedLocator([0, 1e-4, 1e-3, target, 1e-2, 1e-1]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_locator(NullLocator())
    points = sorted({n for curve in panel for n in curve.simulations})
    axes.xaxis.set_major_locator(FixedLocator(points))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.tick_params(labelsize=7.5)
    axes.grid(color="#E6E6E6", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
