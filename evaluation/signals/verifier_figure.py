"""The figure of verifiers: reliability diagrams, and value over price."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from routing_pomdp.evaluation.plots.figures import COLOURS
from routing_pomdp.evaluation.policies.reliability_figure import (
    draw_diagonal,
    draw_plain,
    draw_reliability,
)
from routing_pomdp.evaluation.signals.verifier_study import Appraisal, Judgement

_MOST = 3  # verifiers drawn, those of the largest value

_GREY = "#767676"
_CHOICE, _ALWAYS, _FREE = "#0072B2", "#D55E00", "#56B4E9"
_PRICES = (0, 0.01, 0.1, 1, 10, 100)


def verifier_figure(judgements: Sequence[Judgement], title: str) -> Figure:
    """Columns of logs; for each verifier a row of reliability diagrams and one of values.

    A reliability diagram shows the signal as a probability, or calibrated on training queries if it
    is not one, in ten quantile bins of held-out queries per model. The panel below shows the
    verifier's value in the fitted model (by choice, always and free), its value for shuffled
    signals, and the gain of the policies on held-out queries with its interval.

    Args:
        judgements: evaluations of verifiers on logs.
        title: title of the figure.

    Raises:
        ValueError: there is no judgement.
    """
    if not judgements:
        raise ValueError("verifier figure: no verifier to show; expected at least one")
    logs = list(dict.fromkeys(judged.log for judged in judgements))
    names = _most_worth(judgements)
    size = (2.55 * len(logs) + 2.2, 4.5 * len(names) + 0.7)
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(2 * len(names), len(logs), squeeze=False, sharey="row")
    for axes in grid.flat:
        axes.set_visible(False)
    spans: dict[int, list[tuple[float, float]]] = {}
    for judged in judgements:
        if judged.verifier not in names:
            continue
        row, column = 2 * names.index(judged.verifier), logs.index(judged.log)
        above, below = grid[row, column], grid[row + 1, column]
        above.set_title(judged.log, loc="left", fontsize=10)
        _draw_reliability(above, judged)
        spans.setdefault(row + 1, []).append(_draw_value(below, judged.chain))
        first = all(not grid[row, c].get_visible() for c in range(column))
        for axes in (above, below):
            axes.set_visible(True)
        if first:
            above.set_ylabel(f"{judged.verifier}\n\nmean score", fontsize=9)
            below.set_ylabel("points of score gained", fontsize=9)
    for row, found in spans.items():
        grid[row, 0].set_ylim(min(low for low, _ in found), max(high for _, high in found))
    models = max((judged.models for judged in judgements), key=len)
    figure.legend(handles=_legend(models), loc="outside right upper", frameon=False, fontsize=8.5)
    hidden = len({judged.verifier for judged in judgements}) - len(names)
    title += f" (the {_MOST} of {hidden + _MOST} with the largest value)" * (hidden > 0)
    figure.suptitle(title, fontsize=11.5, x=0.01, ha="left")
    return figure


def _most_worth(judgements: Sequence[Judgement]) -> list[str]:
    """The verifiers to draw, by their largest value over logs and prices."""
    best: dict[str, float] = {}
    for judged in judgements:
        value = float(judged.chain.worth.value["choice"].max())
        best[judged.verifier] = max(best.get(judged.verifier, -np.inf), value)
    return sorted(best, key=lambda name: -best[name])[:_MOST]


def _draw_reliability(axes: Axes, judged: Judgement) -> None:
    draw_diagonal(axes)
    stands = any(quality and quality.as_it_stands for quality in judged.quality)
    for model, quality in enumerate(judged.quality):
        if quality is None:
            continue
        diagram = quality.as_it_stands if stands else quality.calibrated
        if diagram is None:
            continue
        # Two standard errors of a bin's mean score.
        spread = 2 * np.sqrt(diagram.score * (1 - diagram.score) / diagram.count)
        draw_reliability(
            axes, diagram.confidence, diagram.score, np.maximum(diagram.score - spread, 0),
            np.minimum(diagram.score + spread, 1), color=COLOURS[model % len(COLOURS)],
        )  # fmt: skip
    axes.set_xlabel("signal as a probability" if stands else "calibrated signal", fontsize=8)


def _draw_value(axes: Axes, appraisal: Appraisal) -> tuple[float, float]:
    """Draws values over prices; returns the limits of the vertical axis."""
    draw_plain(axes)
    worth = appraisal.worth
    prices = worth.prices
    choice, always, free = (100 * worth.value[bought] for bought in ("choice", "always", "free"))
    gain = appraisal.gain["choice"]
    axes.axhline(0, color="#303030", lw=0.7, zorder=1)
    for low, high in worth.pays["choice"]:
        end = min(high, prices[-1])
        if end > low:
            axes.axvspan(low, end, color=_CHOICE, alpha=0.07, lw=0, zorder=0)
    axes.fill_between(prices, 0, choice, color=_CHOICE, alpha=0.15, lw=0, zorder=1)
    axes.plot(prices, choice, color=_CHOICE, lw=1.8, zorder=4)
    axes.plot(prices, free, color=_FREE, lw=1.1, zorder=3)
    axes.plot(prices, always, color=_ALWAYS, lw=1.3, ls="--", zorder=5)
    axes.plot(prices, 100 * appraisal.noise, color=_GREY, lw=1.1, ls=":", zorder=3)
    middle, least, most = (100 * part for part in (gain.mean, gain.low, gain.high))
    # A mean may lie outside the interval of few resamples, which error bars do not allow.
    axes.vlines(prices, least, most, color="black", lw=0.7, zorder=6)
    axes.plot(prices, middle, ls="none", marker="o", color="black", markersize=2.6, zorder=6)
    positive = prices[prices > 0]
    if len(positive):
        axes.set_xscale("symlog", linthresh=float(positive[0]), linscale=0.5)
        # Between 0 and the first price there is room for no other.
        ticks = [p for p in _PRICES if p == 0 or positive[0] <= p <= prices[-1]]
        axes.xaxis.set_major_locator(FixedLocator(ticks))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlim(prices[0], prices[-1])
    # "always" is left out: its losses at high prices would flatten the other curves.
    shown = np.concatenate([choice, free, least, most])
    margin = 0.08 * max(float(np.ptp(shown)), 0.1)
    axes.set_xlabel("price λ", fontsize=8)
    return float(shown.min()) - margin, float(shown.max()) + margin


def _legend(models: Sequence[str]) -> list[Artist]:
    handles: list[Artist] = [
        Line2D([], [], color=COLOURS[i % len(COLOURS)], marker="o", markersize=4, label=model)
        for i, model in enumerate(models)
    ]
    handles.append(Line2D([], [], color=_GREY, lw=0.9, ls="--", label="calibrated"))
    handles.append(Line2D([], [], lw=0, label=" "))
    handles.append(Line2D([], [], color=_CHOICE, lw=1.8, label="value, bought by choice"))
    handles.append(Line2D([], [], color=_ALWAYS, lw=1.3, ls="--", label="value, bought always"))
    handles.append(Line2D([], [], color=_FREE, lw=1.1, label="value, if free"))
    handles.append(Patch(color=_CHOICE, alpha=0.12, label="pays"))
    handles.append(Line2D([], [], color=_GREY, lw=1.1, ls=":", label="value of shuffled signals"))
    handles.append(
        Line2D([], [], color="black", lw=0.7, marker="o", markersize=3, label="gain on test")
    )
    return handles
