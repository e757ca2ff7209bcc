"""Fitted Q: near exact where there are queries enough, and sober where there are few."""

from dataclasses import replace

import numpy as np
import pytest

from routing_pomdp.envs import RoutingData, Rules
from routing_pomdp.evaluation.evaluate import evaluate, model_value, returns
from routing_pomdp.solvers import Exact
from routing_pomdp.solvers.learned.fitted_q import FittedQ
from tests.support.problems import every_rules, name_of, random_data, random_problem

# Each option on and off, and each pair of options in all four ways.
LAST = [rules for rules in every_rules(3) if rules.answer == "last"]
LAST = [LAST[i] for i in (0, 3, 5, 6)]


def ordered(rules, seed=0, price=0.15):
    """A binary problem in which a higher symbol means a likelier right answer."""
    rng = np.random.default_rng(seed)
    problem = random_problem(rules, rng, symbols=5, price=price)
    score = (problem.score > np.median(problem.score, axis=0)).astype(float)
    tilt = np.exp(0.5 * np.arange(5) * (2 * score.T[: rules.n_models - 1, :, None] - 1))
    likelihood = tilt / tilt.sum(axis=2, keepdims=True)
    return replace(problem, score=score, likelihood=likelihood)


@pytest.mark.parametrize("rules", LAST, ids=name_of)
def test_many_queries_bring_it_close_to_exact_and_never_above(rules):
    problem = ordered(rules)
    train = problem.sample(5000, np.random.default_rng(1))
    value = model_value(FittedQ(knots=5).solve(problem, train))
    best = Exact().solve(problem).value
    assert best - 0.01 < value <= best + 1e-12


def test_noise_is_not_taken_for_signal():
    """Signals that say nothing, from sixty queries: on average hardly anything is lost to the best
    single model, whose choice is all that there is to learn."""
    lost = []
    for seed in range(6):
        rng = np.random.default_rng(seed)
        problem = random_problem(Rules(2), rng, price=0.1)
        problem = problem.at(0.3 * problem.costs.unit)
        train, test = (
            RoutingData(
                (rng.random((n, 2)) < [0.5, 0.75]).astype(float),
                np.broadcast_to([0.0, 1.0], (n, 2)),
                np.zeros((n, 2)),
                rng.random((n, 2, 1)),
            )
            for n in (60, 4000)
        )
        outcome = evaluate(FittedQ().solve(problem, train), test)
        best = max(0.5, 0.75 - 0.3)
        lost.append(best - returns(outcome, problem).mean())
    assert np.mean(lost) < 0.03


def test_a_frontier_is_one_policy_a_price():
    problem = ordered(Rules(3, skip=True, verify=True))
    train = problem.sample(600, np.random.default_rng(0))
    prices = [0.0, 0.1, 0.4]
    together = FittedQ().solve_frontier(problem, prices, train)
    for policy, price in zip(together, prices, strict=True):
        alone = FittedQ().solve(problem.at(price), train)
        assert policy.problem.price == price
        np.testing.assert_array_equal(evaluate(policy, train).answer, evaluate(alone, train).answer)


def test_the_last_model_s_signal_is_never_looked_at():
    problem = ordered(Rules(3))
    train = problem.sample(300, np.random.default_rng(0))
    blind = replace(train, signal=train.signal.copy())
    blind.signal[:, -1] = np.nan
    first, second = (evaluate(FittedQ().solve(problem, t), train).answer for t in (train, blind))
    np.testing.assert_array_equal(first, second)


def test_a_signal_of_any_scale_gives_the_same_policy():
    problem = ordered(Rules(3))
    train = problem.sample(300, np.random.default_rng(0))
    stretched = replace(train, signal=-1e4 * np.exp(-train.signal))
    answers = [evaluate(FittedQ().solve(problem, t), t).answer for t in (train, stretched)]
    np.testing.assert_array_equal(*answers)


@pytest.mark.parametrize("key", ["knots", "folds"])
def test_bad_settings_are_refused_by_name(key):
    with pytest.raises(ValueError, match=rf"solver\.{key} is 1: expected"):
        FittedQ(**{key: 1})


def test_fewer_queries_than_folds_are_refused():
    rng = np.random.default_rng(0)
    problem, train = random_problem(Rules(3), rng), random_data(4, 3, rng)
    with pytest.raises(
        ValueError, match=r"4 training queries, fewer than solver\.folds=5: log more"
    ):
        FittedQ().solve(problem, train)
