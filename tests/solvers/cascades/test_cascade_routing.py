"""Cascade routing: its expected maxima, its plans and its budget, each by other means."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from scipy.stats import norm

from routing_pomdp.envs import Costs, RoutingData, RoutingPOMDP, Rules
from routing_pomdp.evaluation.evaluate import evaluate, returns
from routing_pomdp.solvers.cascades.cascade_routing import CascadeRouting, Estimates
from routing_pomdp.verifiers import Histogram
from tests.support.problems import covering_rules, name_of, random_data, random_problem


def telling(n, rng, noise=0.1):
    """Three models of rising accuracy whose signals nearly give their own score away."""
    score = (rng.random((n, 3)) < [0.5, 0.7, 0.9]).astype(float)
    signal = score + noise * rng.standard_normal((n, 3))
    call, verify = np.array([0.1, 0.3, 1.0]), np.array([0.0, 0.0, 0.0])
    return RoutingData(
        score, np.broadcast_to(call, (n, 3)), np.broadcast_to(verify, (n, 3)), signal[..., None]
    )


def fitted(train, price):
    costs = Costs(train.call_cost[0], train.verify_cost[0])
    return RoutingPOMDP.fit(train, Histogram(), costs, Rules(3), price)


def test_the_expected_maximum_of_two_is_clark_s():
    """C. E. Clark, Operations Research 1961: two correlated normal variables."""
    rng = np.random.default_rng(0)
    train = telling(500, rng, noise=0.6)
    estimates = Estimates.fit(train, draws=4096, seed=0)
    quality = rng.random((20, 3))
    found = estimates.best_of(quality, (), (0, 1), (0, 1))
    change = (estimates.guess[0, 1] - estimates.guess[()])[:, :2]
    (a, c), (_, b) = np.cov(change, rowvar=False)
    theta = np.sqrt(a + b - 2 * c)
    gap = (quality[:, 0] - quality[:, 1]) / theta
    expected = (
        quality[:, 0] * norm.cdf(gap) + quality[:, 1] * norm.cdf(-gap) + theta * norm.pdf(gap)
    )
    np.testing.assert_allclose(found, expected, atol=2e-3)


def test_without_new_signals_the_best_is_the_best_estimate():
    estimates = Estimates.fit(telling(100, np.random.default_rng(0)), draws=16, seed=0)
    quality = np.random.default_rng(1).random((10, 3))
    found = estimates.best_of(quality, (0,), (0,), (0, 2))
    np.testing.assert_array_equal(found, quality[:, [0, 2]].max(axis=1))


def test_signals_that_tell_all_are_routed_by_as_a_clairvoyant_cascade_would():
    rng = np.random.default_rng(0)
    train, test = telling(600, rng), telling(600, rng)
    problem = fitted(train, 0.2)
    outcome = evaluate(CascadeRouting().solve(problem, train), test)
    paid = 0.2 * test.call_cost[0]

    def chain_return(chain):
        """Of a chain that stops at the first right answer."""
        wrong, total = np.ones(len(test)), np.zeros(len(test))
        for model in chain:
            total += wrong * (test.score[:, model] - paid[model])
            wrong *= 1 - test.score[:, model]
        return total.mean()

    chains = [chain for size in (1, 2, 3) for chain in combinations(range(3), size)]
    found = returns(outcome, problem).mean()
    # Gaussian changes are no more than an approximation of binary news.
    assert found == pytest.approx(max(map(chain_return, chains)), abs=0.03)
    assert found > max(chain_return((model,)) for model in range(3)) + 0.03


def test_signals_that_say_nothing_leave_the_best_single_model():
    rng = np.random.default_rng(0)
    train = telling(300, rng)
    flat = replace(train, signal=np.zeros_like(train.signal))
    for price in (0.1, 0.5, 5.0):
        outcome = evaluate(CascadeRouting().solve(fitted(flat, price), flat), flat)
        best = (flat.score - price * flat.call_cost).mean(axis=0).argmax()
        assert (outcome.answer == best).all()
        assert (outcome.calls == 1).all()
        assert not outcome.verifications.any()


@pytest.mark.parametrize("budget", [0.11, 0.25, 0.5, 0.9])
def test_the_budget_is_spent_on_the_training_queries(budget):
    train = telling(2000, np.random.default_rng(0), noise=0.5)
    policy = CascadeRouting(budget=budget).solve(fitted(train, 0.3), train)
    spent = evaluate(policy, train).cost.mean()
    # The mixture meets it in expectation; its draws are a sample.
    most = evaluate(CascadeRouting().solve(fitted(train, 0.0), train), train).cost.mean()
    assert spent == pytest.approx(min(budget, most), abs=0.02)


def test_a_budget_that_buys_everything_is_not_mixed_and_one_that_buys_nothing_is_refused():
    train = telling(200, np.random.default_rng(0))
    rich = CascadeRouting(budget=5.0).solve(fitted(train, 0.3), train)
    free = CascadeRouting().solve(fitted(train, 0.0), train)
    np.testing.assert_array_equal(evaluate(rich, train).cost, evaluate(free, train).cost)
    with pytest.raises(ValueError, match=r"solver\.budget is 0\.05: the cheapest model already"):
        CascadeRouting(budget=0.05).solve(fitted(train, 0.3), train)


def test_the_same_seed_gives_the_same_policy_whatever_the_batch():
    train = telling(300, np.random.default_rng(0), noise=0.5)
    solver = CascadeRouting(budget=0.4)
    first, again = (evaluate(solver.solve(fitted(train, 0.1), train), train) for _ in "ab")
    np.testing.assert_array_equal(first.cost, again.cost)


@pytest.mark.parametrize("rules", covering_rules(3), ids=name_of)
def test_it_works_with_ten_queries_constant_and_wide_signals(rules):
    rng = np.random.default_rng(0)
    problem = random_problem(rules, rng)
    train, test = random_data(10, 3, rng, signals=2), random_data(40, 3, rng, signals=2)
    constant = replace(train, signal=np.full_like(train.signal, -1e4))
    always = replace(train, score=np.ones_like(train.score))
    for given in (train, constant, always):
        evaluate(CascadeRouting(draws=8).solve(problem, given), test)


def test_bad_input_is_refused():
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match=r"4 training queries, fewer than its 5 folds"):
        CascadeRouting().solve(random_problem(Rules(3), rng), random_data(4, 3, rng))
    with pytest.raises(ValueError, match=r"solver\.draws is 0: expected"):
        CascadeRouting(draws=0)
    with pytest.raises(ValueError, match=r"solver\.budget is -1: expected a number > 0 or null"):
        CascadeRouting(budget=-1)
