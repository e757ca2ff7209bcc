"""The finite problem: its filter, codes, sampling and fit, against enumeration and hand counts."""

from dataclasses import replace
from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from routing_pomdp.envs import Costs, RoutingPOMDP, Rules
from tests.support.problems import (
    every_rules,
    name_of,
    problems,
    random_data,
    random_policy,
    random_problem,
    steps,
    with_bands,
)

SEEDS = st.integers(0, 2**32)


def _joint_table(problem: RoutingPOMDP) -> np.ndarray:
    """P(o_0 … o_{N-2}, y) of every outcome, ``(K,) * (N - 1) + (S,)``, one product at a time."""
    K, n = problem.n_symbols, problem.n_models
    table = np.empty((*(K,) * (n - 1), len(problem.prior)))
    for symbols in product(range(K), repeat=n - 1):
        for s, probability in enumerate(problem.prior):
            for model, symbol in enumerate(symbols):
                probability = probability * problem.likelihood[model, s, symbol]
            table[(*symbols, s)] = probability
    return table


def _seen(problem: RoutingPOMDP, code: int) -> tuple[slice | int, ...]:
    """Which outcomes of the joint table agree with a history."""
    history = problem.decode(np.array([code]))
    return tuple(
        int(history.signal[0, model, 0]) if history.verified[0, model] else slice(None)
        for model in range(problem.n_models - 1)
    )


# -- the Bayes filter -------------------------------------------------------------------------


@given(problems())
def test_the_filter_equals_enumeration_of_the_joint_distribution(problem):
    table = _joint_table(problem)
    codes = np.arange(problem.n_histories)
    joint, belief = problem.joint(codes), problem.belief(codes)
    for code in codes:
        agreeing = table[_seen(problem, code)].reshape(-1, len(problem.prior)).sum(axis=0)
        np.testing.assert_allclose(joint[code], agreeing, atol=1e-12)
        if agreeing.sum() > 1e-9:
            np.testing.assert_allclose(belief[code], agreeing / agreeing.sum(), atol=1e-9)


@given(problems())
def test_beliefs_are_probabilities(problem):
    belief = problem.belief(np.arange(problem.n_histories))
    assert (belief >= 0).all()
    np.testing.assert_allclose(belief.sum(axis=1), 1, atol=1e-12)


@given(problems(), SEEDS)
def test_the_order_of_observation_does_not_matter(problem, seed):
    # Bayes' rule one symbol at a time, in every order of the models.
    seen = np.random.default_rng(seed).integers(problem.n_symbols, size=problem.n_models - 1)
    joint = problem.prior * np.prod(
        [problem.likelihood[model, :, symbol] for model, symbol in enumerate(seen)], axis=0
    )
    if joint.sum() == 0:
        return
    belief = problem.belief(np.array([(1 + seen) @ problem.weights]))[0]
    for order in permutations(range(problem.n_models - 1)):
        updated = problem.prior
        for model in order:
            updated = updated * problem.likelihood[model, :, seen[model]]
            updated = updated / updated.sum()
        np.testing.assert_allclose(updated, belief, atol=1e-10)


def test_before_any_signal_and_after_an_impossible_one_the_belief_is_the_prior():
    problem = RoutingPOMDP(
        score=np.array([[0.0, 1], [1, 0]]),
        prior=np.array([0.3, 0.7]),
        likelihood=np.array([[[0.5, 0.5, 0], [0.9, 0.1, 0]]]),
        costs=Costs(np.array([1.0, 2]), np.zeros(2)),
        price=0.1,
        rules=Rules(2, verify=True),
    )
    unseen, impossible, unverified = 0, 3, 4
    belief = problem.belief(np.array([unseen, impossible, unverified]))
    np.testing.assert_array_equal(belief, np.tile(problem.prior, (3, 1)))
    # Symbol 1: .3·.5 = .15 against .7·.1 = .07.
    np.testing.assert_allclose(problem.belief(np.array([2])), [[15 / 22, 7 / 22]])


# -- codes ------------------------------------------------------------------------------------


@given(problems())
def test_decoding_and_encoding_are_inverse(problem):
    codes = np.arange(problem.n_histories)
    for seen_as in (problem, with_bands(problem), with_bands(problem, signals=2)):
        np.testing.assert_array_equal(seen_as.encode(seen_as.decode(codes)), codes)


@given(problems(), SEEDS)
def test_what_is_played_is_what_its_code_says(problem, seed):
    rng = np.random.default_rng(seed)
    policy = random_policy(with_bands(problem), rng)
    problem = policy.problem
    for episodes, _ in steps(random_data(20, problem.n_models, rng), policy):
        history = episodes.history
        restored = problem.decode(problem.encode(history))
        for name in ("stage", "called", "verified"):
            np.testing.assert_array_equal(getattr(restored, name), getattr(history, name))
        for model in range(problem.n_models - 1):
            rows = history.verified[:, model]
            np.testing.assert_array_equal(
                problem.symbols(model, restored.signal[rows, model]),
                problem.symbols(model, history.signal[rows, model]),
            )


def test_codes_are_numbers_in_mixed_radix():
    # Two symbols and VERIFY as an action: digits 0 uncalled, 1 and 2 symbols, 3 unverified.
    problem = random_problem(Rules(3, verify=True), np.random.default_rng(0), symbols=2)
    assert (problem.digits, problem.unverified, problem.n_histories) == (4, 3, 16)
    np.testing.assert_array_equal(problem.digits_of(np.array([0, 7, 14])), [[0, 0], [1, 3], [3, 2]])
    forced = random_problem(Rules(3), np.random.default_rng(0), symbols=2)
    assert (forced.digits, forced.n_histories) == (3, 9)


# -- the returned answer ----------------------------------------------------------------------


@given(problems(), SEEDS)
def test_best_returns_the_called_model_of_the_best_posterior_mean(problem, seed):
    problem = replace(problem, rules=replace(problem.rules, answer="best"))
    policy = random_policy(problem, np.random.default_rng(seed))
    data = problem.sample(20, np.random.default_rng(seed))
    for episodes, _ in steps(data, policy):
        history = episodes.history
        rows = np.flatnonzero(history.stage >= 0)
        if len(rows) == 0:
            continue
        history = history.take(rows)
        mean = problem.belief(problem.encode(history)) @ problem.score
        answer = problem.best_answer(history)
        for row, called in enumerate(history.called):
            assert called[answer[row]]
            assert mean[row, answer[row]] >= mean[row, called].max() - 1e-9


def test_last_returns_the_last_answer():
    problem = random_problem(Rules(3), np.random.default_rng(0))
    history = problem.decode(np.array([1, 4, 6]))
    np.testing.assert_array_equal(problem.best_answer(history), history.stage)


@pytest.mark.parametrize("seed", range(20))
def test_a_tie_goes_to_the_dearer_model_whatever_the_batch(seed):
    # A prior that treats models 0 and 1 alike, and symbols that say nothing: their means tie, but
    # floating point sums them in different orders, and those of a batch in yet another.
    rng = np.random.default_rng(seed)
    problem = random_problem(Rules(3, answer="best"), rng, symbols=1, levels=3)
    level = np.array(list(product((0.0, 0.5, 1.0), repeat=3)))
    prior = rng.dirichlet(np.ones(27)).reshape(3, 3, 3)
    prior = (prior + prior.swapaxes(0, 1)) / 2
    problem = replace(problem, score=level, prior=prior.ravel())
    both = problem.weights.sum()
    for size in (1, 2, 7, 64):
        history = problem.decode(np.full(size, both))
        np.testing.assert_array_equal(problem.best_answer(history), np.ones(size))


# -- prices and costs -------------------------------------------------------------------------


def test_prices_are_in_most_expensive_calls():
    problem = RoutingPOMDP(
        score=np.array([[0.0, 1]]),
        prior=np.ones(1),
        likelihood=np.ones((1, 1, 1)),
        costs=Costs(np.array([2.0, 8.0]), np.array([1.0, 4.0])),
        price=0.4,
        rules=Rules(2),
    )
    np.testing.assert_allclose(problem.call_price, [0.1, 0.4])
    np.testing.assert_allclose(problem.verify_price, [0.05, 0.2])
    np.testing.assert_allclose(problem.at(0.8).call_price, [0.2, 0.8])
    assert problem.price == 0.4


# -- sampling ---------------------------------------------------------------------------------


def test_samples_follow_prior_and_likelihood():
    problem = random_problem(Rules(3), np.random.default_rng(4), symbols=3)
    n = 200_000
    data = problem.sample(n, np.random.default_rng(5))
    vector = (data.score[:, None] == problem.score).all(axis=2).argmax(axis=1)
    counts = np.bincount(vector, minlength=len(problem.prior))
    assert chisquare(counts, n * problem.prior).pvalue > 1e-3
    for model in range(2):
        for s in range(len(problem.prior)):
            symbol = data.signal[vector == s, model, 0].astype(int)
            counts = np.bincount(symbol, minlength=3)
            expected = counts.sum() * problem.likelihood[model, s]
            assert chisquare(counts, expected).pvalue > 1e-4


def test_signals_of_a_sample_are_independent_given_the_scores():
    problem = random_problem(Rules(3), np.random.default_rng(6), symbols=2)
    data = problem.sample(200_000, np.random.default_rng(7))
    vector = (data.score[:, None] == problem.score).all(axis=2).argmax(axis=1)
    first, second = data.signal[:, :2, 0].astype(int).T
    for s in range(len(problem.prior)):
        rows = vector == s
        counts = np.bincount(2 * first[rows] + second[rows], minlength=4)
        cells = np.outer(problem.likelihood[0, s], problem.likelihood[1, s]).ravel()
        assert chisquare(counts, counts.sum() * cells).pvalue > 1e-4


@given(problems(), SEEDS)
def test_a_sample_is_a_data_of_the_model(problem, seed):
    data = problem.sample(50, np.random.default_rng(seed))
    assert len(data) == 50
    # Every query is some possible state's: its scores and its costs are those of one state.
    call, verify = problem.costs.in_states(np.arange(len(problem.prior)))
    states = np.concatenate([problem.score, call, verify], axis=1)[problem.prior > 0]
    drawn = np.concatenate([data.score, data.call_cost, data.verify_cost], axis=1)
    assert (drawn[:, None] == states).all(axis=2).any(axis=1).all()
    assert np.isnan(data.signal[:, -1]).all()
    again = problem.sample(50, np.random.default_rng(seed))
    np.testing.assert_array_equal(again.score, data.score)
    np.testing.assert_array_equal(again.signal, data.signal)


def test_a_sample_shows_representative_signals():
    problem = with_bands(random_problem(Rules(3), np.random.default_rng(0), symbols=2))
    signal = problem.sample(100, np.random.default_rng(0)).signal[:, :2]
    assert set(signal.ravel()) == {0.25, 0.75}


# -- what is no problem -----------------------------------------------------------------------


def _valid(**changes) -> RoutingPOMDP:
    parts = {
        "score": np.array([[0.0, 0, 1], [1, 0, 1]]),
        "prior": np.array([0.5, 0.5]),
        "likelihood": np.full((2, 2, 2), 0.5),
        "costs": Costs(np.array([1.0, 2, 4]), np.zeros(3)),
        "price": 0.3,
        "rules": Rules(3),
    }
    return RoutingPOMDP(**parts | changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rules": Rules(2)}, "score has 3 models, the rules 2"),
        ({"prior": np.full(3, 1 / 3)}, r"prior has shape \(3,\), expected \(2,\)"),
        ({"prior": np.full((1, 2), 0.5)}, r"prior has shape \(1, 2\)"),
        ({"likelihood": np.full((3, 2, 2), 0.5)}, r"likelihood has shape \(3, 2, 2\)"),
        ({"likelihood": np.full((2, 2), 0.5)}, r"likelihood has shape \(2, 2\), expected"),
        ({"prior": np.array([0.5, 0.4])}, "prior must be non-negative and sum to one"),
        ({"prior": np.array([1.5, -0.5])}, "prior must be non-negative and sum to one"),
        ({"likelihood": np.full((2, 2, 2), 0.4)}, "likelihood must be non-negative and sum"),
        ({"likelihood": np.full((2, 2, 2), np.nan)}, "likelihood must be non-negative and sum"),
        ({"prior": np.array([np.nan, 1.0])}, "prior must be non-negative and sum to one"),
        (
            {"score": np.array([[0.0, np.nan, 1], [1, 0, 1]])},
            "score has values that are not finite",
        ),
        ({"price": -0.1}, r"price is -0\.1: expected a finite number >= 0"),
        ({"price": np.nan}, "price is nan"),
        ({"price": np.inf}, "price is inf"),
        (
            {"costs": Costs(np.array([1.0, 2, 0]), np.zeros(3))},
            "most expensive model costs nothing",
        ),
        ({"costs": Costs(np.array([1.0, 2]), np.zeros(2))}, r"costs\.call is .*expected 3 finite"),
        ({"costs": Costs(np.ones(3), np.zeros(2))}, r"costs\.verify is .*expected 3 finite"),
        ({"costs": Costs(np.ones(3), -np.ones(3))}, r"costs\.verify is .*>= 0"),
        ({"costs": Costs(np.full(3, np.nan), np.ones(3))}, r"costs\.call is .*>= 0"),
    ],
)
def test_what_does_not_fit_together_is_refused(changes, message):
    _valid()
    with pytest.raises(ValueError, match=message):
        _valid(**changes)


def test_another_price_is_checked_too():
    with pytest.raises(ValueError, match="price is -1"):
        _valid().at(-1)


@pytest.mark.parametrize("rules", every_rules(3), ids=name_of)
def test_every_rule_makes_a_problem(rules):
    assert _valid(rules=rules).n_histories == (4 if rules.verify else 3) ** 2


@given(problems(), SEEDS)
def test_queries_are_drawn_by_inverting_the_distributions(problem, seed):
    drawn, rng = problem.sample(50, np.random.default_rng(seed)), np.random.default_rng(seed)
    vector = rng.choice(len(problem.prior), size=50, p=problem.prior)
    np.testing.assert_array_equal(drawn.score, problem.score[vector])
    for model in range(problem.n_models - 1):
        for query, draw in enumerate(rng.random(50)):
            edges = np.cumsum(problem.likelihood[model, vector[query]])[:-1]
            assert drawn.signal[query, model, 0] == np.searchsorted(edges, draw, side="right")
