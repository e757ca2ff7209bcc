"""The figures of one run."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from routing_pomdp.evaluation.runs.run_folder import Run
from routing_pomdp.evaluation.runs.run_panel import panel, shown_costs


def draw(run: Run) -> dict[str, tuple[Path, Path]]:
    """Draws a run's frontier, its policies and the calibration of their belief, if any, into its
    folder; returns the paths of PNG and SVG by name."""
    # Imported here so that computing does not load matplotlib.
    from routing_pomdp.evaluation.plots.figures import frontier_figure, save_figure
    from routing_pomdp.evaluation.policies.policy_figure import policy_figure
    from routing_pomdp.evaluation.policies.reliability_figure import belief_figure

    costs = shown_costs(run.about)
    shown = panel(run.about["dataset"], costs, {run.about["solver"]: run})
    title = f"{run.about['dataset']}, costs {costs}"
    figure = frontier_figure(
        shown.curves, shown.static, shown.oracle, shown.models, title, cost_unit=shown.unit
    )
    maps = run.maps()
    some = dict.fromkeys(np.linspace(0, len(maps) - 1, 5).round().astype(int).tolist())
    policies = policy_figure(
        {f"λ = {run.points[i]['price']:g}": maps[i] for i in some}, run.about["models"], title
    )
    figures = {"frontier": figure, "policies": policies}
    if run.beliefs is not None:
        queries = run.about["queries"]["test"]
        figures["beliefs"] = belief_figure(
            run.beliefs["rows"],
            run.beliefs["diagrams"],
            run.about["models"],
            f"{title}: beliefs at all decision points of {queries:,} test queries",
        )
    return {name: save_figure(figure, run.folder / name) for name, figure in figures.items()}
