"""Places: what actions return on logged queries is what playing them returns."""

import numpy as np
import pytest
import torch

from routing_pomdp.envs import Episodes, Rules
from routing_pomdp.solvers.action_costs import action_costs_of
from routing_pomdp.solvers.decision_points import DecisionPoints, open_loop
from routing_pomdp.solvers.learned.returns import Returns
from tests.support.problems import every_rules, name_of, random_problem


def table(points, n, rng):
    """A legal action for every query at every place, ``(n, P)``."""
    return np.where(points.legal, rng.random((n, *points.legal.shape)), -1).argmax(axis=2)


@pytest.mark.parametrize("rules", every_rules(4), ids=name_of)
def test_returns_are_those_of_stepping_the_same_decisions(rules):
    rng = np.random.default_rng(0)
    problem = random_problem(rules, rng)
    data, points = problem.sample(50, rng), DecisionPoints.of(rules)
    action, action_costs = table(points, 50, rng), action_costs_of(problem)

    episodes, got = Episodes(data, rules), np.empty(50)
    while len(episodes):
        at = points.index(episodes.history)
        np.testing.assert_array_equal(points.stage[at], episodes.history.stage)
        np.testing.assert_array_equal(points.verified[at], episodes.history.verified[:, :-1])
        ended, paid = episodes.step(action[episodes.history.query, at])
        scores = data.score[ended.query, problem.best_answer(ended)]
        got[ended.query] = scores - problem.price * paid / problem.costs.unit

    taken = torch.as_tensor(np.eye(rules.n_actions)[action]).permute(1, 0, 2)[:, :, None]
    paid = torch.as_tensor((points.pays @ action_costs)[:, None])
    returns = Returns(points, points.answers(problem, data), torch.device("cpu"))
    found = returns.of(torch.arange(50), taken, paid.float())[0, :, 0].numpy() - paid[0].numpy()
    first = found[np.arange(50), action[:, 0]]
    if not rules.free_start:  # paid before the first decision
        first = first - action_costs[0] - (0 if rules.verify else action_costs[4])
    np.testing.assert_allclose(first, got, atol=1e-5)


def test_five_models_with_every_option_have_31_places_and_81_if_any_answer_may_be_returned():
    full = {"skip": True, "free_start": True, "verify": True}
    assert len(DecisionPoints.of(Rules(5, **full))) == 31
    assert len(DecisionPoints.of(Rules(5, **full, answer="best"))) == 81
    assert len(DecisionPoints.of(Rules(5))) == 4


def best_plan(rules, mean, action_costs, model):
    """By trying every way on from a model."""
    n = rules.n_models
    worth = [mean[model]]
    for later in range(model + 1, model + 1 + rules.reach(model) if model < n - 1 else model + 1):
        paid = action_costs[later] + (
            action_costs[n + later] if later < n - 1 and not rules.verify else 0
        )
        worth.append(best_plan(rules, mean, action_costs, later) - paid)
    return max(worth)


@pytest.mark.parametrize("rules", every_rules(4), ids=name_of)
def test_open_loop_is_the_best_of_every_plan_that_looks_at_nothing(rules):
    rng = np.random.default_rng(1)
    mean, action_costs = rng.random((6, 4)), rng.random((6, 8)) / 3
    found = np.stack(open_loop(rules, mean, action_costs), axis=1)
    expected = [
        [best_plan(rules, *row, model) for model in range(4)]
        for row in zip(mean, action_costs, strict=True)
    ]
    np.testing.assert_allclose(found, expected, atol=1e-12)
    tensors = open_loop(rules, torch.as_tensor(mean), torch.as_tensor(action_costs))
    np.testing.assert_allclose(torch.stack(tensors, dim=1).numpy(), found)
