"""The problem that is estimated from training queries, against hand counts and known truths."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from routing_pomdp.envs import Costs, RoutingData, RoutingPOMDP, Rules
from tests.support.problems import Bands, random_data, random_problem, with_bands


def _replay(score: list, signal: list | None = None) -> RoutingData:
    scores = np.array(score, dtype=float).reshape(len(score), -1)
    signals = np.zeros_like(scores) if signal is None else np.array(signal, dtype=float)
    return RoutingData(scores, np.ones_like(scores), np.zeros_like(scores), signals[..., None])


def _fit(data: RoutingData, bands: int = 2, **options) -> RoutingPOMDP:
    n = data.n_models
    costs = Costs(np.arange(1.0, n + 1), np.zeros(n))
    return RoutingPOMDP.fit(data, Bands(bands), costs, Rules(n), **options)


FOUR = [[0, 0], [0, 1], [1, 1], [0, 1]]


def test_the_fitted_prior_by_hand():
    # Level counts with half a count each: model 0 (3.5, 1.5)/5 = (.7, .3), model 1 (.3, .7).
    # Base measure: 00 .21, 01 .49, 10 .09, 11 .21. Four queries' worth of it beside four queries:
    # 00 (1 + .84)/8, 01 (2 + 1.96)/8, 10 (0 + .36)/8, 11 (1 + .84)/8.
    problem = _fit(_replay(FOUR))
    np.testing.assert_array_equal(problem.score, [[0, 0], [0, 1], [1, 0], [1, 1]])
    np.testing.assert_allclose(problem.prior, [0.23, 0.495, 0.045, 0.23])
    # Half as strong: (1 + .42)/6, (2 + .98)/6, .18/6, (1 + .42)/6.
    weaker = _fit(_replay(FOUR), prior_strength=2.0)
    np.testing.assert_allclose(weaker.prior, np.array([1.42, 2.98, 0.18, 1.42]) / 6)


def test_the_fitted_likelihood_is_that_of_the_observation_model():
    # Model 0 scored 0 with signals .1 .9 .2 (two low, one high) and 1 with .8; one pseudo-count a
    # band: (3, 2)/5 and (1, 2)/3.
    signal = [[0.1, 0], [0.9, 0], [0.8, 0], [0.2, 0]]
    problem = _fit(_replay(FOUR, signal))
    expected = [[0.6, 0.4], [0.6, 0.4], [1 / 3, 2 / 3], [1 / 3, 2 / 3]]
    np.testing.assert_allclose(problem.likelihood, [expected])
    assert problem.encode(problem.decode(np.array([2])))[0] == 2
    assert problem.observation is not None


def test_graded_scores_are_rounded_to_levels_of_their_own_mean():
    # Three levels 0, .5, 1: model 0's .1 and .2 round to 0 (mean .15), .6 to .5; none to 1.
    score = [[0.1, 0.5], [0.2, 0.9], [0.6, 1.0]]
    problem = _fit(_replay(score), levels=3)
    np.testing.assert_allclose(np.unique(problem.score[:, 0]), [0.15, 0.6, 1.0])
    np.testing.assert_allclose(np.unique(problem.score[:, 1]), [0.0, 0.5, 0.95])
    assert _fit(_replay(score)).score.shape == (25, 2)
    assert _fit(_replay(FOUR)).score.shape == (4, 2)


def test_the_fitted_mean_score_is_the_logs_up_to_smoothing():
    rng = np.random.default_rng(0)
    data = random_data(20_000, 3, rng)
    problem = _fit(data)
    np.testing.assert_allclose(problem.prior @ problem.score, data.score.mean(0), atol=1e-3)


def test_more_data_comes_closer_to_the_truth():
    truth = random_problem(Rules(3), np.random.default_rng(8), symbols=3)
    # Bands only ever learn Z_i(o | y_i): let that be the truth.
    own = np.random.default_rng(9).dirichlet(np.ones(3), size=(2, 2))
    level = np.array(list(product((0, 1), repeat=3)))
    likelihood = np.stack([own[model, level[:, model]] for model in range(2)])
    truth = with_bands(replace(truth, score=level.astype(float), likelihood=likelihood))
    errors = []
    for n in (30, 1000, 100_000):
        fitted = _fit(truth.sample(n, np.random.default_rng(10)), bands=3)
        np.testing.assert_array_equal(fitted.score, truth.score)
        prior_error = np.abs(fitted.prior - truth.prior).sum()
        errors.append((prior_error, np.abs(fitted.likelihood - truth.likelihood).max()))
    assert (np.diff(errors, axis=0) < 0).all()
    assert max(errors[-1]) < 0.02


def test_little_data_falls_back_to_independent_models():
    problem = _fit(_replay([[0, 1]]), prior_strength=1e9)
    table = problem.prior.reshape(2, 2)
    np.testing.assert_allclose(table, np.outer(table.sum(1), table.sum(0)), atol=1e-8)


def test_no_queries_are_refused():
    with pytest.raises(ValueError, match="no queries"):
        _fit(random_data(0, 2, np.random.default_rng(0)))


def test_a_missing_score_is_refused():
    with pytest.raises(ValueError, match="missing scores: select complete models"):
        _fit(_replay([[0, 1], [np.nan, 1]]))


def test_a_single_level_is_refused():
    with pytest.raises(ValueError, match="levels is 1: a score needs at least 2"):
        _fit(_replay(FOUR), levels=1)
