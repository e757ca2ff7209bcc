"""Simulated queries are like the log's."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import norm

from routing_pomdp.envs import Rules
from routing_pomdp.solvers.learned.simulated import simulated
from tests.solvers.learned.test_fitted_q import ordered
from tests.support.problems import random_data


@pytest.mark.parametrize("resamples", [0, 5])
def test_scores_and_costs_are_the_log_s_and_signals_are_spread_as_there(resamples):
    log = ordered(Rules(3)).sample(2000, np.random.default_rng(0))
    signal = np.random.default_rng(2).standard_exponential(log.signal.shape)
    log = replace(log, signal=signal - log.score[..., None])
    drawn = simulated(log, 20_000, resamples, np.random.default_rng(1))
    np.testing.assert_allclose(drawn.call_cost[0], log.call_cost.mean(axis=0))
    np.testing.assert_allclose(drawn.score.mean(axis=0), log.score.mean(axis=0), atol=0.03)
    together = [np.corrcoef(data.score.T) for data in (log, drawn)]
    np.testing.assert_allclose(*together, atol=0.06)
    levels = np.linspace(0.05, 0.95, 10)
    spread = [np.quantile(data.signal[:, :-1, 0], levels, axis=0) for data in (log, drawn)]
    np.testing.assert_allclose(*spread, atol=0.1)


def test_a_signal_says_of_scores_what_kernels_over_the_log_say():
    """The mean of a signal's normal score given all scores, summed up query by query."""
    rng = np.random.default_rng(0)
    score = (rng.random((60, 3)) < [0.4, 0.6, 0.8]).astype(float)
    log = random_data(60, 3, rng)
    signal = log.signal.copy()
    signal[:, :-1, 0] = 1.5 * score[:, :2] + rng.standard_normal((60, 2))
    log = replace(log, score=score, signal=signal)
    drawn = simulated(log, 200_000, 0, np.random.default_rng(1))

    h = 60 ** (-1 / 8)
    vector = np.array([1.0, 0.0, 1.0])
    alike = (drawn.score == vector).all(axis=1)
    for model in (0, 1):
        known = np.sort(signal[:, model, 0])
        total = weight = 0.0
        for query in range(60):
            near = 1.0
            for other in range(3):
                width = h * score[:, other].std()
                near *= math.exp(-(((vector[other] - score[query, other]) / width) ** 2) / 2)
            rank = (known.searchsorted(signal[query, model, 0]) + 0.5) / 60
            total, weight = total + near * norm.ppf(rank), weight + near
        expected = total / weight / math.sqrt(1 + h**2)
        ranks = (known.searchsorted(drawn.signal[alike, model, 0]) + 0.0) / 60
        found = norm.ppf(np.clip(ranks, 0.5 / 60, 1 - 0.5 / 60)).mean()
        assert found == pytest.approx(expected, abs=0.04)


def test_a_signal_of_few_values_keeps_them():
    log = random_data(40, 3, np.random.default_rng(0))
    log = replace(log, signal=np.floor(4 * log.signal))
    drawn = simulated(log, 500, 3, np.random.default_rng(0))
    for model in (0, 1):
        assert set(drawn.signal[:, model, 0]) <= set(log.signal[:, model, 0])


def test_graded_scores_are_drawn_as_they_stand_together():
    log = random_data(300, 3, np.random.default_rng(0))
    log = replace(log, score=np.random.default_rng(1).random((300, 3)))
    drawn = simulated(log, 500, 2, np.random.default_rng(0))
    assert {tuple(row) for row in drawn.score} <= {tuple(row) for row in log.score}


def test_resamples_doubt_what_few_queries_say():
    """Each resample has means of its own, so that their spread over simulations is the log's."""
    log = ordered(Rules(3)).sample(100, np.random.default_rng(0))
    means = [
        simulated(log, 4000, 1, np.random.default_rng(seed)).score[:, 0].mean() for seed in range(8)
    ]
    error = log.score[:, 0].std() / 10
    assert 0.4 * error < np.std(means) < 2 * error


def test_constants_and_signals_of_several_numbers_are_drawn_too():
    log = random_data(40, 3, np.random.default_rng(0), signals=2)
    log = replace(log, score=np.ones_like(log.score))
    drawn = simulated(log, 100, 3, np.random.default_rng(0))
    assert drawn.signal.shape == (100, 3, 2)
    assert (drawn.score == 1).all()
    assert np.isfinite(drawn.signal[:, :-1]).all()
    assert np.isnan(drawn.signal[:, -1]).all()
