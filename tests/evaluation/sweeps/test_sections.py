"""A report's tables: what stands where, from runs made by hand."""

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from routing_pomdp.evaluation.runs.report import Report
from routing_pomdp.evaluation.runs.run_folder import load, save
from routing_pomdp.evaluation.sweeps.comparison import sort_runs
from routing_pomdp.evaluation.sweeps.sections import (
    belief_section,
    chosen_section,
    difference_section,
    measure_sections,
    region_section,
    resample,
    seed_section,
    solver_labels,
    standing_section,
    win_section,
)
from tests.support.outcomes import family_of


def finished(
    folder: Path, solver: str, skill: float, seed=0, ratio=10.0, queries=0, train_seed=None
):
    """A run whose policies are as good as ``skill`` says."""
    outcomes = family_of(skill=skill, seed=queries)
    about = {
        "solver": solver,
        "dataset": "toy",
        "costs": f"{ratio:g}",
        "seed": seed,
        "sweep": "s",
        "queries": {"train": 10},
        "finished": "now",
        "config": {
            "seed": seed,
            "solver": {"_target_": solver},
            "costs": {"ratio": ratio},
            "evaluation": {"level": 0.95, "train_seed": train_seed},
        },
    }
    measures = dict.fromkeys(("aiq", "gap_closed", "delta_ibc", "model_regret"), 0.1 * skill)
    measures |= {f"{kind}_vs_best_at_{e}": skill for kind in ("saving", "drop") for e in (1, 2)}
    measures |= {f"delta_ibc_region_{k}": k * skill for k in range(1, 6)}
    chosen = [
        {
            "by": "budget", "target": 0.5, "promised_score": 0.7, "promised_cost": 0.5,
            "score": 0.65, "cost": 0.52, "score_interval": [0.6, 0.7],
            "cost_interval": [0.5, 0.54], "kept": False,
        },
        {
            "by": "price", "target": 0.1, "promised_score": 0.7, "promised_cost": 0.5,
            "score": 0.65, "cost": 0.52, "score_interval": [0.6, 0.7],
            "cost_interval": [0.5, 0.54], "kept": None,
        },
    ]  # fmt: skip
    report = Report(
        measures, {"aiq": (0.0, 0.2)}, [], [], chosen, np.zeros((1, 3, 3, 4), int), outcomes
    )
    path = folder / f"{solver}-{seed}-{ratio:g}"
    save(path, about, report)
    run = load(path)
    assert run is not None
    return run


@pytest.fixture
def runs(tmp_path):
    return [
        finished(tmp_path, solver, skill, ratio=ratio)
        for solver, skill in (("good", 0.9), ("static", 0.0), ("same", 0.9))
        for ratio in (10.0, 20.0)
    ]


def test_solvers_stand_in_the_order_of_the_gap_they_close(runs):
    assert solver_labels(sort_runs(runs))[-1] == "static"


def test_each_measure_has_a_table_of_solvers_by_settings(runs):
    sections = {section.name: section for section in measure_sections(sort_runs(runs))}
    aiq = sections["aiq"]
    assert list(aiq.header) == ["solver", "toy · 1:10", "toy · 1:20"]
    cells = {row[0]: row[1:] for row in aiq.rows}
    assert cells["good"] == ["0.0900 [0.0000, 0.2000]"] * 2
    assert cells["static"] == ["0.0000 [0.0000, 0.2000]"] * 2
    assert sections["gap_closed"].rows[0][1] == "+0.090"


def test_differences_are_against_the_reference_and_say_what_is_significant(runs):
    resampled = resample(runs)
    section = difference_section(resampled, "static")
    assert len(section.rows) == 4
    assert {row[1] for row in section.rows} == {"good", "same"}
    assert all(row[-1] == "better" for row in section.rows)
    turned = difference_section(resampled, "good")
    verdicts = {row[1]: row[-1] for row in turned.rows}
    assert verdicts == {"static": "worse", "same": ""}
    with pytest.raises(ValueError, match="the reference 'x' is none of the solvers"):
        difference_section(resampled, "x")


def test_wins_are_counted_over_settings(runs):
    section = win_section(resample(runs), ["good", "same", "static"])
    assert section.rows[0] == ["good", "", "0/2/0", "2/0/0"]
    assert section.rows[2] == ["static", "0/0/2", "0/0/2", ""]


def test_who_cannot_be_told_from_the_first_is_tied(runs):
    rows = standing_section(resample(runs)).rows
    assert [row[0] for row in rows] == ["toy · 1:10", "toy · 1:20"]
    for row in rows:
        assert row[1].startswith("good (+")
        assert row[2].startswith("same (+")
        assert row[3].startswith("static (")


@pytest.mark.parametrize("own", [False, True], ids=["same training queries", "their own"])
def test_seeds_are_one_solver_and_its_mean_is_compared(own, tmp_path):
    runs = [
        finished(tmp_path, "good", skill, seed, train_seed=seed if own else None)
        for seed, skill in enumerate((0.2, 0.8))
    ]
    runs += [finished(tmp_path, "static", 0.0)]
    (found,) = resample(runs).values()
    one, two = (next(iter(resample([run]).values())).point["good"] for run in runs[:2])
    assert found.point["good"] == pytest.approx((one + two) / 2)
    assert set(found.point) == {"good", "static"}


def test_training_queries_drawn_by_the_runs_own_seed_are_not_told_twice(tmp_path):
    own = [finished(tmp_path / "own", "good", 0.5, seed, train_seed=seed) for seed in (0, 1)]
    assert [setting.row for setting in sort_runs(own)] == ["toy seed=0", "toy seed=1"]
    fixed = [finished(tmp_path / "fixed", "good", 0.5, seed, train_seed=0) for seed in (0, 1)]
    assert [setting.row for setting in sort_runs(fixed)] == ["toy seed=0", "toy seed=1"]
    apart = [finished(tmp_path / "apart", "good", 0.5, s, train_seed=1 - s) for s in (0, 1)]
    assert [setting.row for setting in sort_runs(apart)] == [
        "toy evaluation.train_seed=0 seed=1",
        "toy evaluation.train_seed=1 seed=0",
    ]


def test_seeds_that_draw_other_queries_stay_apart(tmp_path):
    runs = [
        finished(tmp_path, solver, 0.5, seed, queries=seed)
        for solver in ("good", "static")
        for seed in (0, 1)
    ]
    assert [setting.row for setting in resample(runs)] == ["toy seed=0", "toy seed=1"]


def test_regions_and_choices_are_shown_with_what_was_promised_and_got(runs):
    settings = sort_runs(runs)
    first = next(row for row in region_section(settings).rows if row[1] == "good")
    assert first[2:] == ["+0.9", "+1.8", "+2.7", "+3.6", "+4.5"]
    rows = chosen_section(settings).rows
    assert len(rows) == 6  # prices ask for nothing
    assert rows[0][2:] == [
        "cost ≤ 0.5", "0.700", "0.500", "0.650 [0.600, 0.700]", "0.520 [0.500, 0.540]", "no",
    ]  # fmt: skip


def test_runs_that_differ_in_their_seed_alone_are_summed_up(tmp_path):
    runs = [finished(tmp_path, "good", skill, seed) for seed, skill in enumerate((0.2, 0.4, 0.6))]
    section = seed_section(runs)
    assert section is not None
    assert [row[1:4] for row in section.rows] == [["good", "aiq", "3"], ["good", "gap_closed", "3"]]
    assert float(section.rows[0][5]) > 0
    assert seed_section(runs[:1]) is None


def test_a_section_is_the_same_table_in_markdown_and_csv(runs):
    section = region_section(sort_runs(runs))
    rows = list(csv.reader(io.StringIO(section.csv())))
    assert rows[0] == list(section.header)
    assert rows[1:] == [list(row) for row in section.rows]
    page = section.markdown()
    assert page.startswith("## ΔIBC by cost region\n")
    assert all(f" {cell} " in page for cell in rows[1])


def test_runs_from_before_choices_and_maps_still_load(tmp_path):
    run = finished(tmp_path, "good", 0.5)
    text = (run.folder / "metrics.json").read_text()
    (run.folder / "metrics.json").write_text(text.replace('"chosen"', '"unknown"'))
    with pytest.raises(ValueError, match="no finished run's metrics"):
        load(run.folder)
    content = json.loads(text)
    for key in ("chosen", "outcomes", "files", "tracked", "training"):
        del content[key]
    (run.folder / "metrics.json").write_text(json.dumps(content))
    with np.load(run.folder / "outcomes.npz") as arrays:
        kept = {name: arrays[name] for name in arrays if name != "policy_map"}
    np.savez_compressed(run.folder / "outcomes.npz", **kept)
    old = load(run.folder)
    assert old is not None
    assert old.chosen == []
    assert old.maps() == []


def test_beliefs_have_a_table_where_any_run_judged_them(tmp_path):
    runs = [finished(tmp_path / solver, solver, skill=1.0) for solver in ("exact", "net")]
    assert belief_section(sort_runs(runs)) is None
    figures = {
        key: value
        for name, mean in (("error", 0.03), ("log_loss", 0.5), ("brier", 0.2))
        for key, value in ((name, mean), (f"{name}_low", mean / 2), (f"{name}_high", 2 * mean))
    }
    rows = [
        {"belief": belief, "model": model, **figures, "error_chance": chance}
        for belief, chance in (("learned", 0.01), ("learned - fitted", None))
        for model in ("small", "all")
    ]
    judged = replace(runs[1], beliefs={"rows": rows, "diagrams": {}})
    section = belief_section(sort_runs([runs[0], judged]))
    shown = ["0.0300 [0.0150, 0.0600]", "0.5000 [0.2500, 1.0000]", "0.2000 [0.1000, 0.4000]"]
    assert section.rows == [
        ["toy · 1:10", "net", "learned", *shown, "0.0100"],
        ["toy · 1:10", "net", "learned - fitted", *shown, "–"],
    ]
