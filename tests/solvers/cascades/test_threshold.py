"""Threshold cascades: against a search over all cuts, and inside a model with known answer."""

import itertools

import numpy as np
import pytest

from routing_pomdp.envs import RoutingData, Rules
from routing_pomdp.evaluation.evaluate import evaluate, model_value, returns
from routing_pomdp.solvers import Exact, Static, Threshold
from routing_pomdp.solvers.cascades.threshold import ThresholdPolicy
from tests.support.problems import every_rules, name_of, random_data, random_problem


def priced(rules, price, seed=0):
    return random_problem(rules, np.random.default_rng(seed), 3, 2, price=price)


def training_return(policy, data):
    return returns(evaluate(policy, data), policy.problem).mean()


def every_cut(signal):
    values = np.unique(signal)
    return [-np.inf, *((values[1:] + values[:-1]) / 2), np.inf]


@pytest.mark.parametrize("verify", [False, True])
@pytest.mark.parametrize("price", [0.0, 0.1, 0.5, 3.0])
def test_two_models_get_the_best_of_all_cuts(verify, price):
    problem = priced(Rules(2, verify=verify), price)
    data = random_data(60, 2, np.random.default_rng(1))
    policy = Threshold().solve(problem, data)
    best = max(
        training_return(ThresholdPolicy.of(problem, (0, 1), np.array([cut])), data)
        for cut in every_cut(data.signal[:, 0, 0])
    )
    assert training_return(policy, data) == pytest.approx(best, abs=1e-12)


def test_three_models_come_close_to_the_best_of_all_pairs_of_cuts():
    # Coordinate ascent may stop at a ridge; over many logs it rarely loses anything.
    lost = []
    for seed in range(8):
        problem = priced(Rules(3), 0.2, seed)
        data = random_data(25, 3, np.random.default_rng(seed))
        cuts = itertools.product(*(every_cut(data.signal[:, i, 0]) for i in range(2)))
        best = max(
            training_return(ThresholdPolicy.of(problem, (0, 1, 2), np.array(cut)), data)
            for cut in cuts
        )
        lost.append(best - training_return(Threshold().solve(problem, data), data))
    assert min(lost) > -1e-12
    assert np.mean(lost) < 0.01


@pytest.mark.parametrize("rules", every_rules(3), ids=name_of)
def test_thresholds_never_beat_exact_inside_the_model_and_play_legally(rules):
    problem = priced(rules, 0.3)
    train = problem.sample(400, np.random.default_rng(2))
    policy = Threshold().solve(problem, train)
    assert model_value(policy) <= Exact().solve(problem).value + 1e-9
    evaluate(policy, train)


def test_with_free_chains_no_single_model_is_better_on_training_queries():
    problem = priced(Rules(4, skip=True, free_start=True, verify=True), 0.0)
    data = random_data(300, 4, np.random.default_rng(3))
    for price in (0.0, 0.2, 1.0, 20.0):
        at = problem.at(price)
        ours = training_return(Threshold().solve(at, data), data)
        singles = [training_return(Static(model=i).solve(at, data), data) for i in range(4)]
        assert ours >= max(singles) - 1e-12


def test_a_perfect_signal_is_used_as_one():
    score = np.array([[0, 1], [1, 1], [0, 1], [1, 0]], dtype=float)
    data = RoutingData(score, np.tile([1.0, 10.0], (4, 1)), np.zeros((4, 2)), score[..., None])
    problem = priced(Rules(2), 0.0)
    # Nine units more for the more expensive answer take 0.18 from the return.
    problem = problem.at(0.02 * problem.costs.unit)
    policy = Threshold().solve(problem, data)
    np.testing.assert_array_equal(evaluate(policy, data).answer, [1, 0, 1, 0])


def test_constant_signals_and_ten_queries_work():
    data = random_data(10, 3, np.random.default_rng(0))
    constant = RoutingData(data.score, data.call_cost, data.verify_cost, data.signal * 0)
    policy = Threshold().solve(priced(Rules(3), 0.1), constant)
    assert not np.isfinite(policy.cut).any()


def test_vector_signals_are_refused():
    data = random_data(10, 3, np.random.default_rng(0), signals=2)
    with pytest.raises(ValueError, match="needs one number an answer, the verifier gives 2"):
        Threshold().solve(priced(Rules(3), 0.1), data)
