"""Vectorised evaluation: equal to stepping the environment, and true to the model."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routing_pomdp.envs import History, RoutingData, RoutingEnv, RoutingPOMDP, Rules
from routing_pomdp.evaluation import evaluate as module
from routing_pomdp.evaluation.evaluate import evaluate, model_value, returns
from routing_pomdp.solvers import Exact, TablePolicy
from routing_pomdp.solvers.solver import Policy
from tests.support.problems import (
    every_rules,
    name_of,
    problems,
    random_data,
    random_policy,
    random_problem,
    with_bands,
)
from tests.support.tree_search import playing, tree_value

SEEDS = st.integers(0, 2**32)


def _stepped(policy: Policy, data: RoutingData) -> dict[str, list]:
    """The same outcome, one query at a time through the environment."""
    env = RoutingEnv(data, problem=policy.problem)
    n = data.n_models
    result: dict[str, list] = {
        name: [] for name in ("score", "cost", "answer", "calls", "verifications", "return")
    }
    decisions = 0
    for query in range(len(data)):
        observation, _ = env.reset(options={"query": query})
        done, total = False, 0.0
        while not done:
            decisions += 1
            history = History.from_array(observation[None], n)
            observation, reward, done, _, info = env.step(policy.act(history)[0])
            assert "illegal_action" not in info
            total += reward
        for name in ("score", "cost", "answer"):
            result[name].append(info[name])
        result["calls"].append(int(observation[1 : 1 + n].sum()))
        result["verifications"].append(int(observation[1 + n : 1 + 2 * n].sum()))
        result["return"].append(total)
    return result | {"decisions": [decisions]}


# -- against the environment ------------------------------------------------------------------


def _assert_equal(policy: Policy, data: RoutingData) -> None:
    outcome, stepped = evaluate(policy, data), _stepped(policy, data)
    for name in ("score", "cost", "answer", "calls", "verifications"):
        # Equal to the last bit: no tolerance.
        assert getattr(outcome, name).tolist() == stepped[name], name
    assert [outcome.decisions] == stepped["decisions"]
    np.testing.assert_allclose(returns(outcome, policy.problem), stepped["return"], atol=1e-9)


@pytest.mark.parametrize("rules", every_rules(2), ids=name_of)
@settings(max_examples=10)
@given(st.data(), SEEDS, st.integers(1, 2))
def test_evaluation_equals_stepping_the_environment_exactly(rules, drawn, seed, signals):
    rng = np.random.default_rng(seed)
    problem = with_bands(drawn.draw(problems(rules)), signals)
    data = random_data(25, problem.n_models, rng, signals)
    _assert_equal(random_policy(problem, rng), data)


@given(problems(), SEEDS)
def test_the_same_holds_for_exact_policies_on_samples_of_their_own_model(problem, seed):
    _assert_equal(Exact().solve(problem), problem.sample(25, np.random.default_rng(seed)))


@pytest.mark.parametrize("seed", range(10))
def test_the_same_holds_where_posterior_means_tie(seed):
    # Models that are alike in all but their cost: every answer ties but for rounding.
    rng = np.random.default_rng(seed)
    problem = random_problem(Rules(3, answer="best"), rng, levels=3)
    score = np.stack(np.meshgrid(*[[0, 0.5, 1]] * 3, indexing="ij"), -1).reshape(-1, 3)
    prior = rng.dirichlet(np.ones(27)).reshape(3, 3, 3)
    orders = ((0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0))
    prior = sum(prior.transpose(order) for order in orders).ravel() / 6
    blind = np.full_like(problem.likelihood, 1 / 3)
    problem = with_bands(replace(problem, score=score, prior=prior, likelihood=blind))
    _assert_equal(random_policy(problem, rng), random_data(200, 3, rng))


def test_what_a_query_gets_does_not_depend_on_the_batch():
    rules = Rules(3, skip=True, verify=True, answer="best")
    policy = random_policy(
        with_bands(random_problem(rules, np.random.default_rng(0))), np.random.default_rng(1)
    )
    n = module._CHUNK + 1000
    data = random_data(n, 3, np.random.default_rng(2))
    whole = evaluate(policy, data)
    for rows in (slice(0, 10), slice(module._CHUNK - 5, module._CHUNK + 5), slice(n - 1, n)):
        arrays = ("score", "call_cost", "verify_cost", "signal")
        part = evaluate(policy, RoutingData(*(getattr(data, name)[rows] for name in arrays)))
        for name in ("score", "cost", "answer", "calls", "verifications"):
            np.testing.assert_array_equal(getattr(part, name), getattr(whole, name)[rows])


def test_no_queries_have_no_outcome():
    policy = random_policy(_small(), np.random.default_rng(0))
    outcome = evaluate(policy, random_data(0, 3, np.random.default_rng(0)))
    assert len(outcome.score) == len(outcome.cost) == outcome.decisions == 0


def test_a_return_is_the_score_less_the_price_of_what_was_paid():
    problem = _small()
    data = random_data(50, 3, np.random.default_rng(1))
    outcome = evaluate(random_policy(with_bands(problem), np.random.default_rng(0)), data)
    expected = outcome.score - 0.3 * outcome.cost / problem.costs.call[2]
    np.testing.assert_allclose(returns(outcome, problem), expected)


def test_an_illegal_policy_is_refused():
    policy = TablePolicy(_small(), np.full(_small().n_histories, 3, dtype=np.int8))
    with pytest.raises(ValueError, match="illegal action 3 on query 0 at stage 0"):
        evaluate(policy, _small().sample(3, np.random.default_rng(0)))


def _small() -> RoutingPOMDP:
    return random_problem(Rules(3), np.random.default_rng(0))


# -- inside the model -------------------------------------------------------------------------


@pytest.mark.parametrize("rules", every_rules(2), ids=name_of)
@settings(max_examples=15)
@given(st.data(), SEEDS)
def test_a_policys_model_value_equals_plain_enumeration(rules, drawn, seed):
    problem = drawn.draw(problems(rules))
    policy = random_policy(problem, np.random.default_rng(seed))
    assert model_value(policy) == pytest.approx(tree_value(problem, playing(policy)), abs=1e-10)


@pytest.mark.parametrize("rules", [r for r in every_rules(3) if r.answer == "last"], ids=name_of)
def test_a_policy_has_a_value_in_another_model_too(rules):
    own, other = (random_problem(rules, np.random.default_rng(seed)) for seed in (0, 1))
    policy = random_policy(own, np.random.default_rng(2))
    expected = tree_value(other, playing(policy))
    assert model_value(policy, other) == pytest.approx(expected, abs=1e-10)
    assert model_value(policy, other) != pytest.approx(model_value(policy), abs=1e-3)


@given(problems(), SEEDS)
def test_model_value_walks_in_chunks_to_the_same_sum(problem, seed):
    policy = random_policy(problem, np.random.default_rng(seed))
    whole = model_value(policy)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_CHUNK", 2)
        assert model_value(policy) == pytest.approx(whole, abs=1e-10)


@given(problems(), SEEDS)
def test_how_the_signals_look_does_not_change_the_model_value(problem, seed):
    policy = random_policy(problem, np.random.default_rng(seed))
    seen = TablePolicy(with_bands(problem), policy.actions)
    assert model_value(seen) == pytest.approx(model_value(policy), abs=1e-12)


@pytest.mark.parametrize("solved", [True, False])
@pytest.mark.parametrize("rules", every_rules(3), ids=name_of)
def test_the_mean_return_of_samples_is_the_model_value(rules, solved):
    problem = random_problem(rules, np.random.default_rng(11), price=0.2)
    policy = Exact().solve(problem) if solved else random_policy(problem, np.random.default_rng(3))
    data = problem.sample(40_000, np.random.default_rng(12))
    sampled = returns(evaluate(policy, data), problem)
    error = sampled.std() / np.sqrt(len(sampled))
    assert abs(sampled.mean() - model_value(policy)) < 4 * error
