"""The belief network against the exact solver, inside the model."""

import numpy as np
import pytest
import torch

from envs import CostModel, RoutingPOMDP, Rules
from envs.profiles import load_profile, shipped_profiles, simulate
from evaluation.evaluate import evaluate, model_value
from solvers import Exact, Training
from solvers.belief_net import BeliefNet
from tests.problems import random_problem
from verifiers import Histogram, LoggedSignal, make_replay

PRICES = [0, 0.01, 0.05, 0.1, 0.2, 0.4, 0.8, 2.0, 8.0]
SMALL = {"episodes": 4000, "steps": 1000, "hidden": 64}


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """As in a sweep: the network is too small for more, and tests run side by side."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def profile_problem(name, rules, ratio=100.0):
    rollouts = simulate(load_profile(name), {"train": 1000}, seed=0)
    verifier, cost_model = LoggedSignal(), CostModel(ratio=ratio)
    costs = cost_model.fit(rollouts, verifier.cost(rollouts))
    replay = make_replay(rollouts, verifier, cost_model, costs)
    return RoutingPOMDP.fit(replay, Histogram(), costs, rules)


def regrets(problem, prices, **settings):
    policies = BeliefNet(**settings).solve_frontier(problem, prices)
    optimal = Exact().solve_frontier(problem, prices)
    return [o.value - model_value(p) for o, p in zip(optimal, policies, strict=True)]


@pytest.mark.parametrize(
    "rules",
    [Rules(2), Rules(3, skip=True), Rules(3, free_start=True, verify=True)],
    ids=["core", "skip", "free start and verify"],
)
def test_small_problems_are_solved_to_a_hundredth_at_every_price(rules):
    problem = random_problem(rules, np.random.default_rng(0), 4, 2, price=0.0)
    found = regrets(problem, PRICES, **SMALL)
    assert max(found) < 0.01
    assert min(found) > -1e-9  # nothing beats exact


def test_best_answers_are_handled():
    problem = random_problem(Rules(3, answer="best"), np.random.default_rng(2), 3, 2, price=0.0)
    assert max(regrets(problem, PRICES, **SMALL)) < 0.01


@pytest.mark.slow
@pytest.mark.parametrize("name", shipped_profiles())
def test_every_shipped_profile_is_solved_to_a_hundredth(name):
    assert max(regrets(profile_problem(name, Rules(5)), PRICES)) < 0.01


@pytest.mark.slow
def test_every_option_at_once_is_solved_to_a_hundredth():
    rules = Rules(5, skip=True, free_start=True, verify=True)
    assert max(regrets(profile_problem("mmlu", rules), PRICES)) < 0.01


def test_the_same_seed_gives_the_same_network_and_leaves_torch_alone():
    problem = random_problem(Rules(3), np.random.default_rng(0), 3, 2, price=0.1)
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)
    one, two, other = (
        BeliefNet(steps=20, episodes=100, seed=seed).solve(problem).network.state_dict()
        for seed in (0, 0, 1)
    )
    assert torch.rand(1) == expected
    assert all(torch.equal(one[key], two[key]) for key in one)
    assert not all(torch.equal(one[key], other[key]) for key in one)


def test_a_decision_does_not_depend_on_the_batch():
    rules = Rules(3, skip=True, free_start=True, verify=True)
    problem = random_problem(rules, np.random.default_rng(1), 3, 2, price=0.2)
    policy = BeliefNet(steps=50, episodes=500).solve(problem)
    history = problem.decode(np.arange(problem.n_histories))
    together = policy.act(history)
    alone = [int(policy.act(history.take(np.array([row])))[0]) for row in range(len(history))]
    np.testing.assert_array_equal(alone, together)


def test_untrained_it_plays_legal_actions_only():
    for rules in (Rules(3, verify=True), Rules(4, skip=True, free_start=True, answer="best")):
        problem = random_problem(rules, np.random.default_rng(1), 3, 2, price=0.2)
        policy = BeliefNet(steps=1, episodes=10).solve(problem)
        evaluate(policy, problem.sample(500, np.random.default_rng(0)))  # raises if illegal


def test_training_is_recorded():
    problem = random_problem(Rules(3), np.random.default_rng(0), 3, 2, price=0.1)
    curve = []
    BeliefNet(steps=200, episodes=500).with_training(Training(curve.append)).solve(problem)
    assert len(curve) == 50
    assert curve[-1]["step"] == 200
    assert np.mean([row["loss"] for row in curve[-5:]]) < curve[0]["loss"]


def test_a_price_outside_the_trained_range_warns():
    problem = random_problem(Rules(2), np.random.default_rng(0), 3, 2, price=0.1)
    solver = BeliefNet(steps=1, episodes=10, price_range=(0.1, 1.0))
    with pytest.warns(UserWarning, match=r"price 5 lies outside the trained range \[0.1, 1\]"):
        solver.solve_frontier(problem, [0.5, 5.0])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"hidden": 0}, r"solver\.hidden is 0"),
        ({"steps": 0}, r"solver\.steps is 0"),
        ({"learning_rate": 0.0}, r"solver\.learning_rate is 0"),
        ({"target_rate": 2.0}, r"solver\.target_rate is 2"),
        ({"price_range": (1.0, 0.5)}, r"solver\.price_range is \[1.0, 0.5\]"),
    ],
)
def test_bad_settings_are_refused_by_key(settings, message):
    with pytest.raises(ValueError, match=message):
        BeliefNet(**settings)
