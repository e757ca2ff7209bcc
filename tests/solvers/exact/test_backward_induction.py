"""Exact backward induction, against plain tree search and closed forms."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routing_pomdp.envs import ESCALATE, STAY, Costs, RoutingPOMDP, Rules
from routing_pomdp.evaluation.evaluate import model_value
from routing_pomdp.solvers import Exact, TablePolicy
from routing_pomdp.solvers.exact.backward_induction import Tables
from tests.support.problems import (
    every_rules,
    name_of,
    problems,
    random_policy,
    random_problem,
    score_vectors,
)
from tests.support.tree_search import playing, tree_value

SEEDS = st.integers(0, 2**32)


def _value(problem: RoutingPOMDP) -> float:
    return Exact().solve(problem).value


# -- tree search ------------------------------------------------------------------------------


@pytest.mark.parametrize("rules", every_rules(2), ids=name_of)
@given(st.data())
def test_exact_equals_plain_tree_search(rules, data):
    problem = data.draw(problems(rules))
    policy = Exact().solve(problem)
    best = tree_value(problem)
    assert policy.value == pytest.approx(best, abs=1e-10)
    assert tree_value(problem, playing(policy)) == pytest.approx(best, abs=1e-10)


@pytest.mark.parametrize("rules", every_rules(4), ids=name_of)
def test_exact_equals_plain_tree_search_on_the_largest_tried(rules):
    problem = random_problem(rules, np.random.default_rng(1), symbols=3, levels=3, price=0.2)
    assert _value(problem) == pytest.approx(tree_value(problem), abs=1e-10)


@given(problems(), SEEDS)
def test_no_policy_beats_exact_inside_the_model(problem, seed):
    best = _value(problem)
    rng = np.random.default_rng(seed)
    for _ in range(5):
        assert model_value(random_policy(problem, rng)) <= best + 1e-10


@given(problems(), SEEDS)
def test_no_single_change_improves_the_exact_policy(problem, seed):
    exact, rng = Exact().solve(problem), np.random.default_rng(seed)
    other = random_policy(problem, rng).actions
    for code in rng.integers(problem.n_histories, size=5):
        actions = exact.actions.copy()
        actions[code] = other[code]
        assert model_value(TablePolicy(problem, actions)) <= exact.value + 1e-10


@given(problems())
def test_the_exact_policy_earns_the_value_that_it_claims(problem):
    policy = Exact().solve(problem)
    assert model_value(policy) == pytest.approx(policy.value, abs=1e-10)


@given(problems())
def test_the_exact_policy_is_legal_wherever_a_decision_is_asked_for(problem):
    history = problem.decode(np.arange(problem.n_histories))
    legal = problem.rules.masks[history.stage + 1, history.last_verified.astype(int)]
    action = Exact().solve(problem).act(history)
    decides = legal.any(axis=1)
    assert legal[np.arange(len(action)), action][decides].all()


# -- closed forms -----------------------------------------------------------------------------


def test_two_models_by_hand():
    # Scores are 0 or 1. p(y0, y1): (0,0) .2, (0,1) .4, (1,0) .1, (1,1) .3. The verifier sees y0
    # through noise: P(high | y0=1) = .8, P(high | y0=0) = .25. Costs 1 and 10, verification .5;
    # price .5, so a small call takes .05, its verification .025, the large call .5.
    #   P(high) = .4·.8 + .6·.25 = .47,  E[y0; high] = .32,  E[y1; high] = .3·.8 + .4·.25 = .34
    #   P(low) = .53,                    E[y0; low] = .08,   E[y1; low] = .7 − .34 = .36
    # high: stay .32 against .34 − .5·.47 = .105. low: stay .08 against .36 − .265 = .095.
    # V = −.05 − .025 + .32 + .095 = .34.
    problem = RoutingPOMDP(
        score=np.array([[0.0, 0], [0, 1], [1, 0], [1, 1]]),
        prior=np.array([0.2, 0.4, 0.1, 0.3]),
        likelihood=np.array([[[0.75, 0.25], [0.75, 0.25], [0.2, 0.8], [0.2, 0.8]]]),
        costs=Costs(np.array([1.0, 10.0]), np.array([0.5, 5.0])),
        price=0.5,
        rules=Rules(2),
    )
    policy = Exact().solve(problem)
    assert policy.value == pytest.approx(0.34, abs=1e-12)
    low, high = policy.actions[[1, 2]]
    assert (low, high) == (ESCALATE, STAY)
    # Free start: the large model alone is worth .7 − .5 = .2, the small one .4 − .05 = .35
    # unverified. Bought verification, forced start: staying unverified, .35, beats .34.
    free = replace(problem, rules=Rules(2, free_start=True))
    bought = replace(problem, rules=Rules(2, verify=True))
    assert _value(free) == pytest.approx(0.34, abs=1e-12)
    assert _value(bought) == pytest.approx(0.35, abs=1e-12)
    # At half the price: small .4 − .025 = .375, large .7 − .25 = .45; verified, high stays with
    # .32 and low escalates for .36 − .1325 = .2275: .5475 − .0375 = .51.
    for rules in (Rules(2), Rules(2, free_start=True), Rules(2, verify=True)):
        assert _value(replace(problem, rules=rules, price=0.25)) == pytest.approx(0.51, abs=1e-12)


def _seeing_its_own_score(rules: Rules, rng: np.random.Generator, levels: int) -> RoutingPOMDP:
    """A problem whose verifier is free and shows the score of the answer itself."""
    problem = random_problem(rules, rng, symbols=levels, levels=levels)
    level = score_vectors(np.tile(np.arange(levels), (rules.n_models, 1)))[:, :-1].T
    costs = Costs(problem.costs.call, np.zeros(rules.n_models))
    return replace(problem, likelihood=np.eye(levels)[level], costs=costs)


@given(SEEDS, st.integers(2, 4), st.integers(2, 3), st.floats(0, 1))
def test_a_perfect_free_verifier_makes_the_cascade_that_sees_its_own_scores(seed, n, levels, price):
    problem = _seeing_its_own_score(Rules(n), np.random.default_rng(seed), levels).at(price)
    action_cost = price * problem.costs.call / problem.costs.call[-1]

    def cascade(vectors: list[int], stage: int) -> float:
        """What the score vectors that agree so far still bring, all weighted by the prior."""
        mass = problem.prior[vectors].sum()
        total = -action_cost[stage] * mass
        for value in set(problem.score[vectors, stage]):
            alike = [s for s in vectors if problem.score[s, stage] == value]
            stay = value * problem.prior[alike].sum()
            total += stay if stage == n - 1 else max(stay, cascade(alike, stage + 1))
        return total

    expected = cascade(list(range(len(problem.prior))), 0)
    assert _value(problem) == pytest.approx(expected, abs=1e-10)


@given(SEEDS, st.integers(2, 3), st.booleans(), st.floats(0, 1))
def test_a_free_verifier_that_sees_every_score_leaves_nothing_to_chance(seed, n, skip, price):
    problem = random_problem(Rules(n, skip=skip), np.random.default_rng(seed), price=price)
    vectors = len(problem.prior)
    problem = replace(
        problem,
        likelihood=np.tile(np.eye(vectors), (n - 1, 1, 1)),
        costs=Costs(problem.costs.call, np.zeros(n)),
    )
    action_cost = problem.call_price[1:]
    # After the first call everything is known: the best of staying and of every later model,
    # which skipping reaches directly and a core chain through all those before it.
    later = problem.score[:, 1:] - (action_cost if skip else action_cost.cumsum())
    known = np.maximum(problem.score[:, 0], later.max(axis=1))
    assert _value(problem) == pytest.approx(problem.prior @ known - problem.call_price[0])


@given(problems(), SEEDS)
def test_a_useless_verifier_leaves_the_best_fixed_model_by_prior(problem, seed):
    rules = replace(problem.rules, free_start=True, verify=True)
    blind = np.random.default_rng(seed).dirichlet(np.ones(3), size=(rules.n_models - 1, 1))
    blind = np.broadcast_to(blind, (rules.n_models - 1, len(problem.prior), 3))
    problem = replace(problem, rules=rules, likelihood=blind)
    fixed = problem.prior @ problem.score - problem.call_price
    assert _value(problem) == pytest.approx(fixed.max(), abs=1e-10)


@given(problems())
def test_the_last_models_value_is_its_posterior_mean_score(problem):
    # V_{N-1}(b) = E_b[y_{N-1}]: nothing is left to decide there.
    problem = replace(problem, rules=replace(problem.rules, answer="last"))
    tables = Tables.of(problem)
    code = np.arange(problem.n_histories)
    expected = tables.mass.ravel() * (problem.belief(code) @ problem.score[:, -1])
    np.testing.assert_allclose(tables.final.ravel(), expected, atol=1e-12)


# -- the shape of the value function ----------------------------------------------------------


@given(problems(), SEEDS, st.floats(0, 1))
def test_the_value_is_convex_along_every_edge_between_beliefs(problem, seed, share):
    other = np.random.default_rng(seed).dirichlet(np.ones(len(problem.prior)))
    mixed = share * problem.prior + (1 - share) * other
    ends = _value(problem), _value(replace(problem, prior=other))
    upper = share * ends[0] + (1 - share) * ends[1]
    assert _value(replace(problem, prior=mixed)) <= upper + 1e-10


@settings(max_examples=15)
@given(problems(max_models=3), SEEDS)
def test_the_value_is_piecewise_linear_one_plane_a_policy(problem, seed):
    # A fixed policy's value is linear in the belief; the optimal one's plane touches V at its own
    # belief and lies below it everywhere else. ("last": what is returned must not move with it.)
    problem = replace(problem, rules=replace(problem.rules, answer="last"))
    policy = Exact().solve(problem)
    corners = np.eye(len(problem.prior))
    plane = np.array(
        [
            model_value(TablePolicy(replace(problem, prior=corner), policy.actions))
            for corner in corners
        ]
    )
    assert plane @ problem.prior == pytest.approx(policy.value, abs=1e-10)
    for elsewhere in np.random.default_rng(seed).dirichlet(np.ones(len(corners)), size=4):
        assert plane @ elsewhere <= _value(replace(problem, prior=elsewhere)) + 1e-10


@given(problems(), st.lists(st.floats(0, 3), min_size=3, max_size=3))
def test_the_value_falls_with_the_price_and_is_convex_in_it(problem, prices):
    low, middle, high = sorted(prices)
    values = [_value(problem.at(price)) for price in (low, middle, high)]
    assert values[0] >= values[1] - 1e-10
    assert values[1] >= values[2] - 1e-10
    share = (high - middle) / (high - low) if high > low else 1.0
    assert values[1] <= share * values[0] + (1 - share) * values[2] + 1e-10


@given(problems())
def test_nothing_is_worth_more_than_routing_free_of_charge(problem):
    free = replace(problem, costs=Costs(problem.costs.call, np.zeros(problem.n_models)), price=0)
    assert _value(free) >= _value(problem) - 1e-10
    # Always climbing to the top is one of the policies.
    assert _value(free) >= problem.prior @ problem.score[:, -1] - 1e-10


@pytest.mark.parametrize("option", ["skip", "free_start", "verify", "best"])
@given(problem=problems())
def test_more_rules_never_hurt(option, problem):
    # Bought verification is worth at least the forced one: buying it always is one of its
    # policies, and costs the same.
    off, on = ("last", "best") if option == "best" else (False, True)
    name = "answer" if option == "best" else option
    less = replace(problem, rules=replace(problem.rules, **{name: off}))
    more = replace(problem, rules=replace(problem.rules, **{name: on}))
    assert _value(more) >= _value(less) - 1e-10


@settings(max_examples=20)
@given(problems())
def test_a_sharper_verifier_is_never_worth_less(problem):
    # Adding to every symbol the truth about the last model can be ignored, so cannot hurt.
    sees = np.unique(problem.score[:, -1], return_inverse=True)[1]
    truth = np.eye(sees.max() + 1)[sees]
    sharper = (problem.likelihood[..., None] * truth[:, None]).reshape(
        problem.n_models - 1, len(problem.prior), -1
    )
    assert _value(replace(problem, likelihood=sharper)) >= _value(problem) - 1e-10


# -- the interface ----------------------------------------------------------------------------


@settings(max_examples=20)
@given(problems())
def test_a_frontier_is_the_same_as_solving_each_price(problem):
    prices = [0.0, 0.1, 1.0]
    for price, policy in zip(prices, Exact().solve_frontier(problem, prices), strict=True):
        alone = Exact().solve(problem.at(price))
        assert policy.problem.price == price
        assert policy.value == alone.value
        np.testing.assert_array_equal(policy.actions, alone.actions)


def test_a_tie_goes_to_staying():
    # Two equal models, a free second call that can bring nothing.
    problem = RoutingPOMDP(
        score=np.array([[0.0, 0], [1, 1]]),
        prior=np.array([0.5, 0.5]),
        likelihood=np.full((1, 2, 1), 1.0),
        costs=Costs(np.array([1.0, 1.0]), np.zeros(2)),
        price=0.0,
        rules=Rules(2, skip=True, verify=True),
    )
    history = problem.decode(np.array([1, 2]))
    np.testing.assert_array_equal(Exact().solve(problem).act(history), [STAY, STAY])


def test_a_tree_too_large_is_refused_with_its_size_and_a_way_out():
    problem = random_problem(Rules(4, verify=True), np.random.default_rng(0), symbols=8)
    with pytest.raises(ValueError, match=r"1,000 histories \(4 models, 8 symbols\).*pomcp"):
        Exact(max_histories=999).solve(problem)
    assert Exact(max_histories=1000).solve(problem).actions.shape == (1000,)
