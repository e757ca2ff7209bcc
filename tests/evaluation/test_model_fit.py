"""Which model a problem is fitted with, and what cross-validation chooses."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from routing_pomdp.envs import Costs, RoutingPOMDP, Rules
from routing_pomdp.envs.model.class_model import Settings
from routing_pomdp.evaluation.evaluate import model_value
from routing_pomdp.evaluation.model_criteria import log_likelihood
from routing_pomdp.evaluation.model_fit import Data, Joint, LatentClasses
from routing_pomdp.solvers import Exact
from routing_pomdp.solvers.action_costs import action_costs_of
from routing_pomdp.solvers.automix.pomdp import AutoMixPOMDP
from routing_pomdp.solvers.exact.alpha_vectors import AlphaVectorIteration
from routing_pomdp.solvers.exact.bounds import FIB, QMDP
from routing_pomdp.solvers.exact.point_based import PointBased
from routing_pomdp.solvers.exact.robust import Bayes
from routing_pomdp.solvers.learned.belief_mdp import BeliefMDP
from routing_pomdp.solvers.search.pomcp import POMCP
from routing_pomdp.verifiers import Histogram, KernelDensity
from tests.envs.model.test_class_model import two_kinds
from tests.support.problems import random_problem, with_bands

FULL = Rules(3, skip=True, free_start=True, verify=True)
PRICES = [0.0, 0.05, 0.2, 0.5]


def fit_data(data, rules=FULL) -> Data:
    costs = Costs(data.call_cost.mean(axis=0), data.verify_cost.mean(axis=0))
    return Data(data, Histogram(bins=3), costs, rules, PRICES)


def test_classes_are_found_where_queries_have_them():
    chosen = LatentClasses(classes=[1, 2, 3], folds=2).choose(
        fit_data(two_kinds(1000, np.random.default_rng(0)))
    )
    assert chosen is not None
    assert chosen.classes >= 2


def test_little_data_without_classes_leads_back_to_the_joint_model():
    # Signals say nothing beyond their own model's score, which depend by no class in particular.
    truth = with_bands(random_problem(FULL, np.random.default_rng(1), symbols=3))
    data = truth.sample(60, np.random.default_rng(2))
    problem = LatentClasses().fit(fit_data(data))
    joint = Joint().fit(fit_data(data))
    assert problem.member is None
    np.testing.assert_array_equal(problem.prior, joint.prior)
    np.testing.assert_array_equal(problem.likelihood, joint.likelihood)


def test_the_joint_model_is_the_plain_fit():
    data = two_kinds(100, np.random.default_rng(3))
    one = fit_data(data)
    plain = RoutingPOMDP.fit(data, Histogram(bins=3), one.costs, FULL)
    np.testing.assert_array_equal(Joint().fit(one).prior, plain.prior)
    np.testing.assert_array_equal(
        LatentClasses(classes=[1], factor_strength=[]).fit(one).prior, plain.prior
    )


def test_the_choice_repeats():
    one = fit_data(two_kinds(200, np.random.default_rng(4)))
    model = LatentClasses(classes=[1, 2, 3], folds=2)
    assert model.choose(one) == model.choose(one)


@pytest.mark.parametrize("n", [1, 2, 3, 7])
def test_fewer_queries_than_classes_are_fitted_all_the_same(n):
    data = two_kinds(n, np.random.default_rng(5))
    problem = LatentClasses(classes=[4, 8]).fit(fit_data(data))
    assert problem.member is None or problem.member.max() < n


def test_the_likelihood_is_that_of_scores_and_signals():
    data = two_kinds(50, np.random.default_rng(6))
    problem = LatentClasses(classes=[3], symbol_strength=[16.0], factor_strength=[]).fit(
        fit_data(data)
    )
    found = log_likelihood(problem, data)
    symbol = [problem.symbols(m, data.signal[:, m]) for m in range(2)]
    for query in range(50):
        total = 0.0
        for state, p in enumerate(problem.prior):
            if (problem.score[state] == data.score[query]).all():
                for model in range(2):
                    p = p * problem.likelihood[model, state, symbol[model][query]]
                total += p
        assert found[query] == pytest.approx(np.log(total))


@pytest.mark.parametrize("criterion", ["likelihood", "return"])
def test_likelihood_or_return_can_decide_instead(criterion):
    data = two_kinds(1000, np.random.default_rng(7))
    model = LatentClasses(classes=[1, 2, 3], folds=2, criterion=criterion)
    chosen = model.choose(fit_data(data))
    assert isinstance(chosen, Settings)
    assert chosen.classes >= 2


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("classes", []),
        ("classes", [0]),
        ("symbol_strength", [0.0]),
        ("factor_strength", [-1.0]),
        ("factor_points", 1),
        ("level_strength", -1.0),
        ("criterion", "luck"),
        ("folds", 1),
        ("starts", 0),
        ("margin", -1.0),
    ],
)
def test_a_setting_out_of_range_is_named(key, value):
    with pytest.raises(ValueError, match=rf"model\.{key}(\[0\])? is"):
        LatentClasses(**{key: value})


ONLY_CLASSES = LatentClasses(classes=[2], symbol_strength=[16.0], factor_strength=[])


@pytest.mark.parametrize(
    "solver",
    [AutoMixPOMDP(), Bayes(draws=4), QMDP(), FIB(), AlphaVectorIteration(), PointBased(gap=1e-2)],
    ids=lambda solver: type(solver).__name__,
)
def test_solvers_of_the_fitted_model_plan_in_classes(solver):
    data = two_kinds(300, np.random.default_rng(8))
    problem = ONLY_CLASSES.fit(fit_data(data)).at(0.2)
    assert problem.member is not None
    assert problem.costs.vary
    value = model_value(solver.solve(problem, data), problem)
    best = Exact().solve(problem).value
    assert value <= best + 1e-9
    if isinstance(solver, AlphaVectorIteration | PointBased):
        assert value == pytest.approx(best, abs=1e-2)


def test_a_search_agrees_with_exact():
    data = two_kinds(200, np.random.default_rng(9))
    one = replace(fit_data(data), observation=KernelDensity(bins=4))
    problem = ONLY_CLASSES.fit(one).at(0.2)
    best = Exact().solve(problem).value
    pomcp = POMCP(simulations=200).solve(problem)
    assert best - 0.02 < model_value(pomcp) <= best + 1e-9


def test_networks_on_the_belief_pay_what_the_class_makes_likely():
    data = two_kinds(300, np.random.default_rng(11))
    problem = ONLY_CLASSES.fit(fit_data(data)).at(0.3)
    mdp = BeliefMDP(problem, torch.device("cpu"), torch.float64)
    codes = np.arange(problem.n_histories)
    positions = mdp.positions(codes)
    paid = mdp.paid(positions, mdp.tensor(action_costs_of(problem)).expand(len(codes), -1)).numpy()
    call, verify = problem.expected_prices(codes)
    history = problem.decode(codes)
    started = np.flatnonzero((history.stage == 0) & ~history.last_verified)
    np.testing.assert_allclose(paid[started, 1], call[started, 1])
    np.testing.assert_allclose(paid[started, problem.rules.verify_action], verify[started, 0])
    assert np.ptp(call[:, 2]) > 0.1 * call[:, 2].mean()
