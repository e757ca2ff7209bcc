"""A network that learns its own belief: honest, near exact with queries enough."""

from dataclasses import replace

import numpy as np
import pytest

from routing_pomdp.envs import Episodes, Rules
from routing_pomdp.evaluation.evaluate import evaluate
from routing_pomdp.solvers import Static, Training
from routing_pomdp.solvers.learned.checkpoint import Restored
from routing_pomdp.solvers.learned.history_net import HistoryNet
from tests.solvers.learned.test_belief_fqi import height
from tests.solvers.learned.test_fitted_q import ordered
from tests.support.problems import covering_rules, name_of, random_data, random_problem

FULL = Rules(3, skip=True, free_start=True, verify=True)
# Of logs so large that simulations have nothing to add.
ON_THE_LOG = HistoryNet(simulations=0, steps=200, tuning_rate=1e-2, members=2, batch=64)
QUICK = HistoryNet(simulations=300, resamples=2, pretraining=10, steps=10, members=2, hidden=8)


def test_its_belief_is_the_exact_posterior_mean_where_there_are_queries_enough():
    problem = ordered(FULL)
    policy = ON_THE_LOG.solve(problem, problem.sample(3000, np.random.default_rng(1)))
    episodes = Episodes(problem.sample(2000, np.random.default_rng(2)), FULL)
    for action in (1, FULL.verify_action, 1, FULL.verify_action):
        history = episodes.history
        exact = problem.belief(problem.encode(history)) @ problem.score
        assert np.abs(policy.belief(history) - exact).mean() < 0.03
        episodes.step(np.full(len(episodes), action))


def test_untrained_it_believes_the_mean_scores_and_is_the_best_single_model():
    rng = np.random.default_rng(0)
    problem, train = random_problem(FULL, rng), random_data(400, 3, rng)
    for price in (0.0, 0.2, 1.0):
        untrained = replace(ON_THE_LOG, steps=0).solve(problem.at(price), train)
        believed = untrained.belief(Episodes(train, FULL).history)
        np.testing.assert_allclose(believed, np.tile(train.score.mean(axis=0), (400, 1)), atol=0.01)
        static = Static().solve(problem.at(price), train)
        answers = [evaluate(policy, train).answer for policy in (untrained, static)]
        np.testing.assert_array_equal(*answers)


@pytest.mark.slow
def test_one_network_for_all_prices_is_as_good_as_one_for_each():
    problem = ordered(FULL)
    train = problem.sample(1500, np.random.default_rng(1))
    test = problem.sample(20_000, np.random.default_rng(2))
    prices = [0.05, 0.2]
    together = ON_THE_LOG.solve_frontier(problem, prices, train)
    apart = [ON_THE_LOG.solve(problem.at(price), train) for price in prices]
    assert height(problem, apart, test) - height(problem, together, test) < 0.005


@pytest.mark.parametrize("rules", covering_rules(3), ids=name_of)
def test_it_plays_by_every_rule_with_few_queries_and_vectors(rules):
    rng = np.random.default_rng(0)
    problem = random_problem(rules, rng)
    train, test = (random_data(size, 3, rng, signals=2) for size in (6, 50))
    assert evaluate(QUICK.solve(problem, train), test).calls.min() >= 1


def test_restored_it_believes_and_decides_the_same(tmp_path):
    problem = ordered(FULL)
    train, check, test = (problem.sample(n, np.random.default_rng(n)) for n in (80, 40, 300))
    curve = []
    solver = QUICK.with_training(Training(curve.append, check, tmp_path))
    policies = solver.solve_frontier(problem, [0.02, 0.2], train)
    restored = Restored(str(tmp_path / "policy.pt")).solve_frontier(problem, [0.02, 0.2], train)
    history = problem.decode(np.arange(problem.n_histories))
    for one, other in zip(policies, restored, strict=True):
        np.testing.assert_array_equal(one.belief(history), other.belief(history))
        np.testing.assert_array_equal(evaluate(one, test).answer, evaluate(other, test).answer)
    told = [row for row in curve if "validation" in row]
    assert {"belief_error", "belief_log_loss", "belief_brier"} <= told[-1].keys()


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [("belief_hidden", 0, "a whole number from 1"), ("belief_weight", 0.0, "a number > 0")],
)
def test_bad_settings_are_refused_by_name(key, value, message):
    with pytest.raises(ValueError, match=rf"solver\.{key} is {value}: expected {message}"):
        HistoryNet(**{key: value})
