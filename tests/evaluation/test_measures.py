"""The measures of DESIGN.md §3, against arithmetic done by hand."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing_pomdp.evaluation.frontier import Point, frontier
from routing_pomdp.evaluation.measures import (
    FrontierMeans,
    FrontierOutcomes,
    delta_ibc,
    frontier_measures,
    gap_closed,
    ibc,
    measure,
    regional_delta_ibc,
    router_arena_score,
    saving_at,
)


def _outcomes(points, models, oracle):
    """Two queries whose means are the given (cost, score) pairs, without being constant."""
    spread = np.array([[0.75], [1.25]])

    def both(pairs):
        cost, score = np.array(pairs, dtype=float).T
        return spread[::-1] * score, spread * cost

    return FrontierOutcomes(*both(points), *both(models), *both(oracle))


def _two_models():
    # SLM costs 1 and scores .4, LLM costs 11 and scores .8: the line gains .04 per unit of cost.
    return _outcomes(
        points=[(1, 0.4), (6, 0.75), (9, 0.795), (12, 0.8)],
        models=[(1, 0.4), (11, 0.8)],
        oracle=[(1, 0.4), (6, 0.9), (11, 0.9)],
    )


def test_ibc_is_the_slope_from_the_small_model():
    # (.75 − .4)/(6 − 1) = .07 against (.8 − .4)/(11 − 1) = .04: 75% more benefit per cost.
    router, base = ibc(0.75, 6, 0.4, 1), ibc(0.8, 11, 0.4, 1)
    assert router == pytest.approx(0.07)
    assert base == pytest.approx(0.04)
    assert delta_ibc(router, base) == pytest.approx(75.0)


def test_ibc_is_undefined_without_extra_cost_and_its_lift_without_a_positive_base():
    np.testing.assert_array_equal(ibc(0.5, [1.0, 0.9], 0.4, 1.0), [np.nan, np.nan])
    np.testing.assert_array_equal(delta_ibc(0.1, [0.0, -0.1, np.nan]), [np.nan] * 3)


def test_regional_lift_of_two_models():
    means = _two_models().means()
    values, mean = regional_delta_ibc(
        means.router_frontier(), means.static_frontier(), means.slm, means.llm
    )
    # Centres 2, 4, 6, 8, 10. Line gains .04, .12, .20, .28, .36 over .4. The router's frontier is
    # (1, .4) (6, .75) (9, .795) (12, .8): .07 a unit up to 6, then .015, then .005/3:
    # gains .07, .21, .35, .38, .395 + .005/3.
    gains = np.array([0.07, 0.21, 0.35, 0.38, 0.395 + 0.005 / 3])
    expected = 100 * (gains / [0.04, 0.12, 0.20, 0.28, 0.36] - 1)
    np.testing.assert_allclose(values, expected, atol=1e-9)
    assert mean == pytest.approx(expected.mean())


def test_regional_base_line_is_the_best_pairwise_line_of_many_models():
    # Models (0, 0) (2, .8) (10, 1): in two regions the centres are 2.5 and 7.5, where the hull
    # stands at .8 + .5·.025 = .8125 and .8 + 5.5·.025 = .9375. A router at 1 from cost 2 on.
    static = frontier([0, 2, 10], [0, 0.8, 1])
    values, mean = regional_delta_ibc(
        frontier([0, 2], [0, 1]),
        static,
        Point(np.array(0.0), np.array(0.0)),
        Point(np.array(10.0), np.array(1.0)),
        regions=2,
    )
    expected = [100 * (1 / 0.8125 - 1), 100 * (1 / 0.9375 - 1)]
    np.testing.assert_allclose(values, expected)
    assert mean == pytest.approx(np.mean(expected))


def test_regional_lift_is_undefined_where_the_dear_model_is_no_better():
    outcomes = _outcomes([(1, 0.5), (2, 0.6)], [(1, 0.5), (3, 0.4)], [(1, 0.5), (2, 0.9)])
    result = measure(outcomes, outcomes)
    assert np.isnan(result.delta_ibc)
    assert np.isfinite(result.aiq)


def test_gap_closed_is_zero_for_mixing_and_one_for_the_oracle():
    assert gap_closed(0.6, 0.6, 0.9) == 0
    assert gap_closed(0.9, 0.6, 0.9) == 1
    assert gap_closed(0.5, 0.6, 0.9) == pytest.approx(-1 / 3)
    np.testing.assert_array_equal(gap_closed(0.6, 0.6, [0.6, 0.5]), [np.nan, np.nan])


def test_all_measures_of_a_hand_drawn_family():
    result = measure(_two_models(), _two_models())
    # Router: 1..6 mean .575, 6..9 mean .7725, 9..11 from .795 to .795 + .01/3, mean .795 + .005/3:
    # (5·.575 + 3·.7725 + 2·.795 + .01/3)/10 = (2.875 + 2.3175 + 1.59 + .00333…)/10.
    aiq_router = (2.875 + 2.3175 + 1.59 + 0.01 / 3) / 10
    assert result.aiq == pytest.approx(aiq_router, abs=1e-12)
    # Static: mean of .4 and .8. Oracle: 1..6 mean .65, 6..11 at .9: (3.25 + 4.5)/10.
    assert result.aiq_static == pytest.approx(0.6, abs=1e-12)
    assert result.aiq_oracle == pytest.approx(0.775, abs=1e-12)
    assert result.gap_closed == pytest.approx((aiq_router - 0.6) / 0.175, abs=1e-11)
    # Saving@0: only (12, .8) matches .8, but it is more expensive than the LLM: the LLM itself.
    # Saving@1: (9, .795) is within .01 and saves 2 of 11; it loses half a point. Saving@2: same.
    assert [s.index for s in result.savings] == [-1, 2, 2]
    assert [s.saving for s in result.savings] == pytest.approx([0, 2 / 11, 2 / 11])
    assert [s.drop for s in result.savings] == pytest.approx([0, 0.5, 0.5])


def test_the_saving_is_picked_on_validation_and_scored_on_test():
    models, oracle = [(1, 0.4), (10, 0.8)], [(5, 0.9)]
    # Validation takes (4, .8): the cheapest as good as the LLM. On test the same policy costs 5
    # and scores .7, although (2, .9) would have been the better pick there.
    validation = _outcomes([(2, 0.5), (4, 0.8), (6, 0.85)], models, oracle)
    test = _outcomes([(2, 0.9), (5, 0.7), (6, 0.85)], models, oracle)
    saving = saving_at(test.means(), validation.means(), 0)
    assert saving.index == 1
    assert saving.saving == pytest.approx(0.5)
    assert saving.drop == pytest.approx(10.0)


def test_the_saving_of_a_family_that_never_qualifies_is_the_dear_model_itself():
    outcomes = _outcomes([(2, 0.5)], [(1, 0.4), (10, 0.8)], [(5, 0.9)])
    saving = saving_at(outcomes.means(), outcomes.means(), 2)
    assert (saving.index, saving.saving, saving.drop) == (-1, 0.0, 0.0)


def test_of_equally_cheap_points_the_best_is_picked():
    outcomes = _outcomes([(5, 0.8), (5, 0.9)], [(1, 0.4), (10, 0.8)], [(5, 0.9)])
    assert saving_at(outcomes.means(), outcomes.means(), 0).index == 1


def test_a_router_that_mixes_at_random_closes_no_gap_and_a_worse_one_less():
    models, oracle = [(1, 0.4), (11, 0.8)], [(6, 0.9)]
    mixing = _outcomes([(1 + 10 * t, 0.4 + 0.4 * t) for t in (0.2, 0.5, 1)], models, oracle)
    assert measure(mixing, mixing).gap_closed == pytest.approx(0, abs=1e-12)
    assert measure(mixing, mixing).delta_ibc == pytest.approx(0, abs=1e-9)
    worse = _outcomes([(4, 0.4), (14, 0.8)], models, oracle)
    assert measure(worse, worse).gap_closed < 0


@given(st.integers(0, 10_000), st.floats(1e-6, 1e3), st.floats(0.1, 1), st.floats(0, 0.5))
def test_gap_closed_and_lift_do_not_depend_on_units(seed, unit, gain, shift):
    rng = np.random.default_rng(seed)
    models = [(1, 0.3), (4, 0.6), (9, 0.7)]
    points = list(zip(rng.uniform(1, 12, 6), rng.uniform(0.2, 0.8, 6), strict=True))
    here = _outcomes(points, models, [(5, 0.95)])
    there = FrontierOutcomes(
        gain * here.score + shift,
        unit * here.cost,
        gain * here.model_score + shift,
        unit * here.model_cost,
        gain * here.oracle_score + shift,
        unit * here.oracle_cost,
    )
    a, b = measure(here, here), measure(there, there)
    assert b.gap_closed == pytest.approx(a.gap_closed, rel=1e-6, abs=1e-9)
    assert b.delta_ibc == pytest.approx(a.delta_ibc, rel=1e-6, abs=1e-6)
    exact = saving_at(here.means(), here.means(), 0).saving
    assert saving_at(there.means(), there.means(), 0).saving == pytest.approx(exact, abs=1e-9)


def test_measures_flatten_to_json_with_null_for_undefined():
    outcomes = _outcomes([(1, 0.5), (2, 0.6)], [(1, 0.5), (3, 0.4)], [(1, 0.5), (2, 0.9)])
    flat = measure(outcomes, outcomes).as_dict()
    assert json.loads(json.dumps(flat, allow_nan=False)) == flat
    assert flat["delta_ibc"] is None
    assert flat["delta_ibc_region_5"] is None
    assert {
        "aiq",
        "gap_closed",
        "saving_vs_best_at_0",
        "drop_vs_most_expensive_at_1",
        "index_vs_best_at_2",
    } <= flat.keys()


def test_measures_of_a_batch_of_means_equal_those_of_each():
    a, b = _two_models().means(), replace(_two_models().means(), score=np.full(4, 0.6))
    names = list(FrontierMeans.__dataclass_fields__)
    batch = FrontierMeans(*(np.stack([getattr(a, k), getattr(b, k)]) for k in names))
    together = frontier_measures(batch)
    for r, alone in enumerate((a, b)):
        for name, value in frontier_measures(alone).items():
            np.testing.assert_allclose(together[name][r], value, atol=1e-12)


def test_savings_are_against_the_best_single_model_on_validation_not_the_most_expensive():
    # .9 at cost 4 is best; the most expensive scores .8 at 10. The point (2, .89) loses 1 point to
    # the best and saves half of its 4; it wins 9 over the most expensive and saves 8 of 10.
    outcomes = _outcomes([(2, 0.89)], [(1, 0.4), (4, 0.9), (10, 0.8)], [(2, 0.9)])
    found = measure(outcomes, outcomes)
    assert found.reference == 1
    assert [s.index for s in found.savings] == [-1, 0, 0]
    assert [s.saving for s in found.savings] == pytest.approx([0, 0.5, 0.5])
    assert [s.drop for s in found.savings] == pytest.approx([0, 1, 1])
    assert [s.saving for s in found.savings_vs_most_expensive] == pytest.approx([0.8] * 3)
    assert [s.drop for s in found.savings_vs_most_expensive] == pytest.approx([-9] * 3)


def test_of_equally_good_single_models_the_cheapest_is_the_reference():
    outcomes = _outcomes([(1, 0.4)], [(1, 0.4), (4, 0.9), (10, 0.9)], [(2, 0.9)])
    assert measure(outcomes, outcomes).reference == 1


def test_the_gain_over_static_chooses_both_mixtures_on_validation():
    # Budgets run from 0 to 10. Validation's hull of the family is (0, 0) (5, .8) (10, 1), of the
    # models (0, 0) (10, .6). On test the vertices score 0, .6, .7 and 0, .5: mean heights
    # (5·.3 + 5·.65)/10 = .475 and .25. The point (6, .1) was on no hull and wins nothing on test.
    models = [(0, 0.0), (10, 0.6)]
    validation = _outcomes([(5, 0.8), (10, 1.0), (6, 0.1)], models, [(5, 1.0)])
    test = _outcomes([(5, 0.6), (10, 0.7), (6, 0.9)], [(0, 0.0), (10, 0.5)], [(5, 1.0)])
    assert measure(test, validation).gain_over_static == pytest.approx(100 * (0.475 - 0.25))


def test_the_gain_over_static_is_flat_right_of_the_best_point_and_zero_for_single_models():
    models = [(0, 0.0), (10, 0.6)]
    validation = _outcomes([(2, 0.5)], models, [(5, 1.0)])
    # 0 … 2 rises to .4 (area .4), flat up to 10 (area 3.2): mean .36 against .3.
    test = _outcomes([(2, 0.4)], models, [(5, 1.0)])
    assert measure(test, validation).gain_over_static == pytest.approx(100 * (0.36 - 0.3))
    single = _outcomes(models, models, [(5, 1.0)])
    assert measure(single, single).gain_over_static == pytest.approx(0)


def test_perf_gain_and_cost_save_of_llmrouterbench():
    # B is .8 at 10. θ* scores .88: +10 %. θ† = (6, .8) saves 40 %.
    outcomes = _outcomes([(6, 0.8), (9, 0.88), (2, 0.7)], [(1, 0.4), (10, 0.8)], [(5, 0.9)])
    found = measure(outcomes, outcomes)
    assert (found.perf_gain, found.cost_save) == pytest.approx((0.1, 0.4))
    worse = measure(*[_outcomes([(2, 0.7)], [(1, 0.4), (10, 0.8)], [(5, 0.9)])] * 2)
    assert worse.perf_gain == pytest.approx(-0.125)
    assert np.isnan(worse.cost_save)


def test_router_arena_score_of_its_published_scale():
    # 1,000 queries for USD 200 are worth C = 0, for 0.0044 C = 1: S = 1.1·.5/(.05 + 1).
    assert router_arena_score(0.5, 0.2) == 0
    assert router_arena_score(0.5, 4.4e-6) == pytest.approx(0.55 / 1.05)
    # Half way on the logarithmic scale: the geometric mean, C = ½, S = 1.1·.8·.5/(.08 + .5).
    middle = np.sqrt(200 * 0.0044) / 1000
    assert router_arena_score(0.8, middle) == pytest.approx(0.44 / 0.58)
    # A submission's own figures: 71.67 % at USD 0.311 a thousand scored .7046.
    assert router_arena_score(0.7167, 0.311e-3) == pytest.approx(0.7046, abs=1e-4)
    assert np.isnan(router_arena_score(0.5, [0.0, 0.3])).all()


@pytest.mark.parametrize("dear", [1.0, 0.5])
def test_a_dear_model_that_is_not_dearer_is_refused(dear):
    outcomes = _outcomes([(1, 0.5)], [(1, 0.4), (dear, 0.8)], [(1, 0.9)])
    with pytest.raises(ValueError, match="order the models cheapest first"):
        measure(outcomes, outcomes)
    with pytest.raises(ValueError, match="order the models cheapest first"):
        saving_at(outcomes.means(), outcomes.means(), 0)


def test_splits_with_other_operating_points_are_refused():
    models, oracle = [(1, 0.4), (10, 0.8)], [(5, 0.9)]
    test, other = (_outcomes(points, models, oracle) for points in ([(2, 0.5)], [(2, 0.5)] * 2))
    with pytest.raises(ValueError, match="1 operating points and validation 2"):
        measure(test, other)


def test_a_negative_tolerance_is_refused():
    means = _two_models().means()
    with pytest.raises(ValueError, match=r"epsilon is -1.*0 or more"):
        saving_at(means, means, -1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"score": np.full((2, 4), np.nan)}, "score is nan at query 0, column 0"),
        ({"cost": np.array([[1, 1, 1, 1], [1, 1, -2, 1]])}, r"cost is -2.0 at query 1, column 2"),
        ({"model_cost": np.ones((2, 3))}, r"model_score has shape \(2, 2\) and model_cost \(2, 3"),
        ({"oracle_score": np.ones((3, 3))}, "numbers of queries differ.*oracle_score 3"),
        ({"score": np.ones(2)}, r"score has shape \(2,\)"),
    ],
)
def test_outcomes_that_do_not_fit_together_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        replace(_two_models(), **change)


def test_both_conventions_of_aiq_by_hand():
    """A frontier from (2, .5) straight to (10, .9): area 5.6, over a span of 8 or a cost of 10."""
    means = FrontierMeans(
        score=np.array([0.5, 0.9]),
        cost=np.array([2.0, 10.0]),
        model_score=np.array([0.5, 0.9]),
        model_cost=np.array([2.0, 10.0]),
        oracle_score=np.array([0.9]),
        oracle_cost=np.array([2.0]),
    )
    found = frontier_measures(means)
    assert found["aiq"] == pytest.approx(5.6 / 8)
    assert found["aiq_by_largest_cost"] == pytest.approx(5.6 / 10)
