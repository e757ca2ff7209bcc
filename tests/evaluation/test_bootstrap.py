"""The bootstrap, against resampling in a loop and against known sampling distributions."""

import time

import numpy as np
import pytest

from evaluation import bootstrap
from evaluation.bootstrap import (
    bootstrap_weights,
    intervals,
    paired_difference,
    resampled_means,
)
from evaluation.families import FamilyOutcomes
from evaluation.measures import measure


def _family(n=300, M=6, N=3, seed=0, skill=0.3):
    """A family that calls the dearest model more often, and a little better than at random."""
    rng = np.random.default_rng(seed)
    model_score = (rng.random((n, N)) < np.linspace(0.4, 0.8, N)).astype(float)
    model_cost = np.geomspace(1, 20, N) * rng.uniform(0.5, 1.5, (n, 1))
    need = model_score[:, -1] - model_score[:, 0]
    dear = rng.random((n, M)) + skill * need[:, None] > np.linspace(1.2, 0.1, M)
    score = np.where(dear, model_score[:, -1:], model_score[:, :1])
    cost = np.where(dear, model_cost[:, -1:] + model_cost[:, :1], model_cost[:, :1])
    oracle_score = np.stack([model_score[:, 0], model_score.max(axis=1)], axis=1)
    oracle_cost = np.stack([model_cost[:, 0], 0.4 * model_cost[:, -1]], axis=1)
    return FamilyOutcomes(score, cost, model_score, model_cost, oracle_score, oracle_cost)


def _rows(outcomes, rows):
    return FamilyOutcomes(*(getattr(outcomes, k)[rows] for k in outcomes.__dataclass_fields__))


def _coin(n, p, rng):
    """SLM always wrong and free, LLM right with probability p at cost 1; the family is the LLM."""
    right = (rng.random((n, 1)) < p).astype(float)
    models = np.hstack([np.zeros((n, 1)), right]), np.tile([0.0, 1.0], (n, 1))
    return FamilyOutcomes(right, np.ones((n, 1)), *models, np.ones((n, 1)), np.full((n, 1), 0.5))


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
    family = _family(n=50)
    means = resampled_means(family, 31, seed=3)
    monkeypatch.setattr(bootstrap, "_BLOCK", 200)
    np.testing.assert_array_equal(bootstrap_weights(50, 31, seed=3), whole)
    np.testing.assert_allclose(resampled_means(family, 31, seed=3).cost, means.cost, rtol=1e-13)


def test_intervals_equal_resampling_in_a_loop():
    test, validation = _family(seed=0), _family(seed=1)
    loop = [
        measure(_rows(test, np.repeat(np.arange(len(test)), counts.astype(int))), validation)
        for counts in bootstrap_weights(len(test), 40, seed=5)
    ]
    result = intervals(test, validation, resamples=40, level=0.9, seed=5)
    point = measure(test, validation).as_dict()
    for name, interval in result.items():
        samples = [resample.as_dict()[name] for resample in loop]
        np.testing.assert_allclose(interval, np.quantile(samples, [0.05, 0.95]), atol=1e-10)
        assert name in point
    assert {"aiq", "gap_closed", "delta_ibc", "saving_at_1", "drop_at_1"} <= result.keys()


def test_paired_difference_equals_resampling_in_a_loop():
    a, b = _family(skill=0.5), _family(skill=0.0)
    weights = bootstrap_weights(len(a), 40, seed=2)
    loop = []
    for counts in weights:
        rows = np.repeat(np.arange(len(a)), counts.astype(int))
        loop.append(measure(_rows(a, rows), a).aiq - measure(_rows(b, rows), b).aiq)
    result = paired_difference(a, b, resamples=40, level=0.9, seed=2)["aiq"]
    assert result.difference == pytest.approx(measure(a, a).aiq - measure(b, b).aiq)
    np.testing.assert_allclose([result.low, result.high], np.quantile(loop, [0.05, 0.95]))
    fewer = min(np.sum(np.array(loop) <= 0), np.sum(np.array(loop) >= 0))
    assert result.p_value == pytest.approx(min(1, 2 * (fewer + 1) / 41))


def test_the_same_seed_gives_the_same_numbers_and_another_seed_others():
    family = _family()
    assert intervals(family, family, 50, seed=7) == intervals(family, family, 50, seed=7)
    assert intervals(family, family, 50, seed=7) != intervals(family, family, 50, seed=8)


def test_intervals_cover_a_known_truth_as_often_as_they_say():
    # The frontier runs from (0, 0) to (1, p̂), so AIQ is p̂/2, and its truth p/2.
    rng, p, n, trials = np.random.default_rng(0), 0.6, 200, 300
    covered = 0
    for trial in range(trials):
        family = _coin(n, p, rng)
        low, high = intervals(family, family, resamples=300, seed=trial)["aiq"]
        covered += low <= p / 2 <= high
    # 95% less the percentile interval's small-sample shortfall; 300 trials scatter by 1.3 points.
    assert 0.91 <= covered / trials <= 0.985


def test_interval_width_is_the_binomial_one():
    family = _coin(2000, 0.6, np.random.default_rng(1))
    p = family.score.mean()
    low, high = intervals(family, family, resamples=4000, seed=0)["aiq"]
    assert high - low == pytest.approx(2 * 1.96 * np.sqrt(p * (1 - p) / 2000) / 2, rel=0.06)


def test_identical_families_do_not_differ_at_all():
    for result in paired_difference(_family(), _family(), resamples=100).values():
        assert (result.difference, result.low, result.high, result.p_value) == (0, 0, 0, 1)


def test_pairing_finds_a_difference_that_unpaired_intervals_hide():
    a, b = _family(skill=0.4), _family(skill=0.25)
    paired = paired_difference(a, b, resamples=500)["aiq"]
    apart = [intervals(family, family, resamples=500)["aiq"] for family in (a, b)]
    assert paired.low > 0
    assert paired.p_value < 0.05
    assert apart[0][0] < apart[1][1]


def test_the_p_value_is_uniform_when_families_differ_by_chance_alone():
    rng, small = np.random.default_rng(4), 0
    for trial in range(200):
        coin = _coin(150, 0.5, rng)
        scores = rng.random((2, 150, 1)) < 0.6
        a, b = (
            FamilyOutcomes(
                s.astype(float), coin.cost, coin.model_score, coin.model_cost,
                coin.oracle_score, coin.oracle_cost,
            )
            for s in scores
        )  # fmt: skip
        small += paired_difference(a, b, resamples=200, seed=trial)["aiq"].p_value <= 0.1
    assert 0.05 <= small / 200 <= 0.17


def test_the_pick_for_the_saving_is_not_made_again_on_test_resamples():
    family = _family()
    validation = _rows(family, slice(0, 150))
    point = measure(family, validation).savings[2]
    weights = bootstrap_weights(len(family), 200, seed=0)
    assert point.index >= 0
    cost = weights @ family.cost[:, point.index] / (weights @ family.model_cost[:, -1])
    expected = np.quantile(1 - cost, [0.025, 0.975])
    result = intervals(family, validation, resamples=200, seed=0)["saving_at_2"]
    np.testing.assert_allclose(result, expected)


def test_an_interval_is_not_given_where_the_measure_is_often_undefined():
    # Both models score alike, so in about half of the resamples the dear one is no better.
    rng = np.random.default_rng(0)
    score = (rng.random((100, 2)) < 0.5).astype(float)
    score[:, 1] = score[::-1, 0]
    cost = np.tile([1.0, 2.0], (100, 1))
    family = FamilyOutcomes(score, cost, score, cost, score.max(1, keepdims=True), cost[:, 1:])
    result = intervals(family, family, resamples=100)
    assert np.isnan(result["delta_ibc"]).all()
    assert np.isfinite(result["aiq"]).all()


def test_a_thousand_resamples_of_a_real_sized_log_take_well_under_half_a_second():
    family = _family(n=1531, M=20, N=5)
    intervals(family, family)
    # The best of three: another process may hold the core for a while.
    times = []
    for _ in range(3):
        start = time.perf_counter()
        intervals(family, family)
        times.append(time.perf_counter() - start)
    assert min(times) < 0.5


def test_families_on_other_queries_are_refused():
    with pytest.raises(ValueError, match="model_score differs between the two families"):
        paired_difference(_family(seed=0), _family(seed=1))


def test_bad_settings_are_refused():
    family = _family(n=20)
    with pytest.raises(ValueError, match="0 resamples of 20 queries"):
        intervals(family, family, resamples=0)
    with pytest.raises(ValueError, match="level is 95; expected a coverage between 0 and 1"):
        intervals(family, family, resamples=10, level=95)
