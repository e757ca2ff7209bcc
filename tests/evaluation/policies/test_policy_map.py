"""Policy maps count what an environment would see the policy do."""

import numpy as np
import pytest
from hypothesis import given

from routing_pomdp.envs import STAY, Rules
from routing_pomdp.evaluation.evaluate import evaluate
from routing_pomdp.evaluation.policies.policy_figure import policy_figure
from routing_pomdp.evaluation.policies.policy_map import PolicyMap, watch
from routing_pomdp.solvers import Oracle, Static
from routing_pomdp.solvers.cascades.threshold import ThresholdPolicy
from tests.support.problems import (
    problems,
    random_data,
    random_policy,
    random_problem,
    steps,
    with_bands,
)


@given(problems())
def test_the_map_counts_every_decision_where_it_was_taken(problem):
    rng = np.random.default_rng(0)
    problem = with_bands(problem)
    policy = random_policy(problem, rng)
    data = random_data(50, problem.n_models, rng)
    counted = np.zeros_like(PolicyMap.empty(problem).count)
    for episodes, actions in steps(data, policy):
        history = episodes.history
        for row, action in enumerate(actions.tolist()):
            stage, symbol, done = history.stage[row], problem.n_symbols, history.stage[row]
            if stage >= 0 and history.verified[row, stage]:
                symbol = int(history.signal[row, stage, 0] * problem.n_symbols)
            if action == problem.rules.verify_action:
                done = problem.n_models
            elif action != STAY:
                done = stage + action
            counted[stage + 1, symbol, done] += 1
    outcome, found = watch(policy, data, problem)
    assert (found.count == counted).all()
    assert found.count.sum() == outcome.decisions


def test_watching_changes_nothing():
    problem = with_bands(random_problem(Rules(3, verify=True), np.random.default_rng(1)))
    policy = random_policy(problem, np.random.default_rng(2))
    data = random_data(200, 3, np.random.default_rng(3))
    watched, alone = watch(policy, data, problem)[0], evaluate(policy, data)
    for name in ("score", "cost", "answer", "calls", "verifications"):
        assert (getattr(watched, name) == getattr(alone, name)).all()


def test_a_threshold_shows_as_a_step():
    problem = with_bands(random_problem(Rules(2), np.random.default_rng(1), symbols=4))
    policy = ThresholdPolicy.of(problem, (0, 1), np.array([0.5]))
    shares = watch(policy, random_data(400, 2, np.random.default_rng(0)), problem)[1].shares
    np.testing.assert_array_equal(shares[1, :4, 1], [1, 1, 0, 0])  # calls model 1
    np.testing.assert_array_equal(shares[1, :4, 0], [0, 0, 1, 1])  # stays with model 0
    assert np.isnan(shares[0]).all()
    assert np.isnan(shares[1, 4]).all()


def test_baselines_with_rules_of_their_own_and_the_oracle_have_maps_too():
    problem = with_bands(random_problem(Rules(3), np.random.default_rng(1)))
    data = random_data(60, 3, np.random.default_rng(0))
    for solver in (Static(model=1), Oracle()):
        found = watch(solver.solve(problem, data), data, problem)[1].count
        assert found[0].sum() == 60
        assert found[:, :-1].sum() == 0  # nothing was verified


def test_maps_are_drawn_solver_by_stage():
    problem = with_bands(random_problem(Rules(3), np.random.default_rng(1)))
    data = random_data(60, 3, np.random.default_rng(0))
    policies = {
        "largest": ThresholdPolicy.of(problem, (0, 1, 2), np.array([np.inf, np.inf])),
        "first": ThresholdPolicy.of(problem, (0, 1, 2), np.array([-np.inf, -np.inf])),
    }
    maps = {label: watch(policy, data, problem)[1] for label, policy in policies.items()}
    figure = policy_figure(maps, ["s", "m", "l"], "a title")
    assert len(figure.axes) == 4  # nobody decides where to start
    assert [axes.get_ylabel() for axes in figure.axes[::2]] == ["largest", "first"]
    full = sum(bar.get_height() for bar in figure.axes[0].patches)
    assert full == pytest.approx(problem.n_symbols)
    assert not any(bar.get_height() for bar in figure.axes[3].patches)


def test_maps_that_cannot_be_drawn_together_are_refused():
    empty = PolicyMap.empty(random_problem(Rules(3), np.random.default_rng(1)))
    fewer_bins = PolicyMap(empty.count[:, 1:])
    with pytest.raises(ValueError, match="expected the same models and bins"):
        policy_figure({"a": empty, "b": fewer_bins}, ["s", "m", "l"], "")
    for maps in ({}, {"a": empty}):
        with pytest.raises(ValueError, match="no decision to show"):
            policy_figure(maps, ["s", "m", "l"], "")
