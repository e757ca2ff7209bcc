"""The guarantee: what is certified, by hand; that it holds, by repetition; what it refuses."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from routing_pomdp.evaluation.guarantee import (
    Calibration,
    certify,
    certify_budget,
    order_of_tests,
    rejected_in_order,
)
from routing_pomdp.evaluation.loss_tests import exact_p_value


def calibration(losses, costs, n=400, order=None, group=None, grade=1.0) -> Calibration:
    """Operating points with so many (losses, wins) against a reference of cost 1 that is right on
    the first half of the queries."""
    reference = np.zeros(n)
    reference[: n // 2] = grade
    score = np.repeat(reference[:, None], len(losses), axis=1)
    for point, (worse, better) in enumerate(losses):
        score[:worse, point] = 0
        score[n // 2 : n // 2 + better, point] = grade
    cost = np.tile(np.asarray(costs, dtype=float), (n, 1))
    points = tuple(range(len(costs))) if order is None else order
    return Calibration(score, cost, reference, np.ones(n), points, group)


def test_the_points_before_the_first_that_fails_are_certified():
    p = {3: 0.01, 1: 0.05, 0: 0.2, 2: 0.0}
    assert rejected_in_order([3, 1, 0, 2], p.__getitem__, 0.1) == [3, 1]
    assert rejected_in_order([0, 3], p.__getitem__, 0.1) == []


def test_the_cheapest_certified_policy_is_taken():
    # 2 losses and 2 wins among 400 keep 2 points, 8 and 2 do not: the third is never reached.
    found = certify(
        {"a": calibration([(2, 2), (3, 2), (8, 2), (0, 0)], [0.8, 0.5, 0.3, 0.1])}, 0.02
    )
    assert exact_p_value(3, 2, 400, 0.02, 0.1) <= 0.1 < exact_p_value(8, 2, 400, 0.02, 0.1)
    assert (found.solver, found.index, found.certified, found.candidates) == ("a", 1, 2, 4)
    assert (found.loss_bound, found.saving) == pytest.approx((0.02, 0.5))
    assert found.loss == pytest.approx(1 / 400)
    assert found.queries_needed is not None
    assert found.queries_needed > 400
    assert "a, operating point 1: loses at most 2 points with probability 0.9" in str(found)
    assert json.loads(json.dumps(found.as_dict(), allow_nan=False)) == found.as_dict()


def test_with_too_few_queries_the_reference_is_returned_and_said_so():
    found = certify({"a": calibration([(0, 0)], [0.1], n=5)}, 0.02)
    assert (found.solver, found.index, found.loss_bound, found.saving) == (None, -1, 0, 0)
    assert found.queries_needed == pytest.approx(136, abs=3)
    assert str(found).startswith("the reference: 5 calibration queries certify no cheaper policy")
    assert "about 13" in str(found)


def test_no_calibration_queries_certify_nothing():
    found = certify({"a": calibration([(0, 0)], [0.1], n=0)}, 0.02)
    assert (found.solver, found.queries, found.queries_needed) == (None, 0, None)


def test_a_reference_that_is_the_cheapest_leaves_nothing_to_certify():
    # Every policy costs as much on the training queries, so no candidate is left.
    order = order_of_tests([0, 1], np.array([2.0, 1.0]), 1.0)
    found = certify({"a": calibration([(0, 0)] * 2, [2.0, 1.0], order=order)}, 0.02)
    assert str(found) == "the reference: no operating point costs less than it does"


def test_what_is_certified_and_dearer_on_the_calibration_queries_is_not_taken():
    found = certify({"a": calibration([(0, 10)], [1.2])}, 0.02)
    assert (found.solver, found.certified) == (None, 1)
    assert "saves nothing" in str(found)


def test_points_are_tested_by_price_from_the_first_that_is_cheaper_than_the_reference():
    # Prices out of order: 0 costs more than the reference and is left out.
    order = order_of_tests([1.0, 0.0, 0.1, 8.0], np.array([0.5, 1.4, 0.9, 0.1]), 1.0)
    assert order == (2, 0, 3)


def test_solvers_share_the_level():
    good = calibration([(3, 2)], [0.5])
    assert 0.05 < exact_p_value(3, 2, 400, 0.013, 0.05) <= 0.1
    assert certify({"a": good}, 0.013).solver == "a"
    assert certify({"a": good, "b": good}, 0.013).solver is None
    cheaper = calibration([(0, 2)], [0.4])
    assert certify({"a": good, "b": cheaper}, 0.013).solver == "b"


def test_every_group_must_keep_the_tolerance():
    # Over all 800 queries 4 losses and 40 wins are certain; the losses are all of one group.
    n, group = 800, np.array(["x", "y"]).repeat(400)
    losses = [(12, 100)]  # losses among the first 400, wins among the last
    assert certify({"a": calibration(losses, [0.5], n)}, 0.03).solver == "a"
    found = certify({"a": calibration(losses, [0.5], n, group=group)}, 0.03)
    assert found.solver is None
    assert certify({"a": calibration([(2, 2)], [0.5], n, group=group)}, 0.03).solver == "a"


def test_graded_scores_are_tested_by_betting():
    graded = calibration([(2, 2)], [0.5], n=1500, grade=0.7)
    assert not graded.binary
    assert certify({"a": graded}, 0.02).solver == "a"
    assert certify({"a": calibration([(60, 2)], [0.5], n=1500, grade=0.7)}, 0.02).solver is None


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.floats(0, 0.1), st.floats(0, 0.1))
def test_a_tighter_tolerance_never_certifies_what_a_wider_one_does_not(seed, epsilon, less):
    rng = np.random.default_rng(seed)
    losses = [(int(w), int(b)) for w, b in rng.integers(0, 12, (5, 2))]
    given = {"a": calibration(losses, np.linspace(0.9, 0.2, 5), n=200)}
    wide, tight = certify(given, epsilon), certify(given, max(0.0, epsilon - less))
    assert tight.certified <= wide.certified
    assert tight.saving <= wide.saving


def test_the_guarantee_holds_where_every_policy_loses_a_hair_more():
    # The hardest case: whatever is certified is a violation.
    rng, epsilon, broken, repetitions = np.random.default_rng(0), 0.05, 0, 400
    for _ in range(repetitions):
        worse, better, _ = rng.multinomial(100, [0.0751, 0.025, 0.8999], 4).T
        points = calibration(list(zip(worse, better, strict=True)), [0.8, 0.6, 0.4, 0.2], n=100)
        broken += certify({"a": points}, epsilon).solver is not None
    assert 0 < broken <= stats.binom.ppf(0.999, repetitions, 0.1)


def test_a_budget_is_kept_by_the_best_certified_point():
    # Costs of 1 for most queries and 10 for a share: means 1.09, 1.9 and 4.6 of a cap of 10.
    n = 2000
    cost = np.ones((n, 3))
    for point, share in enumerate((0.4, 0.1, 0.01)):
        cost[: int(share * n), point] = 10
    reference = np.zeros(n)
    score = np.zeros((n, 3))
    score[:, 0], score[:900, 1], score[:500, 2] = 1, 1, 1
    each = Calibration(score, cost, reference, np.ones(n), (0, 1, 2))
    assert certify_budget(each, 2.5, 10) == 1
    assert certify_budget(each, 1.91, 10) == 2  # 1.9 is not certainly below 1.91
    assert certify_budget(each, 1.0, 10) is None
    with pytest.raises(ValueError, match="cap is 0: expected the largest cost"):
        certify_budget(each, 1.0, 0)


@pytest.mark.parametrize(
    ("epsilon", "delta", "said"),
    [
        (-0.01, 0.1, r"epsilon is -0.01: expected a tolerated loss of score in \[0, 1\)"),
        (1.0, 0.1, "epsilon is 1.0"),
        (float("nan"), 0.1, "epsilon is nan"),
        (0.02, 0.0, r"delta is 0.0: expected a probability in \(0, 1\)"),
        (0.02, 1.0, "delta is 1.0"),
    ],
)
def test_tolerances_out_of_range_are_refused(epsilon, delta, said):
    with pytest.raises(ValueError, match=said):
        certify({"a": calibration([(0, 0)], [0.5])}, epsilon, delta)


def test_calibrations_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="no solver given"):
        certify({}, 0.02)
    with pytest.raises(ValueError, match=r"score has values outside \[0, 1\]"):
        calibration([(0, 0)], [0.5], grade=1.5)
    with pytest.raises(ValueError, match=r"order \[1\] names points outside 0 … 0"):
        calibration([(0, 0)], [0.5], order=(1,))
    with pytest.raises(ValueError, match=r"score \(4, 1\), cost \(4, 2\)"):
        Calibration(np.zeros((4, 1)), np.zeros((4, 2)), np.zeros(4), np.zeros(4), (0,))
