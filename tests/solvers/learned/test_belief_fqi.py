"""Fitted Q with one network: near exact with queries enough, sober with few, one for all prices."""

from dataclasses import replace

import numpy as np
import pytest

from routing_pomdp.envs import RoutingData, Rules
from routing_pomdp.evaluation.evaluate import evaluate, model_value, returns
from routing_pomdp.evaluation.frontier import aiq, frontier
from routing_pomdp.solvers import Exact, Static, Training
from routing_pomdp.solvers.learned.belief_fqi import BeliefFQI
from routing_pomdp.solvers.learned.checkpoint import Restored
from routing_pomdp.solvers.learned.training import TrainingError, mean_return
from tests.solvers.learned.test_fitted_q import ordered
from tests.support.problems import random_data, random_problem

FULL = Rules(3, skip=True, free_start=True, verify=True)
# Of logs so large that simulations have nothing to add.
ON_THE_LOG = BeliefFQI(simulations=0, steps=200, tuning_rate=1e-2, members=2, batch=64)
QUICK = BeliefFQI(simulations=300, resamples=2, pretraining=10, steps=10, members=2, hidden=8)


def test_untrained_it_is_the_best_single_model():
    rng = np.random.default_rng(0)
    problem, train = random_problem(FULL, rng), random_data(60, 3, rng)
    for price in (0.0, 0.2, 1.0):
        untrained = replace(ON_THE_LOG, steps=0).solve(problem.at(price), train)
        static = Static().solve(problem.at(price), train)
        answers = [evaluate(policy, train).answer for policy in (untrained, static)]
        np.testing.assert_array_equal(*answers)


def test_noise_is_not_taken_for_signal():
    """Signals that say nothing, from sixty queries: on average hardly anything is lost to the best
    single model."""
    lost = []
    for seed in range(3):
        rng = np.random.default_rng(seed)
        problem = random_problem(Rules(2), rng).at(0.3)
        train, check, test = (
            RoutingData(
                (rng.random((n, 2)) < [0.5, 0.75]).astype(float),
                np.broadcast_to(problem.costs.call * [0, 1], (n, 2)),
                np.zeros((n, 2)),
                rng.random((n, 2, 1)),
            )
            for n in (60, 30, 4000)
        )
        problem = replace(
            problem,
            costs=replace(problem.costs, call=problem.costs.call * [0, 1], verify=np.zeros(2)),
            observation=None,
        )
        solver = BeliefFQI(simulations=1000, resamples=4, pretraining=100, steps=30)
        policy = solver.with_training(Training(validation=check)).solve(problem, train)
        outcome = evaluate(policy, test)
        lost.append(max(0.5, 0.75 - 0.3) - returns(outcome, problem).mean())
    assert np.mean(lost) < 0.03


def height(problem, policies, test):
    """AIQ of a family of policies on simulated queries."""
    outcomes = [evaluate(policy, test) for policy in policies]
    cost, score = ([getattr(o, key).mean() for o in outcomes] for key in ("cost", "score"))
    low, high = test.call_cost.mean(axis=0)[[0, -1]]
    return aiq(frontier([low, *cost], [test.score[:, 0].mean(), *score]), low, high)


@pytest.mark.slow
def test_one_network_for_all_prices_is_as_good_as_one_for_each():
    problem = ordered(FULL)
    train = problem.sample(1500, np.random.default_rng(1))
    test = problem.sample(20_000, np.random.default_rng(2))
    prices = [0.05, 0.2]
    together = ON_THE_LOG.solve_frontier(problem, prices, train)
    apart = [ON_THE_LOG.solve(problem.at(price), train) for price in prices]
    gap = height(problem, apart, test) - height(problem, together, test)
    assert gap < 0.005


@pytest.mark.slow
def test_one_network_for_all_cost_ratios_is_near_exact_at_each(tmp_path):
    problem = ordered(FULL)
    train = problem.sample(2000, np.random.default_rng(1))
    share = problem.costs.verify / problem.costs.call
    there = {}
    for ratio in (5.0, 30.0, 100.0):
        call = np.geomspace(1, ratio, 3)
        costs = replace(problem.costs, call=call, verify=call * share)
        there[ratio] = replace(problem, costs=costs, price=0.2)
    solver = replace(ON_THE_LOG, steps=500, cost_ratios=(5.0, 100.0), price_range=(0.05, 0.5))
    solver.with_training(Training(folder=tmp_path)).solve(there[30.0], train)
    saved = Restored(str(tmp_path / "policy.pt"))
    for problem_there in there.values():
        value = model_value(saved.solve(problem_there, train), problem_there)
        assert value > Exact().solve(problem_there).value - 0.01
    with pytest.warns(UserWarning, match=r"price 0.7 lies outside the trained range \[0.05, 0.5\]"):
        saved.solve(there[30.0].at(0.7), train)


class InterruptionError(Exception):
    """Stands for a kill."""


def interrupt_at(step, name):
    def log(row):
        if row["step"] == step and ("validation" in row) == (name == "tuning"):
            raise InterruptionError

    return log


@pytest.mark.parametrize(("step", "name"), [(6, "pretraining"), (4, "tuning")])
def test_interrupted_and_restored_it_decides_the_same(tmp_path, step, name):
    problem = ordered(FULL)
    train, check, test = (problem.sample(n, np.random.default_rng(n)) for n in (80, 40, 300))
    prices = [0.02, 0.2]
    whole = QUICK.with_training(Training(validation=check)).solve_frontier(problem, prices, train)
    training = Training(interrupt_at(step, name), check, tmp_path)
    with pytest.raises(InterruptionError):
        QUICK.with_training(training).solve_frontier(problem, prices, train)
    training = replace(training, log=None)
    resumed = QUICK.with_training(training).solve_frontier(problem, prices, train)
    restored = Restored(str(tmp_path / "policy.pt")).solve_frontier(problem, prices, train)
    for one, *others in zip(whole, resumed, restored, strict=True):
        for other in others:
            np.testing.assert_array_equal(one.values.heads, other.values.heads)
            np.testing.assert_array_equal(evaluate(one, test).answer, evaluate(other, test).answer)


def test_the_best_by_validation_is_kept():
    problem = ordered(FULL)
    train, check = (problem.sample(n, np.random.default_rng(n)) for n in (60, 200))
    curve = []
    solver = replace(QUICK, simulations=0, steps=60, tuning_rate=0.05, patience=3)
    training = Training(curve.append, check)
    policies = solver.with_training(training).solve_frontier(problem, [0.05, 0.2], train)
    found = [row["validation"] for row in curve]
    assert mean_return(policies, check) == pytest.approx(max(found), abs=1e-12)
    assert len(found) - 1 - int(np.argmax(found)) <= 3


def test_without_patience_the_last_is_kept_and_validation_changes_nothing():
    problem = ordered(FULL)
    train, check = (problem.sample(n, np.random.default_rng(n)) for n in (60, 200))
    curve = []
    solver = replace(QUICK, simulations=0, steps=60, tuning_rate=0.05, patience=None)
    prices = [0.05, 0.2]
    judged = solver.with_training(Training(curve.append, check)).solve_frontier(
        problem, prices, train
    )
    assert [row["step"] for row in curve] == list(range(6, 61, 6))
    assert mean_return(judged, check) == pytest.approx(curve[-1]["validation"], abs=1e-12)
    for given in (
        None,
        replace(check, score=1 - check.score),
        random_data(0, 3, np.random.default_rng(0)),
    ):
        other = solver.with_training(Training(validation=given)).solve_frontier(
            problem, prices, train
        )
        np.testing.assert_array_equal(other[0].values.heads, judged[0].values.heads)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("members", 0, "a whole number from 1"),
        ("hidden", 0, "a whole number from 1"),
        ("steps", -1, "a whole number from 0"),
        ("patience", 0, "a whole number from 1"),
        ("weight_decay", -0.1, "a number >= 0"),
        ("tuning_rate", 0.0, r"a number in \(0, 1\]"),
    ],
)
def test_bad_settings_are_refused_by_name(key, value, message):
    with pytest.raises(ValueError, match=rf"solver\.{key} is {value}: expected {message}"):
        BeliefFQI(**{key: value})


def test_too_few_queries_and_an_empty_validation_split_are_refused():
    rng = np.random.default_rng(0)
    problem, train = random_problem(Rules(3), rng), random_data(3, 3, rng)
    with pytest.raises(ValueError, match=r"3 training queries, fewer than solver\.members=4"):
        BeliefFQI().solve(problem, train)
    empty = Training(validation=random_data(0, 3, rng))
    with pytest.raises(
        ValueError, match=r"validation split, which is empty: raise evaluation\.val"
    ):
        QUICK.with_training(empty).solve(problem, train)


def test_a_loss_that_is_no_number_stops_the_training():
    problem = ordered(Rules(3))
    train = problem.sample(50, np.random.default_rng(0))
    broken = replace(train, score=np.where(np.arange(50)[:, None] < 50, np.inf, 0) + train.score)
    with pytest.raises(TrainingError, match="the loss is no finite number at step 1 of 10"):
        replace(QUICK, simulations=0).solve(problem, broken)
