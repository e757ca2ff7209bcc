"""The Gymnasium environment: what it is made from, and what it refuses."""

from dataclasses import replace

import numpy as np
import pytest

from routing_pomdp.envs import Costs, RoutingData, RoutingEnv, RoutingPOMDP, Rules
from tests.support.problems import random_problem, toy_data

_PROBLEM = random_problem(Rules(3), np.random.default_rng(0))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"source": _PROBLEM, "problem": _PROBLEM}, "source is a RoutingPOMDP already"),
        ({"source": _PROBLEM, "rules": Rules(3)}, "come from the problem"),
        ({"source": toy_data(), "problem": _PROBLEM, "price": 0.1}, "come from the problem"),
        ({"source": toy_data(), "render_mode": "human"}, "'human': expected None or 'ansi'"),
        ({"source": toy_data(), "rules": Rules(3, answer="best")}, "'best' needs a problem"),
        ({"source": toy_data(), "rules": Rules(4)}, "source has 3 models, the rules 4"),
        ({"source": toy_data(), "price": -0.5}, r"price is -0\.5: expected a finite number"),
        ({"source": toy_data(), "price": np.nan}, "price is nan"),
        (
            {"source": replace(toy_data(), call_cost=np.zeros((1, 3)))},
            "most expensive model costs nothing",
        ),
        (
            {"source": RoutingData(*(np.empty((0, 3)) for _ in range(3)), np.empty((0, 3, 1)))},
            "source has no queries",
        ),
    ],
)
def test_arguments_that_contradict_each_other_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        RoutingEnv(**arguments)


def test_the_unit_of_cost_is_the_problems():
    data = toy_data()
    costs = Costs(np.array([1.0, 2.0, 50.0]), np.zeros(3))
    problem = RoutingPOMDP(
        _PROBLEM.score, _PROBLEM.prior, _PROBLEM.likelihood, costs, 0.5, Rules(3, free_start=True)
    )
    env = RoutingEnv(data, problem=problem)
    env.reset()
    _, reward, *_ = env.step(3)
    assert reward == pytest.approx(1.0 - 0.5 * 100 / 50)
