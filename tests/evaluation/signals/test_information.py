"""Mutual information of known joint distributions, and what shuffling says of chance."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import mutual_info_score

from routing_pomdp.evaluation.signals.information import information, shared_information

SEEDS = st.integers(0, 2**32 - 1)


def whole(shared):
    return shared.resampled(np.ones((1, len(shared.symbol))))[0]


def test_information_of_known_joint_distributions():
    tables = np.array([[[[0.5, 0], [0, 0.5]]], [[[0.25, 0.25], [0.25, 0.25]]]])
    np.testing.assert_allclose(information(tables), [1, 0], atol=1e-12)
    # A binary symmetric channel that errs one time in ten: 1 − H(0.1).
    channel = np.array([[[[0.45, 0.05], [0.05, 0.45]]]])
    entropy = -(0.1 * np.log2(0.1) + 0.9 * np.log2(0.9))
    np.testing.assert_allclose(information(100 * channel), 1 - entropy)


@settings(max_examples=15)
@given(SEEDS, st.integers(1, 5), st.integers(1, 4))
def test_information_is_scikit_learns(seed, symbols, levels):
    rng = np.random.default_rng(seed)
    symbol, level = rng.integers(symbols, size=50), rng.integers(levels, size=50)
    expected = mutual_info_score(symbol, level) / np.log(2)
    assert whole(shared_information(symbol, level)) == pytest.approx(expected, abs=1e-12)


def test_what_is_told_only_together_is_found_given_the_other():
    a, b = np.array([0, 0, 1, 1] * 5), np.array([0, 1, 0, 1] * 5)
    assert whole(shared_information(a, a ^ b)) == pytest.approx(0)
    assert whole(shared_information(a, a ^ b, b)) == pytest.approx(1)
    assert whole(shared_information(a, a, a)) == pytest.approx(0)


@settings(max_examples=15)
@given(SEEDS)
def test_given_information_is_the_mean_over_strata(seed):
    rng = np.random.default_rng(seed)
    symbol, level, given_ = (rng.integers(k, size=60) for k in (4, 2, 3))
    parts = [
        (given_ == k).mean() * mutual_info_score(symbol[given_ == k], level[given_ == k])
        for k in np.unique(given_)
    ]
    found = whole(shared_information(symbol, level, given_))
    assert found == pytest.approx(sum(parts) / np.log(2), abs=1e-12)


def test_shuffling_shows_the_bias_of_a_signal_that_says_nothing():
    rng = np.random.default_rng(0)
    n, symbols = 400, 8
    left = []
    for _ in range(20):
        shared = shared_information(rng.integers(symbols, size=n), rng.integers(2, size=n))
        noise = shared.shuffled(100, rng)
        # Miller & Madow: (K − 1)(L − 1) / 2n nats.
        assert noise.mean() == pytest.approx((symbols - 1) / (2 * n * np.log(2)), rel=0.25)
        left.append(whole(shared) - noise.mean())
    assert abs(np.mean(left)) < 3 * np.std(left) / np.sqrt(20)


def test_shuffling_stays_within_what_is_given():
    rng = np.random.default_rng(0)
    given_ = rng.integers(2, size=500)
    # Symbol and level agree only because both follow what is given.
    shared = shared_information(given_.copy(), given_.copy(), given_)
    np.testing.assert_allclose(shared.shuffled(20, rng), 0, atol=1e-12)
    assert shared_information(given_, given_).shuffled(20, rng).max() < 0.1
