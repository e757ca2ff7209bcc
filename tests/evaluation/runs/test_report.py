"""A run's report: what it replays is what it says."""

import numpy as np
import pytest

from routing_pomdp.envs import Rules
from routing_pomdp.evaluation.evaluate import evaluate, model_value
from routing_pomdp.evaluation.runs.report import report
from routing_pomdp.solvers import Exact, Oracle, Static, TablePolicy, Threshold
from tests.support.problems import random_problem

PRICES = [0.0, 0.2, 1.0]


@pytest.fixture(scope="module")
def setting():
    rng = np.random.default_rng(0)
    problem = random_problem(Rules(3, skip=True), rng, 4, 2, price=0.0)
    return problem, *(problem.sample(n, rng) for n in (300, 200, 400))


def reported(setting, solver):
    problem, train, validation, test = setting
    policies = solver.solve_frontier(problem, PRICES, train)
    return policies, report(policies, problem, PRICES, validation, test, ["a", "b", "c"])


def test_points_are_the_policies_replayed_on_both_splits(setting):
    _, _, validation, test = setting
    policies, found = reported(setting, Threshold())
    for policy, point in zip(policies, found.points, strict=True):
        assert point["score"] == evaluate(policy, test).score.mean()
        assert point["cost"] == evaluate(policy, test).cost.mean()
        assert point["validation_score"] == evaluate(policy, validation).score.mean()
        assert point["model_value"] == model_value(policy)


def test_regret_is_what_a_policy_is_worth_less_than_exact(setting):
    problem, _, validation, test = setting
    _, exact = reported(setting, Exact())
    assert exact.measures["model_regret_max"] == pytest.approx(0, abs=1e-9)
    # Always staying is worth the first model's prior mean, less its costs.
    stay = [
        TablePolicy(problem.at(price), np.zeros(problem.n_histories, np.int8)) for price in PRICES
    ]
    found = report(stay, problem, PRICES, validation, test, ["a", "b", "c"])
    for price, point in zip(PRICES, found.points, strict=True):
        at = problem.at(price)
        value = at.prior @ at.score[:, 0] - at.call_price[0] - at.verify_price[0]
        assert point["model_regret"] == pytest.approx(Exact().solve(at).value - value)
    assert found.measures["model_regret"] > 0.01


def test_regret_is_undefined_outside_the_model(setting):
    for solver in (Oracle(), Static()):
        _, found = reported(setting, solver)
        assert found.measures["model_regret"] is None


def test_the_oracle_closes_the_whole_gap_and_single_models_none(setting):
    _, oracle = reported(setting, Oracle())
    assert oracle.measures["gap_closed"] == pytest.approx(1)
    _, static = reported(setting, Static())
    assert static.measures["gap_closed"] <= 1e-9


def test_single_models_are_listed_with_their_means(setting):
    test = setting[-1]
    _, found = reported(setting, Static())
    assert [model["name"] for model in found.models] == ["a", "b", "c"]
    assert [model["score"] for model in found.models] == test.score.mean(0).tolist()


def test_intervals_enclose_their_measures(setting):
    _, found = reported(setting, Exact())
    for name in ("aiq", "gap_closed", "aiq_static"):
        low, high = found.intervals[name]
        assert low <= found.measures[name] <= high
