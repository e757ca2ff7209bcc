"""Simulated queries are like the log's."""

from dataclasses import replace

import numpy as np
import pytest

from envs import Rules
from solvers.simulated import simulated
from tests.problems import random_replay
from tests.solvers.test_fitted_q import ordered


@pytest.mark.parametrize("resamples", [0, 5])
def test_means_and_correlations_are_the_log_s(resamples):
    log = ordered(Rules(3)).sample(2000, np.random.default_rng(0))
    drawn = simulated(log, 20_000, resamples, np.random.default_rng(1))
    np.testing.assert_allclose(drawn.score.mean(axis=0), log.score.mean(axis=0), atol=0.03)
    np.testing.assert_allclose(drawn.call_cost[0], log.call_cost.mean(axis=0))
    one, two = (
        np.corrcoef(np.concatenate([r.score, r.signal[:, :-1, 0]], axis=1).T) for r in (log, drawn)
    )
    np.testing.assert_allclose(two, one, atol=0.06)


def test_resamples_doubt_what_few_queries_say():
    """Each resample has means of its own, so that their spread over simulations is the log's."""
    log = ordered(Rules(3)).sample(100, np.random.default_rng(0))
    means = [
        simulated(log, 4000, 1, np.random.default_rng(seed)).score[:, 0].mean() for seed in range(8)
    ]
    error = log.score[:, 0].std() / 10
    assert 0.4 * error < np.std(means) < 2 * error


def test_constants_and_signals_of_several_numbers_are_drawn_too():
    log = random_replay(40, 3, np.random.default_rng(0), signals=2)
    log = replace(log, score=np.ones_like(log.score))
    drawn = simulated(log, 100, 3, np.random.default_rng(0))
    assert drawn.signal.shape == (100, 3, 2)
    assert (drawn.score == 1).all()
    assert np.isfinite(drawn.signal[:, :-1]).all()
    assert np.isnan(drawn.signal[:, -1]).all()
