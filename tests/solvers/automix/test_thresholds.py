"""AutoMix's thresholds, against a search over all of them."""

from itertools import combinations

import numpy as np
import pytest

from routing_pomdp.envs import RoutingData, Rules
from routing_pomdp.evaluation.evaluate import evaluate, returns
from routing_pomdp.solvers import Threshold
from routing_pomdp.solvers.automix.thresholds import (
    AutoMixDoubleThreshold,
    AutoMixThreshold,
    SelfConsistency,
    best_band,
)
from routing_pomdp.solvers.cascades.threshold import ThresholdPolicy
from tests.support.problems import every_rules, name_of, random_data, random_problem

SOLVERS = [AutoMixThreshold(), AutoMixDoubleThreshold(), SelfConsistency()]


def training_return(policy, data):
    return returns(evaluate(policy, data), policy.problem).mean()


def edges(signal):
    values = np.unique(signal)
    return [-np.inf, *((values[1:] + values[:-1]) / 2), np.inf]


@pytest.mark.parametrize("verify", [False, True])
@pytest.mark.parametrize("price", [0.0, 0.1, 0.5])
def test_two_models_get_the_best_of_all_bands(verify, price):
    rng = np.random.default_rng(3)
    problem = random_problem(Rules(2, verify=verify), rng, price=price)
    data = random_data(30, 2, rng)
    found = training_return(AutoMixDoubleThreshold().solve(problem, data), data)
    bands = [*combinations(edges(data.signal[:, 0, 0]), 2), (-np.inf, -np.inf)]
    best = max(
        training_return(ThresholdPolicy.of(problem, (0, 1), cut, floor), data)
        for floor, cut in bands
    )
    assert found == pytest.approx(best, abs=1e-12)
    assert found >= training_return(AutoMixThreshold().solve(problem, data), data) - 1e-12


def test_the_best_band_is_the_best_of_all_bands_with_ties_and_action_costs():
    rng = np.random.default_rng(0)
    for _ in range(200):
        n = int(rng.integers(1, 12))
        gain, signal = rng.normal(size=n), rng.integers(0, 5, n).astype(float)
        action_cost = float(rng.choice([0.0, 0.5]))

        def worth(floor, cut, gain=gain, signal=signal, action_cost=action_cost):
            inside = (signal >= floor) & (signal < cut)
            return gain[inside].sum() - action_cost * bool(np.isfinite([floor, cut]).any())

        best = max(worth(*band) for band in combinations(edges(signal), 2))
        assert worth(*best_band(gain, signal, action_cost)) == pytest.approx(
            max(best, 0.0), abs=1e-12
        )


def test_what_is_hopeless_is_kept():
    """Confidence 0: neither model is right; in the middle: the large one is; high: both are."""
    confidence = np.repeat([0.0, 0.5, 1.0], 20)
    small, large = confidence == 1, confidence >= 0.5
    n = len(confidence)
    train = RoutingData(
        np.stack([small, large], axis=1).astype(float),
        np.broadcast_to([0.01, 1.0], (n, 2)),
        np.zeros((n, 2)),
        np.stack([confidence, confidence], axis=1)[..., None],
    )
    problem = random_problem(Rules(2), np.random.default_rng(0))
    problem = problem.at(0.3 * problem.costs.unit)
    outcome = evaluate(AutoMixDoubleThreshold().solve(problem, train), train)
    np.testing.assert_array_equal(outcome.answer == 1, confidence == 0.5)
    single = evaluate(AutoMixThreshold().solve(problem, train), train)
    np.testing.assert_array_equal(single.answer == 1, confidence <= 0.5)


def test_one_threshold_is_the_threshold_cascade_of_the_whole_chain():
    for seed, rules in enumerate(every_rules(3)):
        rng = np.random.default_rng(seed)
        problem, data = random_problem(rules, rng), random_data(60, 3, rng)
        ours = evaluate(AutoMixThreshold().solve(problem, data), data)
        if not (rules.skip or rules.free_start):
            other = evaluate(Threshold().solve(problem, data), data)
            np.testing.assert_array_equal(ours.answer, other.answer)
        # Nothing is passed over on the way.
        if rules.answer == "last":
            np.testing.assert_array_equal(ours.calls, ours.answer + 1)


def test_self_consistency_escalates_at_most_a_half():
    confidence = np.array([0.0, 0.49, 0.5, 0.51, 1.0])
    n = len(confidence)
    train = RoutingData(
        np.ones((n, 2)),
        np.ones((n, 2)),
        np.zeros((n, 2)),
        np.stack([confidence, confidence], axis=1)[..., None],
    )
    problem = random_problem(Rules(2), np.random.default_rng(0))
    outcome = evaluate(SelfConsistency().solve(problem, train), train)
    assert outcome.answer.tolist() == [1, 1, 1, 0, 0]


@pytest.mark.parametrize("rules", every_rules(3), ids=name_of)
@pytest.mark.parametrize("solver", SOLVERS, ids=lambda solver: type(solver).__name__)
def test_it_plays_by_every_rule_with_constant_signals_and_ten_queries(solver, rules):
    rng = np.random.default_rng(0)
    problem, data = random_problem(rules, rng), random_data(10, 3, rng)
    constant = RoutingData(
        data.score, data.call_cost, data.verify_cost, np.full_like(data.signal, 0.7)
    )
    for train in (data, constant):
        evaluate(solver.solve(problem, train), data)


@pytest.mark.parametrize("solver", SOLVERS, ids=lambda solver: type(solver).__name__)
def test_a_signal_of_two_numbers_is_refused(solver):
    rng = np.random.default_rng(0)
    problem, wide = random_problem(Rules(3), rng), random_data(10, 3, rng, signals=2)
    with pytest.raises(ValueError, match="one number an answer, the verifier gives 2"):
        solver.solve(problem, wide)


def test_self_consistency_needs_a_confidence():
    rng = np.random.default_rng(0)
    problem, data = random_problem(Rules(3), rng), random_data(10, 3, rng)
    for signal, remedy in (
        (-data.signal, "verifier.transform=exp"),
        (data.signal + 1, "choose"),
    ):
        train = RoutingData(data.score, data.call_cost, data.verify_cost, signal)
        with pytest.raises(ValueError, match=rf"needs confidences in \[0, 1\].*{remedy}"):
            SelfConsistency().solve(problem, train)
