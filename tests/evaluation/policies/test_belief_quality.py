"""A learned belief beside the fitted problem's: the figures that a run reports of both."""

import json
from dataclasses import dataclass, replace

import numpy as np
import pytest

from routing_pomdp.envs import RoutingPOMDP, Rules
from routing_pomdp.evaluation.bootstrap import bootstrap_weights
from routing_pomdp.evaluation.policies.belief_quality import (
    ALL,
    DIFFERENCE,
    FITTED,
    LEARNED,
    belief_quality,
)
from routing_pomdp.evaluation.policies.reliability_figure import belief_figure
from routing_pomdp.evaluation.runs.report import report
from routing_pomdp.solvers import Exact
from routing_pomdp.solvers.belief_calibration import Beliefs, FittedBelief, belief_figures
from tests.support.problems import random_problem

RULES = Rules(3, skip=True, free_start=True, verify=True)
NAMES = ["small", "middle", "large"]


@dataclass(frozen=True)
class Believer:
    """Plays as exact does, and believes the posterior with its log-odds times a factor."""

    problem: RoutingPOMDP
    factor: float = 1.0

    def belief(self, history):
        held = FittedBelief(self.problem).belief(history)
        return held**self.factor / (held**self.factor + (1 - held) ** self.factor)

    def act(self, history):
        return Exact().solve(self.problem, None).act(history)


@pytest.fixture(scope="module")
def setting():
    rng = np.random.default_rng(3)
    problem = random_problem(RULES, rng)
    problem = replace(problem, score=(problem.score > problem.score.mean(axis=0)) * 1.0)
    return problem, problem.sample(400, rng)


def judged(setting, factor, **options):
    problem, test = setting
    return belief_quality(Believer(problem, factor), problem, test, NAMES, **options)


def row_of(found, belief, model=ALL):
    (row,) = (row for row in found.rows if (row["belief"], row["model"]) == (belief, model))
    return row


def test_the_fitted_belief_itself_differs_from_it_in_nothing(setting):
    found = judged(setting, 1.0)
    for model in (*NAMES, ALL):
        row = row_of(found, DIFFERENCE, model)
        for key in ("error", "log_loss", "brier"):
            assert row[key] == pytest.approx(0, abs=1e-12)
            assert row[f"{key}_low"] == pytest.approx(0, abs=1e-12)
            assert row[f"{key}_high"] == pytest.approx(0, abs=1e-12)


def test_a_belief_that_is_too_sure_is_significantly_worse(setting):
    found = judged(setting, 3.0)
    row = row_of(found, DIFFERENCE)
    assert row["error_low"] > 0
    assert row["log_loss_low"] > 0
    assert row_of(found, LEARNED)["error"] > 2 * row_of(found, LEARNED)["error_chance"]


def test_measures_are_the_means_over_models_by_the_names_of_the_training_curve(setting):
    problem, test = setting
    found = judged(setting, 2.0)
    for holder, prefix, belief in (
        (Believer(problem, 2.0), "", LEARNED),
        (FittedBelief(problem), "fitted_", FITTED),
    ):
        for name, value in belief_figures(Beliefs.of(holder, problem.rules, test)).items():
            assert found.measures[prefix + name] == pytest.approx(value)
            key = name.removeprefix("belief_")
            of_models = [row_of(found, belief, model)[key] for model in NAMES]
            assert np.mean(of_models) == pytest.approx(value)
            low, high = found.intervals[prefix + name]
            assert low <= value <= high


def test_intervals_are_those_of_a_bootstrap_of_queries_by_hand(setting):
    problem, test = setting
    found = judged(setting, 2.0, resamples=200, level=0.9, seed=5)
    loss = []
    for count in bootstrap_weights(len(test), 200, 5):
        drawn = test.take(np.repeat(np.arange(len(test)), count.astype(int)))
        told = belief_figures(Beliefs.of(Believer(problem, 2.0), problem.rules, drawn))
        loss.append(told["belief_log_loss"])
    expected = np.quantile(loss, [0.05, 0.95])
    np.testing.assert_allclose(found.intervals["belief_log_loss"], expected)


def test_only_policies_that_say_what_they_believe_are_judged(setting):
    problem, test = setting
    prices = [0.1, 0.4]
    exact = Exact().solve_frontier(problem, prices, test)
    found = report(exact, problem, prices, test, test, NAMES, resamples=50)
    assert found.beliefs is None
    assert not [name for name in found.measures if "belief" in name]
    believers = [Believer(problem.at(price), 2.0) for price in prices]
    other = report(believers, problem, prices, test, test, NAMES, resamples=50)
    assert other.beliefs is not None
    assert other.points[0]["return"] == found.points[0]["return"]
    assert other.measures["belief_error"] > other.measures["fitted_belief_error"]
    assert other.intervals["fitted_belief_error"]
    json.dumps([other.beliefs.rows, other.beliefs.diagrams], allow_nan=False)


def test_the_figure_has_a_panel_a_model_with_both_beliefs(setting):
    found = judged(setting, 2.0, resamples=50)
    figure = belief_figure(found.rows, found.diagrams, NAMES, "a title")
    assert [axes.get_title(loc="left") for axes in figure.axes] == NAMES
    for i, axes in enumerate(figure.axes):
        _, *lines = axes.lines
        for line, belief in zip(lines, (LEARNED, FITTED), strict=True):
            np.testing.assert_array_equal(line.get_ydata(), found.diagrams[belief][i]["score"])
        shown = [text.get_text() for text in axes.texts]
        assert shown[0] == f"ECE {row_of(found, LEARNED, NAMES[i])['error']:.3f}"


def test_a_single_query_and_resample_still_give_plain_numbers(setting):
    problem, test = setting
    alone = test.take(np.array([0]))
    found = belief_quality(Believer(problem), problem, alone, NAMES, resamples=1)
    json.dumps([found.rows, found.diagrams, found.measures], allow_nan=False)
