"""Single models, their mixture, the oracle: against sums over the log."""

import numpy as np
import pytest

from routing_pomdp.envs import Rules
from routing_pomdp.evaluation.evaluate import evaluate, returns
from routing_pomdp.solvers import Oracle, RandomMix, Static
from tests.support.problems import random_data, random_problem


@pytest.fixture
def problem():
    return random_problem(Rules(4), np.random.default_rng(0), 3, 2, price=0.2)


@pytest.fixture
def data():
    return random_data(500, 4, np.random.default_rng(1))


@pytest.mark.parametrize("model", range(4))
def test_a_single_model_pays_for_its_answer_alone(problem, data, model):
    outcome = evaluate(Static(model=model).solve(problem, data), data)
    np.testing.assert_array_equal(outcome.score, data.score[:, model])
    np.testing.assert_array_equal(outcome.cost, data.call_cost[:, model])
    assert outcome.verifications.sum() == 0


def test_static_takes_the_best_training_return_at_each_price(problem, data):
    for price in (0.0, 0.1, 1.0, 100.0):
        priced = problem.at(price)
        chosen = Static().solve(priced, data).choice
        gains = data.score.mean(0) - price * problem.costs.call / problem.costs.unit
        assert gains[chosen] == gains.max()


def test_the_oracle_beats_every_choice_of_one_model_on_every_query(problem, data):
    outcome = evaluate(Oracle().solve(problem, data), data)
    rate = problem.price / problem.costs.unit
    best = (data.score - rate * data.call_cost).max(axis=1)
    np.testing.assert_allclose(returns(outcome, problem), best, atol=1e-12)


def test_random_mixing_lies_on_the_line_between_the_two_models(problem):
    data = random_data(200_000, 4, np.random.default_rng(2))
    for share in (0.0, 0.3, 1.0):
        outcome = evaluate(RandomMix(share=share).solve(problem, data), data)
        ends = data.call_cost[:, [0, -1]].mean(0)
        expected = (1 - share) * ends[0] + share * ends[1]
        assert abs(outcome.cost.mean() - expected) < 5 * ends[1] / np.sqrt(len(data))
        assert abs((outcome.answer == 3).mean() - share) < 5 * 0.5 / np.sqrt(len(data))


def test_a_querys_draw_depends_on_no_other_query(problem, data):
    policy = RandomMix(share=0.5, seed=3).solve(problem, data)
    whole = evaluate(policy, data).answer
    from routing_pomdp.envs import History

    for row in (0, 7, 499):
        action = policy.act(History.start(np.array([row]), 4, 1))
        assert action[0] - 1 == whole[row]
    other = evaluate(RandomMix(share=0.5, seed=4).solve(problem, data), data).answer
    assert 0.3 < (whole != other).mean() < 0.7


def test_a_mixed_frontier_spreads_its_shares(problem, data):
    shares = [p.share for p in RandomMix().solve_frontier(problem, [0, 1, 2, 3, 4], data)]
    np.testing.assert_allclose(shares, [1, 0.75, 0.5, 0.25, 0])


def test_bad_settings_are_refused_by_key(problem, data):
    with pytest.raises(ValueError, match=r"solver\.model is 4"):
        Static(model=4).solve(problem, data)
    with pytest.raises(ValueError, match=r"solver\.share is 1.5"):
        RandomMix(share=1.5)
