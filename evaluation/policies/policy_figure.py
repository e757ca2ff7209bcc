"""Figures of policy maps: shares of actions by stage and signal bin."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from textwrap import fill
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from routing_pomdp.evaluation.plots.figures import COLOURS
from routing_pomdp.evaluation.policies.policy_map import PolicyMap

_STAY: dict[str, Any] = {"color": "#D9D9D9"}
_VERIFY: dict[str, Any] = {
    "facecolor": "white",
    "edgecolor": "#303030",
    "hatch": "////",
    "linewidth": 0.4,
}


def policy_figure(maps: Mapping[str, PolicyMap], models: Sequence[str], title: str) -> Figure:
    """Rows of solvers by columns of stages; each bar is one bin of the signal, lowest first.

    The colours of a bar are the shares of actions; a bin that was never reached stays empty. The
    last bar, set apart, is for answers that were not verified. The number above a panel counts the
    solver's decisions at that stage.

    Args:
        maps: by solver, all of the same models and bins.
        models: names of the models, cheapest first.
        title: title of the figure.

    Raises:
        ValueError: no map has a decision, or maps have different shapes.
    """
    shapes = {policy_map.count.shape for policy_map in maps.values()}
    if len(shapes) > 1:
        raise ValueError(
            f"policy figure: maps have shapes {sorted(shapes)}; expected the same models and bins"
        )
    stages = [i for i in range(len(models)) if any(m.count[i].any() for m in maps.values())]
    if not stages:
        raise ValueError("policy figure: no decision to show; expected at least one")
    size = (1.5 * len(stages) + 2.6, 0.95 * len(maps) + 1.2)
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(len(maps), len(stages), squeeze=False, sharex=True, sharey=True)
    for row, (label, policy_map) in zip(grid, maps.items(), strict=True):
        row[0].set_ylabel(label, rotation=0, ha="right", va="center", fontsize=9)
        for axes, stage in zip(row, stages, strict=True):
            _draw(axes, policy_map, stage)
    for axes, stage in zip(grid[0], stages, strict=True):
        where = "start" if stage == 0 else f"at {models[stage - 1]}"
        axes.set_title(f"{where}\n{axes.get_title()}", fontsize=8)
    handles = [Patch(**_STAY, label="return the answer")]
    handles += [
        Patch(color=COLOURS[j % len(COLOURS)], label=f"call {model}")
        for j, model in enumerate(models)
    ]
    handles.append(Patch(**_VERIFY, label="verify"))
    figure.legend(handles=handles, loc="outside right center", frameon=False, fontsize=8)
    figure.supxlabel("signal, lowest to highest bin; apart: not verified", fontsize=9)
    # The layout makes room for a title's lines and not for its length.
    figure.suptitle(fill(title, int(11 * size[0])), fontsize=10, x=0.01, ha="left")
    return figure


def _draw(axes: Axes, policy_map: PolicyMap, stage: int) -> None:
    shares = np.nan_to_num(policy_map.shares[stage])
    bins, n = shares.shape[0] - 1, shares.shape[1] - 1
    x = np.arange(bins + 1.0)
    x[-1] += 0.7
    bottom = np.zeros(bins + 1)
    # From the bottom: return the answer, call each later model, verify.
    for done in range(max(stage - 1, 0), n + 1):
        colour: dict[str, Any] = {"color": COLOURS[done % len(COLOURS)]}
        style = _VERIFY if done == n else _STAY if done == stage - 1 else colour
        axes.bar(x, shares[:, done], 0.92, bottom, **style)
        bottom += shares[:, done]
    axes.set_title(f"{policy_map.count[stage].sum():,}", fontsize=7, color="#606060", pad=2)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_ylim(0, 1)
    axes.spines[["top", "right", "left"]].set_visible(False)
