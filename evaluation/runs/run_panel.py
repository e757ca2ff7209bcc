"""The frontier of one run, or of several that can be compared, as plain values for a figure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from routing_pomdp.evaluation.bootstrap import frontier_band
from routing_pomdp.evaluation.plots.panels import Curve, ModelPoint, Panel
from routing_pomdp.evaluation.runs.run_folder import Run

# More confidence bands than this hide each other.
_BANDS = 3


def panel(row: str, column: str, runs: Mapping[str, Run]) -> Panel:
    """The frontiers of runs that can be compared, as plain values for a figure.

    Args:
        row: the data set, and what else the runs have in common.
        column: their costs.
        runs: by label.
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
    """A run's costs for people: a cost ratio, "logged", or an objective with its unit."""
    label = str(about["costs"])
    if is_ratio(label):
        return f"1:{label}"
    return label if label == "logged" else f"{label} ({about['unit']})"


def unit_of(run: Run) -> str:
    """The unit of a run's costs; runs of old have none."""
    return str(run.about.get("unit", "cost unit of the log"))


def is_ratio(label: str) -> bool:
    """Whether a run's costs are a ladder of a ratio."""
    try:
        float(label)
    except ValueError:
        return False
    return True
