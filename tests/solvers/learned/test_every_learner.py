"""What several learners on the log promise alike."""

from dataclasses import replace

import numpy as np
import pytest

from routing_pomdp.envs import Rules
from routing_pomdp.evaluation.evaluate import evaluate, model_value
from routing_pomdp.solvers import Exact
from routing_pomdp.solvers.learned.fitted_q import FittedQ
from tests.solvers.learned import test_belief_fqi, test_history_net
from tests.solvers.learned.test_fitted_q import ordered
from tests.support.problems import covering_rules, name_of, random_data, random_problem

FULL = Rules(3, skip=True, free_start=True, verify=True)


def kind(solver):
    return type(solver).__name__


@pytest.mark.parametrize("rules", [Rules(3), replace(FULL, answer="best")], ids=name_of)
@pytest.mark.parametrize(
    "solver", [test_belief_fqi.ON_THE_LOG, test_history_net.ON_THE_LOG], ids=kind
)
def test_many_queries_bring_it_close_to_exact_and_never_above(solver, rules):
    problem = ordered(rules)
    train = problem.sample(1500, np.random.default_rng(1))
    value = model_value(solver.solve(problem, train))
    best = Exact().solve(problem).value
    assert best - 0.01 < value <= best + 1e-12


@pytest.mark.parametrize("rules", covering_rules(3), ids=name_of)
@pytest.mark.parametrize("solver", [test_belief_fqi.QUICK, FittedQ()], ids=kind)
def test_it_plays_by_every_rule_with_few_queries_ties_and_vectors(solver, rules):
    rng = np.random.default_rng(0)
    problem = random_problem(rules, rng)
    train, test = (random_data(size, 3, rng, signals=2) for size in (5, 50))
    constant = replace(train, signal=np.full_like(train.signal, -1e4))
    right = replace(train, score=np.ones_like(train.score))
    for given in (train, constant, right):
        assert evaluate(solver.solve(problem, given), test).calls.min() >= 1
