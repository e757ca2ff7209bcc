"""A sweep's finished runs, grouped into settings that can be compared, as panels and tables.

Two runs belong to one **setting** if they differ only in the solver: same data, costs, verifier,
rules and seed. The keys that vary in the sweep name the settings and the solvers of one kind.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tabulate import tabulate

from routing_pomdp.evaluation.measure_list import info
from routing_pomdp.evaluation.runs.run_folder import Run
from routing_pomdp.evaluation.runs.run_panel import is_ratio, shown_costs, unit_of

SEEDS = ("seed", "evaluation.train_seed")
"""The keys in which repetitions of one experiment differ; they have the same test queries."""

_CHAIN = "rollouts.models"
_MIXING, _ORACLE = "(random mixing)", "(oracle)"

# Columns of the tables.
_SHOWN = (
    "aiq", "gap_closed", "gain_over_static", "delta_ibc", "saving_vs_best_at_0",
    "saving_vs_best_at_1", "drop_vs_best_at_1", "saving_vs_best_at_2", "model_regret",
)  # fmt: skip
_WITH_INTERVAL = ("aiq", "gap_closed")


@dataclass(frozen=True)
class ComparisonCell:
    """A setting: the runs in it can be compared.

    Attributes:
        row: the data set and the other keys that vary in the sweep.
        column: the costs, with their unit where it is not obvious.
    """

    row: str
    column: str


def sort_runs(runs: Sequence[Run]) -> dict[ComparisonCell, dict[str, Run]]:
    """Settings in a natural order -> runs by label, best AIQ first."""
    sorted_runs: dict[ComparisonCell, dict[str, Run]] = {}
    for run, (setting, label) in zip(runs, comparison_cells(runs), strict=True):
        sorted_runs.setdefault(setting, {})[label] = run
    return {
        setting: dict(
            sorted(sorted_runs[setting].items(), key=lambda item: -(item[1].measures["aiq"] or 0))
        )
        for setting in sorted(sorted_runs, key=natural)
    }


def comparison_cells(runs: Sequence[Run], *aside: str) -> list[tuple[ComparisonCell, str]]:
    """Each run's setting and its solver's label.

    Args:
        runs: the runs of one sweep.
        aside: dotted config keys that do not divide settings, such as "costs.ratio".
    """
    flat = _flattened(runs)
    varying = varying_keys(runs).difference(aside)
    named = {"rollouts.dataset", "rollouts.profile", "rollouts.train_on", "costs.ratio"}
    outside = sorted(key for key in varying - named if not key.startswith(("solver.", "costs.")))
    found = []
    for run, values in zip(runs, flat, strict=True):
        about = run.about
        extras = [_extra(key, values, runs) for key in outside if key in values]
        kind = [f for other, f in zip(runs, flat, strict=True) if _solver(other) == _solver(run)]
        own = sorted(
            key
            for key in varying
            if key.startswith("solver.") and len({_text(f.get(key)) for f in kind}) > 1
        )
        label = " ".join([_solver(run), *(f"{_short(key)}={values.get(key)}" for key in own)])
        # Keys of one cost model do not apply to another.
        alike = [f for other, f in zip(runs, flat, strict=True) if _kind(other) == _kind(run)]
        costs = [] if _is_ladder(run) and "costs.ratio" in aside else [shown_costs(about)]
        costs += [
            f"{_short(key)}={values.get(key)}"
            for key in sorted(varying - named)
            if key.startswith("costs.") and len({_text(f.get(key)) for f in alike}) > 1
        ]
        found.append(
            (ComparisonCell(" ".join([about["dataset"], *extras]), " ".join(costs)), label)
        )
    return found


def _extra(key: str, values: Mapping[str, Any], runs: Sequence[Run]) -> str:
    """What else varies, in words: chains of models by their length where that tells them apart."""
    if key == _CHAIN:
        chains = {tuple(run.about["models"]) for run in runs}
        if len({len(chain) for chain in chains}) == len(chains):
            models = values[key]
            return "all models" if models is None else f"{len(models)} models"
    return f"{key}={values[key]}"


def varying_keys(runs: Sequence[Run]) -> set[str]:
    """Dotted config keys in which the runs differ."""
    flat = _flattened(runs)
    return {key for key in set().union(*flat) if len({_text(f.get(key)) for f in flat}) > 1}


def run_table(run: Run) -> str:
    """A table of a run's measures with their intervals, for the terminal."""
    rows = []
    for name, value in run.measures.items():
        low, high = run.intervals.get(name, (None, None))
        between = "" if low is None or high is None else f"[{low:.4f}, {high:.4f}]"
        form = "{:d}" if isinstance(value, int) else "{:.4f}"
        rows.append([name, show(value, form), between])
    about = run.about
    title = (
        f"{about['solver']} on {about['dataset']}, costs {shown_costs(about)}, "
        f"{about['queries']['test']} test queries: {run.folder}"
    )
    level = about["config"]["evaluation"]["level"]
    table = tabulate(rows, ["measure", "test", f"{level:.0%} interval"], disable_numparse=True)
    return f"{title}\n{table}"


def comparison_table(settings: Mapping[ComparisonCell, Mapping[str, Run]], style: str) -> str:
    """A table with one row per setting and solver, and rows for random mixing and the oracle.

    Args:
        settings: from `sort_runs`.
        style: a table format of tabulate, such as "simple" or "github".
    """
    columns = {name: info(name) for name in _SHOWN}
    titles = [shown.short or shown.title for shown in columns.values()]
    header = ["data", "costs", "solver", *titles, "seconds"]
    rows = []
    for setting, runs in settings.items():
        for label, run in runs.items():
            cells = []
            for name, shown in columns.items():
                form = shown.form
                cell = show(run.measures[name], form)
                low, high = run.intervals.get(name, (None, None))
                if name in _WITH_INTERVAL and low is not None and high is not None:
                    cell += f" [{form.format(low)}, {form.format(high)}]"
                cells.append(cell)
            seconds = f"{run.about['seconds']['all']:.1f}"
            rows.append([setting.row, setting.column, label, *cells, seconds])
        reference = next(iter(runs.values())).measures
        for label, name, closed in ((_MIXING, "aiq_static", 0.0), (_ORACLE, "aiq_oracle", 1.0)):
            cells = [show(reference[name], "{:.4f}"), f"{closed:+.3f}"]
            rows.append([setting.row, setting.column, label, *cells])
    return tabulate(rows, header, tablefmt=style, disable_numparse=True)


def comparison_csv(settings: Mapping[ComparisonCell, Mapping[str, Run]]) -> str:
    """A CSV with every measure and interval of every run in full precision."""
    rows: list[dict[str, Any]] = []
    for setting, runs in settings.items():
        for label, run in runs.items():
            row: dict[str, Any] = {
                "data": setting.row,
                "costs": setting.column,
                "cost_unit": unit_of(run),
                "solver": label,
                **run.measures,
            }
            for name, (low, high) in run.intervals.items():
                row |= {f"{name}_low": low, f"{name}_high": high}
            row |= {f"queries_{split}": count for split, count in run.about["queries"].items()} | {
                "seconds": run.about["seconds"]["all"],
                "folder": str(run.folder),
            }
            rows.append(row)
    text = io.StringIO()
    fields = list(dict.fromkeys(key for row in rows for key in row))
    writer = csv.DictWriter(text, fields, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _is_ladder(run: Run) -> bool:
    return is_ratio(str(run.about["costs"]))


def _kind(run: Run) -> str:
    """The kind of costs that a run is compared by: "logged" with cost ratios, or an objective."""
    return "logged" if _is_ladder(run) else str(run.about["costs"])


def _solver(run: Run) -> str:
    return str(run.about["solver"])


def show(value: float | None, form: str) -> str:
    """A number as text in a table."""
    if value is None or value != value:
        return "–"
    shown = form.format(value)
    # Rounding can leave a sign on 0.
    return form.format(abs(value)) if float(shown) == 0 else shown


def between(low: float | None, high: float | None, form: str) -> str:
    """An interval as text in a table."""
    return f"[{show(low, form)}, {show(high, form)}]"


def _short(key: str) -> str:
    return key.partition(".")[2] or key


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def natural(setting: ComparisonCell) -> tuple[str, float, str]:
    """A sort key of settings, with cost ratios in numerical order."""
    _, _, ratio = setting.column.split(" ")[0].partition(":")
    return setting.row, float(ratio) if ratio else 0.0, setting.column


def _flattened(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Each run's config by dotted key, without the seed of training queries if it equals the run's
    seed in every run."""
    flat = [_flatten(run.about["config"]) for run in runs]
    seed, train_seed = SEEDS
    if all(values.get(train_seed) == values.get(seed) for values in flat):
        for values in flat:
            values.pop(train_seed, None)
    return flat


def _flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Leaves by dotted key, without seeds that repeat the run's own."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    if not prefix:
        flat = {
            key: value
            for key, value in flat.items()
            if not (key.endswith(".seed") and value == config.get("seed"))
        }
    return flat
