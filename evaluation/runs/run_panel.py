"""The panel of a figure for one run, or for several that can be compared."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from routing_pomdp.evaluation.bootstrap import frontier_band
from routing_pomdp.evaluation.plots.panels import Curve, ModelPoint, Panel
from routing_pomdp.evaluation.runs.run_folder import Run

# More confidence bands would hide each other.
_BANDS = 3


def panel(row: str, column: str, runs: Mapping[str, Run]) -> Panel:
    """The frontiers of runs that can be compared.

    Args:
        row: the data set and other keys of the setting.
        column: the costs.
        runs: the runs by label.
    """
    curves = []
    for label, run in sorted(runs.items()):
        outcomes = run.outcomes()
        means = outcomes.means()
        band = None
        if len(runs) <= _BANDS:
            cost = np.linspace(means.slm.cost, means.llm.cost, 40)
            level = run.about["config"]["evaluation"]["level"]
            band = np.stack([cost, *frontier_band(outcomes, cost, resamples=300, level=level)])
        curves.append(Curve(label, means.router_frontier(), means.cost, means.score, band))
    models = [ModelPoint(m["name"], m["cost"], m["score"]) for m in run.models]
    return Panel(
        row,
        column,
        curves,
        means.static_frontier(),
        means.oracle_frontier(),
        models,
        unit_of(next(iter(runs.values()))),
    )


def shown_costs(about: Mapping[str, Any]) -> str:
    """A run's costs as text: a cost ratio, "logged", or an objective with its unit."""
    label = str(about["costs"])
    if is_ratio(label):
        return f"1:{label}"
    return label if label == "logged" else f"{label} ({about['unit']})"


def unit_of(run: Run) -> str:
    """The unit of a run's costs; old runs have none."""
    return str(run.about.get("unit", "cost unit of the log"))


def is_ratio(label: str) -> bool:
    """Whether a run's costs are given by a cost ratio."""
    try:
        float(label)
    except ValueError:
        return False
    return True
