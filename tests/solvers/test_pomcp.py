"""POMCP against the exact solver."""

import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from envs import Costs, History, RoutingPOMDP, Rules
from evaluation.evaluate import evaluate, model_value
from solvers import Exact
from solvers.pomcp import POMCP
from tests.problems import every_rules, name_of, random_problem


def regrets(problem, simulations, seeds=1, **settings):
    optimal = Exact().solve(problem).value
    policies = (
        POMCP(simulations=simulations, seed=seed, **settings).solve(problem)
        for seed in range(seeds)
    )
    return [optimal - model_value(policy) for policy in policies]


@pytest.mark.parametrize("rules", every_rules(3), ids=name_of)
def test_regret_to_exact_is_small_under_every_rule(rules):
    found = []
    for seed in range(4):
        rng = np.random.default_rng(seed)
        problem = random_problem(rules, rng, symbols=3, levels=2, price=0.3)
        found += regrets(problem, 2000)
    assert min(found) > -1e-9  # nothing beats exact
    assert np.mean(found) < 0.005


@pytest.mark.slow
def test_regret_falls_as_simulations_grow():
    rules = Rules(4, skip=True, free_start=True, verify=True)
    found = {simulations: [] for simulations in (20, 200, 5000)}
    for seed in range(12):
        problem = random_problem(rules, np.random.default_rng(seed), 4, 2, price=0.2)
        for simulations, values in found.items():
            values += regrets(problem, simulations)
    few, more, many = (np.mean(values) for values in found.values())
    assert few > more > many
    assert many < 0.003


def test_plain_pomcp_converges_too():
    problem = random_problem(Rules(2), np.random.default_rng(3), 3, 2, price=0.3)
    assert max(regrets(problem, 5000, seeds=3, prior_visits=0, exploration=1.0)) < 0.01


def test_high_prices_do_not_drown_the_search():
    # A wrong first call at price 30 costs tens of points of score.
    problem = random_problem(
        Rules(4, skip=True, free_start=True), np.random.default_rng(0), 4, 2, price=30.0
    )
    assert max(regrets(problem, 200, seeds=3)) < 0.02


def problem_of(n_models, symbols):
    rng = np.random.default_rng(0)
    vectors = np.stack(np.unravel_index(np.arange(2**n_models), (2,) * n_models), 1).astype(float)
    call = np.logspace(0, 2, n_models)
    return RoutingPOMDP(
        vectors,
        rng.dirichlet(np.ones(len(vectors))),
        rng.dirichlet(np.ones(symbols), size=(n_models - 1, len(vectors))),
        Costs(call, call / 4),
        0.1,
        Rules(n_models, skip=True, free_start=True, verify=True),
    )


def test_problems_too_large_for_exact_are_planned_for():
    problem = problem_of(6, 32)
    with pytest.raises(ValueError, match="exact solver would enumerate"):
        Exact().solve(problem)
    replay = problem.sample(50, np.random.default_rng(1))
    outcome = evaluate(POMCP(simulations=50).solve(problem), replay)
    assert np.isfinite(outcome.cost).all()


def test_each_distinct_history_is_planned_once():
    problem = random_problem(Rules(3), np.random.default_rng(0), 3, 2, price=0.1)
    policy = POMCP(simulations=50).solve(problem)
    replay = problem.sample(2000, np.random.default_rng(1))
    evaluate(policy, replay)
    planned = policy.plans
    assert planned <= 3 + 9
    evaluate(policy, replay)
    assert policy.plans == planned


def test_a_decision_depends_on_neither_batch_nor_order():
    problem = random_problem(Rules(4, skip=True), np.random.default_rng(5), 4, 2, price=0.2)
    history = problem.decode(np.arange(problem.n_histories)[1:])
    together = POMCP(simulations=30).solve(problem).act(history)
    alone = POMCP(simulations=30).solve(problem)
    rows = np.random.default_rng(0).permutation(len(history))
    np.testing.assert_array_equal(
        [int(alone.act(history.take(np.array([row])))[0]) for row in rows], together[rows]
    )


def test_the_same_seed_gives_the_same_actions_in_every_process():
    script = (
        "import numpy as np\n"
        "from envs import Rules\n"
        "from solvers.pomcp import POMCP\n"
        "from tests.problems import random_problem\n"
        "rules = Rules(4, skip=True, free_start=True, verify=True)\n"
        "p = random_problem(rules, np.random.default_rng(5), 3, 2, price=0.2)\n"
        "print(POMCP(simulations=30).solve(p).act(p.decode(np.arange(60))).tolist())\n"
    )
    root = Path(__file__).parents[2]
    printed = {
        subprocess.run(
            [sys.executable, "-c", script],
            capture_output=True,
            text=True,
            check=True,
            cwd=root,
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": str(root)},
        ).stdout
        for seed in ("1", "2")
    }
    assert len(printed) == 1


def test_pythons_own_generator_is_left_alone():
    problem = random_problem(Rules(3), np.random.default_rng(0), 3, 2, price=0.1)
    random.seed(1)
    expected = random.random()
    random.seed(1)
    evaluate(POMCP(simulations=50).solve(problem), problem.sample(20, np.random.default_rng(0)))
    assert random.random() == expected


def test_an_impossible_observation_is_decided_on_the_prior():
    sure = np.array([[[1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [1.0, 0.0]]])
    vectors = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], dtype=float)
    problem = RoutingPOMDP(
        vectors, np.full(4, 0.25), sure, Costs(np.ones(2), np.zeros(2)), 0.1, Rules(2)
    )
    impossible = problem.decode(np.array([2]))
    assert isinstance(impossible, History)
    assert POMCP(simulations=20).solve(problem).act(impossible)[0] in (0, 1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"simulations": 0}, r"solver\.simulations is 0"),
        ({"particles": 0}, r"solver\.particles is 0"),
        ({"max_depth": 0}, r"solver\.max_depth is 0"),
        ({"exploration": -1.0}, r"solver\.exploration is -1"),
        ({"prior_visits": -1}, r"solver\.prior_visits is -1"),
    ],
)
def test_bad_settings_are_refused_by_key(settings, message):
    with pytest.raises(ValueError, match=message):
        POMCP(**settings)


def test_fewer_simulations_than_actions_are_refused():
    problem = problem_of(4, 2)
    with pytest.raises(ValueError, match="at least one for each of the 6 actions"):
        POMCP(simulations=5).solve(problem)
