"""Calibration of beliefs, against other implementations and against beliefs that are true."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given
from sklearn.metrics import log_loss

from routing_pomdp.envs import Episodes, Rules
from routing_pomdp.evaluation.signals.signal_quality import calibration_error, confidence_bins
from routing_pomdp.solvers import Exact, HasBelief
from routing_pomdp.solvers.belief_calibration import (
    BINS,
    Beliefs,
    FittedBelief,
    belief_figures,
    histories,
)
from routing_pomdp.solvers.decision_points import DecisionPoints
from routing_pomdp.solvers.learned.history_net import HistoryNet
from routing_pomdp.solvers.pre_query import PreQueryConditioned
from tests.support.pre_signals import pre_data, random_pre
from tests.support.problems import every_rules, name_of, problems, random_data, random_problem

FULL = Rules(3, skip=True, free_start=True, verify=True)


def some_beliefs(n_places=4, n=60, n_models=3, seed=0):
    rng = np.random.default_rng(seed)
    believed = np.round(rng.random((n_places, n, n_models)), 2)
    believed[0] = 0.5  # nothing was seen yet
    return Beliefs(believed, (rng.random((n, n_models)) < 0.6).astype(float)), rng


def test_the_error_is_that_of_signals_where_each_place_counts_as_a_query():
    beliefs, rng = some_beliefs()
    weight = rng.integers(4, size=(5, len(beliefs))).astype(float)
    found = beliefs.error(weight)
    for model in range(3):
        held = beliefs.believed[..., model].ravel()
        excess = held - np.tile(beliefs.score[:, model], 4)
        expected = calibration_error(excess, confidence_bins(held, BINS), np.tile(weight, 4))
        np.testing.assert_allclose(found[:, model], expected)


def test_losses_equal_scikit_learns():
    beliefs, rng = some_beliefs()
    weight = rng.integers(1, 4, size=(1, len(beliefs))).astype(float)
    for model in range(3):
        held, right = beliefs.believed[..., model].ravel(), np.tile(beliefs.score[:, model], 4)
        times = np.tile(weight[0], 4)
        sure = np.clip(held, 1e-12, 1 - 1e-12)
        expected = log_loss(right, sure, sample_weight=times)
        assert beliefs.log_loss(weight)[0, model] == pytest.approx(expected)
        expected = np.average((held - right) ** 2, weights=times)
        assert beliefs.brier(weight)[0, model] == pytest.approx(expected)


def test_a_diagram_holds_every_belief_and_gives_the_error():
    beliefs, _ = some_beliefs()
    count, believed, score = beliefs.reliability(np.ones((1, len(beliefs))))
    assert (count.sum(axis=2) == 4 * len(beliefs)).all()
    gap = np.nansum(count * np.abs(believed - score), axis=2) / count.sum(axis=2)
    np.testing.assert_allclose(gap.T, beliefs.error(np.ones((1, len(beliefs)))))


@pytest.mark.parametrize("rules", every_rules(3), ids=name_of)
def test_every_history_that_can_be_reached_is_among_those_asked(rules):
    rng = np.random.default_rng(0)
    problem, data, points = (
        random_problem(rules, rng),
        random_data(40, 3, rng),
        DecisionPoints.of(rules),
    )
    data = replace(data, signal=rng.integers(3, size=data.signal.shape).astype(float))
    asked = list(histories(points, data))
    assert [set(points.index(history)) for history in asked] == [{at} for at in range(len(points))]
    believed = np.stack([FittedBelief(problem).belief(history) for history in asked])
    episodes = Episodes(data, rules)
    while len(episodes):
        history = episodes.history
        np.testing.assert_allclose(
            FittedBelief(problem).belief(history), believed[points.index(history), history.query]
        )
        weight = (
            rng.random((len(history), rules.n_actions))
            * rules.masks[history.stage + 1, history.last_verified.astype(int)]
        )
        episodes.step(weight.argmax(axis=1))


@given(problems(max_models=3))
def test_inside_the_model_no_belief_is_better_than_the_posterior(problem):
    rng = np.random.default_rng(0)
    queries = problem.sample(3000, rng)
    queries = replace(queries, score=(rng.random(queries.score.shape) < queries.score) * 1.0)
    true = Beliefs.of(FittedBelief(problem), problem.rules, queries)
    other = replace(true, believed=true.believed**1.5)
    once = np.ones((1, len(true)))
    assert (true.log_loss(once) <= other.log_loss(once) + 0.02).all()
    assert (true.brier(once) <= other.brier(once) + 0.02).all()


@dataclass(frozen=True)
class TooSure:
    """Doubles the log-odds of a belief."""

    true: FittedBelief

    def belief(self, history):
        held = self.true.belief(history)
        return held**2 / (held**2 + (1 - held) ** 2)


def binary_problem(rules=FULL, seed=3):
    problem = random_problem(rules, np.random.default_rng(seed))
    return replace(problem, score=(problem.score > problem.score.mean(axis=0)) * 1.0)


def test_what_is_true_errs_by_chance_alone_and_what_is_too_sure_by_more():
    problem = binary_problem()
    test = problem.sample(4000, np.random.default_rng(2))
    true = Beliefs.of(FittedBelief(problem), problem.rules, test)
    sure = Beliefs.of(TooSure(FittedBelief(problem)), problem.rules, test)
    once, chance = np.ones((1, 4000)), true.chance(50, np.random.default_rng(0))
    assert (true.error(once)[0] < 2.5 * chance).all()
    assert (sure.error(once) > 3 * true.error(once)).all()
    told, of_sure = belief_figures(true), belief_figures(sure)
    assert all(of_sure[name] > told[name] for name in told)


def test_chance_is_what_true_beliefs_show_on_average():
    problem = binary_problem()
    found, chance = [], []
    for seed in range(30):
        test = problem.sample(200, np.random.default_rng(seed))
        true = Beliefs.of(FittedBelief(problem), problem.rules, test)
        found.append(true.error(np.ones((1, 200)))[0])
        chance.append(true.chance(10, np.random.default_rng(seed)))
    np.testing.assert_allclose(np.mean(chance, axis=0), np.mean(found, axis=0), rtol=0.25)


def test_behind_a_pre_query_signal_beliefs_are_those_of_what_is_left():
    rng = np.random.default_rng(1)
    problem = random_pre(random_problem(FULL, rng), rng)
    data = pre_data(120, 3, rng)
    quick = HistoryNet(simulations=0, steps=3, members=2, hidden=4)
    policy = PreQueryConditioned(quick).solve(problem, data)
    assert isinstance(policy, HasBelief)
    symbol = problem.pre.symbols(data.pre_signal)
    both = [Beliefs.of(holder, FULL, data) for holder in (policy, FittedBelief(problem))]
    for k in range(3):
        left = [policy.parts[k], FittedBelief(problem.given(k))]
        rows = np.flatnonzero(symbol == k)
        for held, part in zip(both, left, strict=True):
            alone = Beliefs.of(part, FULL, replace(data.take(rows), pre_signal=None))
            np.testing.assert_allclose(held.believed[:, rows], alone.believed)


def test_policies_that_do_not_say_what_they_believe_are_told_apart():
    rng = np.random.default_rng(1)
    problem = random_problem(FULL, rng)
    assert not isinstance(Exact().solve(problem, random_data(1, 3, rng)), HasBelief)
    seen_first = random_pre(problem, rng)
    assert not isinstance(
        PreQueryConditioned(Exact()).solve(seen_first, pre_data(5, 3, rng)), HasBelief
    )
