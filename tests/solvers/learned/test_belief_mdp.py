"""The belief MDP: its bounds hold the optimum, and what networks see is finite."""

import numpy as np
import pytest
import torch

from routing_pomdp.envs import Episodes, Rules
from routing_pomdp.solvers import Exact
from routing_pomdp.solvers.action_costs import action_costs_of
from routing_pomdp.solvers.learned.belief_mdp import BeliefMDP, inputs, within
from tests.support.problems import every_rules, name_of, random_problem

CPU = torch.device("cpu")


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
