"""What a sweep's last lines say, on runs made up for it."""

import numpy as np
import pytest

from routing_pomdp.evaluation.measures import frontier_measures
from routing_pomdp.evaluation.runs.run_folder import Run
from routing_pomdp.evaluation.sweeps.comparison import ComparisonCell
from routing_pomdp.evaluation.sweeps.conclusion import (
    conclusion,
    gain_over_mixing,
    middle_settings,
)
from tests.support.outcomes import family_of


def made_up(gap, low, family=None, saving=0.0):
    run = Run(
        folder=None,
        about={"config": {"evaluation": {"level": 0.95}}},
        measures={
            "gap_closed": gap,
            "saving_vs_best_at_0": saving,
            "drop_vs_best_at_0": -0.5,
            "reference": -1,
        },
        intervals={"gap_closed": (low, gap + 0.1), "saving_vs_best_at_0": (0.2, 0.4)},
        points=[],
        models=[{"name": "small"}, {"name": "large"}],
    )
    object.__setattr__(run, "outcomes", lambda: family or family_of(seed=0))
    return run


def cells(*columns, row="log"):
    return [ComparisonCell(row, column) for column in columns]


def test_the_gain_is_the_frontiers_height_over_mixing_in_points():
    family = family_of(n=400, seed=2)
    found = gain_over_mixing(made_up(0.3, 0.1, family))
    measures = frontier_measures(family.means())
    assert found.points == pytest.approx(100 * (measures["aiq"] - measures["aiq_static"]))
    assert found.low < found.points < found.high
    rng, drawn = np.random.default_rng(1), []
    for _ in range(300):
        rows = np.bincount(rng.integers(0, 400, 400), minlength=400)[None].astype(float)
        one = frontier_measures(family.means(rows))
        drawn.append(100 * float((one["aiq"] - one["aiq_static"])[0]))
    assert (found.low, found.high) == pytest.approx(np.quantile(drawn, [0.025, 0.975]), abs=0.6)


def test_the_leader_is_no_baseline_and_is_named_with_what_it_saves():
    (only,) = cells("1:10")
    runs = {"oracle": made_up(1.0, 0.9), "good": made_up(0.4, 0.3, saving=0.3)}
    said = conclusion({only: {**runs, "weak": made_up(0.1, -0.1), "static": made_up(0.0, 0.0)}})
    assert said.startswith("good leads: it closes 0.400 of the gap")
    assert "then come weak 0.100." in said
    assert "lose nothing to large, it saves on test 30% [20, 40]" in said
    assert "scores 0.5 points more" in said
    assert "Not certainly better: weak in 1 of 1 settings." in said


def test_where_no_router_is_better_than_mixing_it_says_do_not_route():
    first, second = cells("1:10", "1:50")
    said = conclusion({first: {"a": made_up(0.2, 0.1)}, second: {"a": made_up(0.05, -0.02)}})
    assert "No router is certainly better than random mixing on log · 1:50: do not route" in said


def test_where_every_router_pays_it_says_so():
    (only,) = cells("1:10")
    assert "Every router is better than random mixing" in conclusion(
        {only: {"a": made_up(0.2, 0.1)}}
    )


def test_baselines_alone_have_no_leader():
    (only,) = cells("1:10")
    assert conclusion({only: {"static": made_up(0.0, 0.0)}}).startswith("No router was run")


def test_the_middle_of_each_row_is_shown():
    every = cells("1:10", "1:50", "1:100") + cells("1:10", row="other")
    settings = {cell: {} for cell in every}
    assert middle_settings(settings) == [*cells("1:50"), *cells("1:10", row="other")]
