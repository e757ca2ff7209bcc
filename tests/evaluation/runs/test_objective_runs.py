"""Runs under each objective, from the configuration to figures and a comparison."""

import csv
import io
import json
import os
from pathlib import Path

import numpy as np
import pytest

from routing_pomdp.envs import Rules
from routing_pomdp.envs.costs.objectives import LatencyCosts
from routing_pomdp.envs.files.atomic import write_bytes
from routing_pomdp.envs.logs.calls_table import read_calls, write_calls
from routing_pomdp.evaluation.plots import figures
from routing_pomdp.evaluation.plots.figures import sweep_figure
from routing_pomdp.evaluation.runs import solver_run
from routing_pomdp.evaluation.runs.run_folder import load_all, read_sweep
from routing_pomdp.evaluation.runs.run_panel import panel
from routing_pomdp.evaluation.signals.verifier_report import verifier_csv
from routing_pomdp.evaluation.signals.verifier_study import Study, judge
from routing_pomdp.evaluation.sweeps import sweep_report
from routing_pomdp.evaluation.sweeps.comparison import (
    comparison_cells,
    comparison_csv,
    comparison_table,
    sort_runs,
)
from routing_pomdp.evaluation.sweeps.curves import measure_curves
from routing_pomdp.scripts.train import one_line
from routing_pomdp.verifiers import Histogram, LoggedSignal
from tests.envs.costs.test_objectives import GENERIC, prices
from tests.evaluation.runs.test_solver_run import run
from tests.support.recorder import NAME

PER_SECOND = 0.5
OBJECTIVES = {
    "logged": (["costs=logged"], "logged", "cost unit of the log"),
    "ladder": (["costs=ratio", "costs.ratio=20"], "1:20", "calls of the cheapest model"),
    "tokens": (["costs=tokens", "costs.prices={FILE}"], "tokens (USD)", "USD"),
    "latency": (["costs=latency"], "latency (ms)", "ms"),
    "mixed": (
        ["costs=mixed", f"costs.per_second={PER_SECOND}", "costs.prices={FILE}"],
        "mixed (USD)",
        "USD",
    ),
}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A log and a price table on disk."""
    folder = tmp_path_factory.mktemp("files")
    write_calls(GENERIC, folder / "calls.parquet")
    write_prices(folder / "prices.yaml")
    return folder


def write_prices(path: Path, scale=1.0):
    lines = [f"{name}: {{in: {p['in']}, out: {p['out']}}}\n" for name, p in prices(scale).items()]
    path.write_text("".join(lines))


def run_under(out, files, objective, *options, price_table="prices.yaml"):
    costs = [o.replace("{FILE}", str(files / price_table)) for o in OBJECTIVES[objective][0]]
    return run(
        out,
        "rollouts=calls_table",
        f"rollouts.path={files / 'calls.parquet'}",
        "verifier.name=sharp",
        "env=full",
        "solver=exact",
        "evaluation.prices=[0, 0.2, 1]",
        *costs,
        *options,
    )


@pytest.fixture
def no_figures(monkeypatch):
    def draw(run):
        paths = tuple(run.folder / f"frontier.{kind}" for kind in ("png", "svg"))
        for path in paths:
            write_bytes(path, b"drawn")
        return {"frontier": paths}

    monkeypatch.setattr(solver_run, "draw", draw)


@pytest.fixture(scope="module")
def sweep(tmp_path_factory, files):
    """A run under every objective, and the figures that were drawn."""
    out, drawn = tmp_path_factory.mktemp("runs"), {}

    def save(figure, stem):
        drawn.setdefault(stem.parent, {})[stem.name] = figure
        for kind in ("png", "svg"):
            write_bytes(stem.with_name(f"{stem.name}.{kind}"), b"drawn")
        return stem.with_name(f"{stem.name}.png"), stem.with_name(f"{stem.name}.svg")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figures, "save_figure", save)
        runs = {name: run_under(out, files, name) for name in OBJECTIVES}
    return out / "s", runs, drawn


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_run_is_charged_by_its_objective_and_says_its_unit(sweep, files, objective):
    _, runs, drawn = sweep
    found = runs[objective]
    test = GENERIC.where("test")
    usd = (test.tokens_in * 4.0 ** np.arange(3) + test.tokens_out * 4.0 ** np.arange(1, 4)) / 1e6
    expected = {
        "logged": test.cost,
        "ladder": np.tile(20 ** (np.arange(3) / 2), (len(test), 1)),
        "tokens": usd,
        "latency": test.latency,
        "mixed": usd + PER_SECOND * test.latency / 1000,
    }[objective]
    _, shown, unit = OBJECTIVES[objective]
    assert [m["cost"] for m in found.models] == pytest.approx(expected.mean(axis=0).tolist())
    np.testing.assert_allclose(found.outcomes().model_cost, expected)
    # Nothing is gained by calls that cost nothing: at price 0 all that may help is bought.
    dear, cheap = (next(p for p in found.points if p["price"] == price) for price in (0.0, 1.0))
    assert dear["cost"] > cheap["cost"]
    assert dear["cost_relative"] == pytest.approx(dear["cost"] / expected[:, -1].mean())
    assert found.about["unit"] == unit
    assert shown in one_line(found)
    assert f"({unit})" in drawn[found.folder]["frontier"].axes[0].get_xlabel()
    assert f"costs {shown}" in drawn[found.folder]["frontier"].axes[0].get_title(loc="left")
    told = json.loads((found.folder / NAME).read_text())
    assert told["about"]["config"]["unit"] == unit
    assert f"-{found.about['costs']}-".replace("-20-", "-ratio20-") in found.folder.name


def test_verifications_are_bought_at_what_the_objective_charges(sweep):
    """At the middle price some verification is bought, at its tokens' price."""
    _, runs, _ = sweep
    found = runs["tokens"]
    middle = next(p for p in found.points if p["price"] == 0.2)
    assert middle["verifications"] > 0


def test_objectives_are_settings_of_their_own(sweep):
    folder, _, _ = sweep
    runs = load_all(folder)
    settings = sort_runs(runs)
    assert sorted(setting.column for setting in settings) == sorted(
        shown for _, shown, _ in OBJECTIVES.values()
    )
    assert all(len(found) == 1 for found in settings.values())
    table = comparison_table(settings, "github")
    assert all(f"| {shown} " in table for _, shown, _ in OBJECTIVES.values())
    rows = list(csv.DictReader(io.StringIO(comparison_csv(settings))))
    assert {(row["costs"], row["cost_unit"]) for row in rows} == {
        (shown, unit) for _, shown, unit in OBJECTIVES.values()
    }
    # Objectives have no place on an axis of cost ratios, and are not mixed where it is left out.
    assert measure_curves(runs, "costs.ratio", "gap_closed") == {}
    aside = {setting.column for setting, _ in comparison_cells(runs, "costs.ratio")}
    assert aside == {"", "logged", "tokens (USD)", "latency (ms)", "mixed (USD)"}


def test_every_panel_of_a_sweep_says_its_unit(sweep):
    folder, _, _ = sweep
    settings = sort_runs(load_all(folder))
    panels = [panel(setting.row, setting.column, found) for setting, found in settings.items()]
    figure = sweep_figure(panels)
    units = {axes.get_title(loc="left"): axes.get_xlabel() for axes in figure.axes}
    assert units == {f"toy · {shown}": unit for _, shown, unit in OBJECTIVES.values()}
    assert figure.get_supxlabel() == "mean cost per query"
    money = sweep_figure([each for each in panels if each.unit == "USD"])
    assert money.get_supxlabel() == "mean cost per query (USD)"
    assert {axes.get_xlabel() for axes in money.axes} == {""}


def test_a_report_of_several_objectives_is_written(sweep, tmp_path, monkeypatch):
    folder, _, _ = sweep
    monkeypatch.setattr(
        figures, "save_figure", lambda figure, stem: (stem.with_suffix(".png"), stem)
    )
    page = sweep_report.sweep_report(load_all(folder), tmp_path).write(tmp_path, "Objectives")
    text = page.read_text()
    assert all(f"toy · {shown}" in text for _, shown, _ in OBJECTIVES.values())


def test_two_price_tables_are_two_settings(tmp_path, files, no_figures):
    write_prices(files / "dearer.yaml", scale=3.0)
    for table in ("prices.yaml", "dearer.yaml"):
        run_under(tmp_path, files, "tokens", price_table=table)
    columns = [setting.column for setting in sort_runs(load_all(tmp_path / "s"))]
    assert columns == [
        f"tokens (USD) prices={files / table}" for table in ("dearer.yaml", "prices.yaml")
    ]


def test_a_changed_price_is_another_run_and_the_old_ones_are_left_out(tmp_path, files, no_figures):
    table = files / "changing.yaml"

    def asked(solver):
        return run_under(tmp_path, files, "tokens", f"solver={solver}", price_table=table.name)

    write_prices(table)
    before = table.stat()
    first, other = asked("exact"), asked("static")
    assert asked("exact").about == first.about
    write_prices(table, scale=2.0)
    os.utime(table, ns=(before.st_atime_ns, before.st_mtime_ns))  # its bytes count, not its date
    second = asked("exact")
    assert second.folder != first.folder
    costs = [[m["cost"] for m in found.models] for found in (first, second)]
    assert costs[1] == pytest.approx([2 * cost for cost in costs[0]])
    # Those of another solver at the old prices are not compared with it.
    found, (reason,) = read_sweep(tmp_path / "s")
    assert [each.folder for each in found] == [second.folder]
    assert str(other.folder) in reason
    assert f"another state of {table}: run it again" in reason


def test_what_a_log_lacks_is_said_before_anything_is_written(tmp_path, files, no_figures):
    with pytest.raises(ValueError, match=r"no price for model 'm2' in costs\.prices, which"):
        run(
            tmp_path,
            "rollouts=calls_table",
            f"rollouts.path={files / 'calls.parquet'}",
            "verifier.name=dull",
            "costs=tokens",
            "costs.prices={m0: {in: 1, out: 2}, m1: {in: 3, out: 4}}",
        )
    assert not list(tmp_path.rglob("metrics.json"))


def test_what_a_verifier_is_worth_is_judged_in_the_objectives_unit():
    study = Study(
        cost_model=LatencyCosts(), observation=Histogram(bins=4), rules=Rules(3), levels=None,
        prices=[0.1], shuffles=0, resamples=10,
    )  # fmt: skip
    judged = judge(GENERIC, "sharp", LoggedSignal("sharp"), study)
    first = next(csv.DictReader(io.StringIO(verifier_csv([judged]))))
    train = GENERIC.where("train")
    assert first["cost_unit"] == "ms"
    assert float(first["call_cost"]) == pytest.approx(train.latency[:, 0].mean())
    assert float(first["verification_cost"]) == pytest.approx(0.5 * train.latency[:, 0].mean())


def test_the_log_on_disk_keeps_what_verifications_took(files):
    again = read_calls(files / "calls.parquet")
    for name in ("signal_latency", "signal_tokens_in", "signal_tokens_out"):
        np.testing.assert_array_equal(
            getattr(again, name)["sharp"], getattr(GENERIC, name)["sharp"]
        )
