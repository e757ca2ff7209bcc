"""Prices and cost ratios of episodes, against the cost model and the fitted problem."""

import warnings

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from hypothesis import given
from hypothesis import strategies as st

from routing_pomdp.envs import CostModel, History, RoutingData, RoutingEnv, RoutingPOMDP, Rules
from routing_pomdp.envs.profiles import load_profile, simulate
from routing_pomdp.verifiers import Histogram, LoggedSignal, make_routing_data
from tests.support.problems import (
    every_rules,
    name_of,
    problems,
    random_data,
    random_problem,
    with_bands,
)

SEEDS = st.integers(0, 2**32)


@given(problems(), SEEDS)
def test_the_action_costs_shown_are_the_problems_own(problem, seed):
    env = RoutingEnv(problem, show_action_costs=True)
    observation, _ = env.reset(seed=seed)
    action_costs = observation[-(2 * problem.n_models - 1) :]
    np.testing.assert_allclose(action_costs[: problem.n_models], problem.call_price, atol=1e-12)
    np.testing.assert_allclose(
        action_costs[problem.n_models :], problem.verify_price[:-1], atol=1e-12
    )
    plain, _ = RoutingEnv(problem).reset(seed=seed)
    np.testing.assert_array_equal(observation[: len(plain)], plain)
    # The action costs are no part of the history.
    np.testing.assert_array_equal(
        History.from_array(observation[None], problem.n_models).to_array()[0], plain
    )


def _mmlu(cost_model: CostModel, rules: Rules) -> tuple[RoutingData, RoutingPOMDP]:
    log = simulate(load_profile("mmlu"), 200, seed=0)
    verifier = LoggedSignal()
    costs = cost_model.fit(log, verifier.cost(log))
    data = make_routing_data(log, verifier, cost_model, costs)
    return data, RoutingPOMDP.fit(data, Histogram(bins=3), costs, rules, price=0.4)


@pytest.mark.parametrize("verifier", ["logged", 0.3])
def test_a_ratio_costs_what_the_cost_model_makes_of_it(verifier):
    rules = Rules(5, skip=True, free_start=True, verify=True)
    logged = _mmlu(CostModel(verifier=verifier), rules)
    ladder = _mmlu(CostModel(ratio=30.0, verifier=verifier), rules)
    mine = RoutingEnv(logged[0], problem=logged[1], ratio=30.0, show_action_costs=True)
    other = RoutingEnv(ladder[0], problem=ladder[1], show_action_costs=True)
    rng = np.random.default_rng(0)
    for query in range(50):
        options = {"query": query}
        np.testing.assert_allclose(mine.reset(options=options)[0], other.reset(options=options)[0])
        done = False
        while not done:
            action = int(rng.integers(rules.n_actions))
            observation, reward, done, _, info = mine.step(action)
            observation_, reward_, _, _, info_ = other.step(action)
            np.testing.assert_allclose(observation, observation_)
            assert reward == pytest.approx(reward_, abs=1e-12)
        assert info["cost"] == pytest.approx(info_["cost"], abs=1e-12)


@pytest.mark.parametrize("rules", every_rules(3), ids=name_of)
@pytest.mark.parametrize("ratio", [None, 7.0, (1.0, 100.0)])
def test_gymnasiums_own_checker_finds_nothing_to_warn_of(rules, ratio):
    problem = with_bands(random_problem(rules, np.random.default_rng(0)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=".*not having a spec.*")
        check_env(RoutingEnv(problem, price=(0.01, 1.0), ratio=ratio))


def test_an_episode_keeps_its_price_and_the_next_has_another():
    problem = random_problem(Rules(3), np.random.default_rng(0))
    env = RoutingEnv(problem, price=(0.01, 1.0))
    prices = []
    for seed in (3, None, None, 3):
        observation, _ = env.reset(seed=seed)
        after, *_ = env.step(1)
        np.testing.assert_array_equal(observation[-5:], after[-5:])
        assert observation[-3] == pytest.approx(env.price)
        prices.append(env.price)
    assert prices[0] == prices[3]
    assert len(set(prices)) == 3


def test_a_free_call_has_a_free_verification_under_a_ratio():
    data = random_data(5, 3, np.random.default_rng(0))
    data.call_cost[:, 0] = 0
    env = RoutingEnv(data, ratio=10.0, price=0.5, show_action_costs=True)
    observation, _ = env.reset(seed=0)
    assert observation[-2] == 0
    assert observation[-5] == pytest.approx(0.05)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"price": (0.0, 1.0)}, r"price is \(0.0, 1.0\): expected \(low, high\) with 0 < low"),
        ({"price": (1.0, np.inf)}, "low <= high"),
        ({"ratio": (0.5, 2.0)}, "with 1 <= low <= high"),
        ({"ratio": np.nan}, "ratio is nan: expected a finite number >= 1"),
    ],
)
def test_terms_out_of_range_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        RoutingEnv(random_problem(Rules(3), np.random.default_rng(0)), **arguments)
