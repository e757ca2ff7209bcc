"""AutoMix's POMDP: its likelihoods by other arithmetic, its values by plain tree search."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm

from routing_pomdp.envs import Costs, RoutingData, RoutingPOMDP, Rules
from routing_pomdp.evaluation.evaluate import evaluate, model_value, returns
from routing_pomdp.solvers import Exact
from routing_pomdp.solvers.automix.pomdp import AutoMixPOMDP
from tests.support.problems import every_rules, name_of, random_data, random_problem, with_bands
from tests.support.tree_search import tree_value


def banded(rules, seed=0, symbols=3, price=0.2):
    """A problem that sees signals in [0, 1) in bands, and training queries for it."""
    rng = np.random.default_rng(seed)
    problem = with_bands(random_problem(rules, rng, symbols=symbols))
    return problem.at(price * problem.costs.unit), random_data(40, rules.n_models, rng)


def binary(data: RoutingData) -> RoutingData:
    return replace(data, score=(data.score > 0.5).astype(float))


def test_discrete_confidences_are_counted():
    problem, data = banded(Rules(2))
    data = binary(replace(data, signal=np.floor(data.signal * 3) / 3 + 0.1))
    learned = AutoMixPOMDP(bandwidth=1e-3).learn(problem, data)
    symbol = np.rint((data.signal[:, 0, 0] - 0.1) * 3).astype(int)
    n = len(data)
    for vector, row in zip(learned.score, learned.likelihood[0], strict=True):
        alike = (data.score == vector).all(axis=1)
        said = np.bincount(symbol[alike], minlength=3)
        common = np.bincount(symbol, minlength=3) / n + 0.5 / n
        expected = (said + common / common.sum()) / (alike.sum() + 1)
        np.testing.assert_allclose(row, expected, atol=1e-12)


def test_continuous_confidences_have_the_mass_of_the_kernel_density():
    """By numerical integration of the joint density over each bin, divided by the marginal's."""
    problem, data = banded(Rules(2))
    n = len(data)
    learned = AutoMixPOMDP(conditioning="own").learn(problem, data)
    score, raw = data.score[:, 0], data.signal[:, 0, 0]
    rank = raw.argsort().argsort()
    said = norm.ppf((rank + 0.5) / n)
    width = score.std(ddof=1) * n ** (-1 / 6), said.std(ddof=1) * n ** (-1 / 6)
    symbol = np.floor(raw * 3).astype(int)
    cuts = [(said[symbol == k].max() + said[symbol == k + 1].min()) / 2 for k in range(2)]
    edges = [-8.0, *cuts, 8.0]
    common = np.zeros(3)
    mass = np.zeros((len(learned.score), 3))
    for k in range(3):
        for t in range(n):
            inside = quad(norm(said[t], width[1]).pdf, edges[k], edges[k + 1])[0]
            common[k] += inside / n
            mass[:, k] += inside * np.exp(-0.5 * ((learned.score[:, 0] - score[t]) / width[0]) ** 2)
    common += 0.5 / n
    mass += common / common.sum()
    np.testing.assert_allclose(
        learned.likelihood[0], mass / mass.sum(axis=1, keepdims=True), atol=1e-6
    )


@pytest.mark.parametrize("rules", every_rules(3), ids=name_of)
def test_the_lookup_table_is_the_best_tree(rules):
    problem, data = banded(rules)
    few = replace(data, score=np.round(2 * data.score) / 2)
    solver = AutoMixPOMDP(particles=5)
    policy = solver.solve(problem, few)
    assert policy.value == pytest.approx(tree_value(solver.learn(problem, few)), abs=1e-10)


def test_equal_particles_weigh_as_much_as_they_are_many():
    problem, data = banded(Rules(3))
    data = binary(data)
    learned = AutoMixPOMDP().learn(problem, data)
    assert len(learned.score) <= 8
    row = [np.flatnonzero((learned.score == y).all(axis=1))[0] for y in data.score]
    apart = replace(
        learned,
        score=data.score,
        prior=np.full(len(data), 1 / len(data)),
        likelihood=learned.likelihood[:, row],
    )
    assert Exact().solve(apart).value == pytest.approx(Exact().solve(learned).value, abs=1e-12)


def test_a_perfect_confidence_makes_the_clairvoyant_cascade():
    n, rng = 400, np.random.default_rng(0)
    score = (rng.random((n, 2)) < [0.6, 0.9]).astype(float)
    train = RoutingData(
        score,
        np.broadcast_to([0.1, 1.0], (n, 2)),
        np.zeros((n, 2)),
        np.stack([score[:, 0], score[:, 0]], axis=1)[..., None] * 0.9,
    )
    problem = with_bands(random_problem(Rules(2), rng))
    problem = replace(problem, costs=Costs(np.array([0.1, 1.0]), np.zeros(2)), price=0.3)
    outcome = evaluate(AutoMixPOMDP().solve(problem, train), train)
    wrong = score[:, 0] == 0
    np.testing.assert_array_equal(outcome.answer == 1, wrong)


def test_a_useless_confidence_changes_nothing():
    problem, data = banded(Rules(3, skip=True, free_start=True, verify=True))
    constant = replace(data, signal=np.full_like(data.signal, 0.5))
    outcome = evaluate(AutoMixPOMDP().solve(problem, constant), constant)
    best = (constant.score.mean(axis=0) - problem.call_price).argmax()
    assert (outcome.answer == best).all()
    assert (outcome.verifications == 0).all()


def test_no_policy_of_the_run_beats_it_inside_its_own_model():
    problem, data = banded(Rules(3, skip=True))
    ours = AutoMixPOMDP().solve(problem, data)
    other = Exact().solve(problem)
    assert model_value(other, ours.problem) <= ours.value + 1e-12
    assert model_value(ours, problem) <= other.value + 1e-12


def test_confidences_never_heard_in_training_are_played_with():
    problem, data = banded(Rules(3), symbols=4)
    train = replace(data, signal=0.25 * data.signal)  # the lowest band alone
    policy = AutoMixPOMDP().solve(problem, train)
    assert (policy.problem.likelihood > 0).all()
    assert np.isfinite(returns(evaluate(policy, data), policy.problem)).all()


@pytest.mark.parametrize("score", [0.0, 1.0, 0.5])
@pytest.mark.parametrize("n", [1, 10])
def test_models_that_never_vary_and_a_handful_of_queries_work(score, n):
    problem, data = banded(Rules(3))
    few = RoutingData(
        np.full((n, 3), score), data.call_cost[:n], data.verify_cost[:n], data.signal[:n]
    )
    for conditioning in ("own", "joint"):
        policy = AutoMixPOMDP(conditioning=conditioning).solve(problem, few)
        assert policy.value == pytest.approx(
            score - problem.call_price[0] - problem.verify_price[0]
        )


def test_the_seed_decides_which_queries_become_particles():
    problem, data = banded(Rules(2))
    first, again, other = (
        AutoMixPOMDP(particles=10, seed=seed).learn(problem, data).score for seed in (0, 0, 1)
    )
    assert first.shape == (10, 2)
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("particles", 0, "a whole number from 1"),
        ("bandwidth", 0.0, "a number > 0"),
        ("bandwidth", float("nan"), "a number > 0"),
        ("conditioning", "both", "one of"),
    ],
)
def test_bad_settings_are_refused_by_name(key, value, expected):
    with pytest.raises(ValueError, match=rf"solver\.{key} is {value!r}: expected {expected}"):
        AutoMixPOMDP(**{key: value})


def test_it_works_on_a_problem_without_signals_of_its_own():
    """Symbols for signals: a sampled replay."""
    problem: RoutingPOMDP = random_problem(Rules(3), np.random.default_rng(0))
    train = problem.sample(4000, np.random.default_rng(1))
    ours = AutoMixPOMDP(particles=4000).solve(problem, train)
    assert model_value(ours, problem) == pytest.approx(Exact().solve(problem).value, abs=0.01)
