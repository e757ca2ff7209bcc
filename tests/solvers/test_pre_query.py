"""Any solver behind a pre-query signal."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing_pomdp.envs import RoutingData, Rules
from routing_pomdp.evaluation.evaluate import evaluate, model_value, returns
from routing_pomdp.solvers import Exact, Oracle, Solver, Static, Threshold, Training
from routing_pomdp.solvers.automix.pomdp import AutoMixPOMDP
from routing_pomdp.solvers.exact.alpha_vectors import AlphaVectorIteration
from routing_pomdp.solvers.exact.bounds import FIB, QMDP, Bounds
from routing_pomdp.solvers.exact.point_based import PointBased
from routing_pomdp.solvers.learned.fitted_q import FittedQ
from routing_pomdp.solvers.pre_query import PreQueryConditioned
from routing_pomdp.solvers.predictive.pregeneration import Pregeneration
from routing_pomdp.solvers.search.pomcp import POMCP
from tests.support.pre_signals import pre_data, pre_problems, random_pre, with_pre
from tests.support.problems import every_rules, name_of, random_problem
from tests.support.texts import log_with_texts
from tests.support.tree_search import tree_value

NOBODY = RoutingData(*[np.empty((0, 3))] * 3, np.empty((0, 3, 1)), pre_signal=np.empty((0, 1)))
FULL = Rules(3, skip=True, free_start=True, verify=True, answer="best")


def solved(problem, solver=None, train=None):
    return PreQueryConditioned(solver or Exact()).solve(problem, NOBODY if train is None else train)


def enumerated(problem):
    """The best return by plain recursion over the joint of both signals and the scores."""
    total = 0.0
    for symbol in range(problem.pre.n_symbols):
        joint = problem.prior * problem.pre.likelihood[:, symbol]
        if joint.sum() > 0:
            # The recursion is linear in the weights of the score vectors.
            prior = joint / joint.sum()
            left = replace(
                problem, prior=prior, pre=None, rules=replace(problem.rules, pre_query=False)
            )
            total += joint.sum() * tree_value(left)
    return total - problem.price * problem.pre.cost / problem.costs.unit


@given(pre_problems())
def test_exact_by_symbol_equals_enumeration_of_the_joint(problem):
    policy = solved(problem)
    assert policy.value == pytest.approx(enumerated(problem), abs=1e-9)
    assert model_value(policy) == pytest.approx(policy.value, abs=1e-9)


@given(pre_problems())
def test_a_signal_is_never_worth_less_than_nothing_but_its_price(problem):
    plain = replace(problem, rules=replace(problem.rules, pre_query=False))
    without = Exact().solve(plain).value
    assert solved(problem).value >= without - problem.pre_price - 1e-9


@given(pre_problems(), st.integers(1, 4))
def test_a_signal_that_says_nothing_is_worth_nothing(problem, symbols):
    shares = np.random.default_rng(symbols).dirichlet(np.ones(symbols))
    silent = with_pre(problem, np.tile(shares, (len(problem.prior), 1)))
    plain = replace(problem, rules=replace(problem.rules, pre_query=False))
    assert solved(silent).value == pytest.approx(Exact().solve(plain).value, abs=1e-9)


@pytest.mark.parametrize("answer", ["last", "best"])
@pytest.mark.parametrize("price", [0.0, 0.2, 1.0])
def test_a_signal_that_tells_all_for_free_makes_a_clairvoyant(answer, price):
    rules = replace(FULL, answer=answer)
    problem = random_problem(rules, np.random.default_rng(0), price=price)
    told = with_pre(problem, np.eye(len(problem.prior)))
    known = (problem.score - problem.call_price).max(axis=1)
    if answer == "best" or price > 0:
        assert solved(told).value == pytest.approx(problem.prior @ known)
    drawn = told.sample(2000, np.random.default_rng(1))
    found = returns(evaluate(solved(told, train=drawn), drawn), told)
    best = returns(evaluate(Oracle().solve(problem, drawn), drawn), problem)
    np.testing.assert_allclose(found, best, atol=1e-12)


@pytest.mark.parametrize("rules", every_rules(3), ids=name_of)
def test_what_it_gets_on_queries_of_the_model_is_what_the_model_promises(rules):
    rng = np.random.default_rng(0)
    problem = random_pre(random_problem(rules, rng), rng)
    policy, drawn = solved(problem), problem.sample(40_000, rng)
    got = returns(evaluate(policy, drawn), problem)
    assert abs(got.mean() - policy.value) < 4 * got.std() / np.sqrt(len(got))


EVERY = [
    Exact(),
    QMDP(),
    FIB(),
    AlphaVectorIteration(),
    PointBased(),
    POMCP(simulations=20),
    Threshold(),
    FittedQ(),
    AutoMixPOMDP(),
    Static(),
]


@pytest.mark.parametrize("solver", EVERY, ids=lambda solver: type(solver).__name__)
def test_every_solver_plays_and_none_beats_exact_inside_the_model(solver):
    rng = np.random.default_rng(0)
    problem = random_pre(random_problem(FULL, rng), rng)
    train = problem.sample(400, rng)
    policy = solved(problem, solver, train)
    best = solved(problem).value
    if not isinstance(solver, Static):  # which plays by rules of its own
        assert model_value(policy, problem) <= best + 1e-9
    played = evaluate(policy, train)
    assert (played.cost >= train.pre_cost - 1e-12).all()
    if isinstance(solver, Exact | AlphaVectorIteration):
        assert model_value(policy, problem) == pytest.approx(best, abs=1e-9)


def test_bounds_hold_what_the_signal_is_worth_between_them():
    rng = np.random.default_rng(0)
    for _ in range(10):
        problem = random_pre(random_problem(FULL, rng), rng)
        bounds, value = Bounds.of(problem), solved(problem).value
        assert bounds.blind <= value + 1e-9
        assert value <= bounds.fib + 1e-9
        assert bounds.fib <= bounds.qmdp + 1e-9


def test_each_symbols_solver_learns_from_its_own_queries():
    rng = np.random.default_rng(0)
    problem = random_pre(random_problem(FULL, rng, price=0.0), rng)
    train = pre_data(30, 3, rng, symbols=2)
    # With the first symbol model 0 is always right, with the second model 2.
    score = np.zeros((30, 3))
    score[np.arange(30), 2 * train.pre_signal[:, 0].astype(int)] = 1
    train = replace(train, score=score)
    policy = solved(problem, Static(), train)
    assert evaluate(policy, train).score.mean() == 1
    # The third symbol was never shown: all queries are what is known of it.
    assert [part.choice.item() for part in policy.parts[:2]] == [0, 2]
    assert policy.parts[2].choice.item() == int(score.mean(axis=0).argmax())


def test_routers_that_read_prompts_and_those_that_know_the_scores_still_do():
    log = log_with_texts(60, 0, prompt_tells=True)
    rng = np.random.default_rng(0)
    problem = random_pre(random_problem(FULL, rng, price=0.1), rng)
    symbols = (log.score[:, 0] > 0).astype(float)[:, None]
    log = replace(log, pre_signal=symbols, pre_cost=np.full(60, 0.5))
    read = evaluate(solved(problem, Pregeneration(), log), log)
    assert read.score.mean() > 0.95
    assert read.cost.min() >= 0.5
    oracle = evaluate(solved(problem, Oracle(), log), log)
    assert oracle.cost.min() < 0.5


@pytest.mark.parametrize("rules", [Rules(3), Rules(3, skip=True, answer="best")], ids=name_of)
def test_decisions_after_what_no_training_query_showed_are_counted(rules):
    rng = np.random.default_rng(0)
    problem = random_pre(random_problem(rules, rng, symbols=3), rng)
    shown = np.ones((2, 3), dtype=bool)
    shown[0, 1] = False
    data = pre_data(60, 3, rng, symbols=problem.pre.n_symbols)
    plain = replace(problem, shown=shown, pre=None, rules=rules)
    policy = solved(replace(problem, shown=shown), train=data)
    expected = sum(
        evaluate(replace(part, problem=replace(plain, prior=part.problem.prior)),
                 replace(data.take(data.pre_signal[:, 0] == k), pre_signal=None)).unseen
        for k, part in enumerate(policy.parts)
    )  # fmt: skip
    assert evaluate(policy, data).unseen == expected
    assert expected > 0


@dataclass(frozen=True)
class Learns(Solver):
    """Tells what it was given to learn from."""

    training: Training | None = None

    def with_training(self, training):
        return replace(self, training=training)

    def solve(self, problem, train):
        self.training.log({"step": 1, "queries": len(train)})
        self.training.folder.mkdir(parents=True)
        (self.training.folder / str(len(self.training.validation))).touch()
        return Exact().solve(problem)


def test_each_symbols_solver_has_its_own_curves_checkpoints_and_validation_queries(tmp_path):
    rng = np.random.default_rng(0)
    problem = random_pre(random_problem(FULL, rng), rng)
    train, validation = pre_data(30, 3, rng), pre_data(20, 3, rng)
    rows = []
    training = Training(rows.append, validation, tmp_path / "checkpoints")
    PreQueryConditioned(Learns()).with_training(training).solve(problem, train)
    for k, row in enumerate(rows):
        assert row == {"step": 1, f"symbol_{k}_queries": (train.pre_signal == k).sum()}
        shown = int((validation.pre_signal == k).sum())
        assert (tmp_path / "checkpoints" / f"symbol-{k}" / str(shown)).exists()
    assert len(rows) == 3


def test_without_a_signal_it_is_the_solver_itself():
    problem = random_problem(FULL, np.random.default_rng(0))
    np.testing.assert_array_equal(solved(problem).actions, Exact().solve(problem).actions)


def test_a_baseline_that_does_not_look_does_not_pay():
    rng = np.random.default_rng(0)
    problem = random_pre(random_problem(FULL, rng), rng)
    data = pre_data(20, 3, rng)
    played = evaluate(Static(model=1).solve(problem, data), data)
    np.testing.assert_array_equal(played.cost, data.call_cost[:, 1])
