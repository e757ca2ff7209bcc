"""The routing problem of query classes, against enumeration of (class, score vector)."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from routing_pomdp.envs import Costs, RoutingData, RoutingPOMDP, Rules
from routing_pomdp.envs.model.class_model import Basis, Settings
from routing_pomdp.envs.model.latent_classes import Strength, fit_classes
from routing_pomdp.evaluation.evaluate import evaluate, returns
from routing_pomdp.solvers import Exact
from routing_pomdp.verifiers import Histogram
from tests.support.problems import Bands

FULL = Rules(3, skip=True, free_start=True, verify=True)


def two_kinds(n: int, rng: np.random.Generator, n_models: int = 3) -> RoutingData:
    """Easy and hard queries: on hard ones models fail together, are unsure together, and think
    twice as long."""
    hard = rng.random(n) < 0.4
    strength = np.linspace(0, 0.3, n_models)
    score = (rng.random((n, n_models)) < np.where(hard[:, None], 0.2 + strength, 0.8)) * 1.0
    told = 0.15 * score + 0.55 * ~hard[:, None] + 0.3 * rng.random((n, n_models))
    call = np.array([1.0, 4.0, 16.0, 64.0])[:n_models] * np.where(hard, 2.0, 0.7)[:, None]
    return RoutingData(score, call, 0.1 * call, told[..., None])


def fitted(data: RoutingData, rules: Rules, classes: int, observation=None, **settings):
    costs = Costs(data.call_cost.mean(axis=0), data.verify_cost.mean(axis=0))
    problem = RoutingPOMDP.fit(data, observation or Histogram(bins=3), costs, rules, price=0.2)
    return problem, Basis.of(problem, data).fit(Settings(classes, **settings))


def test_posteriors_equal_enumeration_of_classes_and_score_vectors():
    data = two_kinds(300, np.random.default_rng(0))
    free, problem = fitted(data, FULL, 3)
    basis = Basis.of(free, data)
    tables = fit_classes(basis.cells, 3, Strength(), starts=3)
    codes = np.arange(problem.n_histories)
    digit = problem.digits_of(codes)
    for code in np.random.default_rng(1).choice(codes, 25, replace=False):
        mass, score, call, verify = 0.0, np.zeros(3), np.zeros(3), np.zeros(3)
        for z, y in product(range(3), product((0, 1), repeat=3)):
            p = tables.share[z]
            for model in range(3):
                p *= tables.level[z, model, y[model]]
                if model < 2 and 0 < digit[code, model] <= 3:
                    p *= tables.symbol[z, model, y[model], digit[code, model] - 1]
            state = z * 8 + int("".join(map(str, y)), 2)
            mass, score = mass + p, score + p * np.array(y)
            call += p * problem.costs.call_in[state]
            verify += p * problem.costs.verify_in[state]
        one = np.array([code])
        assert problem.mass(one)[0] == pytest.approx(mass)
        np.testing.assert_allclose(problem.expected_scores(one)[0], score / mass)
        np.testing.assert_allclose(problem.belief(one) @ problem.score, [score / mass])
        rate = problem.price / problem.costs.unit
        expected = problem.expected_prices(one)
        # Of what is still to be bought.
        calls = np.append(digit[code] == 0, True)
        verifies = np.append((digit[code] == 0) | (digit[code] == problem.unverified), False)
        np.testing.assert_allclose(expected[0][0][calls], rate * call[calls] / mass)
        np.testing.assert_allclose(expected[1][0][verifies], rate * verify[verifies] / mass)


def test_means_stay_those_of_the_log():
    data = two_kinds(2000, np.random.default_rng(2))
    _, problem = fitted(data, FULL, 3, cost_strength=50.0)
    assert problem.costs.call_in is not None
    assert problem.costs.verify_in is not None
    np.testing.assert_allclose(problem.prior @ problem.costs.call_in, data.call_cost.mean(0))
    np.testing.assert_allclose(problem.prior @ problem.costs.verify_in, data.verify_cost.mean(0))
    np.testing.assert_allclose(problem.prior @ problem.score, data.score.mean(0), atol=0.01)


def test_costs_of_a_class_are_those_of_its_queries():
    data = two_kinds(4000, np.random.default_rng(3))
    _, problem = fitted(data, FULL, 2)
    assert problem.member is not None
    assert problem.costs.call_in is not None
    in_class = [problem.prior[problem.member == z] for z in range(2)]
    mean = [
        (p @ problem.costs.call_in[problem.member == z]) / p.sum() for z, p in enumerate(in_class)
    ]
    ratio = max(mean[0][0], mean[1][0]) / min(mean[0][0], mean[1][0])
    assert 2.3 < ratio < 2.9  # 2.0 to 0.7, of classes that are known only nearly


def test_costs_that_are_the_same_on_every_query_are_no_table():
    data = two_kinds(200, np.random.default_rng(4))
    constant = np.broadcast_to(data.call_cost.mean(axis=0), data.call_cost.shape)
    _, problem = fitted(replace(data, call_cost=constant, verify_cost=0 * constant), FULL, 2)
    assert not problem.costs.vary


def test_a_world_of_the_model_pays_what_the_exact_policy_promises():
    data = two_kinds(500, np.random.default_rng(5))
    free, problem = fitted(data, FULL, 3)
    world = problem.sample(100_000, np.random.default_rng(6))
    values = []
    for model in (problem, free):
        policy = Exact().solve(model)
        got = returns(evaluate(policy, world), problem)
        values.append(got.mean())
        if model is problem:
            assert policy.value == pytest.approx(got.mean(), abs=4 * got.std() / np.sqrt(len(got)))
    # Planning as if signals were independent loses in a world where they are not.
    assert values[0] > values[1]


def test_graded_scores_have_classes_too():
    rng = np.random.default_rng(7)
    data = two_kinds(400, rng)
    graded = replace(data, score=np.clip(data.score * 0.7 + 0.3 * rng.random((400, 3)), 0, 1))
    _, problem = fitted(graded, FULL, 3)
    assert len(problem.prior) == 3 * 5**3
    assert np.isfinite(Exact().solve(problem).value)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda r: replace(r, score=np.where(np.arange(3) == 0, 0.0, r.score)),
        lambda r: replace(r, score=np.where(np.arange(3) == 2, 1.0, r.score)),
        lambda r: replace(r, signal=np.zeros_like(r.signal)),
        lambda r: replace(r, call_cost=r.call_cost * (np.arange(60) % 2)[:, None]),
    ],
    ids=["never right", "always right", "constant signal", "free on half"],
)
def test_degenerate_logs_are_fitted_and_solved(spoil):
    data = spoil(two_kinds(60, np.random.default_rng(8)))
    _, problem = fitted(data, FULL, 4)
    policy = Exact().solve(problem)
    assert np.isfinite(policy.value)
    assert np.isfinite(evaluate(policy, data).score).all()


def test_more_classes_than_memory_bears_are_refused_in_a_line():
    data = two_kinds(60, np.random.default_rng(9))
    problem = RoutingPOMDP.fit(data, Bands(4), Costs(np.ones(3), np.ones(3)), Rules(3))
    with pytest.raises(ValueError, match="hidden states, too many for memory: use fewer"):
        Basis.of(problem, data).fit(Settings(10**7))
