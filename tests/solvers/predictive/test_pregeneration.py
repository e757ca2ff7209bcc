"""Routing by prompts: what is in them is found, what is not is not imagined."""

import sys
from dataclasses import replace
from types import ModuleType

import numpy as np
import pytest

from routing_pomdp.envs import Costs, RoutingPOMDP, Rules
from routing_pomdp.evaluation.evaluate import evaluate, returns
from routing_pomdp.solvers import Oracle
from routing_pomdp.solvers.predictive.pregeneration import Pregeneration
from tests.support.problems import random_problem
from tests.support.texts import log_with_texts


def problem_of(data, price) -> RoutingPOMDP:
    drawn = random_problem(Rules(3), np.random.default_rng(0))
    return replace(drawn, costs=Costs(data.call_cost[0], data.verify_cost[0]), price=price)


def mean_return(policy, data):
    return returns(evaluate(policy, data), policy.problem).mean()


@pytest.mark.parametrize("estimator", ["knn", "logistic"])
def test_a_telling_prompt_is_routed_by_as_the_oracle_would(estimator):
    train, test = (log_with_texts(200, seed, prompt_tells=True) for seed in (0, 1))
    problem = problem_of(train, 0.3)
    found = mean_return(Pregeneration(estimator).solve(problem, train), test)
    assert found == pytest.approx(mean_return(Oracle().solve(problem, train), test), abs=0.05)


def test_hybrid_llm_calls_the_large_model_where_the_small_one_falls_short():
    train, test = (log_with_texts(200, seed, prompt_tells=True) for seed in (0, 1))
    router = Pregeneration(hybrid_tolerance=0.0).solve(problem_of(train, 0.3), train)
    outcome = evaluate(router, test)
    hard = [prompt.startswith("hard") for prompt in test.rollouts.prompt]
    np.testing.assert_array_equal(outcome.answer == 2, hard)
    assert set(outcome.answer.tolist()) == {0, 2}


def test_any_tolerance_of_one_keeps_the_small_model():
    train = log_with_texts(100, 0, prompt_tells=True)
    router = Pregeneration(hybrid_tolerance=1.0).solve(problem_of(train, 0.6), train)
    assert set(evaluate(router, train).answer.tolist()) <= {0, 2}


@pytest.mark.parametrize("estimator", ["knn", "logistic"])
def test_prompts_without_information_cost_little(estimator):
    train, test = (log_with_texts(300, seed) for seed in (0, 1))
    for price in (0.05, 0.3, 1.0):
        problem = problem_of(train, price)
        found = mean_return(Pregeneration(estimator).solve(problem, train), test)
        single = (test.score - problem.call_price).mean(axis=0).max()
        assert single - 0.06 < found < single + 0.02


def test_no_score_of_the_queries_routed_is_read():
    train, test = (log_with_texts(100, seed, prompt_tells=True) for seed in (0, 1))
    turned = replace(test, score=1 - test.score)
    for solver in (Pregeneration(), Pregeneration("knn"), Pregeneration(hybrid_tolerance=0.1)):
        router = solver.solve(problem_of(train, 0.3), train)
        answers = [evaluate(router, data).answer for data in (test, turned)]
        np.testing.assert_array_equal(*answers)


def test_one_call_is_paid_for_and_no_verification():
    train = log_with_texts(60, 0)
    for router in Pregeneration().solve_frontier(problem_of(train, 0.0), [0.0, 0.5, 9.0], train):
        outcome = evaluate(router, train)
        assert (outcome.calls == 1).all()
        assert not outcome.verifications.any()


@pytest.mark.parametrize("estimator", ["knn", "logistic"])
@pytest.mark.parametrize("n", [1, 4, 10])
def test_a_handful_of_queries_and_models_always_right_work(estimator, n):
    train, test = log_with_texts(n, 0), log_with_texts(20, 1)
    for score in (train.score, np.ones((n, 3)), np.zeros((n, 3)), np.full((n, 3), 0.4)):
        solver = Pregeneration(estimator)
        evaluate(solver.solve(problem_of(train, 0.2), replace(train, score=score)), test)


def test_graded_scores_are_predicted_as_they_are():
    train, test = (log_with_texts(200, seed, prompt_tells=True) for seed in (0, 1))
    graded = replace(train, score=0.2 + 0.6 * train.score)
    router = Pregeneration().solve(problem_of(train, 0.0), graded)
    predicted = router.reader.predict(test)
    np.testing.assert_allclose(predicted, 0.2 + 0.6 * test.score, atol=0.12)


def test_embeddings_come_from_sentence_transformers_where_it_is(monkeypatch):
    train = log_with_texts(100, 0, prompt_tells=True)

    class Embedder:
        def __init__(self, name):
            assert name == "some-model"

        def encode(self, texts):
            return np.array([[text.startswith("hard"), 1.0] for text in texts], dtype=float)

    module = ModuleType("sentence_transformers")
    module.SentenceTransformer = Embedder
    solver = Pregeneration(features="embedding", embedding_model="some-model")
    monkeypatch.setitem(sys.modules, "sentence_transformers", module)
    outcome = evaluate(solver.solve(problem_of(train, 0.3), train), train)
    hard = [prompt.startswith("hard") for prompt in train.rollouts.prompt]
    np.testing.assert_array_equal(outcome.answer == 2, hard)
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(ValueError, match=r"needs the package sentence-transformers: install it"):
        solver.solve(problem_of(train, 0.3), train)


def test_bad_input_is_refused_with_the_remedy():
    train = log_with_texts(20, 0)
    problem = problem_of(train, 0.1)
    blank = replace(train, rollouts=replace(train.rollouts, prompt=None))
    for log in (blank, replace(train, rollouts=None)):
        with pytest.raises(ValueError, match="reads prompts, the log has none: log a prompt"):
            Pregeneration().solve(problem, log)
    with pytest.raises(ValueError, match=r"solver\.estimator is 'tree': expected one of"):
        Pregeneration("tree")
    with pytest.raises(ValueError, match=r"solver\.features is 'words': expected one of"):
        Pregeneration(features="words")
    with pytest.raises(ValueError, match=r"solver\.hybrid_tolerance is 2: expected"):
        Pregeneration(hybrid_tolerance=2)
    with pytest.raises(ValueError, match=r"solver\.models is \[2, 0\]: expected two indexes"):
        Pregeneration(hybrid_tolerance=0.0, models=[2, 0]).solve(problem, train)
