"""The Q-network on the belief against the exact solver, inside the model."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from routing_pomdp.envs import CostModel, Costs, RoutingPOMDP, Rules
from routing_pomdp.envs.profiles import load_profile, simulate
from routing_pomdp.evaluation.evaluate import evaluate, model_value
from routing_pomdp.solvers import Exact, Training
from routing_pomdp.solvers.learned.belief_dqn import BeliefDQN
from routing_pomdp.solvers.learned.belief_mdp import BeliefPolicy
from routing_pomdp.verifiers import Histogram, LoggedSignal, make_routing_data
from tests.support.problems import random_problem

PRICES = [0, 0.01, 0.05, 0.1, 0.2, 0.4, 0.8, 2.0, 8.0]
SMALL = {"episodes": 1000, "steps": 300, "hidden": 64, "batch": 128, "learning_rate": 1e-2}
FULL = Rules(5, skip=True, free_start=True, verify=True, answer="best")


def profile_problem(name, rules, ratio=100.0):
    rollouts = simulate(load_profile(name), {"train": 1000}, seed=0)
    verifier, cost_model = LoggedSignal(), CostModel(ratio=ratio)
    costs = cost_model.fit(rollouts, verifier.cost(rollouts))
    data = make_routing_data(rollouts, verifier, cost_model, costs)
    return RoutingPOMDP.fit(data, Histogram(), costs, rules)


def regrets(policies):
    """Of each policy, inside the model."""
    optimal = [Exact().solve(policy.problem).value for policy in policies]
    return np.array(optimal) - [model_value(policy) for policy in policies]


@pytest.mark.parametrize(
    "rules",
    [
        Rules(2),
        Rules(3, skip=True),
        Rules(3, free_start=True, verify=True),
        Rules(3, skip=True, free_start=True, verify=True, answer="best"),
    ],
    ids=["core", "skip", "free start and verify", "all and best"],
)
def test_small_problems_are_solved_to_half_a_hundredth_at_every_price(rules):
    problem = random_problem(rules, np.random.default_rng(0), 4, 2, price=0.0)
    found = regrets(BeliefDQN(**SMALL).solve_frontier(problem, PRICES))
    assert max(found) < 0.005
    assert min(found) > -1e-9  # nothing beats exact


@pytest.mark.slow
def test_a_shipped_profile_is_solved_to_a_thousandth():
    problem = profile_problem("mmlu", Rules(5))
    assert max(regrets(BeliefDQN(steps=1000).solve_frontier(problem, PRICES))) < 0.001


@pytest.mark.slow
def test_every_option_at_once_is_solved_to_half_a_hundredth():
    problem = profile_problem("mmlu", FULL)
    found = regrets(BeliefDQN(steps=1000).solve_frontier(problem, PRICES))
    assert max(found) < 0.005
    assert np.mean(found) < 0.002


def ladder_problem():
    problem = random_problem(Rules(3, skip=True), np.random.default_rng(1), 4, 2, price=0.0)
    call = 20 ** np.linspace(0, 1, 3)
    return replace(problem, costs=Costs(call, 0.5 * call))


def regrets_at(ratio, problem, network):
    """Of a trained network, at another cost ratio."""
    call = ratio ** np.linspace(0, 1, problem.n_models)
    verify = call * problem.costs.verify / problem.costs.call
    there = replace(problem, costs=Costs(call, verify))
    device = torch.device("cpu")
    return regrets([BeliefPolicy(there.at(price), network, device) for price in PRICES])


def test_trained_once_for_a_range_of_ratios_it_is_good_at_any_inside():
    ratios, problem = (2, 200), ladder_problem()
    solver = BeliefDQN(**SMALL, cost_ratios=ratios)
    network = solver.solve_frontier(problem, PRICES)[0].network
    for ratio in (ratios[0], 45, ratios[1]):
        found = regrets_at(ratio, problem, network)
        assert max(found) < 0.008, ratio
        assert np.mean(found) < 0.002, ratio


def test_training_is_recorded():
    problem = random_problem(Rules(3), np.random.default_rng(0), 3, 2, price=0.1)
    curve = []
    solver = BeliefDQN(steps=200, episodes=500).with_training(Training(curve.append))
    solver.solve(problem)
    assert len(curve) == 50
    assert curve[-1]["step"] == 200
    assert np.mean([row["loss"] for row in curve[-5:]]) < curve[0]["loss"]


def test_untrained_it_plays_legal_actions_only():
    for rules in (Rules(3, verify=True), Rules(4, skip=True, free_start=True, answer="best")):
        problem = random_problem(rules, np.random.default_rng(1), 3, 2, price=0.2)
        policy = BeliefDQN(steps=1, episodes=10).solve(problem)
        evaluate(policy, problem.sample(500, np.random.default_rng(0)))  # raises if illegal


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"hidden": 0}, r"solver\.hidden is 0"),
        ({"steps": 0}, r"solver\.steps is 0"),
        ({"learning_rate": 0.0}, r"solver\.learning_rate is 0"),
        ({"target_rate": 2.0}, r"solver\.target_rate is 2"),
    ],
)
def test_bad_settings_are_refused_by_key(settings, message):
    with pytest.raises(ValueError, match=message):
        BeliefDQN(**settings)
