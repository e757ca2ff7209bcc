"""One common threshold, against every threshold and chain."""

import numpy as np
import pytest

from routing_pomdp.envs import RoutingData, Rules
from routing_pomdp.evaluation.evaluate import evaluate, returns
from routing_pomdp.solvers.cascades.margin import Margin
from routing_pomdp.solvers.cascades.threshold import ThresholdPolicy, chains
from tests.support.problems import every_rules, name_of, random_data, random_problem

# Training returns count a chain's last answer.
LAST = [rules for rules in every_rules(3) if rules.answer == "last"]


def training_return(policy, data):
    return returns(evaluate(policy, data), policy.problem).mean()


@pytest.mark.parametrize("rules", LAST, ids=name_of)
@pytest.mark.parametrize("price", [0.0, 0.2])
def test_it_is_the_best_of_all_common_thresholds(rules, price):
    rng = np.random.default_rng(int(10 * price))
    problem, data = random_problem(rules, rng, price=price), random_data(20, 3, rng)
    values = np.unique(data.signal[:, :-1, 0])
    cuts = [-np.inf, *((values[1:] + values[:-1]) / 2), np.inf]
    best = max(
        training_return(ThresholdPolicy.of(problem, chain, cut), data)
        for chain in chains(rules)
        for cut in cuts
    )
    found = training_return(Margin().solve(problem, data), data)
    assert found == pytest.approx(best, abs=1e-12)


def test_fewer_thresholds_lose_little():
    rng = np.random.default_rng(0)
    problem, data = random_problem(Rules(3), rng, price=0.1), random_data(400, 3, rng)
    all_of_them = training_return(Margin(10**6).solve(problem, data), data)
    some = training_return(Margin(64).solve(problem, data), data)
    assert all_of_them - 0.02 < some <= all_of_them + 1e-12


def test_only_the_order_of_the_signals_counts():
    rng = np.random.default_rng(0)
    problem, data = random_problem(Rules(3), rng, price=0.1), random_data(50, 3, rng)
    logged = RoutingData(
        data.score, data.call_cost, data.verify_cost, 1e4 * np.log(data.signal + 1e-300)
    )
    plain = evaluate(Margin().solve(problem, data), data)
    other = evaluate(Margin().solve(problem, logged), logged)
    np.testing.assert_array_equal(plain.answer, other.answer)


def test_constant_signals_and_ten_queries_work_and_bad_input_is_refused():
    rng = np.random.default_rng(0)
    problem, data = random_problem(Rules(3), rng), random_data(10, 3, rng)
    flat = RoutingData(
        data.score, data.call_cost, data.verify_cost, np.full_like(data.signal, -1e4)
    )
    evaluate(Margin().solve(problem, flat), data)
    with pytest.raises(ValueError, match="one number an answer, the verifier gives 2"):
        Margin().solve(problem, random_data(10, 3, rng, signals=2))
    with pytest.raises(ValueError, match=r"solver\.thresholds is 0: expected"):
        Margin(0)
