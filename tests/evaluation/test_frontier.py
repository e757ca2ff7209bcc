"""The hull, its height and AIQ, against hand computation and against every chord."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from routing_pomdp.evaluation.frontier import Frontier, aiq, frontier, height

# Rounded, so that ties and collinear points are common.
_VALUES = st.floats(0, 1).map(lambda v: round(v, 2)) | st.floats(0, 1).map(lambda v: round(v, 12))


@st.composite
def _batches(draw, max_resamples=4, max_points=9):
    """Costs and scores (R, M), all with the point of lowest cost at 0."""
    shape = (draw(st.integers(1, max_resamples)), draw(st.integers(1, max_points)))
    cost, score = (draw(arrays(float, shape, elements=_VALUES)) for _ in range(2))
    cost[:, 0] = 0.0
    return cost, score


def _highest_chord(cost, score, at):
    """Best score of any mixture of one or two points whose mean cost is at most ``at``."""
    best = max(y for x, y in zip(cost, score, strict=True) if x <= at)
    for x0, y0 in zip(cost, score, strict=True):
        for x1, y1 in zip(cost, score, strict=True):
            if x0 <= at < x1:
                best = max(best, y0 + (y1 - y0) * (at - x0) / (x1 - x0))
    return best


def _area_under_chords(cost, score, low, high):
    # Vertices are points, so between neighbouring costs the highest chord is a straight line.
    edges = sorted({low, high} | {x for x in cost if low < x < high})
    return np.trapezoid([_highest_chord(cost, score, x) for x in edges], edges) / (high - low)


def test_hull_of_a_hand_drawn_family():
    # (2, .6) and (4, .8) are dominated. From (0, .5) the slopes are .2 to (1, .7), .1333 to
    # (3, .9); from (1, .7) it is .1 to (3, .9); nothing is better than .9.
    hull = frontier([3, 0, 4, 1, 2], [0.9, 0.5, 0.8, 0.7, 0.6])
    assert hull.cost.tolist() == [0, 1, 3]
    assert hull.score.tolist() == [0.5, 0.7, 0.9]
    # Halfway from (1, .7) to (3, .9) is .8; right of 3 it stays .9; nothing is cheaper than 0.
    np.testing.assert_allclose(height(hull, [0, 2, 5]), [0.5, 0.8, 0.9], rtol=0, atol=1e-15)
    assert np.isnan(height(hull, -0.1))


def test_aiq_of_a_hand_drawn_family():
    hull = Frontier(np.array([0.0, 1, 3]), np.array([0.5, 0.7, 0.9]))
    # Areas: 0..1 mean .6, 1..3 mean .8 twice, 3..4 flat .9: (.6 + 1.6 + .9)/4 = .775.
    assert aiq(hull, 0, 4) == pytest.approx(0.775, abs=1e-15)
    # From .5 to 2: heights .6, .7, .8: (.5·.65 + 1·.75)/1.5 = 1.075/1.5.
    assert aiq(hull, 0.5, 2) == pytest.approx(1.075 / 1.5, abs=1e-15)
    # Wholly inside one segment, and wholly right of the last vertex.
    assert aiq(hull, 1.5, 2.5) == pytest.approx(0.8, abs=1e-15)
    assert aiq(hull, 5, 6) == pytest.approx(0.9, abs=1e-15)


def test_points_dearer_than_the_window_count_only_as_ends_of_a_mixture():
    # Towards (4, .9) the height at 2 is .7, so the mean over [0, 2] is .6.
    assert aiq(frontier([0, 4], [0.5, 0.9]), 0, 2) == pytest.approx(0.6, abs=1e-15)


def test_one_point_is_flat():
    hull = frontier([2.0], [0.4])
    assert (hull.cost.tolist(), hull.score.tolist()) == ([2.0], [0.4])
    assert height(hull, 7.0) == 0.4
    assert aiq(hull, 2.0, 3.0) == 0.4


def test_ties_keep_the_best_point_and_duplicates_and_collinear_points_add_no_vertex():
    hull = frontier([0, 0, 0, 1, 1, 2, 2], [0.1, 0.2, 0.2, 0.3, 0.3, 0.4, 0.0])
    assert hull.cost.tolist() == [0, 2]
    assert hull.score.tolist() == [0.2, 0.4]


def test_a_family_that_only_gets_worse_is_flat_at_its_cheapest_point():
    hull = frontier([1, 2, 3], [0.9, 0.8, 0.7])
    assert hull.cost.tolist() == [1]
    assert aiq(hull, 1, 3) == 0.9


@given(_batches())
def test_batch_height_and_aiq_equal_the_highest_chord(points):
    cost, score = points
    at = np.array([0.0, 0.125, 0.5, 0.7, 1.0, 1.5])
    hull = frontier(cost, score)
    low, high = np.full(len(cost), 0.05), np.linspace(0.5, 1.3, len(cost))
    for r in range(len(cost)):
        expected = [_highest_chord(cost[r], score[r], x) for x in at]
        np.testing.assert_allclose(
            height(hull, np.tile(at, (len(cost), 1)))[r], expected, rtol=0, atol=1e-12
        )
        area = _area_under_chords(cost[r], score[r], low[r], high[r])
        assert aiq(hull, low, high)[r] == pytest.approx(area, abs=1e-12)


@given(_batches())
def test_a_batch_gives_each_resample_what_it_gets_alone(points):
    cost, score = points
    hull = frontier(cost, score)
    heights, areas = height(hull, 0.3), aiq(hull, np.zeros(len(cost)), np.ones(len(cost)))
    for r in range(len(cost)):
        alone = frontier(cost[r], score[r])
        assert height(alone, 0.3) == pytest.approx(heights[r], abs=1e-12)
        assert aiq(alone, 0, 1) == pytest.approx(areas[r], abs=1e-12)


@given(_batches(max_resamples=1))
def test_hull_is_concave_increasing_made_of_points_and_above_all_of_them(points):
    cost, score = points[0][0], points[1][0]
    hull = frontier(cost, score)
    assert np.all(np.diff(hull.cost) > 0)
    assert np.all(np.diff(hull.score) > 0)
    slopes = np.diff(hull.score) / np.diff(hull.cost)
    assert np.all(np.diff(slopes) <= 1e-9 * slopes[:-1])
    assert set(zip(hull.cost, hull.score, strict=True)) <= set(zip(cost, score, strict=True))
    assert np.all(height(hull, cost) >= score - 1e-12)


@given(_batches(max_resamples=1), st.floats(0, 1), st.floats(0, 0.5))
def test_dominated_points_change_nothing(points, share, worse):
    cost, score = points[0][0], points[1][0]
    hull = frontier(cost, score)
    at = share * cost.max()
    more = frontier(np.append(cost, at), np.append(score, height(hull, at) - worse))
    assert aiq(more, 0, 1) == pytest.approx(aiq(hull, 0, 1), abs=1e-12)


@given(_batches(max_resamples=1), st.floats(1e-6, 1e3), st.floats(0.1, 10), st.floats(-1, 1))
def test_aiq_follows_the_units_of_cost_and_score(points, unit, gain, shift):
    cost, score = points[0][0], points[1][0]
    there = aiq(frontier(unit * cost, gain * score + shift), 0, unit)
    assert there == pytest.approx(gain * aiq(frontier(cost, score), 0, 1) + shift, abs=1e-9)


def test_a_window_without_width_is_refused():
    hull = frontier([0, 1], [0, 1])
    for high in (1.0, 0.5):
        with pytest.raises(ValueError, match=r"high − low .* last model to cost more"):
            aiq(hull, 1.0, high)


def test_a_frontier_that_starts_inside_the_window_is_refused():
    with pytest.raises(ValueError, match=r"costs 0\.5 more than the window's low end"):
        aiq(frontier([1.5, 2], [0, 1]), 1, 2)


@pytest.mark.parametrize(
    ("cost", "score", "message"),
    [
        ([0, 1], [0.5, np.nan], r"score\[1\] is nan"),
        ([0, np.inf], [0.5, 1], r"cost\[1\] is inf"),
        ([0, 1], [0.5], r"shape \(2,\) and score \(1,\)"),
        ([], [], "holds no point"),
        (0, 0, "expected the same shape"),
    ],
)
def test_points_that_are_none_are_refused(cost, score, message):
    with pytest.raises(ValueError, match=message):
        frontier(cost, score)
