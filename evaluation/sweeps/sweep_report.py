"""The report of a sweep: a page, its tables as CSV and its figures, on disk and in W&B."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from routing_pomdp.envs.files.atomic import replacing, write_text
from routing_pomdp.evaluation.policies.policy_map import PolicyMap
from routing_pomdp.evaluation.runs.run_folder import Run
from routing_pomdp.evaluation.runs.run_panel import panel
from routing_pomdp.evaluation.sweeps.comparison import ComparisonCell, sort_runs
from routing_pomdp.evaluation.sweeps.conclusion import BASELINES, middle_settings, routers
from routing_pomdp.evaluation.sweeps.sections import (
    Section,
    belief_section,
    chosen_section,
    difference_section,
    guarantee_section,
    measure_sections,
    name_of,
    region_section,
    resample,
    seed_section,
    solver_labels,
    standing_section,
    win_section,
)
from routing_pomdp.evaluation.tracker import Tracker

_REFERENCE = "static"


@dataclass(frozen=True, eq=False)
class SweepReport:
    """The tables and figures of a sweep.

    Attributes:
        sections: the tables, in order.
        figures: name -> PNG file.
    """

    sections: Sequence[Section]
    figures: Mapping[str, Path]

    def write(self, folder: Path, title: str) -> Path:
        """Writes ``report.md`` and ``tables/NAME.csv``; returns the page."""
        tables = folder / "tables"
        tables.mkdir(parents=True, exist_ok=True)
        for section in self.sections:
            write_text(tables / f"{section.name}.csv", section.csv())
        pictures = [
            f"![{name.replace('_', ' ')}]({path.relative_to(folder)})"
            for name, path in self.figures.items()
        ]
        parts = [f"# {title}\n", *(f"{picture}\n" for picture in pictures)]
        page = folder / "report.md"
        write_text(page, "\n".join([*parts, *(s.markdown() for s in self.sections)]))
        return page

    def track(self, tracker: Tracker, folder: Path, sweep: str) -> None:
        """Logs every table and figure as one run of the sweep's group."""
        about = {"sweep": sweep, "tables": [section.name for section in self.sections]}
        with tracker.run(
            folder=folder, name=f"report-{sweep}", group=sweep, job_type="report", config=about
        ) as tracked:
            for section in self.sections:
                tracked.table(section.name, section.header, section.rows)
            for name, path in self.figures.items():
                tracked.figure(name, path)


def sweep_report(
    runs: Sequence[Run], folder: Path, reference: str | None = None, log_cost: bool = False
) -> SweepReport:
    """Tables and figures of the finished runs of a sweep; the figures are drawn into ``folder``.

    Args:
        runs: all runs of a sweep.
        folder: folder of the figures.
        reference: the solver that the others are compared with; None for "static" or, if it was not
            run, the last solver.
        log_cost: whether the cost axis is logarithmic.

    Raises:
        ValueError: the reference is none of the solvers.
    """
    settings = sort_runs(runs)
    labels = solver_labels(settings)
    if reference is None:
        reference = _REFERENCE if _REFERENCE in labels else labels[-1]
    sections = list(measure_sections(settings))
    if len(labels) > 1:
        resampled = resample(runs)
        sections += [
            standing_section(resampled),
            difference_section(resampled, reference),
            win_section(resampled, labels),
        ]
    sections += [region_section(settings), chosen_section(settings)]
    for section in (guarantee_section(settings), belief_section(settings), seed_section(runs)):
        sections += [section] if section else []
    return SweepReport(sections, _figures(runs, settings, folder, log_cost))


# Measures drawn over each swept key.
_CURVES = {
    "costs.ratio": ("gap_closed", "delta_ibc"),
    "evaluation.train_size": ("gap_closed", "delta_ibc", "promise_excess"),
}


def _figures(
    runs: Sequence[Run],
    settings: Mapping[ComparisonCell, Mapping[str, Run]],
    folder: Path,
    log_cost: bool,
) -> dict[str, Path]:
    # Imported here so that computing does not load matplotlib.
    from routing_pomdp.evaluation.plots.figures import save_figure, sweep_figure
    from routing_pomdp.evaluation.policies.policy_figure import policy_figure
    from routing_pomdp.evaluation.sweeps.curves import SWEPT, curve_figure, measure_curves

    panels = [panel(setting.row, setting.column, found) for setting, found in settings.items()]
    drawn = {"frontiers": sweep_figure(panels, log_cost=log_cost)}
    for key in SWEPT:
        for measure in _CURVES[key]:
            curves = measure_curves(runs, key, measure)
            if curves:
                name = f"{measure}_by_{SWEPT[key].replace(' ', '_')}"
                drawn[name] = curve_figure(curves, key, measure)
    for row in dict.fromkeys(setting.row for setting in settings):
        same = [setting for setting in settings if setting.row == row]
        middle = same[len(same) // 2]
        maps = {label: half_way(run) for label, run in sorted(settings[middle].items())}
        kept = {label: found for label, found in maps.items() if found is not None}
        if kept:
            names = [model["name"] for model in next(iter(settings[middle].values())).models]
            title = (
                f"{name_of(middle)}: policies that spend nearest to half of the most expensive "
                "model's cost"
            )
            slug = "".join(c if c.isalnum() else "_" for c in row)
            drawn[f"policies_{slug}"] = policy_figure(kept, names, title)
    return {name: save_figure(figure, folder / name)[0] for name, figure in drawn.items()}


def half_way(run: Run) -> PolicyMap | None:
    """The policy map of the price whose mean cost is nearest to half of the last model's."""
    maps = run.maps()
    if not maps:
        return None
    shares = np.array([point["cost_relative"] for point in run.points])
    return maps[int(np.abs(shares - 0.5).argmin())]


def draw_headline(settings: Mapping[ComparisonCell, Mapping[str, Run]], path: Path) -> Path:
    """Draws the leading router in the middle setting of the first row as one panel, a PNG.

    Raises:
        ValueError: no router was run there.
    """
    from routing_pomdp.evaluation.plots.headline import headline_figure

    setting, ranked = middle_settings(settings)[0], routers(settings)
    run = settings[setting].get(ranked[0]) if ranked else None
    if run is None:
        raise ValueError(
            f"headline figure: no router was run on {name_of(setting)}; expected a solver beside "
            f"{', '.join(BASELINES)}"
        )
    score = run.outcomes().model_score
    figure = headline_figure(
        panel(setting.row, setting.column, {ranked[0]: run}),
        f"{setting.row}, costs {setting.column}, {run.about['queries']['test']:,} test queries",
        share_right=bool(np.isin(score, (0, 1)).all()),
        level=run.about["config"]["evaluation"]["level"],
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        about = {"Description": f"{ranked[0]} on {name_of(setting)}"}
        figure.savefig(file, format="png", dpi=150, metadata=about)
    return path
