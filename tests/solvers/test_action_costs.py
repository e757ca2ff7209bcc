"""Action costs against the problem's own prices and against what episodes are charged."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch

from routing_pomdp.envs import STAY, CostModel, Costs, Episodes
from routing_pomdp.solvers.action_costs import (
    CostRange,
    action_cost_features,
    action_cost_matrix,
    action_costs_of,
)
from tests.support.logs import log_of
from tests.support.problems import every_rules, name_of, random_problem


def ladder_problem(ratio, price=0.3, share=0.5):
    problem = random_problem(every_rules(3)[0], np.random.default_rng(0), price=price)
    call = ratio ** np.linspace(0, 1, 3)
    return replace(problem, costs=Costs(call, share * call))


@pytest.mark.parametrize("rules", every_rules(3), ids=name_of)
def test_an_action_pays_what_an_episode_is_charged_for_it(rules):
    rng = np.random.default_rng(3)
    problem = random_problem(rules, rng, price=0.7)
    pays = action_cost_matrix(rules) @ action_costs_of(problem)
    for _ in range(20):
        episodes = Episodes(problem.sample(1, rng), rules)
        before = 0.0 if rules.free_start else episodes.paid[0]
        while len(episodes):
            history = episodes.history
            stage, verified = history.stage[0], int(history.last_verified[0])
            action = rng.choice(np.flatnonzero(rules.masks[stage + 1, verified]))
            ended, paid = episodes.step(np.array([action]))
            after = paid[0] if len(ended) else episodes.paid[0]
            charged = problem.price * (after - before) / problem.costs.unit
            assert pays[stage + 1, action] == pytest.approx(charged, abs=1e-12)
            before = after


def test_staying_is_free():
    pays = action_cost_matrix(every_rules(4)[-1])
    assert not pays[:, STAY].any()


def test_drawn_ladders_are_those_of_the_cost_model():
    rollouts = log_of()
    cost = rollouts.signal_costs["sharp"]
    problem = random_problem(every_rules(3)[0], np.random.default_rng(0))
    problem = replace(problem, costs=CostModel(ratio=20).fit(rollouts, cost))
    terms = CostRange.of(problem, [0.5], ratios=(80, 80))
    expected = action_costs_of(
        replace(problem, costs=CostModel(ratio=80).fit(rollouts, cost), price=0.5)
    )
    np.testing.assert_allclose(terms.draw(4, np.random.default_rng(0)), np.tile(expected, (4, 1)))


def test_drawn_action_costs_without_ratios_are_the_problems_at_prices_of_the_range():
    problem = ladder_problem(10, price=1.0)
    drawn = CostRange.of(problem, [0, 0.02, 4.0]).draw(2000, np.random.default_rng(0))
    price = drawn[:, 2]  # the most expensive model's call costs the price
    np.testing.assert_allclose(drawn, price[:, None] * action_costs_of(problem))
    assert price.min() == 0
    assert 0.02 < (price == 0).mean() < 0.1
    assert price[price > 0].min() >= 1e-3
    assert price.max() <= 4.0


def test_features_are_finite_from_nothing_to_ruin():
    features = action_cost_features(torch.tensor([[0.0, 1e-9, 1.0, 1e12]]))
    assert features.shape == (1, 8)
    assert torch.isfinite(features).all()


@pytest.mark.parametrize(
    ("ratios", "problem", "message"),
    [
        (None, ladder_problem(10, price=3.0), r"price 3 lies outside the trained range \[0, 2\]"),
        (None, ladder_problem(50), r"costs \[0.02, 0.141, 1, .* are not those trained for"),
        ((10, 50), ladder_problem(80), r"cost ratio 80 lies outside the trained range \[10, 50\]"),
        ((10, 50), ladder_problem(20, share=2.0), r"verifications cost \[2, 2\] of a call"),
    ],
)
def test_what_was_not_trained_for_warns_and_names_the_range(ratios, problem, message):
    terms = CostRange.of(ladder_problem(10), [0, 2.0], ratios=ratios)
    with pytest.warns(UserWarning, match=message):
        terms.check(problem)


def test_costs_that_are_no_ladder_warn():
    problem = ladder_problem(10)
    terms = CostRange.of(problem, [0, 2.0], ratios=(10, 50))
    with pytest.warns(UserWarning, match="no ladder from 1 to 20"):
        terms.check(replace(problem, costs=Costs(np.array([1.0, 19, 20]), np.zeros(3))))


def test_what_was_trained_for_does_not_warn():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        CostRange.of(ladder_problem(10), [0, 2.0]).check(ladder_problem(10))
        CostRange.of(ladder_problem(10), [0, 2.0], ratios=(5, 50)).check(ladder_problem(50))


def test_ranges_that_are_none_are_refused():
    with pytest.raises(ValueError, match=r"solver.price_range is \[2, 1\]"):
        CostRange.of(ladder_problem(10), [1], price_range=(2, 1))
    with pytest.raises(ValueError, match=r"solver.cost_ratios is \[0.5, 1\]"):
        CostRange.of(ladder_problem(10), [1], ratios=(0.5, 1))
