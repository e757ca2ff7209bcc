"""Figures of fitted observation likelihoods over their training data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from routing_pomdp.envs import RoutingData, RoutingPOMDP
from routing_pomdp.envs.arrays import FloatArray, IntArray
from routing_pomdp.evaluation.plots.figures import COLOURS
from routing_pomdp.verifiers.observation.scale import LogitScale

_GREY = "#767676"
_BINS = 24  # of the histogram under a density


@runtime_checkable
class _HasDensity(Protocol):
    """An observation model with a density on the logit scale, see `DensityObservation`."""

    scale_: list[LogitScale]

    def density(self, model: int, signal: FloatArray) -> FloatArray: ...


def likelihood_figure(
    problem: RoutingPOMDP, train: RoutingData, models: Sequence[str], title: str
) -> Figure:
    """One column per model; colours are levels of its own score.

    The upper panels show the symbols of the finite model: bars are shares of the training queries
    of a level, points the fitted likelihood ``Z``. Under "joint" conditioning, where a level has
    many likelihoods, a point is their mean under the prior and the vertical line their range over
    the score vectors with at least a thousandth of the level's prior. If the observation model has
    densities, the lower panels show the data on the logit scale and the mean fitted density.

    Args:
        problem: fitted to ``train`` with an observation model.
        train: the training queries.
        models: names of the models, cheapest first.
        title: title of the figure.

    Raises:
        ValueError: the problem has no observation model.
    """
    observation = problem.observation
    if observation is None:
        raise ValueError("likelihood figure: the problem has no observation model; fit one")
    # A density says nothing of query classes.
    dense = isinstance(observation, _HasDensity) and problem.member is None
    columns = problem.n_models - 1
    size = (2.4 * columns + 1.9, 2.3 * (1 + dense) + 0.8)
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(1 + dense, columns, squeeze=False)
    for model in range(columns):
        level, of_vector, values = _levels(problem, train, model)
        _draw_symbols(grid[0, model], problem, train, model, level, of_vector)
        grid[0, model].set_title(models[model], loc="left", fontsize=9)
        if dense:
            _draw_density(grid[1, model], problem, train, model, level, of_vector)
    top = max(axes.get_ylim()[1] for axes in grid[0])
    for axes in grid[0]:
        axes.set_ylim(0, top)
    grid[0, 0].set_ylabel("share of queries", fontsize=8.5)
    if dense:
        grid[1, 0].set_ylabel("density per logit", fontsize=8.5)
    figure.legend(handles=_legend(values), loc="outside right upper", frameon=False, fontsize=8.5)
    figure.suptitle(title, fontsize=10.5, x=0.01, ha="left")
    return figure


def _levels(
    problem: RoutingPOMDP, train: RoutingData, model: int
) -> tuple[IntArray, IntArray, FloatArray]:
    """Level of each training query ``(n,)``, of each score vector ``(S,)``, and levels' values."""
    values, of_vector = np.unique(problem.score[:, model], return_inverse=True)
    # A score belongs to the level with the nearest value.
    level = np.abs(train.score[:, model][:, None] - values).argmin(axis=1)
    return level, of_vector.ravel(), values


def _weights(problem: RoutingPOMDP, of_vector: IntArray, level: int) -> FloatArray:
    """``(S,)`` the prior of score vectors given a level of one model."""
    weight = np.where(of_vector == level, problem.prior, 0.0)
    return weight / weight.sum()


def _draw_symbols(
    axes: Axes,
    problem: RoutingPOMDP,
    train: RoutingData,
    model: int,
    level: IntArray,
    of_vector: IntArray,
) -> None:
    symbol = problem.symbols(model, train.signal[:, model])
    likelihood = problem.likelihood[model]
    # A signal of few values leaves bins empty.
    used = np.flatnonzero(likelihood.sum(axis=0) > 0)
    levels = int(of_vector.max()) + 1
    place, width = np.arange(len(used)), 0.84 / levels
    for k in range(levels):
        at = place + (k - (levels - 1) / 2) * width
        colour = _colour(k, levels)
        of_level = symbol[level == k]
        share = np.bincount(of_level, minlength=likelihood.shape[1])[used] / max(len(of_level), 1)
        axes.bar(at, share, width, color=colour, alpha=0.3, lw=0, zorder=2)
        weight = _weights(problem, of_vector, k)
        likely = likelihood[:, used]
        axes.plot(
            at, weight @ likely, color=colour, lw=1.2, marker="o", markersize=3.4, zorder=4,
        )  # fmt: skip
        seen = likely[weight >= 1e-3]
        if len(seen):
            axes.vlines(at, seen.min(axis=0), seen.max(axis=0), color=colour, lw=0.9, zorder=3)
    typical = problem.representative[model, used]
    labels = [_number(row[0]) for row in typical] if typical.shape[1] == 1 else place + 1
    axes.set_xticks(place, labels, rotation=60, ha="right", rotation_mode="anchor")
    axes.set_xlabel("symbol (its typical signal)" if typical.shape[1] == 1 else "symbol",
                    fontsize=8)  # fmt: skip
    _plain(axes)


def _draw_density(
    axes: Axes,
    problem: RoutingPOMDP,
    train: RoutingData,
    model: int,
    level: IntArray,
    of_vector: IntArray,
) -> None:
    observation: Any = problem.observation
    scale: LogitScale = observation.scale_[model]
    z = scale(train.signal[:, model, 0])
    z, level = z[~np.isnan(z)], level[~np.isnan(z)]  # a missing signal has no density
    if not len(z):
        _plain(axes)
        return
    low, high = float(z.min()), float(z.max())
    margin = 0.1 * (high - low) + 0.5
    grid = np.linspace(low - margin, high + margin, 300)
    # The logit scale is clipped at ±16.
    grid = grid[(grid > -16) & (grid < 16)]
    density = observation.density(model, scale.inverse(grid)[:, None])
    levels = int(of_vector.max()) + 1
    for k in range(levels):
        colour = _colour(k, levels)
        of_level = z[level == k]
        if len(of_level):
            axes.hist(
                of_level, bins=_BINS, range=(low, high + 1e-9), density=True, color=colour,
                alpha=0.28, lw=0,
            )  # fmt: skip
        weight = _weights(problem, of_vector, k)
        axes.plot(grid, density @ weight, color=colour, lw=1.6, zorder=4)
    axes.set_xlabel({"real": "signal, standardised"}.get(scale.kind, "logit of the signal"),
                    fontsize=8)  # fmt: skip
    _plain(axes)


def _colour(level: int, levels: int) -> str:
    """The colour of a level: vermilion for wrong, blue for right, other colours between."""
    if level == 0:
        return COLOURS[1]
    return COLOURS[0] if level == levels - 1 else COLOURS[2 + (level - 1) % (len(COLOURS) - 2)]


def _number(value: float) -> str:
    return "missing" if np.isnan(value) else f"{value:.2g}"


def _plain(axes: Axes) -> None:
    axes.grid(axis="y", color="#E6E6E6", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=7.5)
    axes.spines[["top", "right"]].set_visible(False)


def _legend(values: FloatArray) -> list[Artist]:
    names = [f"score {value:.2g}" for value in values]
    if len(values) == 2:
        names = ["wrong", "right"]
    handles: list[Artist] = [
        Patch(color=_colour(k, len(values)), label=name) for k, name in enumerate(names)
    ]
    handles.append(Patch(color=_GREY, alpha=0.3, label="training queries"))
    handles.append(Line2D([], [], color=_GREY, lw=1.4, marker="o", markersize=3.4, label="fitted"))
    return handles
