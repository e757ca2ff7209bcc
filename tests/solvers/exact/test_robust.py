"""Solvers that take the uncertainty of the fitted model into account."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routing_pomdp.envs import Costs, RoutingPOMDP, Rules
from routing_pomdp.evaluation.evaluate import model_value
from routing_pomdp.solvers import Exact
from routing_pomdp.solvers.exact.backward_induction import Tables, backward_induction
from routing_pomdp.solvers.exact.robust import Bayes, Pessimist, mixture, posterior_draws
from routing_pomdp.verifiers import Histogram
from tests.support.problems import problems, random_policy, random_problem, score_vectors

SEEDS = st.integers(0, 2**32)


def fitted(n, rules=None, conditioning="own", seed=0):
    """A problem fitted on ``n`` queries of a random one, and those queries."""
    rules = rules or Rules(3, skip=True)
    rng = np.random.default_rng(seed)
    truth = random_problem(rules, rng, symbols=3)
    vectors = score_vectors(np.array([[0.0, 1.0]] * 3))
    truth = replace(truth, score=vectors, prior=rng.dirichlet(np.full(8, 5.0)))
    train = truth.sample(n, np.random.default_rng(seed + 1))
    costs = Costs(truth.costs.call, truth.costs.verify)
    observation = Histogram(bins=3, conditioning=conditioning)
    return RoutingPOMDP.fit(train, observation, costs, rules, price=0.2), train


@given(problem=problems(), seed=SEEDS)
def test_following_a_policy_backwards_is_its_value(problem, seed):
    """`backward_induction` with actions given, against the forward walk."""
    policy = random_policy(problem, np.random.default_rng(seed))
    value = backward_induction(problem, Tables.of(problem), policy.actions).value
    if problem.rules.answer == "last":
        assert value == pytest.approx(model_value(policy), abs=1e-10)


@given(problem=problems(max_models=3), seed=SEEDS, n=st.integers(1, 4))
def test_a_mixture_is_worth_the_mean_of_its_models(problem, seed, n):
    rng, shape = np.random.default_rng(seed), problem.likelihood.shape
    models = [
        replace(
            problem,
            prior=rng.dirichlet(np.ones(shape[1])),
            likelihood=rng.dirichlet(np.ones(shape[2]), size=shape[:2]),
        )
        for _ in range(n)
    ]
    whole = mixture(models)
    policy = Exact().solve(whole)
    if problem.rules.answer == "last":
        each = [backward_induction(m, Tables.of(m), policy.actions).value for m in models]
        assert policy.value == pytest.approx(np.mean(each), abs=1e-10)
        for m in models:  # no policy of one model does better on average
            other = Exact().solve(m).actions
            mean = np.mean([backward_induction(k, Tables.of(k), other).value for k in models])
            assert mean <= policy.value + 1e-10


@pytest.mark.parametrize("conditioning", ["own", "joint"])
def test_draws_scatter_around_the_fit_and_shrink_with_data(conditioning):
    spread = []
    for n in (30, 3000):
        problem, train = fitted(n, conditioning=conditioning)
        draws = posterior_draws(problem, train, 2000, 2.0, np.random.default_rng(0))
        for name in ("prior", "likelihood"):
            tables = np.stack([getattr(draw, name) for draw in draws])
            error = tables.std(axis=0) / np.sqrt(len(draws))
            away = np.abs(tables.mean(axis=0) - getattr(problem, name))
            assert (away <= 5 * error + 1e-12).all()
            assert tables.sum(axis=-1) == pytest.approx(np.ones(tables.shape[:-1]))
        spread.append(np.stack([draw.prior for draw in draws]).std(axis=0).sum())
    assert spread[1] < spread[0] / 5


def test_the_spread_is_that_of_the_beta_distribution():
    """A share p of n queries has variance p (1 - p) / (n + strength + 1)."""
    problem, train = fitted(200)
    draws = posterior_draws(problem, train, 5_000, 2.0, np.random.default_rng(0))
    found = np.stack([draw.prior for draw in draws]).var(axis=0)
    expected = problem.prior * (1 - problem.prior) / (len(train) + 3.0)
    assert found == pytest.approx(expected, rel=0.1)


def test_rows_that_were_fitted_equal_are_drawn_equal():
    problem, train = fitted(100)
    for draw in posterior_draws(problem, train, 5, 2.0, np.random.default_rng(0)):
        for drawn, rows in zip(draw.likelihood, problem.likelihood, strict=True):
            _, group = np.unique(rows, axis=0, return_inverse=True)
            for level in np.unique(group):
                assert len(np.unique(drawn[group.ravel() == level], axis=0)) == 1


def test_with_much_data_both_are_the_exact_solver():
    problem, train = fitted(300_000)
    best = Exact().solve(problem).value
    for solver in (Bayes(draws=16), Pessimist(draws=16)):
        policy = solver.solve(problem, train)
        assert model_value(policy, problem) == pytest.approx(best, abs=1e-3)
        assert policy.value == pytest.approx(best, abs=5e-3)


@settings(max_examples=15)
@given(seed=st.integers(0, 10**6))
def test_a_pessimist_promises_no_more_than_bayes_and_its_quantile_is_the_best_offered(seed):
    problem, train = fitted(40, seed=seed)
    solver = Pessimist(draws=16, quantile=0.0, candidates=4)
    policy = solver.solve(problem, train)
    drawn = solver.posterior(problem, train)
    worst = [min(backward_induction(m, Tables.of(m), p.actions).value for m in drawn)
             for p in (policy, Exact().solve(problem), Exact().solve(mixture(drawn)))]  # fmt: skip
    assert policy.value == pytest.approx(worst[0])
    assert worst[0] >= max(worst) - 1e-12
    assert policy.value <= Exact().solve(mixture(drawn)).value + 1e-12


def test_the_same_seed_gives_the_same_policy():
    problem, train = fitted(40)
    for solver in (Bayes, Pessimist):
        first, second, other = (solver(seed=seed).solve(problem, train) for seed in (1, 1, 2))
        np.testing.assert_array_equal(first.actions, second.actions)
        assert first.value == second.value
        assert first.value != other.value


@pytest.mark.parametrize(
    ("solver", "change", "message"),
    [
        (Bayes, {"draws": 0}, r"solver\.draws is 0"),
        (Bayes, {"strength": 0.0}, r"solver\.strength is 0"),
        (Bayes, {"seed": -1}, r"solver\.seed is -1"),
        (Pessimist, {"quantile": 2.0}, r"solver\.quantile is 2"),
        (Pessimist, {"candidates": 99}, r"solver\.candidates is 99"),
    ],
)
def test_bad_settings_are_refused(solver, change, message):
    with pytest.raises(ValueError, match=message):
        solver(**change)
