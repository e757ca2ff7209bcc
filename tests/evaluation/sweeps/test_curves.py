"""Curves along a sweep: which runs become which point of which line."""

from pathlib import Path

import numpy as np
import pytest

from routing_pomdp.evaluation.runs.run_folder import Run
from routing_pomdp.evaluation.sweeps.comparison import ComparisonCell
from routing_pomdp.evaluation.sweeps.curves import curve_figure, measure_curves


def _run(solver: str, ratio: float | None, size: int | None, gap: float | None, **solver_config):
    """A finished run's record, with an interval of 0.1 to either side."""
    config = {
        "seed": 0,
        "solver": {"_target_": solver, **solver_config},
        "costs": {"ratio": ratio},
        "evaluation": {"train_size": size},
        "rollouts": {"dataset": "toy"},
    }
    about = {
        "solver": solver,
        "dataset": "toy",
        "costs": "logged" if ratio is None else f"{ratio:g}",
        "queries": {"train": 300 if size is None else size},
        "config": config,
    }
    interval = (None, None) if gap is None else (gap - 0.1, gap + 0.1)
    return Run(Path(), about, {"gap_closed": gap}, {"gap_closed": interval}, [], [])


def test_a_line_runs_along_the_cost_ratios_in_order():
    runs = [
        _run("exact", 100, None, 0.3),
        _run("exact", 10, None, 0.1),
        _run("exact", 50, None, 0.2),
    ]
    ((setting, (curve,)),) = measure_curves(runs, "costs.ratio", "gap_closed").items()
    assert setting == ComparisonCell("toy", "")
    assert curve.label == "exact"
    np.testing.assert_array_equal(curve.at, [10, 50, 100])
    np.testing.assert_array_equal(curve.value, [0.1, 0.2, 0.3])
    np.testing.assert_allclose(curve.high - curve.low, 0.2)


def test_all_training_queries_stand_at_their_number():
    runs = [_run("exact", 10, size, 0.1) for size in (25, None, 100)]
    ((_, (curve,)),) = measure_curves(runs, "evaluation.train_size", "gap_closed").items()
    np.testing.assert_array_equal(curve.at, [25, 100, 300])


def test_what_else_varies_makes_other_panels_and_other_lines():
    runs = [
        _run(solver, ratio, size, 0.1, bins=bins)
        for solver, bins in (("exact", 4), ("exact", 8), ("static", 4))
        for ratio in (10, 20)
        for size in (25, 50)
    ]
    panels = measure_curves(runs, "costs.ratio", "gap_closed")
    rows = [f"toy evaluation.train_size={size}" for size in (25, 50)]
    assert [setting.row for setting in panels] == rows
    for curves in panels.values():
        assert [curve.label for curve in curves] == ["exact bins=4", "exact bins=8", "static"]
    sizes = measure_curves(runs, "evaluation.train_size", "gap_closed")
    assert [setting.column for setting in sizes] == ["1:10", "1:20"]


def test_logged_costs_have_no_place_among_ratios_and_one_point_is_no_curve():
    runs = [_run("exact", None, None, 0.1), _run("exact", 10, None, 0.2)]
    assert measure_curves(runs, "costs.ratio", "gap_closed") == {}


def test_curves_are_drawn_with_their_bands_and_a_gap_where_a_measure_is_undefined():
    runs = [_run("exact", ratio, None, gap) for ratio, gap in ((10, 0.1), (20, None), (30, 0.2))]
    curves = measure_curves(runs, "costs.ratio", "gap_closed")
    figure = curve_figure(curves, "costs.ratio", "gap_closed")
    (axes,) = figure.axes
    line = axes.lines[0]
    np.testing.assert_array_equal(line.get_xdata(), [10, 20, 30])
    assert np.isnan(line.get_ydata()[1])
    assert axes.get_xscale() == "log"
    assert figure.get_supxlabel() == "cost ratio"
    band = axes.collections[0].get_paths()[0].vertices
    assert band[:, 1].min() == pytest.approx(0.0)


def test_numbers_on_the_axis_keep_apart():
    runs = [_run("exact", 10, size, 0.1) for size in (25, 50, 100, 200, 230)]
    curves = measure_curves(runs, "evaluation.train_size", "gap_closed")
    figure = curve_figure(curves, "evaluation.train_size", "gap_closed")
    assert sorted(figure.axes[0].get_xticks()) == [25, 50, 100, 230]
