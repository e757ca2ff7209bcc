"""Rational tuning: its optimum in the model by brute force, its policies on simulated queries."""

from dataclasses import replace

import numpy as np
import pytest

from routing_pomdp.envs import Costs, RoutingData, Rules
from routing_pomdp.evaluation.evaluate import evaluate, returns
from routing_pomdp.solvers import Threshold
from routing_pomdp.solvers.cascades.copula_chain import Calibration, CopulaChain, stretched
from routing_pomdp.solvers.cascades.rational_tuning import RationalTuning
from tests.support.problems import covering_rules, name_of, random_data, random_problem


def simulated(n, rng, models=3):
    """Queries of varying ease; confidences are distorted probabilities of being right."""
    ease = rng.normal(size=n)[:, None]
    right = 1 / (1 + np.exp(-(1.5 * ease + np.linspace(-0.5, 1.5, models))))
    score = (rng.random((n, models)) < right).astype(float)
    confidence = np.clip(right**0.5 + 0.05 * rng.standard_normal((n, models)), 0.01, 0.999)
    call = np.geomspace(0.05, 1, models)
    return RoutingData(
        score,
        np.broadcast_to(call, (n, models)),
        np.broadcast_to(call / 10, (n, models)),
        confidence[..., None],
    )


def problem_of(train, price, rules=None):
    n = train.n_models
    drawn = random_problem(rules or Rules(n), np.random.default_rng(0))
    return replace(drawn, costs=Costs(train.call_cost[0], train.verify_cost[0]), price=price)


@pytest.mark.parametrize("price", [0.05, 0.2, 0.6])
def test_two_models_get_the_best_cut_of_the_model(price):
    train = simulated(300, np.random.default_rng(0), models=2)
    problem = problem_of(train, price)
    policy = RationalTuning().solve(problem, train)
    x = stretched(train.signal[:, :1, 0], False)[:, 0]
    confidence = Calibration.fit(x, train.score[:, 0])(x)
    chain = CopulaChain.fit(confidence[:, None])
    last = Calibration.fit(confidence, train.score[:, 1])(chain.value(0))

    def worth(cut):
        return chain.worth(np.array([cut]), last, problem.call_price, problem.verify_price[:1])

    best = max(worth(cut) for cut in np.linspace(chain.grid[0][0], chain.grid[0][-1] + 0.01, 800))
    escalated = train.signal[:, 0, 0] < policy.cut[0]
    cut = confidence[escalated].max() if escalated.any() else chain.grid[0][0]
    assert worth(cut) == pytest.approx(best, abs=3e-3)


def test_on_many_queries_it_is_as_good_as_thresholds_fitted_to_them():
    rng = np.random.default_rng(1)
    train, test = simulated(3000, rng), simulated(6000, rng)
    for price in (0.05, 0.2, 0.5):
        problem = problem_of(train, price)
        ours, theirs = (
            returns(evaluate(solver.solve(problem, train), test), problem).mean()
            for solver in (RationalTuning(), Threshold())
        )
        assert ours == pytest.approx(theirs, abs=0.015)


def test_a_signal_worse_than_chance_is_turned_round():
    rng = np.random.default_rng(2)
    train = simulated(1000, rng, models=2)
    turned = replace(train, signal=1 - train.signal)
    problem = problem_of(train, 0.3)
    plain, other = (evaluate(RationalTuning().solve(problem, t), t) for t in (train, turned))
    assert 0.05 < (plain.answer == 1).mean() < 0.95
    # The stretch is not symmetric, so the cuts are near each other and not the same.
    assert (plain.answer == other.answer).mean() > 0.85


def test_a_frontier_s_prices_are_those_of_each_alone():
    train = simulated(200, np.random.default_rng(3))
    problem = problem_of(train, 0.1)
    prices = [0.0, 0.1, 0.5, 2.0]
    policies = RationalTuning().solve_frontier(problem, prices, train)
    spent = [evaluate(policy, train).cost.mean() for policy in policies]
    assert spent == sorted(spent, reverse=True)
    assert [policy.problem.price for policy in policies] == prices


@pytest.mark.parametrize("rules", covering_rules(3), ids=name_of)
def test_it_plays_by_every_rule_and_bears_degenerate_training_data(rules):
    rng = np.random.default_rng(0)
    problem, few = random_problem(rules, rng), random_data(10, 3, rng)
    solver = RationalTuning(starts=0, cells=10)
    logged = replace(few, signal=np.where(few.signal < 0.3, -1e4, np.log(few.signal)))
    constant = replace(few, signal=np.zeros_like(few.signal))
    never, always = (replace(few, score=np.full_like(few.score, y)) for y in (0.0, 1.0))
    for train in (few, logged, constant, never, always):
        evaluate(solver.solve(problem, train), train)


def test_bad_input_is_refused():
    rng = np.random.default_rng(0)
    problem, train = random_problem(Rules(3), rng), random_data(10, 3, rng)
    with pytest.raises(ValueError, match=r"or log-probabilities, found signals from .* to"):
        RationalTuning().solve(problem, replace(train, signal=5 * train.signal))
    with pytest.raises(ValueError, match="one number an answer, the verifier gives 2"):
        RationalTuning().solve(problem, random_data(10, 3, rng, signals=2))
    for key, value in (("cells", 3), ("starts", -1)):
        with pytest.raises(ValueError, match=rf"solver\.{key} is {value}: expected"):
            RationalTuning(**{key: value})
