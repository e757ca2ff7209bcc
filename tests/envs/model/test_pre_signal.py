"""What is seen before the first call: its model, its cost, and where it shows."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from hypothesis import given
from hypothesis import strategies as st

from routing_pomdp.envs import (
    Costs,
    Episodes,
    History,
    PreSignal,
    RoutingEnv,
    RoutingPOMDP,
    RoutingVectorEnv,
    Rules,
)
from routing_pomdp.envs.model.decision_graph import DecisionGraph
from routing_pomdp.solvers import Exact
from routing_pomdp.verifiers import Histogram
from tests.support.pre_signals import pre_data, pre_problems, random_pre, with_pre
from tests.support.problems import every_rules, name_of, random_problem, score_vectors

SEEDS = st.integers(0, 2**32)


# -- the model --------------------------------------------------------------------------------


@given(pre_problems(), st.data())
def test_the_belief_given_a_symbol_is_that_of_the_enumerated_joint(problem, data):
    symbol = data.draw(st.integers(0, problem.pre.n_symbols - 1))
    left = problem.given(symbol)
    code = np.array([data.draw(st.integers(0, left.n_histories - 1))])
    digits = left.digits_of(code)[0]
    joint = []
    for vector in range(len(problem.prior)):
        p = problem.prior[vector] * problem.pre.likelihood[vector, symbol]
        for model, digit in enumerate(digits):
            if 0 < digit <= left.n_symbols:
                p *= problem.likelihood[model, vector, digit - 1]
        joint.append(p)
    if sum(joint) > 0:
        np.testing.assert_allclose(left.belief(code)[0], np.array(joint) / sum(joint), atol=1e-9)


@given(pre_problems())
def test_the_priors_after_the_signal_average_to_the_prior(problem):
    shares, left = zip(*problem.branches(), strict=True)
    assert sum(shares) == pytest.approx(1)
    mean = sum(share * after.prior for share, after in zip(shares, left, strict=True))
    np.testing.assert_allclose(mean, problem.prior, atol=1e-12)
    assert not any(after.rules.pre_query for after in left)


def test_without_a_signal_there_is_one_branch_the_problem_itself():
    problem = random_problem(Rules(3), np.random.default_rng(0))
    ((share, left),) = problem.branches()
    assert share == 1
    assert left is problem
    assert problem.pre_price == 0


def test_likelihoods_are_learned_from_queries_of_the_same_scores():
    """Given many queries, those that were drawn; given none of a score vector, those of as many
    right answers."""
    rng = np.random.default_rng(0)
    vectors = score_vectors(np.tile([0, 1], (2, 1))).astype(int)
    truth = np.array([[0.8, 0.2], [0.6, 0.4], [0.1, 0.9], [0.3, 0.7]])
    row = rng.integers(4, size=40_000)
    signal = (rng.random(len(row)) < truth[row, 1]).astype(float)[:, None]
    observation = Histogram(bins=2, binning="uniform", conditioning="joint")
    found = PreSignal.fit(signal, np.full(len(row), 0.5), observation, vectors[row], vectors)
    np.testing.assert_allclose(found.likelihood, truth, atol=0.02)
    assert found.cost == 0.5
    # (0, 1) and (1, 0) have one right answer each, and (1, 0) was never seen.
    some = row != 2
    few = PreSignal.fit(
        signal[some], np.zeros(some.sum()), observation, vectors[row[some]], vectors
    )
    np.testing.assert_allclose(few.likelihood[2], truth[1], atol=0.02)


def test_fitting_a_problem_takes_the_signal_from_the_data():
    rng = np.random.default_rng(0)
    data = pre_data(300, 3, rng)
    data = replace(data, score=(data.score > 0.5).astype(float))
    costs = Costs(data.call_cost.mean(0), data.verify_cost.mean(0))
    rules, bins = Rules(3, pre_query=True), Histogram(bins=3, binning="uniform")
    problem = RoutingPOMDP.fit(data, bins, costs, rules, pre=replace(bins, conditioning="joint"))
    assert problem.pre.likelihood.shape == (8, 3)
    np.testing.assert_array_equal(
        problem.pre.symbols(data.pre_signal), data.pre_signal[:, 0].astype(int)
    )
    assert problem.pre.cost == pytest.approx(data.pre_cost.mean())
    with pytest.raises(ValueError, match="give an observation for it"):
        RoutingPOMDP.fit(data, bins, costs, rules)
    with pytest.raises(ValueError, match="which the data does not have"):
        RoutingPOMDP.fit(replace(data, pre_signal=None), bins, costs, rules, pre=bins)
    plain = RoutingPOMDP.fit(data, bins, costs, Rules(3))
    assert plain.pre is None
    np.testing.assert_array_equal(plain.prior, problem.prior)


def test_samples_show_symbols_as_often_as_they_are_likely():
    problem = random_pre(
        random_problem(Rules(2), np.random.default_rng(1)), np.random.default_rng(2)
    )
    drawn = problem.sample(200_000, np.random.default_rng(3))
    shares = np.bincount(drawn.pre_signal[:, 0].astype(int), minlength=3) / len(drawn)
    np.testing.assert_allclose(shares, problem.prior @ problem.pre.likelihood, atol=0.005)
    np.testing.assert_array_equal(drawn.pre_cost, problem.pre.cost)
    # What is drawn for a problem without one stays what it was.
    plain = replace(problem, pre=None, rules=Rules(2))
    before = plain.sample(1000, np.random.default_rng(3))
    np.testing.assert_array_equal(
        before.score, problem.sample(1000, np.random.default_rng(3)).score
    )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PreSignal(np.ones((2, 2))), "sum to one"),
        (lambda: PreSignal(np.ones(2)), r"must be \(S, P\)"),
        (lambda: PreSignal(np.ones((2, 1)), -1), "cost of the pre-query signal is -1"),
    ],
)
def test_bad_signals_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_problem_and_its_rules_agree_on_the_signal():
    problem = random_problem(Rules(2), np.random.default_rng(0))
    with pytest.raises(ValueError, match="no likelihood of it is given"):
        replace(problem, rules=Rules(2, pre_query=True))
    with pytest.raises(ValueError, match="likelihoods of 3 hidden states, expected 4"):
        with_pre(problem, np.ones((3, 1)))


# -- the episode ------------------------------------------------------------------------------


def test_the_signal_is_paid_for_at_reset_and_only_by_rules_that_buy_it():
    data = pre_data(20, 3, np.random.default_rng(0))
    bought = Episodes(data, Rules(3, free_start=True, pre_query=True), slice(5, 15))
    np.testing.assert_array_equal(bought.paid, data.pre_cost[5:15])
    np.testing.assert_array_equal(bought.history.pre, data.pre_signal[5:15])
    plain = Episodes(data, Rules(3, free_start=True))
    assert plain.history.pre is None
    assert (plain.paid == 0).all()
    free = Episodes(replace(data, pre_cost=None), Rules(3, free_start=True, pre_query=True))
    assert (free.paid == 0).all()
    with pytest.raises(ValueError, match="which the data does not have"):
        Episodes(replace(data, pre_signal=None), Rules(3, pre_query=True))


def test_a_history_with_a_signal_survives_the_round_trip():
    data = pre_data(6, 3, np.random.default_rng(0))
    data = replace(data, pre_signal=np.random.default_rng(1).normal(size=(6, 2)))
    history = Episodes(data, Rules(3, pre_query=True)).history.take(np.array([4, 1]))
    array = history.to_array()
    assert array.shape == (2, 1 + 2 * 3 + 3 + 2)
    back = History.from_array(array, 3, n_pre=2)
    np.testing.assert_array_equal(back.pre, data.pre_signal[[4, 1]])
    np.testing.assert_array_equal(back.to_array(), array)
    np.testing.assert_array_equal(back.signal, history.signal)
    # Action costs may follow.
    action_costs = np.concatenate([array, np.ones((2, 5))], axis=1)
    np.testing.assert_array_equal(History.from_array(action_costs, 3, n_pre=2).pre, back.pre)


@pytest.mark.parametrize("rules", every_rules(3), ids=name_of)
def test_the_environment_pays_and_shows_what_the_batch_does(rules):
    rng = np.random.default_rng(0)
    problem = random_pre(random_problem(rules, rng, symbols=3), rng)
    data = pre_data(40, 3, rng)
    env = RoutingEnv(data, problem=problem)
    rules = problem.rules
    episodes = Episodes(data, rules)
    seen, paid, ended = {}, {}, {}
    actions = {query: [] for query in range(len(data))}
    while len(episodes):
        history = episodes.history
        for row, query in enumerate(history.query):
            seen.setdefault(int(query), []).append(history.take(np.array([row])).to_array()[0])
        legal = rules.masks[history.stage + 1, history.last_verified.astype(int)]
        action = np.where(legal, rng.random(legal.shape), -1).argmax(axis=1)
        for query, a in zip(history.query, action, strict=True):
            actions[int(query)].append(int(a))
        done, cost = episodes.step(action)
        answers = problem.best_answer(done)
        for query, c, answer in zip(done.query, cost, answers, strict=True):
            paid[int(query)], ended[int(query)] = float(c), int(answer)
    for query in range(len(data)):
        observation, _ = env.reset(options={"query": query})
        total = 0.0
        for expected, action in zip(seen[query], actions[query], strict=True):
            np.testing.assert_array_equal(observation, expected)
            assert env.observation_space.contains(observation)
            observation, reward, _, _, info = env.step(action)
            total += reward
        assert info["cost"] == paid[query]
        assert info["answer"] == ended[query]
        rate = problem.price / problem.costs.unit
        assert total == pytest.approx(data.score[query, ended[query]] - rate * paid[query])


@pytest.mark.parametrize("source", ["problem", "replay"])
def test_gymnasiums_own_checker_finds_nothing_to_warn_of(source):
    rng = np.random.default_rng(0)
    rules = Rules(3, skip=True, free_start=True, verify=True, answer="best")
    problem = random_pre(random_problem(rules, rng), rng)
    given = {"source": problem}
    if source == "replay":
        given = {"source": pre_data(20, 3, rng), "problem": problem}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(RoutingEnv(**given), skip_render_check=True)


# -- what has to be solved by symbol ----------------------------------------------------------


def test_what_does_not_know_the_signal_refuses_it_by_name():
    problem = random_pre(
        random_problem(Rules(3), np.random.default_rng(0)), np.random.default_rng(1)
    )
    history = History.start(np.arange(2), 3, 1)
    for attempt in (
        lambda: Exact().solve(problem),
        lambda: problem.belief(np.zeros(1, dtype=int)),
        lambda: problem.encode(history),
        lambda: DecisionGraph.of(problem),
    ):
        with pytest.raises(ValueError, match=r"solve it with PreQueryConditioned\(solver\)"):
            attempt()
    with pytest.raises(ValueError, match="RoutingVectorEnv has no pre-query signals"):
        RoutingVectorEnv(2, problem)
    with pytest.raises(ValueError, match="a cost ratio replaces all costs but"):
        RoutingEnv(problem, ratio=10.0)
    with pytest.raises(ValueError, match="the history holds no pre-query signal"):
        problem.pre_symbols(history)
