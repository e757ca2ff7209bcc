"""The bootstrap, against resampling in a loop and against known sampling distributions."""

import numpy as np
import pytest

from routing_pomdp.evaluation import bootstrap
from routing_pomdp.evaluation.bootstrap import (
    bootstrap_weights,
    frontier_band,
    intervals,
    resampled_means,
)
from routing_pomdp.evaluation.frontier import height
from routing_pomdp.evaluation.frontier_outcomes import FrontierOutcomes
from routing_pomdp.evaluation.measures import measure
from tests.support.outcomes import coin, family_of, rows_of


def test_weights_count_draws_with_replacement():
    weights = bootstrap_weights(200, 4000, seed=1)
    assert weights.shape == (4000, 200)
    assert np.all(weights.sum(axis=1) == 200)
    assert np.all(weights == np.round(weights))
    # Multinomial: mean 1, variance 1 − 1/n, covariance −1/n between two queries.
    assert weights.var() == pytest.approx(1 - 1 / 200, abs=0.01)
    assert weights.mean(axis=0) == pytest.approx(np.ones(200), abs=6 / np.sqrt(4000))
    assert np.cov(weights[:, :100].sum(axis=1)) == pytest.approx(200 * 0.5 * 0.5, rel=0.1)


def test_drawing_in_blocks_changes_nothing(monkeypatch):
    whole = bootstrap_weights(50, 31, seed=3)
    family = family_of(n=50)
    means = resampled_means(family, 31, seed=3)
    monkeypatch.setattr(bootstrap, "_BLOCK", 200)
    np.testing.assert_array_equal(bootstrap_weights(50, 31, seed=3), whole)
    np.testing.assert_allclose(resampled_means(family, 31, seed=3).cost, means.cost, rtol=1e-13)


def test_intervals_equal_resampling_in_a_loop():
    test, validation = family_of(seed=0), family_of(seed=1)
    loop = [
        measure(rows_of(test, np.repeat(np.arange(len(test)), counts.astype(int))), validation)
        for counts in bootstrap_weights(len(test), 40, seed=5)
    ]
    result = intervals(test, validation, resamples=40, level=0.9, seed=5)
    point = measure(test, validation).as_dict()
    for name, interval in result.items():
        samples = [resample.as_dict()[name] for resample in loop]
        np.testing.assert_allclose(interval, np.quantile(samples, [0.05, 0.95]), atol=1e-10)
        assert name in point
    assert {
        "aiq",
        "gap_closed",
        "delta_ibc",
        "saving_vs_best_at_1",
        "drop_vs_most_expensive_at_1",
    } <= result.keys()


def test_the_same_seed_gives_the_same_numbers_and_another_seed_others():
    family = family_of()
    assert intervals(family, family, 50, seed=7) == intervals(family, family, 50, seed=7)
    assert intervals(family, family, 50, seed=7) != intervals(family, family, 50, seed=8)


def test_intervals_cover_a_known_truth_as_often_as_they_say():
    # The frontier runs from (0, 0) to (1, p̂), so AIQ is p̂/2, and its truth p/2.
    rng, p, n, trials = np.random.default_rng(0), 0.6, 200, 300
    covered = 0
    for trial in range(trials):
        family = coin(n, p, rng)
        low, high = intervals(family, family, resamples=300, seed=trial)["aiq"]
        covered += low <= p / 2 <= high
    # 95% less the percentile interval's small-sample shortfall; 300 trials scatter by 1.3 points.
    assert 0.91 <= covered / trials <= 0.985


def test_interval_width_is_the_binomial_one():
    family = coin(2000, 0.6, np.random.default_rng(1))
    p = family.score.mean()
    low, high = intervals(family, family, resamples=4000, seed=0)["aiq"]
    assert high - low == pytest.approx(2 * 1.96 * np.sqrt(p * (1 - p) / 2000) / 2, rel=0.06)


def test_the_pick_for_the_saving_is_not_made_again_on_test_resamples():
    family = family_of()
    validation = rows_of(family, slice(0, 150))
    point = measure(family, validation).savings_vs_most_expensive[2]
    weights = bootstrap_weights(len(family), 200, seed=0)
    assert point.index >= 0
    cost = weights @ family.cost[:, point.index] / (weights @ family.model_cost[:, -1])
    expected = np.quantile(1 - cost, [0.025, 0.975])
    result = intervals(family, validation, resamples=200, seed=0)["saving_vs_most_expensive_at_2"]
    np.testing.assert_allclose(result, expected)


def test_an_interval_is_not_given_where_the_measure_is_often_undefined():
    # Both models score alike, so in about half of the resamples the dear one is no better.
    rng = np.random.default_rng(0)
    score = (rng.random((100, 2)) < 0.5).astype(float)
    score[:, 1] = score[::-1, 0]
    cost = np.tile([1.0, 2.0], (100, 1))
    family = FrontierOutcomes(score, cost, score, cost, score.max(1, keepdims=True), cost[:, 1:])
    result = intervals(family, family, resamples=100)
    assert np.isnan(result["delta_ibc"]).all()
    assert np.isfinite(result["aiq"]).all()


def test_bad_settings_are_refused():
    family = family_of(n=20)
    with pytest.raises(ValueError, match="0 resamples of 20 queries"):
        intervals(family, family, resamples=0)
    with pytest.raises(ValueError, match="level is 95; expected a coverage between 0 and 1"):
        intervals(family, family, resamples=10, level=95)


def test_the_band_of_a_frontier_equals_resampling_in_a_loop():
    family, cost = family_of(), np.linspace(2, 18, 7)
    low, high = frontier_band(family, cost, resamples=60, level=0.9, seed=3)
    loop = []
    for counts in bootstrap_weights(len(family), 60, seed=3):
        drawn = rows_of(family, np.repeat(np.arange(len(family)), counts.astype(int)))
        loop.append(height(drawn.means().router_frontier(), cost))
    np.testing.assert_allclose([low, high], np.quantile(loop, [0.05, 0.95], axis=0), atol=1e-12)


def test_there_is_no_band_left_of_the_cheapest_model():
    family = family_of()
    low, high = frontier_band(family, np.array([0.0, 10.0]), resamples=50)
    assert np.isnan([low[0], high[0]]).all()
    assert low[1] < high[1]
