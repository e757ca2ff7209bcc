"""Online bandits: steps by hand, convergence, and no more feedback than was paid for."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from routing_pomdp.envs import Costs, RoutingData, RoutingPOMDP, Rules
from routing_pomdp.evaluation.evaluate import evaluate
from routing_pomdp.solvers import Training
from routing_pomdp.solvers.predictive.bandits import (
    C2MABV,
    PickLLM,
    any_win,
    ascend,
    best_mixture,
    stream,
)
from routing_pomdp.verifiers import Histogram
from tests.support.problems import random_data, random_problem

PICKS = [PickLLM("gradient", rounds=3000), PickLLM("q_learning", rounds=3000)]
LEARNERS = [*PICKS, C2MABV(rounds=1000)]


def with_accuracies(n, accuracy, call=(0.1, 0.3, 1.0), seed=0):
    """Three models right at random; signals that give their own score away."""
    rng = np.random.default_rng(seed)
    score = (rng.random((n, 3)) < accuracy).astype(float)
    return RoutingData(
        score,
        np.broadcast_to(call, (n, 3)),
        np.zeros((n, 3)),
        (score + 0.1 * rng.random((n, 3)))[..., None],
    )


def problem_of(train, price):
    costs = Costs(train.call_cost[0], train.verify_cost[0])
    return RoutingPOMDP.fit(train, Histogram(), costs, Rules(3), price)


@pytest.mark.parametrize("solver", PICKS, ids=lambda solver: solver.variant)
def test_it_converges_to_the_model_of_the_best_return_at_every_price(solver):
    train = with_accuracies(300, (0.3, 0.6, 0.9))
    prices = [0.0, 0.2, 0.6, 3.0]
    worth = train.score.mean(axis=0) - np.outer(prices, train.call_cost[0])
    for policy, best in zip(
        solver.solve_frontier(problem_of(train, 0.0), prices, train), worth.argmax(1), strict=True
    ):
        assert set(evaluate(policy, train).answer.tolist()) == {best}


@pytest.mark.parametrize("solver", LEARNERS, ids=lambda solver: type(solver).__name__)
def test_regret_a_round_falls_as_queries_stream_by(solver):
    early, late = [], []
    for seed in range(3):
        rows = []
        learner = replace(solver, seed=seed).with_training(Training(rows.append))
        train = with_accuracies(300, (0.2, 0.5, 0.9), seed=seed)
        learner.solve(problem_of(train, 0.1), train)
        steps = np.array([row["step"] for row in rows])
        total = np.array([row["regret"] for row in rows]) * steps
        quarter = len(rows) // 4
        early.append(total[quarter] / steps[quarter])
        late.append((total[-1] - total[-quarter]) / (steps[-1] - steps[-quarter]))
        assert (np.diff(steps) > 0).all()
        assert all(np.isfinite(row["return"]) for row in rows)
    assert np.mean(late) < np.mean(early)


def test_a_gradient_step_is_the_textbook_s():
    chance = np.array([[0.2, 0.3, 0.5]])
    found = ascend(np.array([[1.0, 2.0, 3.0]]), chance, np.array([1]), np.array([0.4]), 0.1)
    expected = [1 - 0.1 * 0.4 * 0.2, 2 + 0.1 * 0.4 * 0.7, 3 - 0.1 * 0.4 * 0.5]
    np.testing.assert_allclose(found, [expected])


def test_winning_chance_and_cost_of_every_set_by_enumeration():
    rng = np.random.default_rng(0)
    right, cost = rng.random((2, 4, 3))
    sets = np.array(list(product([False, True], repeat=3)))[1:]
    win, spent = any_win(sets, right, cost)
    for m, (b, members) in product(range(4), enumerate(sets)):
        chance = paid = 0.0
        for outcome in product([0, 1], repeat=3):
            p = np.prod(np.where(outcome, right[m], 1 - right[m]))
            for model in np.flatnonzero(members):
                paid += p * cost[m, model]
                if outcome[model]:
                    chance += p
                    break
        assert win[m, b] == pytest.approx(chance)
        assert spent[m, b] == pytest.approx(paid)


@pytest.mark.parametrize("budget", [0.05, 0.2, 0.5, 2.0])
def test_the_linear_program_is_the_best_mixture_of_two_sets(budget):
    rng = np.random.default_rng(1)
    win, cost = rng.random(7), rng.random(7)
    share = best_mixture(win, cost, budget)
    if budget < cost.min():
        assert share.argmax() == cost.argmin()
        return
    best = -np.inf
    for a, b in product(range(7), repeat=2):
        for t in np.linspace(0, 1, 2001):
            if t * cost[a] + (1 - t) * cost[b] <= budget:
                best = max(best, t * win[a] + (1 - t) * win[b])
    assert share @ win == pytest.approx(best, abs=1e-3)
    assert share @ cost <= budget + 1e-9


def test_a_converged_set_stops_where_the_verifier_is_content():
    train = with_accuracies(400, (0.5, 0.6, 0.9))
    policy = C2MABV().solve(problem_of(train, 0.1), train)
    outcome = evaluate(policy, train)
    played = policy.sets[policy.share.argmax()]
    assert played.sum() > 1
    first = np.flatnonzero(played)[0]
    content = train.score[:, first] == 1
    # A bin of the signal may hold answers of both kinds.
    assert (outcome.answer[content] == first).mean() > 0.95
    assert (outcome.answer[~content] != first).mean() > 0.9


@pytest.mark.parametrize("solver", LEARNERS, ids=lambda solver: type(solver).__name__)
def test_scores_are_read_one_cell_at_a_time(solver):
    """Of a query the cells of the models in turn, never its row."""

    class Poisoned(np.ndarray):
        reads: list

        def __getitem__(self, key):
            type(self).reads.append(key)
            return super().__getitem__(key)

    train = with_accuracies(50, (0.5, 0.6, 0.9))
    Poisoned.reads = []
    watched = replace(train, score=train.score.view(Poisoned))
    solver.solve(problem_of(train, 0.3), watched)
    cells = [key for key in Poisoned.reads if isinstance(key, tuple)]
    assert cells
    # One query, and of it the models named: never a whole row.
    assert all(np.ndim(key[0]) == 0 and not isinstance(key[1], slice) for key in cells)


def test_every_query_streams_by_once_a_pass():
    rows = stream(10, 25, np.random.default_rng(0))
    assert len(rows) == 25
    for begin in (0, 10):
        assert sorted(rows[begin : begin + 10]) == list(range(10))


def test_a_budget_is_spent_by_mixing_sets():
    train = with_accuracies(400, (0.3, 0.5, 0.95))
    solver = C2MABV(budget=0.5, rounds=500)
    policy = solver.solve(problem_of(train, 0.0), train)
    assert evaluate(policy, train).cost.mean() == pytest.approx(0.5, abs=0.08)
    with pytest.raises(ValueError, match=r"solver\.budget is 0\.01: the cheapest model already"):
        C2MABV(budget=0.01).solve(problem_of(train, 0.0), train)


@pytest.mark.parametrize("solver", LEARNERS, ids=lambda solver: type(solver).__name__)
def test_the_seed_decides_everything_and_hard_cases_work(solver):
    rng = np.random.default_rng(0)
    problem, few = random_problem(Rules(3), rng), random_data(10, 3, rng)
    first, again = (evaluate(solver.solve(problem, few), few).answer for _ in range(2))
    np.testing.assert_array_equal(first, again)
    for score in (0.0, 1.0):
        flat = replace(few, score=np.full_like(few.score, score))
        evaluate(solver.solve(problem, flat), flat)


@pytest.mark.parametrize(
    ("solver", "key", "value"),
    [
        (PickLLM, "variant", "greedy"),
        (PickLLM, "rounds", 0),
        (PickLLM, "learning_rate", 0.0),
        (PickLLM, "epsilon", 1.5),
        (C2MABV, "size", 0),
        (C2MABV, "satisfied", 0.0),
        (C2MABV, "confidence", -1.0),
        (C2MABV, "budget", -0.5),
        (C2MABV, "rounds", 0),
    ],
)
def test_bad_settings_are_refused_by_name(solver, key, value):
    with pytest.raises(ValueError, match=rf"solver\.{key} is {value!r}: expected"):
        solver(**{key: value})
