"""Histories that a model holds impossible and symbols that it never saw are played and counted."""

from dataclasses import replace

import numpy as np
import pytest

from routing_pomdp.envs import Costs, RoutingData, RoutingPOMDP, Rules
from routing_pomdp.evaluation.evaluate import evaluate
from routing_pomdp.evaluation.runs.report import report
from routing_pomdp.solvers import Exact
from routing_pomdp.solvers.automix.pomdp import AutoMixPOMDP
from routing_pomdp.solvers.exact.alpha_vectors import AlphaVectorIteration
from routing_pomdp.solvers.exact.bounds import FIB, QMDP
from routing_pomdp.solvers.exact.point_based import PointBased
from routing_pomdp.solvers.learned.belief_dqn import BeliefDQN
from routing_pomdp.solvers.search.pomcp import POMCP
from routing_pomdp.verifiers import Histogram
from tests.support.problems import score_vectors

RULES = Rules(3, skip=True, verify=True)
SOLVERS = [
    Exact(),
    POMCP(simulations=20),
    PointBased(max_trials=20),
    AlphaVectorIteration(),
    QMDP(),
    FIB(),
    AutoMixPOMDP(),
    BeliefDQN(steps=10, episodes=50),
]


def _name(solver):
    return type(solver).__name__


def _sure(rules: Rules = RULES) -> RoutingPOMDP:
    """Three symbols: 0 only of right answers, 1 only of wrong ones, 2 of none."""
    score = score_vectors(np.tile([0.0, 1.0], (3, 1)))
    told = np.array([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
    likelihood = np.stack([told[score[:, model].astype(int)] for model in range(2)])
    prior = np.where(score[:, 0] > score[:, 1], 0.0, 1.0)  # the second model is no worse
    costs = Costs(np.array([1.0, 2.0, 4.0]), np.array([0.1, 0.1, 0.0]))
    return RoutingPOMDP(score, prior / prior.sum(), likelihood, costs, 0.01, rules)


def _replay(signal: np.ndarray) -> RoutingData:
    n = len(signal)
    cost = np.ones((n, 3))
    padded = np.concatenate([signal, np.full((n, 1), np.nan)], axis=1)
    return RoutingData(np.ones((n, 3)), cost, cost, padded[..., None])


@pytest.mark.parametrize("solver", SOLVERS, ids=_name)
@pytest.mark.parametrize("verify", [False, True])
def test_impossible_histories_are_played_on_and_counted(solver, verify):
    problem = _sure(replace(RULES, verify=verify))
    train = problem.sample(60, np.random.default_rng(0))
    policy = solver.solve(problem, train)
    # Symbol 2 never comes; right and then wrong is excluded by the prior; wrong, right is fine.
    data = _replay(np.array([[2.0, 2.0], [0.0, 1.0], [1.0, 0.0]]))
    outcome = evaluate(policy, data)
    seen: list[np.ndarray] = []

    class Noting:
        problem = policy.problem

        def act(self, history):
            seen.append(self.problem.joint(self.problem.encode(history)).sum(axis=1))
            return policy.act(history)

    evaluate(Noting(), data)
    assert outcome.impossible == sum(int((mass == 0).sum()) for mass in seen)
    assert outcome.unseen == 0
    if isinstance(solver, AutoMixPOMDP):
        assert outcome.impossible == 0  # learns likelihoods of its own, none of them 0
    elif not verify:
        assert outcome.impossible >= 1


def _with_an_empty_bin(observation) -> tuple[RoutingPOMDP, RoutingData, RoutingData]:
    """Training signals near 0 and 1, test signals between them as well."""
    rng = np.random.default_rng(0)
    score = (rng.random((120, 3)) < [0.4, 0.6, 0.9]).astype(float)
    signal = 0.9 * score + 0.1 * rng.random((120, 3))
    signal[:, 2] = np.nan
    cost = np.tile([1.0, 2.0, 8.0], (120, 1))
    train = RoutingData(score, cost, cost / 10, signal[..., None])
    shown = signal.copy()
    shown[:30, :2] = 0.5
    test = replace(train, signal=shown[..., None])
    costs = Costs(cost[0], cost[0] / 10)
    return RoutingPOMDP.fit(train, observation, costs, Rules(3), price=0.05), train, test


@pytest.mark.parametrize("solver", SOLVERS, ids=_name)
def test_decisions_after_a_bin_that_training_left_empty_are_counted(solver):
    problem, train, test = _with_an_empty_bin(Histogram(bins=4, binning="uniform"))
    assert not problem.shown.all()
    policy = solver.solve(problem, train)
    assert evaluate(policy, train).unseen == 0
    outcome = evaluate(policy, test)
    assert 30 <= outcome.unseen < outcome.decisions
    assert outcome.impossible == 0


def test_a_run_says_how_many():
    problem, train, test = _with_an_empty_bin(Histogram(bins=4, binning="uniform"))
    prices = [0.0, 0.1]
    policies = Exact().solve_frontier(problem, prices)
    found = report(policies, problem, prices, train, test, ["a", "b", "c"], resamples=10)
    for point, policy in zip(found.points, policies, strict=True):
        outcome = evaluate(policy, test)
        assert point["unseen_decisions"] == outcome.unseen
        assert point["decisions"] == outcome.decisions
        assert point["impossible_decisions"] == 0
    total = sum(point["unseen_decisions"] for point in found.points)
    assert found.measures["unseen_decisions"] == total > 0


def test_a_model_without_gaps_is_not_asked(monkeypatch):
    problem, train, _ = _with_an_empty_bin(Histogram(bins=2))
    assert not problem.has_gaps
    monkeypatch.setattr(RoutingPOMDP, "doubts", None)
    evaluate(Exact().solve(problem), train)


def test_shown_of_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"shown has shape \(2, 5\), expected \(2, 3\)"):
        replace(_sure(), shown=np.ones((2, 5), dtype=bool))
