"""The sections of a sweep's report: tables of plain cells, each with a title and a note."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tabulate import tabulate

from routing_pomdp.evaluation.frontier_outcomes import FrontierOutcomes
from routing_pomdp.evaluation.guarantee import certify
from routing_pomdp.evaluation.measure_list import info
from routing_pomdp.evaluation.policies.belief_quality import ALL
from routing_pomdp.evaluation.runs.run_folder import Run
from routing_pomdp.evaluation.runs.run_guarantee import guarantee_on_test
from routing_pomdp.evaluation.significance import (
    Resampled,
    across_seeds,
    resamples_for,
    win_tie_loss,
)
from routing_pomdp.evaluation.sweeps.comparison import (
    SEEDS,
    ComparisonCell,
    between,
    comparison_cells,
    natural,
    show,
)

_ALPHA = 0.05

Settings = Mapping[ComparisonCell, Mapping[str, Run]]

# Those that have a table of their own.
_TABLES = (
    "aiq", "gap_closed", "gain_over_static", "delta_ibc", "saving_vs_best_at_1",
    "drop_vs_best_at_1", "saving_vs_best_at_2", "drop_vs_best_at_2", "model_regret",
)  # fmt: skip


@dataclass(frozen=True)
class Section:
    """One table of a report.

    Attributes:
        name: name of its file, such as "gap_closed".
        title: heading.
        note: explanation of the table.
        header: column names.
        rows: cells as text.
    """

    name: str
    title: str
    note: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]

    def markdown(self) -> str:
        table = tabulate(self.rows, self.header, tablefmt="github", disable_numparse=True)
        return f"## {self.title}\n\n{self.note}\n\n{table}\n"

    def csv(self) -> str:
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(self.header)
        writer.writerows(self.rows)
        return text.getvalue()


def measure_sections(settings: Settings) -> Iterator[Section]:
    """One table per measure: solvers by settings, with intervals."""
    labels = solver_labels(settings)
    for name in _TABLES:
        shown, rows = info(name), []
        for label in labels:
            cells = [
                _cell(runs[label], name, shown.form) if label in runs else ""
                for runs in settings.values()
            ]
            rows.append([label, *cells])
        yield Section(name, shown.title, shown.note, ["solver", *map(name_of, settings)], rows)


def region_section(settings: Settings) -> Section:
    """ΔIBC by cost region."""
    rows = []
    for setting, runs in settings.items():
        for label, run in runs.items():
            names = [f"delta_ibc_region_{region}" for region in range(1, 6)]
            cells = [_cell(run, name, "{:+.1f}") for name in names]
            rows.append([name_of(setting), label, *cells])
    shares = [f"{low}–{low + 20}% of the way" for low in range(0, 100, 20)]
    note = "ΔIBC in % at the middle of five equal cost regions from the cheapest to the last model."
    return Section(
        "delta_ibc_regions", "ΔIBC by cost region", note, ["setting", "solver", *shares], rows
    )


def difference_section(resampled: Mapping[ComparisonCell, Resampled], reference: str) -> Section:
    """Every solver minus a reference, with Holm's adjustment in each setting.

    Raises:
        ValueError: the reference is in none of the settings.
    """
    rows = []
    for setting, found in resampled.items():
        if reference not in found.point:
            continue
        for label, d in found.against(reference).items():
            verdict = "" if not d.p_holm < _ALPHA else "better" if d.difference > 0 else "worse"
            form = "{:+.3f}"
            shown = f"{show(d.difference, form)} {between(d.low, d.high, form)}"
            rows.append([name_of(setting), label, shown, f"{d.p_holm:.3f}", verdict])
    if not rows:
        known = sorted({label for found in resampled.values() for label in found.point})
        raise ValueError(f"the reference {reference!r} is none of the solvers {known}")
    return Section(
        "differences",
        f"Gap closed, compared with {reference}",
        "Difference of gap closed by the paired bootstrap on the same queries. p-values are "
        f"adjusted by Holm over the solvers of a setting; significant below {_ALPHA:g}.",
        ["setting", "solver", f"minus {reference}", "p (Holm)", "significantly"],
        rows,
    )


def standing_section(resampled: Mapping[ComparisonCell, Resampled]) -> Section:
    """The best solver of each setting, and those that are not significantly worse."""
    rows = []
    for setting, found in resampled.items():
        first = found.best()
        against = found.against(first) if len(found.point) > 1 else {}
        ranked = sorted(against, key=lambda label: -found.point[label])
        tied = [label for label in ranked if not against[label].p_holm < _ALPHA]
        behind = [label for label in ranked if label not in tied]
        shown = [
            ", ".join(f"{label} ({show(found.point[label], '{:+.3f}')})" for label in labels)
            for labels in ([first], tied, behind)
        ]
        rows.append([name_of(setting), *shown])
    return Section(
        "standing",
        "Best solvers",
        "By gap closed, mean over seeds. Tied solvers are not significantly worse than the best: "
        "paired bootstrap on the same queries, Holm over the solvers of a setting, level "
        f"{_ALPHA:g}.",
        ["setting", "best", "tied", "worse"],
        rows,
    )


def win_section(resampled: Mapping[ComparisonCell, Resampled], labels: Sequence[str]) -> Section:
    """Wins, ties and losses of each solver against each other, over all settings."""
    count = win_tie_loss(list(resampled.values()), _ALPHA)
    rows = []
    for label in labels:
        cells = [
            "" if other == label else "/".join(map(str, count.get((label, other), ("–",) * 3)))
            for other in labels
        ]
        rows.append([label, *cells])
    return Section(
        "wins",
        "Wins / ties / losses",
        "Numbers of settings in which the solver of the row closes significantly more of the gap "
        "than that of the column, not significantly different, or significantly less (Holm over "
        f"all pairs, level {_ALPHA:g}).",
        ["", *labels],
        rows,
    )


def chosen_section(settings: Settings) -> Section:
    """Operating points selected on validation by budget or floor, with their test outcomes."""
    rows = []
    for setting, runs in settings.items():
        for label, run in runs.items():
            for choice in run.chosen:
                if choice["by"] == "price":
                    continue
                asked = (
                    f"cost ≤ {choice['target']:g}"
                    if choice["by"] == "budget"
                    else f"within {choice['target']:g} points"
                )
                got = [
                    f"{show(choice[name], '{:.3f}')} "
                    f"[{', '.join(show(end, '{:.3f}') for end in choice[f'{name}_interval'])}]"
                    for name in ("score", "cost")
                ]
                promised = [f"{choice[f'promised_{name}']:.3f}" for name in ("score", "cost")]
                kept = "yes" if choice["kept"] else "no"
                rows.append([name_of(setting), label, asked, *promised, *got, kept])
    return Section(
        "chosen",
        "Operating points selected on validation",
        "Budgets and costs are shares of the last model's cost; points are losses of score to the "
        "best single model on validation. Kept: whether the target holds on test.",
        [
            "setting", "solver", "target", "score (validation)", "cost (validation)",
            "score (test)", "cost (test)", "kept",
        ],
        rows,
    )  # fmt: skip


def guarantee_section(settings: Settings) -> Section | None:
    """What each solver, and all of them together, are certified for; None where nothing was asked.

    All together share the level equally, and must have had the same reference and tolerance.
    """
    rows = []
    for setting, runs in settings.items():
        asked = {label: run for label, run in runs.items() if run.guarantee}
        found = {label: (run.guarantee or {}, label) for label, run in asked.items()}
        terms = {
            tuple((run.guarantee or {})[key] for key in ("epsilon", "delta", "reference"))
            for run in asked.values()
        }
        if len(asked) > 1 and len(terms) == 1:
            found["all of them"] = _together(asked)
        for label, (guarantee, taken) in found.items():
            intervals = []
            for name, form in (("certified_saving", "{:.3f}"), ("certified_loss", "{:+.1f}")):
                low, high = guarantee[f"{name}_interval"]
                intervals.append(f"{show(guarantee[name], form)} {between(low, high, form)}")
            bound, price = guarantee["certified_loss_bound"], guarantee["price"]
            needed = guarantee["queries_needed"]
            rows.append(
                [
                    name_of(setting),
                    label,
                    f"{100 * guarantee['epsilon']:g} at {1 - guarantee['delta']:g}",
                    guarantee["reference"],
                    f"{guarantee['certified']} of {guarantee['candidates']}",
                    "the reference" if price is None else f"{taken} at {price:g}",
                    f"{bound:g}",
                    *intervals,
                    str(guarantee["queries"]),
                    "–" if needed is None else f"{needed:,}",
                ]
            )
    if not rows:
        return None
    return Section(
        "guarantee",
        "Certified",
        "The cheapest operating point whose true loss to the reference, in points, is at most the "
        "tolerance with the probability that stands beside it, over the calibration queries. Saved "
        "(share of the reference's cost) and lost (points) are on test. Needed are about as many "
        "calibration queries as would certify it at half the tolerance, or anything at all where "
        "only the reference is.",
        [
            "setting", "solver", "tolerance", "reference", "certified", "taken, at a price of",
            "loses at most", "saved", "lost", "queries", "needed",
        ],
        rows,
    )  # fmt: skip


def _together(runs: Mapping[str, Run]) -> tuple[dict[str, Any], str]:
    """The guarantee of several solvers that share the level, with the one that it takes."""
    calibrations = {label: run.calibration() for label, run in runs.items()}
    first = next(iter(runs.values()))
    terms = first.guarantee or {}
    found = certify(
        {label: each for label, each in calibrations.items() if each is not None},
        terms["epsilon"],
        terms["delta"],
    )
    chosen = runs[found.solver] if found.solver is not None else first
    names = [model["name"] for model in chosen.models]
    row = guarantee_on_test(found, chosen.outcomes(), names.index(terms["reference"]))
    price = None if found.solver is None else chosen.points[found.index]["price"]
    return row | {"reference": terms["reference"], "price": price}, found.solver or ""


def belief_section(settings: Settings) -> Section | None:
    """Calibration of learned beliefs; None if no policy has one."""
    rows = []
    for setting, runs in settings.items():
        for label, run in runs.items():
            for row in run.beliefs["rows"] if run.beliefs else ():
                if row["model"] != ALL:
                    continue
                form = "{:.4f}"
                cells = [
                    f"{show(row[key], form)} {between(row[f'{key}_low'], row[f'{key}_high'], form)}"
                    for key in ("error", "log_loss", "brier")
                ]
                chance = show(row["error_chance"], form)
                rows.append([name_of(setting), label, row["belief"], *cells, chance])
    if not rows:
        return None
    return Section(
        "belief_calibration",
        "Calibration of beliefs",
        "Predicted scores of every model at every decision point of the test queries, means over "
        "models: expected calibration error (ECE), log loss in nats, Brier score, and the ECE that "
        "a calibrated belief has by chance. Fitted is the posterior of the fitted model.",
        ["setting", "solver", "belief", "ECE", "log loss", "Brier score", "ECE by chance"],
        rows,
    )


def seed_section(runs: Sequence[Run]) -> Section | None:
    """Measures over runs that differ only in their seed; None if there are none."""
    groups: dict[tuple[ComparisonCell, str], list[Run]] = {}
    for run, cell in zip(runs, comparison_cells(runs, *SEEDS), strict=True):
        groups.setdefault(cell, []).append(run)
    rows = []
    for (setting, label), same in sorted(groups.items(), key=lambda item: str(item[0])):
        if len(same) < 2:
            continue
        families = [run.outcomes() for run in same]
        for measure, form in (("aiq", "{:.4f}"), ("gap_closed", "{:+.3f}")):
            found = across_seeds(families, measure)
            interval = between(found.low, found.high, form)
            cells = [show(found.mean, form), f"{found.deviation:.4f}", interval]
            rows.append([name_of(setting), label, measure, str(len(same)), *cells])
    if not rows:
        return None
    return Section(
        "seeds",
        "Across seeds",
        "Mean and standard deviation over seeds; the interval is for a new seed on new queries.",
        ["setting", "solver", "measure", "seeds", "mean", "sd", "interval"],
        rows,
    )


def resample(runs: Sequence[Run], measure: str = "gap_closed") -> dict[ComparisonCell, Resampled]:
    """One measure of every solver, resampled on the same queries in each setting, with enough
    resamples to compare all pairs of solvers. Runs that differ only in their seed are one solver,
    unless their test queries differ too."""
    groups: dict[ComparisonCell, dict[str, list[FrontierOutcomes]]] = {}
    apart: dict[ComparisonCell, dict[str, list[FrontierOutcomes]]] = {}
    for run, (setting, label), (own, _) in zip(
        runs, comparison_cells(runs, *SEEDS), comparison_cells(runs), strict=True
    ):
        outcomes = run.outcomes()
        groups.setdefault(setting, {}).setdefault(label, []).append(outcomes)
        apart.setdefault(own, {}).setdefault(label, []).append(outcomes)
    same = all(
        np.array_equal(outcomes.model_score, next(iter(found.values()))[0].model_score)
        for found in groups.values()
        for families in found.values()
        for outcomes in families
    )
    chosen = groups if same else apart
    return {
        setting: Resampled(
            chosen[setting],
            measure,
            resamples_for(len(chosen[setting]) * (len(chosen[setting]) - 1) // 2, _ALPHA),
        )
        for setting in sorted(chosen, key=natural)
    }


def solver_labels(settings: Settings) -> list[str]:
    """The solvers of a sweep, sorted by their mean gap closed."""
    gaps: dict[str, list[float]] = {}
    for runs in settings.values():
        for label, run in runs.items():
            gap = run.measures["gap_closed"]
            gaps.setdefault(label, []).append(float("-inf") if gap is None else gap)
    return sorted(gaps, key=lambda label: -sum(gaps[label]) / len(gaps[label]))


def name_of(setting: ComparisonCell) -> str:
    """A setting as text."""
    return " · ".join(filter(None, (setting.row, setting.column)))


def _cell(run: Run, name: str, form: str) -> str:
    low, high = run.intervals.get(name, (None, None))
    interval = "" if low is None or high is None else f" {between(low, high, form)}"
    return show(run.measures.get(name), form) + interval
