"""The pairwise envelope, against every pair and every threshold."""

from itertools import combinations

import numpy as np
import pytest

from routing_pomdp.envs import RoutingData, Rules
from routing_pomdp.evaluation.evaluate import evaluate, returns
from routing_pomdp.solvers import Static, Threshold
from routing_pomdp.solvers.cascades.pairwise import PairwiseEnvelope
from routing_pomdp.solvers.cascades.threshold import ThresholdPolicy
from tests.support.problems import every_rules, name_of, random_data, random_problem


def training_return(policy, data):
    return returns(evaluate(policy, data), policy.problem).mean()


@pytest.mark.parametrize("price", [0.0, 0.05, 0.2, 1.0])
def test_it_is_the_best_of_all_pairs_and_thresholds(price):
    rng = np.random.default_rng(int(100 * price))
    problem, data = random_problem(Rules(4), rng, price=price), random_data(25, 4, rng)
    found = PairwiseEnvelope().solve(problem, data)
    own, best = found.problem, -np.inf
    for low, high in combinations(range(4), 2):
        values = np.unique(data.signal[:, low, 0])
        for cut in [-np.inf, *((values[1:] + values[:-1]) / 2), np.inf]:
            policy = ThresholdPolicy.of(own, (low, high), cut)
            best = max(best, training_return(policy, data))
    for model in range(4):
        best = max(best, training_return(Static(model).solve(problem, data), data))
    assert training_return(found, data) == pytest.approx(best, abs=1e-12)


@pytest.mark.parametrize("rules", every_rules(3), ids=name_of)
def test_it_calls_two_models_at_most_and_verifies_one_at_most(rules):
    rng = np.random.default_rng(0)
    problem, data = random_problem(rules, rng), random_data(60, 3, rng)
    outcome = evaluate(PairwiseEnvelope().solve(problem, data), data)
    assert outcome.calls.max() <= 2
    assert outcome.verifications.max() <= 1


def test_two_models_with_every_option_are_the_threshold_s():
    rng = np.random.default_rng(0)
    rules = Rules(2, skip=True, free_start=True, verify=True)
    problem, data = random_problem(rules, rng, price=0.1), random_data(60, 2, rng)
    ours, theirs = (solver.solve(problem, data) for solver in (PairwiseEnvelope(), Threshold()))
    assert training_return(ours, data) == pytest.approx(training_return(theirs, data))


def test_constant_signals_and_models_always_right_leave_single_models():
    rng = np.random.default_rng(0)
    problem, data = random_problem(Rules(3), rng), random_data(10, 3, rng)
    flat = RoutingData(np.ones((10, 3)), data.call_cost, data.verify_cost, np.full((10, 3, 1), 0.5))
    outcome = evaluate(PairwiseEnvelope().solve(problem, flat), flat)
    assert set(outcome.answer.tolist()) == {int(flat.call_cost.mean(axis=0).argmin())}
    assert not outcome.verifications.any()
    with pytest.raises(ValueError, match="one number an answer, the verifier gives 2"):
        PairwiseEnvelope().solve(problem, random_data(10, 3, rng, signals=2))
