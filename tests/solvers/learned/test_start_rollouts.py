"""Where to start is tried out on simulated queries."""

from dataclasses import replace

import numpy as np
import pytest

from routing_pomdp.envs import Rules
from routing_pomdp.evaluation.evaluate import evaluate, returns
from routing_pomdp.solvers import Training
from routing_pomdp.solvers.learned.belief_fqi import BeliefFQI
from routing_pomdp.solvers.learned.checkpoint import Restored
from routing_pomdp.solvers.learned.fitted_values import StartRollouts, choose_start
from routing_pomdp.solvers.learned.history_net import HistoryNet
from tests.solvers.learned.test_fitted_q import ordered
from tests.support.problems import covering_rules, name_of

FULL = Rules(3, skip=True, free_start=True, verify=True)
SMALL = {"simulations": 300, "resamples": 2, "pretraining": 10, "steps": 10, "members": 2}
LEARNERS = [BeliefFQI(**SMALL, hidden=8), HistoryNet(**SMALL, hidden=8)]


@pytest.mark.parametrize("learner", LEARNERS, ids=["belief_fqi", "history_net"])
@pytest.mark.parametrize("price", [0.02, 0.2, 2.0])
def test_a_policy_starts_where_it_returns_the_most_on_them(learner, price):
    problem = ordered(FULL).at(price)
    train = problem.sample(100, np.random.default_rng(0))
    policy = learner.solve(problem, train)
    tried = StartRollouts.of(train, learner.seed)
    data = replace(
        problem.sample(len(tried.score), np.random.default_rng(1)),
        score=tried.score,
        signal=tried.signal,
    )  # the problem's own costs
    worth = [
        returns(evaluate(replace(policy, start=1 + model), data), problem).mean()
        for model in range(3)
    ]
    assert policy.start == 1 + int(np.argmax(worth))
    assert evaluate(policy, data).calls.min() >= 1
    assert choose_start(replace(policy, start=None), tried).start == policy.start


@pytest.mark.parametrize("rules", covering_rules(3), ids=name_of)
def test_only_who_may_start_anywhere_chooses_a_start(rules):
    problem = ordered(rules)
    policy = LEARNERS[0].solve(problem, problem.sample(40, np.random.default_rng(0)))
    assert (policy.start is not None) == rules.free_start


def test_a_start_that_the_network_is_wrong_about_is_put_right():
    problem = ordered(FULL).at(2.0)  # nothing is worth a call of the last model
    train = problem.sample(200, np.random.default_rng(0))
    (policy,) = BeliefFQI(**SMALL).solve_frontier(problem, [2.0], train)
    constant = policy.values.constant.copy()
    constant[0, 3] = 9.0
    wrong = replace(policy, values=replace(policy.values, constant=constant), start=None)
    tried = StartRollouts.of(train, 0)
    right = choose_start(wrong, tried)
    test = problem.sample(2000, np.random.default_rng(2))
    before, after = (returns(evaluate(p, test), problem).mean() for p in (wrong, right))
    assert after > before + 0.3


@pytest.mark.parametrize("learner", LEARNERS, ids=["belief_fqi", "history_net"])
def test_a_checkpoint_chooses_starts_for_prices_of_its_own(learner, tmp_path):
    problem = ordered(FULL)
    train = problem.sample(100, np.random.default_rng(0))
    prices = [0.01, 0.1, 1.0]
    trained = learner.with_training(Training(folder=tmp_path)).solve_frontier(
        problem, prices, train
    )
    saved = Restored(str(tmp_path / "policy.pt"))
    found = saved.solve_frontier(problem, [0.05, *prices], train)
    assert [policy.start for policy in found[1:]] == [policy.start for policy in trained]
    tried = StartRollouts.of(train, learner.seed)
    assert found[0].start == choose_start(replace(found[0], start=None), tried).start
