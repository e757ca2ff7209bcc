"""The value of a verifier against closed forms, orderings that must hold, and the model itself."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routing_pomdp.envs import CostModel, Costs, RoutingPOMDP, Rules
from routing_pomdp.evaluation.evaluate import evaluate
from routing_pomdp.evaluation.signals.verifier_value import (
    LEAST,
    gained,
    promised_by_noise,
    shuffled_problems,
    with_verifier,
    without_verifier,
    worth,
)
from routing_pomdp.solvers import Exact
from routing_pomdp.verifiers import Histogram, LoggedSignal, make_routing_data
from tests.support.logs import log_of
from tests.support.problems import problems, random_problem, score_vectors

VECTORS = score_vectors(np.array([[0.0, 1.0]] * 2))
PERFECT = np.array([[[1, 0], [1, 0], [0, 1], [0, 1]]], dtype=float)


def pair(prior, likelihood, verify=0.0, call=(0.0, 1.0), price=0.0):
    """Two models under the core rules; the second is the unit of cost."""
    costs = Costs(np.array(call), np.array([verify, 0.0]))
    return RoutingPOMDP(VECTORS, np.array(prior), likelihood, costs, price, Rules(2))


# -- orderings ------------------------------------------------------------------------------------


@given(problems(max_models=3), st.lists(st.floats(0, 3), min_size=1, max_size=3, unique=True))
def test_by_choice_it_is_worth_at_least_nothing_and_at_least_as_much_as_always(problem, prices):
    found = worth(problem, prices)
    choice, always, free = (found.value[bought] for bought in ("choice", "always", "free"))
    assert (choice >= -1e-12).all()
    assert (choice >= always - 1e-12).all()
    assert (free >= choice - 1e-12).all()
    for bought in ("choice", "always"):
        assert (found.spent[bought] >= -1e-12).all()
        # What it is worth before its cost is no more than what it would be worth for free.
        assert (found.value[bought] + found.spent[bought] <= free + 1e-12).all()
    np.testing.assert_allclose(found.spent["free"], 0, atol=1e-12)


@settings(max_examples=15)
@given(problems(max_models=3), st.floats(0, 2))
def test_all_models_free_signals_are_worth_at_least_any_ones(problem, price):
    whole = worth(problem, [price]).value["free"]
    for model in range(problem.n_models - 1):
        alone = worth(problem, [price], only=model)
        assert alone.value["free"] <= whole + 1e-12
        assert alone.value["choice"] >= -1e-12
        assert alone.value["always"] <= alone.value["choice"] + 1e-12


@settings(max_examples=10)
@given(problems(max_models=2), st.floats(0, 2))
def test_with_two_models_the_first_ones_signal_is_all_there_is(problem, price):
    whole, alone = worth(problem, [price]), worth(problem, [price], only=0)
    for bought in ("choice", "always", "free"):
        np.testing.assert_allclose(alone.value[bought], whole.value[bought], atol=1e-12)


@settings(max_examples=15)
@given(problems(max_models=3), st.floats(0, 2))
def test_a_useless_verifier_is_worth_nothing_by_choice_and_its_cost_if_always_bought(
    problem, price
):
    useless = replace(problem, likelihood=np.broadcast_to(
        problem.likelihood[:, :1], problem.likelihood.shape))  # fmt: skip
    found = worth(useless, [price])
    assert found.value["choice"] == pytest.approx(0, abs=1e-12)
    assert found.spent["choice"] == pytest.approx(0, abs=1e-12)
    assert found.value["free"] == pytest.approx(0, abs=1e-12)
    assert found.value["always"] <= 1e-12


# -- closed forms ---------------------------------------------------------------------------------


@given(st.integers(0, 2**32 - 1), st.floats(0, 2), st.floats(0, 1))
def test_a_perfect_free_verifier_makes_the_clairvoyant_cascade(seed, price, first):
    prior = np.random.default_rng(seed).dirichlet(np.ones(4))
    problem = pair(prior, PERFECT, call=(first, 1.0))
    found = worth(problem, [price])
    # The first answer is known to be right or wrong; the second costs λ, and is right as often as
    # the prior says of those.
    wrong, right = prior[:2].sum(), prior[2:].sum()
    clairvoyant = max(right, prior[3] - price * right) + max(0, prior[1] - price * wrong)
    blind = max(right, prior[1] + prior[3] - price)
    assert found.without[0] == pytest.approx(blind - price * first)
    for bought in ("free", "always", "choice"):
        assert found.value[bought][0] == pytest.approx(clairvoyant - blind)


@pytest.mark.parametrize("verify", [0.1, 0.25, 0.4])
def test_the_price_range_in_which_it_pays_is_the_one_computed_by_hand(verify):
    # The first model is right half of the time, for free; the second always, at λ. Known to be
    # wrong, the first is worth replacing below λ = 1. Value: λ(½ − v) below λ = ½, then
    # ½(1 − λ) − λv, which ends at ½ / (½ + v).
    problem = pair([0, 0.5, 0, 0.5], PERFECT, verify=verify)
    prices = np.linspace(0, 1.5, 31).tolist()
    found = worth(problem, prices)
    lam = found.prices
    expected = np.where(lam <= 0.5, lam * (0.5 - verify), 0.5 * (1 - lam) - lam * verify)
    inside = lam <= 0.5 / (0.5 + verify)
    np.testing.assert_allclose(found.value["always"][inside], expected[inside], atol=1e-12)
    np.testing.assert_allclose(found.value["choice"], np.maximum(expected, 0) * (lam < 1),
                               atol=1e-12)  # fmt: skip
    for bought in ("choice", "always"):
        ((low, high),) = found.pays[bought]
        assert low == pytest.approx(LEAST / (0.5 - verify), abs=1e-3)
        assert high == pytest.approx(0.5 / (0.5 + verify), abs=1e-3)
    # Everybody is verified once, wherever it pays.
    np.testing.assert_allclose(found.spent["choice"][inside][1:], lam[inside][1:] * verify)
    best = found.best("choice")
    assert lam[best] == pytest.approx(0.5)


def test_a_range_may_have_no_end_and_a_verifier_may_never_pay():
    free = worth(pair([0, 0.5, 0, 0.5], PERFECT), [0.0, 0.2, 0.4])
    assert free.pays["choice"][0][1] == np.inf
    assert worth(pair([0, 0.5, 0, 0.5], PERFECT, verify=0.6), [0.0, 0.2, 0.4]).pays["choice"] == []


# -- against simulation and replay ----------------------------------------------------------------


@pytest.mark.parametrize("bought", ["choice", "always"])
def test_policies_gain_on_samples_of_the_model_what_it_promises(bought):
    rng = np.random.default_rng(1)
    problem = random_problem(Rules(3, skip=True, free_start=True), rng)
    found = worth(problem, [0.05, 0.3])
    sample = problem.sample(40_000, rng)
    gain = gained(found.policies[bought], found.policies["without"], sample, 100, 0.999, 0)
    assert (gain.low <= found.value[bought] + 1e-12).all()
    assert (gain.high >= found.value[bought] - 1e-12).all()
    for i, price in enumerate(found.prices):
        cost = problem.costs
        silent = replace(sample, verify_cost=np.zeros_like(sample.verify_cost))
        policy = found.policies[bought][i]
        paid = evaluate(policy, sample).cost.mean() - evaluate(policy, silent).cost.mean()
        assert price * paid / cost.unit == pytest.approx(found.spent[bought][i], abs=4e-3)


def test_its_parts_are_the_exact_solver_on_the_problems_that_they_name():
    problem = random_problem(Rules(3, verify=True), np.random.default_rng(0))
    found = worth(problem, [0.3])
    forced = replace(problem, rules=Rules(3))
    assert found.without[0] == pytest.approx(Exact().solve(without_verifier(problem)).value)
    values = {
        "choice": Exact().solve(problem).value,
        "always": Exact().solve(forced).value,
        "free": Exact().solve(
            replace(forced, costs=Costs(problem.costs.call, np.zeros(3)))
        ).value,
    }  # fmt: skip
    for bought, value in values.items():
        assert found.value[bought][0] + found.without[0] == pytest.approx(value)
        assert with_verifier(problem, bought).rules.verify == (bought == "choice")


def fitted(name):
    log = log_of(n=600)
    verifier, model = LoggedSignal(name), CostModel()
    train = log.where("train")
    costs = model.fit(train, verifier.cost(train))
    data = make_routing_data(train, verifier, model, costs)
    rules = Rules(3, skip=True, free_start=True)
    return RoutingPOMDP.fit(data, Histogram(bins=4), costs, rules), data


def test_noise_promises_a_little_and_a_sharp_signal_much_more():
    problem, train = fitted("sharp")
    free = replace(problem, costs=Costs(problem.costs.call, np.zeros(3)))
    prices = [0.1, 0.3, 0.6]
    shuffled = shuffled_problems(free, train, Histogram(bins=4), 5, seed=0)
    noise = promised_by_noise(shuffled, prices)
    assert (noise >= -1e-12).all()
    assert noise.max() < worth(free, prices).value["choice"].max() / 3
    np.testing.assert_allclose(shuffled[0].prior, free.prior)
    assert np.isnan(promised_by_noise([], prices)).all()


def test_too_many_histories_are_refused_with_a_way_out():
    problem = random_problem(Rules(6), np.random.default_rng(0), symbols=40)
    with pytest.raises(ValueError, match=r"more than 16,777,216: use fewer observation\.bins"):
        worth(problem, [0.1])
