"""From finished runs to a table and a figure."""

import csv
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from routing_pomdp.evaluation.runs.run_folder import load_all
from routing_pomdp.evaluation.sweeps.comparison import comparison_table, sort_runs
from tests.support.commands import command, train, unrendered


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs")
    for solver in ("exact", "threshold"):
        for ratio in (100, 20):
            train(
                f"solver={solver}",
                f"costs.ratio={ratio}",
                "observation.bins=4",
                "rollouts.queries={train: 150, validation: 80, test: 150}",
                "evaluation.prices=[0, 0.1, 1]",
                "env=full",
                "model=joint",
                f"out={out}",
                "sweep=s",
            )
    return out / "s"


def compare(*arguments, **options):
    """The command, but for the rendering of its figures."""
    with unrendered():
        return command("compare", *arguments, **options)


def test_a_sweep_becomes_one_table_and_one_figure(sweep, tmp_path):
    done = command("compare", sweep, "--out", tmp_path)
    for shown in ("exact", "threshold", "(random mixing)", "(oracle)", "1:20", "1:100"):
        assert shown in done.stdout
    drawn = (
        "frontiers",
        "gap_closed_by_cost_ratio",
        "delta_ibc_by_cost_ratio",
        "policies_letters_chain",
    )
    assert {path.name for path in tmp_path.iterdir()} == {
        "comparison.csv",
        "comparison.md",
        "report.md",
        "tables",
        *(f"{name}.{kind}" for name in drawn for kind in ("png", "svg")),
    }
    page = (tmp_path / "report.md").read_text()
    for name in drawn:
        assert f"({name}.png)" in page
    for table in ("aiq", "gap_closed", "differences", "wins", "delta_ibc_regions", "chosen"):
        rows = (tmp_path / "tables" / f"{table}.csv").read_text().splitlines()
        assert len(rows) > 1
    assert "seeds" not in {path.stem for path in (tmp_path / "tables").iterdir()}
    assert (tmp_path / "frontiers.png").read_bytes().startswith(b"\x89PNG")
    assert "threshold" in (tmp_path / "frontiers.svg").read_text()


def test_what_was_found_is_said_in_words_and_drawn_for_strangers(sweep, tmp_path):
    done = compare(sweep, "--out", tmp_path, "--headline", tmp_path / "headline.png")
    assert done.returncode == 0, done.stderr
    leads = re.search(
        r"^(exact|threshold) leads: it closes (-?[\d.]+) of the gap", done.stdout, re.M
    )
    with (tmp_path / "comparison.csv").open() as file:
        gaps = [
            float(row["gap_closed"]) for row in csv.DictReader(file) if row["solver"] == leads[1]
        ]
    assert float(leads[2]) == pytest.approx(sum(gaps) / len(gaps), abs=6e-4)
    assert f"{leads[1]} scores" in done.stdout
    assert re.search(rf"Open {tmp_path}/frontiers.png and {tmp_path}/report.md", done.stdout)
    with Image.open(tmp_path / "headline.png") as figure:
        assert figure.text["Description"] == f"{leads[1]} on letters_chain · 1:100"


def test_the_csv_holds_every_runs_numbers_in_full(sweep, tmp_path):
    compare(sweep, "--out", tmp_path)
    with (tmp_path / "comparison.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 4
    for row in rows:
        metrics = json.loads((Path(row["folder"]) / "metrics.json").read_text())
        assert float(row["aiq"]) == metrics["measures"]["aiq"]
        assert [float(row["aiq_low"]), float(row["aiq_high"])] == metrics["intervals"]["aiq"]


def test_settings_come_in_the_order_of_their_ratios_and_solvers_by_aiq(sweep):
    settings = sort_runs(load_all(sweep))
    assert [setting.column for setting in settings] == ["1:20", "1:100"]
    for runs in settings.values():
        heights = [run.measures["aiq"] for run in runs.values()]
        assert heights == sorted(heights, reverse=True)


def test_what_varies_tells_settings_and_solvers_apart(sweep):
    runs = load_all(sweep)
    for number, run in enumerate(runs):
        run.about["config"]["observation"]["bins"] = 4 + number % 2
        if run.about["solver"] == "exact":
            run.about["config"]["solver"]["max_histories"] = 100 + number
    settings = sort_runs(runs)
    assert any("observation.bins=5" in setting.row for setting in settings)
    labels = {label for found in settings.values() for label in found}
    assert "threshold" in labels
    assert any(label.startswith("exact max_histories=") for label in labels)


def test_of_runs_that_differ_in_code_alone_the_newest_counts(sweep, tmp_path):
    old = load_all(sweep)[0]
    shutil.copytree(old.folder, tmp_path / "old")
    newer = shutil.copytree(old.folder, tmp_path / "new") / "metrics.json"
    content = json.loads(newer.read_text())
    content["about"]["finished"] = "2999-01-01T00:00:00+00:00"
    newer.write_text(json.dumps(content))
    assert [run.folder.name for run in load_all(tmp_path)] == ["new"]


def test_undefined_measures_are_shown_as_a_dash(sweep):
    settings = sort_runs(load_all(sweep))
    run = next(iter(next(iter(settings.values())).values()))
    run.measures["delta_ibc"] = None
    assert "–" in comparison_table(settings, "simple")


def test_folders_without_runs_are_refused_by_name(tmp_path):
    for folder, message in ((tmp_path, "holds no finished run"), (tmp_path / "no", "is no folder")):
        done = compare(folder, fails=True)
        assert message in done.stderr
        assert str(folder) in done.stderr


def test_a_damaged_run_is_named_and_the_rest_is_compared(sweep, tmp_path):
    copy = shutil.copytree(sweep, tmp_path / "s")
    damaged = next(copy.glob("exact-*ratio20-*"))
    (damaged / "outcomes.npz").write_bytes(b"")
    done = compare(copy)
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"left out: {damaged}/metrics.json")
    assert "outcomes.npz is not what was written with it" in line
    with (copy / "comparison.csv").open() as file:
        rows = [(row["costs"], row["solver"]) for row in csv.DictReader(file)]
    assert sorted(rows) == [("1:100", "exact"), ("1:100", "threshold"), ("1:20", "threshold")]


def test_where_every_run_is_damaged_each_is_named(sweep, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "metrics.json").write_text('{"about": ')
    done = compare(tmp_path, fails=True)
    assert "metrics.json is no finished run's metrics" in done.stderr


def test_the_report_goes_to_wandb_as_a_run_of_the_sweep(sweep, tmp_path):
    command("compare", sweep, "--out", tmp_path, "--wandb", "offline")
    (file,) = (tmp_path / "report").rglob("run-*.wandb")
    inspected = subprocess.run(
        [str(Path(sys.executable).with_name("wandb")), "leet", "inspect", "--json", str(file)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert '"report"' in inspected
    for name in (
        "gap_closed",
        "differences",
        "wins",
        "chosen",
        "frontiers",
        "policies_letters_chain",
    ):
        assert name in inspected


def test_the_reference_can_be_named_and_must_exist(sweep, tmp_path):
    compare(sweep, "--out", tmp_path, "--reference", "exact")
    assert "Gap closed, compared with exact" in (tmp_path / "report.md").read_text()
    done = compare(sweep, "--out", tmp_path, "--reference", "nobody", fails=True)
    assert "the reference 'nobody' is none of the solvers ['exact', 'threshold']" in done.stderr
