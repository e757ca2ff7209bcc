"""PPO on the belief against the exact solver, inside the model."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from routing_pomdp.envs import CostModel, Episodes, Rules
from routing_pomdp.envs.model.routing_pomdp import RoutingPOMDP
from routing_pomdp.envs.profiles import load_profile, simulate
from routing_pomdp.evaluation.evaluate import evaluate, model_value
from routing_pomdp.solvers import Exact, Training
from routing_pomdp.solvers.action_costs import action_costs_of
from routing_pomdp.solvers.learned.belief_mdp import BeliefMDP, inputs, within
from routing_pomdp.solvers.learned.belief_ppo import BeliefPPO, _Arena, _Network
from routing_pomdp.verifiers import Histogram, LoggedSignal, make_routing_data
from tests.support.problems import every_rules, name_of, random_problem

PRICES = [0, 0.01, 0.05, 0.1, 0.2, 0.4, 0.8, 2.0, 8.0]
SMALL = {"updates": 40, "episodes": 256, "hidden": 32, "epochs": 2, "learning_rate": 1e-2}
CPU = torch.device("cpu")


def regrets(policies):
    """Of each policy, inside the model."""
    optimal = [Exact().solve(policy.problem).value for policy in policies]
    return np.array(optimal) - [model_value(policy) for policy in policies]


@pytest.mark.parametrize(
    "rules",
    [
        Rules(2),
        Rules(3, skip=True),
        Rules(3, skip=True, free_start=True, verify=True, answer="best"),
    ],
    ids=["core", "skip", "all and best"],
)
def test_small_problems_are_solved_to_a_hundredth(rules):
    problem = random_problem(rules, np.random.default_rng(0), 4, 2, price=0.0)
    found = regrets(BeliefPPO(**SMALL).solve_frontier(problem, PRICES))
    assert np.mean(found) < 0.005
    assert max(found) < 0.02
    assert min(found) > -1e-9  # nothing beats exact


@pytest.mark.slow
def test_twenty_updates_come_within_a_hundredth_of_exact_on_a_profile():
    rollouts = simulate(load_profile("mmlu"), {"train": 1000}, seed=0)
    verifier, cost_model = LoggedSignal(), CostModel(ratio=100)
    costs = cost_model.fit(rollouts, verifier.cost(rollouts))
    data = make_routing_data(rollouts, verifier, cost_model, costs)
    rules = Rules(5, skip=True, free_start=True, verify=True)
    problem = RoutingPOMDP.fit(data, Histogram(), costs, rules)
    found = regrets(BeliefPPO(updates=20, episodes=1024).solve_frontier(problem, PRICES))
    assert np.mean(found) < 0.01


@pytest.mark.parametrize("rules", every_rules(3), ids=name_of)
def test_the_bounds_hold_the_optimum_and_never_rule_its_action_out(rules):
    for seed in range(3):
        problem = random_problem(rules, np.random.default_rng(seed), 3, 2, price=0.2)
        policy = Exact().solve(problem)
        codes = np.unique(np.concatenate([c for c, _ in visits(problem, policy)]))
        mdp = BeliefMDP(problem, CPU, torch.float64)
        positions = mdp.positions(codes)
        action_costs = mdp.tensor(action_costs_of(problem)).expand(len(codes), -1)
        low, high, sure = (x.numpy() for x in within(positions, mdp.paid(positions, action_costs)))
        chosen = policy.act(problem.decode(codes))
        assert (low <= high + 1e-12).all()
        assert (high[np.arange(len(codes)), chosen] >= sure[:, 0] - 1e-9).all()
        if rules.free_start:  # the first decision is the whole problem
            possible = high[0, positions.legal[0].numpy()].max()
            assert sure[0, 0] - 1e-9 <= policy.value <= possible + 1e-9


def visits(problem, policy, n=300):
    """History codes that a policy meets, and its actions there."""
    episodes = Episodes(problem.sample(n, np.random.default_rng(5)), problem.rules)
    while len(episodes):
        action = policy.act(episodes.history)
        yield problem.encode(episodes.history), action
        episodes.step(action)


@pytest.mark.parametrize("table", [True, False], ids=["table", "distinct"])
@pytest.mark.parametrize("rules", every_rules(3)[::5], ids=name_of)
def test_played_returns_average_to_the_value_of_the_policy_that_played(rules, table, monkeypatch):
    """The rewards that it learns from: posterior means in place of scores, action costs in place of
    costs."""
    monkeypatch.setattr(
        "routing_pomdp.solvers.learned.belief_ppo._MOST_CELLS", 2**24 if table else 0
    )
    problem = random_problem(rules, np.random.default_rng(4), 3, 2, price=0.3)
    mdp = BeliefMDP(problem, CPU)
    torch.manual_seed(0)
    network = _Network(mdp, 8)
    with torch.no_grad():  # a policy sure of itself: what is drawn is what is greedy
        network.policy[-1].weight.mul_(1e6)
    n = 20_000
    action_costs = np.tile(action_costs_of(problem), (n, 1))
    played = _Arena(mdp).play(network, action_costs, 1.0, np.random.default_rng(0))
    policy = BeliefPPO(hidden=8, updates=1).solve(problem)
    policy.network.load_state_dict(network.double().state_dict())
    first = 0.0
    if not rules.free_start:  # the forced call is paid for before the first decision
        first = problem.call_price[0] + (0 if rules.verify else problem.verify_price[0])
    assert played.mean_return - first == pytest.approx(model_value(policy), abs=0.01)


@pytest.mark.parametrize("gae_lambda", [0.5, 1.0])
def test_advantages_are_those_of_the_definition(gae_lambda):
    problem = random_problem(
        Rules(3, skip=True, free_start=True, verify=True), np.random.default_rng(4), 3, price=0.3
    )
    mdp = BeliefMDP(problem, CPU)
    network = _Network(mdp, 8)
    action_costs = np.tile(action_costs_of(problem), (1, 1))
    for seed in range(20):
        played = _Arena(mdp).play(network, action_costs, gae_lambda, np.random.default_rng(seed))
        seen = played.positions, played.action_costs, played.paid
        value = network.value(*seen).detach().numpy()
        taken = played.action.numpy()
        rows = np.arange(len(taken))
        reward = -played.paid.numpy()[rows, taken]
        reward[-1] += played.positions.low.numpy()[rows[-1], taken[-1]]
        surprise = reward + np.append(value[1:], 0) - value
        expected = [
            sum(gae_lambda ** (later - row) * surprise[later] for later in rows[row:])
            for row in rows
        ]
        np.testing.assert_allclose(played.advantage.numpy(), expected, atol=1e-5)
        np.testing.assert_allclose(played.returned.numpy(), expected + value, atol=1e-5)


def test_masked_actions_are_never_played():
    problem = random_problem(
        Rules(4, skip=True, free_start=True, verify=True), np.random.default_rng(1), 3, price=0.4
    )
    mdp = BeliefMDP(problem, CPU)
    action_costs = np.tile(action_costs_of(problem), (500, 1))
    played = _Arena(mdp).play(_Network(mdp, 8), action_costs, 1.0, np.random.default_rng(0))
    _, high, sure = within(played.positions, played.paid)
    mine = played.action[:, None]
    assert played.positions.legal.gather(1, mine).all()
    assert (high.gather(1, mine) >= sure).all()
    assert (high < sure).logical_and(played.positions.legal).any()  # some were ruled out


def test_what_the_network_sees_is_finite_from_nothing_to_ruin():
    problem = random_problem(
        Rules(3, skip=True, free_start=True, verify=True, answer="best"), np.random.default_rng(1)
    )
    mdp = BeliefMDP(problem, CPU)
    positions = mdp.positions(np.zeros(3, dtype=np.int64))
    action_costs = torch.tensor([0.0, 1.0, 1e9])[:, None].expand(-1, 6)
    seen = inputs(positions, action_costs, mdp.paid(positions, action_costs))
    assert seen.shape == (3, mdp.n_inputs)
    assert torch.isfinite(seen).all()


def test_untrained_it_plays_legal_actions_only():
    for rules in (Rules(3, verify=True), Rules(4, skip=True, free_start=True, answer="best")):
        problem = random_problem(rules, np.random.default_rng(1), 3, 2, price=0.2)
        policy = BeliefPPO(updates=1, episodes=10).solve(problem)
        evaluate(policy, problem.sample(500, np.random.default_rng(0)))  # raises if illegal


def test_training_is_recorded():
    problem = random_problem(Rules(3), np.random.default_rng(0), 3, 2, price=0.1)
    curve = []
    BeliefPPO(**SMALL).with_training(Training(curve.append)).solve_frontier(problem, PRICES)
    assert curve[-1]["step"] == 40
    assert curve[-1]["entropy"] < curve[0]["entropy"]
    returns = [row["mean_return"] for row in curve]
    assert np.mean(returns[-10:]) > returns[0]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"hidden": 0}, r"solver\.hidden is 0"),
        ({"minibatches": 0}, r"solver\.minibatches is 0"),
        ({"clip": 0.0}, r"solver\.clip is 0"),
        ({"gae_lambda": 1.5}, r"solver\.gae_lambda is 1.5"),
        ({"entropy": -0.1}, r"solver\.entropy is -0.1"),
    ],
)
def test_bad_settings_are_refused_by_key(settings, message):
    with pytest.raises(ValueError, match=message):
        replace(BeliefPPO(), **settings)
