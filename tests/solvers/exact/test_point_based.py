"""Point-based bounds: around the exact value, as close as asked for."""

import logging

import numpy as np
import pytest
from hypothesis import given

from routing_pomdp.envs import Rules
from routing_pomdp.evaluation.evaluate import model_value
from routing_pomdp.solvers import Exact, Training
from routing_pomdp.solvers.exact.point_based import PointBased, _Sawtooth
from routing_pomdp.solvers.exact.value_iteration import AlphaVectors
from tests.support.problems import every_rules, name_of, problems, random_problem


@given(problems())
def test_the_bounds_hold_and_close_and_the_policy_keeps_its_promise(problem):
    best = Exact().solve(problem).value
    policy = PointBased(gap=1e-4).solve(problem)
    assert policy.lower <= best + 1e-10
    assert best <= policy.upper + 1e-10
    assert policy.upper - policy.lower <= 1e-4
    assert policy.lower - 1e-10 <= model_value(policy) <= best + 1e-10


@pytest.mark.parametrize("rules", every_rules(5), ids=name_of)
def test_five_models_under_every_rule(rules):
    problem = random_problem(rules, np.random.default_rng(5), symbols=4, price=0.2)
    policy, best = PointBased().solve(problem), Exact().solve(problem).value
    assert policy.lower <= best + 1e-10 <= policy.upper + 2e-10
    assert policy.upper - policy.lower <= 1e-3
    assert best - model_value(policy) <= 1e-3


def test_the_gap_never_widens():
    rows = []
    problem = random_problem(Rules(5), np.random.default_rng(2), symbols=4, price=0.02)
    PointBased(gap=1e-6).with_training(Training(rows.append)).solve(problem)
    lower, upper = (np.array([row[side] for row in rows]) for side in ("lower", "upper"))
    assert len(rows) > 3
    assert (np.diff(lower) >= -1e-12).all()
    assert (np.diff(upper) <= 1e-12).all()


def test_stopping_early_is_said_and_still_sound(caplog):
    problem = random_problem(Rules(5), np.random.default_rng(2), symbols=4, price=0.02)
    with caplog.at_level(logging.WARNING):
        policy = PointBased(gap=1e-9, max_trials=2).solve(problem)
    assert "stopped after 2 trials" in caplog.text
    best = Exact().solve(problem).value
    assert policy.lower <= best + 1e-12
    assert best < policy.upper


def test_a_sawtooth_lies_between_the_values_it_knows_and_the_first_bound():
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(4, 3))  # the true value; the bound below knows its corners
    bound = _Sawtooth(AlphaVectors(np.stack([vectors.max(axis=0)]), np.zeros(1, dtype=int)))
    for belief in rng.dirichlet(np.ones(3), size=20):
        bound.add(belief, float((vectors @ belief).max()))
        assert bound.value(belief[None])[0] == pytest.approx((vectors @ belief).max())
    for belief in rng.dirichlet(np.ones(3), size=200):
        exact = (vectors @ belief).max()
        assert exact - 1e-12 <= bound.value(belief[None])[0] <= vectors.max(axis=0) @ belief + 1e-12
        assert bound.value(2 * belief[None]) == pytest.approx(2 * bound.value(belief[None]))


@pytest.mark.parametrize(
    ("change", "message"),
    [({"gap": 0.0}, r"solver\.gap is 0"), ({"max_trials": 0}, r"solver\.max_trials is 0")],
)
def test_bad_settings_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        PointBased(**change)
