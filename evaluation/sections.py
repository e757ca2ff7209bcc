"""A sweep's report as sections: each a table of plain cells with a title and how to read it."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from tabulate import tabulate

from evaluation.comparison import Setting, show
from evaluation.runs import Run

Settings = Mapping[Setting, Mapping[str, Run]]

# Measure -> title, format, how to read it.
_MEASURES = {
    "aiq": (
        "AIQ",
        "{:.4f}",
        "Mean height of the frontier between the costs of the cheapest and the dearest model.",
    ),
    "gap_closed": (
        "Gap closed",
        "{:+.3f}",
        "0 is random mixing of the single models, 1 the oracle.",
    ),
    "delta_ibc": (
        "ΔIBC, %",
        "{:+.1f}",
        "Benefit per cost over that of mixing single models, mean of five cost regions.",
    ),
    "saving_at_1": (
        "Saving at 1 point",
        "{:.3f}",
        "Share of the dearest model's cost saved by the policy picked on validation to lose "
        "at most 1 point there.",
    ),
    "drop_at_1": (
        "Lost on test at 1 point, points",
        "{:+.1f}",
        "What that policy loses to the dearest model on test.",
    ),
    "saving_at_2": ("Saving at 2 points", "{:.3f}", "The same for 2 points."),
    "drop_at_2": ("Lost on test at 2 points, points", "{:+.1f}", "The same for 2 points."),
    "model_regret": (
        "Model regret",
        "{:.4f}",
        "Exact value minus the policy's inside the fitted model, mean over prices.",
    ),
}


@dataclass(frozen=True)
class Section:
    """One table of a report.

    Attributes:
        name: of its file, such as "gap_closed".
        title: for people.
        note: how to read it.
        header: column names.
        rows: cells, as shown.
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
    """One table a measure: solvers by settings, with intervals."""
    labels = solver_labels(settings)
    for name, (title, form, note) in _MEASURES.items():
        rows = []
        for label in labels:
            cells = [
                _cell(runs[label], name, form) if label in runs else ""
                for runs in settings.values()
            ]
            rows.append([label, *cells])
        yield Section(name, title, note, ["solver", *map(name_of, settings)], rows)


def region_section(settings: Settings) -> Section:
    """ΔIBC by cost region."""
    rows = []
    for setting, runs in settings.items():
        for label, run in runs.items():
            names = [f"delta_ibc_region_{region}" for region in range(1, 6)]
            cells = [_cell(run, name, "{:+.1f}") for name in names]
            rows.append([name_of(setting), label, *cells])
    shares = [f"{low}–{low + 20}% of the way" for low in range(0, 100, 20)]
    note = (
        "ΔIBC in % at the middle of five equal cost regions from the cheapest model to the dearest."
    )
    return Section(
        "delta_ibc_regions", "ΔIBC by cost region", note, ["setting", "solver", *shares], rows
    )


def solver_labels(settings: Settings) -> list[str]:
    """Every solver of a sweep, by the mean of the gap it closes."""
    gaps: dict[str, list[float]] = {}
    for runs in settings.values():
        for label, run in runs.items():
            gap = run.measures["gap_closed"]
            gaps.setdefault(label, []).append(float("-inf") if gap is None else gap)
    return sorted(gaps, key=lambda label: -sum(gaps[label]) / len(gaps[label]))


def name_of(setting: Setting) -> str:
    """A setting in one cell."""
    return " · ".join(filter(None, (setting.row, setting.column)))


def _cell(run: Run, name: str, form: str) -> str:
    low, high = run.intervals.get(name, (None, None))
    between = "" if low is None or high is None else f" [{show(low, form)}, {show(high, form)}]"
    return show(run.measures.get(name), form) + between
