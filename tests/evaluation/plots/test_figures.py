"""Figures show what they were given, in every panel alike, and are written as PNG and SVG."""

import subprocess
import sys
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from routing_pomdp.evaluation.frontier import frontier, height
from routing_pomdp.evaluation.plots.figures import (
    Curve,
    ModelPoint,
    Panel,
    frontier_figure,
    save_figure,
    sweep_figure,
)

_MODELS = [ModelPoint("small", 1.0, 0.4), ModelPoint("large", 10.0, 0.8)]
_STATIC = frontier([1, 10], [0.4, 0.8])
_ORACLE = frontier([1, 5], [0.4, 0.9])


def _curve(label, lift=0.0):
    cost, score = np.array([1.0, 4, 7, 12]), np.array([0.4, 0.6 + lift, 0.5, 0.8])
    return Curve(label, frontier(cost, score), cost, score)


def _panel(row, column, labels=("exact", "threshold")):
    return Panel(row, column, [_curve(label) for label in labels], _STATIC, _ORACLE, _MODELS)


def _texts(axes):
    return [text.get_text() for text in axes.texts]


def _line_of(axes, colour):
    return next(
        line
        for line in axes.lines
        if line.get_color() == colour
        and line.get_linestyle() != "None"
        and len(line.get_xdata()) > 9
    )


def _marker_colours(figure):
    legend = figure.legends[0]
    return {
        text.get_text(): (handle.get_color(), handle.get_marker())
        for text, handle in zip(legend.get_texts(), legend.legend_handles, strict=True)
    }


@pytest.mark.parametrize("log_cost", [False, True])
def test_a_line_is_the_frontier_over_the_window(log_cost):
    curve = _curve("exact", 0.1)
    figure = frontier_figure([curve], _STATIC, _ORACLE, _MODELS, "t", log_cost=log_cost)
    axes = figure.axes[0]
    for colour, hull in (("#0072B2", curve.frontier), ("black", _ORACLE), ("#767676", _STATIC)):
        x, y = _line_of(axes, colour).get_data()
        assert (x[0], x[-1]) == (1.0, 10.0)
        np.testing.assert_allclose(y, height(hull, x))
        assert set(hull.cost[hull.cost < 10]) <= set(x)
    assert axes.get_xscale() == ("log" if log_cost else "linear")


def test_axes_are_labelled_with_units_and_models_by_name():
    figure = frontier_figure(
        [_curve("exact")], _STATIC, _ORACLE, _MODELS, "mmlu", cost_unit="USD", score_name="accuracy"
    )
    axes = figure.axes[0]
    assert axes.get_xlabel() == "mean cost per query (USD)"
    assert axes.get_ylabel() == "mean accuracy"
    assert axes.get_title(loc="left") == "mmlu"
    assert {"small", "large"} <= set(_texts(axes))


def test_points_beyond_the_most_expensive_model_are_counted_not_drawn():
    axes = frontier_figure([_curve("exact")], _STATIC, _ORACLE, _MODELS, "t").axes[0]
    assert axes.get_xlim()[1] < 12
    assert "more expensive points not shown: 1" in _texts(axes)


def test_few_lines_are_labelled_directly_and_many_in_a_legend():
    few = [_curve(f"solver {i}") for i in range(3)]
    many = [_curve(f"solver {i}") for i in range(5)]
    figure = frontier_figure(few, _STATIC, _ORACLE, _MODELS, "t")
    assert {"solver 0", "solver 2", "oracle", "random mixing"} <= set(_texts(figure.axes[0]))
    assert not figure.legends
    figure = frontier_figure(many, _STATIC, _ORACLE, _MODELS, "t")
    solvers = {f"solver {i}" for i in range(5)}
    assert set(_marker_colours(figure)) == solvers | {"oracle", "random mixing", "single models"}
    assert not solvers & set(_texts(figure.axes[0]))


def test_direct_labels_do_not_overlap():
    figure = frontier_figure(
        [_curve(f"solver {i}") for i in range(4)], _STATIC, _ORACLE, _MODELS, "t"
    )
    axes = figure.axes[0]
    figure.draw_without_rendering()
    labels = [t for t in axes.texts if t.get_text().startswith(("solver", "oracle", "random"))]
    boxes = sorted((t.get_window_extent() for t in labels), key=lambda box: box.y0)
    assert len(boxes) == 6
    assert all(below.y1 <= above.y0 + 1 for below, above in pairwise(boxes))


def test_every_solver_has_a_look_of_its_own():
    looks = _marker_colours(
        frontier_figure([_curve(f"s{i}") for i in range(11)], _STATIC, _ORACLE, _MODELS, "t")
    )
    assert len({looks[f"s{i}"][1] for i in range(11)}) == 11


def test_a_sweep_has_a_panel_for_each_cell_and_one_look_for_each_solver():
    panels = [
        _panel("mmlu", "ratio 10"),
        _panel("mmlu", "ratio 50", labels=("threshold",)),
        _panel("medmcqa", "ratio 10", labels=("threshold", "exact")),
    ]
    figure = sweep_figure([replace(panel, unit="cheapest call") for panel in panels], "sweep")
    shown = [axes for axes in figure.axes if axes.get_visible()]
    assert [axes.get_title(loc="left") for axes in shown] == [
        "mmlu · ratio 10",
        "mmlu · ratio 50",
        "medmcqa · ratio 10",
    ]
    assert len(figure.axes) == 4
    colour = _marker_colours(figure)["threshold"][0]
    for axes in shown:
        assert _line_of(axes, colour) is not None
    assert "cheapest call" in figure.get_supxlabel()


def test_both_formats_are_written_and_the_svg_is_reproducible(tmp_path):
    stem = tmp_path / "new" / "mmlu-ratio-0.5"
    written = []
    for _ in range(2):
        figure = frontier_figure([_curve("exact")], _STATIC, _ORACLE, _MODELS, "t")
        png, svg = save_figure(figure, stem)
        written.append(svg.read_bytes())
    assert png.name == "mmlu-ratio-0.5.png"
    assert png.read_bytes().startswith(b"\x89PNG")
    assert b"<svg" in written[0]
    assert written[0] == written[1]


def test_drawing_uses_no_pyplot_and_measuring_no_matplotlib():
    code = (
        "import sys, routing_pomdp.evaluation.bootstrap, routing_pomdp.evaluation.plots.panels; "
        "assert 'matplotlib' not in sys.modules; "
        "import routing_pomdp.evaluation.plots.figures; "
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_what_cannot_be_drawn_is_refused():
    with pytest.raises(ValueError, match="no panels"):
        sweep_figure([])
    with pytest.raises(ValueError, match="panel mmlu · ratio 10: two panels for one cell"):
        sweep_figure([_panel("mmlu", "ratio 10")] * 2)
    with pytest.raises(ValueError, match="no models"):
        frontier_figure([_curve("exact")], _STATIC, _ORACLE, [], "t")
    with pytest.raises(ValueError, match="last model costs 1 and the first 10"):
        frontier_figure([_curve("exact")], _STATIC, _ORACLE, _MODELS[::-1], "t")
    free = [ModelPoint("small", 0.0, 0.4), _MODELS[1]]
    with pytest.raises(ValueError, match=r"a cost of 0 .* set log_cost=False"):
        frontier_figure([_curve("exact")], _STATIC, _ORACLE, free, "t", log_cost=True)
