"""FrugalGPT: scores of answers that tell, and nothing looked at before it is paid for."""

from dataclasses import replace

import numpy as np
import pytest

from routing_pomdp.envs import Costs, RoutingPOMDP, Rules
from routing_pomdp.evaluation.evaluate import evaluate, returns
from routing_pomdp.solvers.cascades.frugalgpt import FrugalGPT
from tests.support.problems import random_problem
from tests.support.texts import log_with_texts


def problem_of(data, price) -> RoutingPOMDP:
    drawn = random_problem(Rules(3), np.random.default_rng(0))
    return replace(drawn, costs=Costs(data.call_cost[0], data.verify_cost[0]), price=price)


def test_telling_answers_make_the_clairvoyant_cascade():
    train, test = (log_with_texts(300, seed, answer_tells=True) for seed in (0, 1))
    outcome = evaluate(FrugalGPT().solve(problem_of(train, 0.3), train), test)
    # Stops at the first right answer of the chain of all three.
    expected = np.where(test.score[:, 0] > 0, 0, np.where(test.score[:, 1] > 0, 1, 2))
    assert (outcome.answer == expected).mean() > 0.98
    assert not outcome.verifications.any()


def test_a_list_is_no_longer_than_asked_for():
    train = log_with_texts(200, 0, answer_tells=True)
    for longest in (1, 2, 3):
        router = FrugalGPT(max_models=longest).solve(problem_of(train, 0.1), train)
        assert evaluate(router, train).calls.max() <= longest


def test_answers_without_information_leave_the_best_single_model_or_near():
    train, test = (log_with_texts(300, seed) for seed in (0, 1))
    for price in (0.05, 0.5):
        problem = problem_of(train, price)
        found = returns(evaluate(FrugalGPT().solve(problem, train), test), problem).mean()
        single = (test.score - problem.call_price).mean(axis=0).max()
        assert single - 0.06 < found < single + 0.02


def test_answers_that_are_not_called_for_and_scores_are_not_read():
    train, test = (log_with_texts(150, seed, answer_tells=True) for seed in (0, 1))
    router = FrugalGPT().solve(problem_of(train, 0.3), train)
    first = evaluate(router, test)
    called = np.arange(3) <= first.answer[:, None]
    assert not called.all()
    other = np.where(called, test.rollouts.answer, "something else altogether")
    changed = replace(test, score=1 - test.score, rollouts=replace(test.rollouts, answer=other))
    np.testing.assert_array_equal(evaluate(router, changed).answer, first.answer)


def test_the_signal_is_a_feature_only_where_it_is_paid_for():
    train = log_with_texts(400, 0)
    telling = np.clip(0.8 * train.score + 0.2 * train.signal[..., 0], 0, 1)[..., None]
    train = replace(train, signal=telling)
    problem = problem_of(train, 0.3)
    without = evaluate(FrugalGPT().solve(problem, train), train)
    bought = evaluate(FrugalGPT(signal=True).solve(problem, train), train)
    assert not without.verifications.any()
    assert bought.verifications.any()
    gain = returns(bought, problem).mean() - returns(without, problem).mean()
    assert gain > 0.03


@pytest.mark.parametrize("budget", [0.02, 0.1, 0.4])
def test_the_budget_is_kept_on_queries_like_the_training_ones(budget):
    train, test = (log_with_texts(n, seed, answer_tells=True) for seed, n in ((0, 600), (1, 4000)))
    policies = FrugalGPT(budget=budget).solve_frontier(problem_of(train, 9.0), [0.0, 1.0], train)
    spent = [evaluate(policy, test).cost.mean() for policy in policies]
    assert spent[0] == spent[1] <= budget * 1.15
    assert spent[0] > 0.5 * min(budget, 0.15)


@pytest.mark.parametrize("n", [1, 4, 10])
def test_a_handful_of_queries_and_models_always_right_work(n):
    train, test = log_with_texts(n, 0), log_with_texts(20, 1)
    for score in (train.score, np.ones((n, 3)), np.zeros((n, 3)), np.full((n, 3), 0.4)):
        for solver in (FrugalGPT(), FrugalGPT(signal=True)):
            evaluate(solver.solve(problem_of(train, 0.2), replace(train, score=score)), test)


def test_bad_input_is_refused_with_the_remedy():
    train = log_with_texts(20, 0)
    problem = problem_of(train, 0.1)
    silent = replace(train, rollouts=replace(train.rollouts, answer=None))
    with pytest.raises(
        ValueError, match=r"scores answers, the log has none: .*solver\.signal=true"
    ):
        FrugalGPT().solve(problem, silent)
    evaluate(FrugalGPT(signal=True).solve(problem, silent), silent)
    with pytest.raises(ValueError, match=r"solver\.budget is 0\.001: the cheapest model already"):
        FrugalGPT(budget=0.001).solve(problem, train)
    with pytest.raises(ValueError, match=r"solver\.max_models is 0: expected"):
        FrugalGPT(max_models=0)
    with pytest.raises(ValueError, match=r"solver\.budget is -1: expected a number > 0"):
        FrugalGPT(budget=-1)
