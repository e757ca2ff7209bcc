"""The vector environment: what it refuses, and how it says so."""

import numpy as np
import pytest
from gymnasium.error import ResetNeeded

from routing_pomdp.envs import STAY, RoutingVectorEnv, Rules
from tests.support.problems import random_data, random_problem


def test_a_finished_episode_needs_a_reset_where_nothing_resets_it():
    env = RoutingVectorEnv(
        3, random_data(9, 3, np.random.default_rng(0)), autoreset_mode="Disabled"
    )
    with pytest.raises(ResetNeeded, match="call reset"):
        env.step(np.zeros(3, dtype=int))
    with pytest.raises(ResetNeeded, match="the first reset is of every environment"):
        env.reset(options={"reset_mask": np.array([True, False, False])})
    env.reset()
    env.step(np.array([1, STAY, 1]))
    with pytest.raises(ResetNeeded, match="the episode of environment 1 is over"):
        env.step(np.zeros(3, dtype=int))
    env.reset(options={"reset_mask": np.array([False, True, False])})
    env.step(np.zeros(3, dtype=int))


_PROBLEM = random_problem(Rules(3), np.random.default_rng(0))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_envs": 0}, "num_envs is 0: expected at least 1"),
        ({"backend": "jax"}, "'jax': expected 'numpy' or 'torch'"),
        ({"price": 0.2}, "rules and price come from the problem"),
        ({"price": (0.0, 1.0)}, r"price is \(0.0, 1.0\): expected \(low, high\) with 0 < low"),
        ({"price": (1.0, 0.5)}, "low <= high"),
        ({"ratio": (0.5, 2.0)}, "with 1 <= low <= high"),
        ({"ratio": 0.5}, "ratio is 0.5: expected a finite number >= 1"),
        ({"price": np.ones(3)}, r"price has shape \(3,\): expected \(4,\)"),
        ({"price": np.array([1, 2, -3.0, 4])}, r"price has -3.0: expected finite numbers >= 0"),
        ({"max_episode_steps": 3}, "max_episode_steps"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        RoutingVectorEnv(**({"num_envs": 4, "source": _PROBLEM} | arguments))


@pytest.mark.parametrize(
    ("actions", "message"),
    [
        (np.zeros(3, dtype=int), r"shape \(3,\) and type int64: expected \(4,\) whole numbers"),
        (np.zeros(4), "type float64"),
        (np.array([0, 1, -1, 0]), "action is -1: expected 0 … 1"),
        (np.array([0, 1, 0, 2]), "action is 2: expected 0 … 1"),
    ],
)
def test_actions_outside_of_the_space_are_refused(actions, message):
    env = RoutingVectorEnv(4, _PROBLEM)
    env.reset(seed=0)
    with pytest.raises(ValueError, match=message):
        env.step(actions)


def test_what_is_ignored_may_be_anything():
    env = RoutingVectorEnv(2, _PROBLEM)
    env.reset(seed=0)
    env.step(np.array([STAY, 1]))
    _, reward, *_ = env.step(np.array([99, STAY]))
    assert reward[0] == 0
