"""QMDP and the fast informed bound: above the exact value, in the order that theory has."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing_pomdp.envs import Rules
from routing_pomdp.envs.model.decision_graph import DecisionGraph, flatten
from routing_pomdp.envs.model.pomdp_file import read_pomdp
from routing_pomdp.evaluation.evaluate import model_value
from routing_pomdp.solvers import Exact
from routing_pomdp.solvers.exact.bounds import FIB, QMDP, Bounds, fib_bound, informed, qmdp_bound
from routing_pomdp.solvers.exact.value_iteration import value_iteration
from tests.support.pomdps import TIGER, random_pomdp, tree_value
from tests.support.problems import every_rules, problems, random_problem

SEEDS = st.integers(0, 2**32)


@given(problems())
def test_the_exact_value_lies_between_the_bounds(problem):
    best, bounds = Exact().solve(problem).value, Bounds.of(problem)
    assert bounds.blind <= best + 1e-10
    assert best <= bounds.fib + 1e-10
    assert bounds.fib <= bounds.qmdp + 1e-10


@given(problems(max_models=3))
def test_the_bounds_of_whole_score_vectors_are_those_of_the_flat_problem(problem):
    """By the general iterations, which know nothing of routing; there the two agree."""
    flat, horizon = flatten(problem), 2 * problem.n_models + 1
    graph = DecisionGraph.of(problem, merged=False)
    for vectors in (qmdp_bound(flat, horizon), fib_bound(flat, horizon)):
        expected = (vectors @ flat.start).max()
        assert QMDP().solve(problem).value == pytest.approx(expected, abs=1e-10)
        assert informed(graph)[0].value(problem.prior) == pytest.approx(expected, abs=1e-10)


def test_the_fast_informed_bound_of_two_models_is_exact():
    """Nothing is seen after the next symbol, so that knowing the class then is worth nothing."""
    for rules in every_rules(2):
        problem = random_problem(rules, np.random.default_rng(0))
        if not rules.verify:
            best = Exact().solve(problem).value
            assert FIB().solve(problem).value == pytest.approx(best, abs=1e-12)


@pytest.mark.parametrize("solver", [QMDP(), FIB()], ids=["qmdp", "fib"])
@given(problem=problems())
def test_their_policies_are_legal_and_promise_no_less_than_the_optimum(solver, problem):
    policy, best = solver.solve(problem), Exact().solve(problem).value
    assert model_value(policy) <= best + 1e-10
    assert policy.value >= best - 1e-10


@pytest.mark.parametrize("solver", [QMDP(), FIB()], ids=["qmdp", "fib"])
def test_with_symbols_that_tell_all_they_are_optimal(solver):
    """Then what they assume is true."""
    problem = random_problem(Rules(3, skip=True), np.random.default_rng(0), symbols=8)
    problem = replace(problem, likelihood=np.stack([np.eye(8)] * 2))
    assert model_value(solver.solve(problem)) == pytest.approx(Exact().solve(problem).value)


def test_waiting_for_the_next_symbol_is_worth_something_where_verification_is_bought():
    """QMDP expects to be told the scores for nothing, so it never buys a symbol."""
    rules = Rules(3, skip=True, verify=True)
    losses = []
    for seed in range(20):
        problem = random_problem(rules, np.random.default_rng(seed), price=0.1)
        best = Exact().solve(problem).value
        losses.append([best - model_value(solver.solve(problem)) for solver in (QMDP(), FIB())])
    qmdp, fib = np.mean(losses, axis=0)
    assert fib < qmdp


@given(seed=SEEDS, horizon=st.integers(1, 3))
def test_random_problems_lie_below_both(seed, horizon):
    rng = np.random.default_rng(seed)
    pomdp = random_pomdp(rng)
    qmdp, fib = qmdp_bound(pomdp, horizon), fib_bound(pomdp, horizon)
    assert (fib <= qmdp + 1e-12).all()
    for belief in [*np.eye(3), rng.dirichlet(np.ones(3))]:
        assert tree_value(pomdp, list(belief), horizon) <= (fib @ belief).max() + 1e-10


@pytest.mark.parametrize("bound", [qmdp_bound, fib_bound])
def test_a_horizon_of_nothing_is_refused(bound):
    pomdp = random_pomdp(np.random.default_rng(0))
    with pytest.raises(ValueError, match="the horizon is 0: expected at least 1"):
        bound(pomdp, 0)


def test_tiger(tmp_path):
    """QMDP opens the right door for ever: 10 / (1 - 0.95)."""
    (tmp_path / "tiger.pomdp").write_text(TIGER)
    tiger = read_pomdp(tmp_path / "tiger.pomdp")
    qmdp, fib = qmdp_bound(tiger), fib_bound(tiger)
    assert qmdp.max() == pytest.approx(200)
    assert qmdp[0] == pytest.approx([189, 189])
    best = value_iteration(tiger).value.value(tiger.start)
    assert best < (fib @ tiger.start).max() < (qmdp @ tiger.start).max()
    with pytest.raises(ValueError, match="needs a discount below 1"):
        qmdp_bound(replace(tiger, discount=1.0))
