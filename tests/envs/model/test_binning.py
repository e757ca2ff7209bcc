"""Supervised bins against every choice of cuts, and what all bins have in common."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import mutual_info_score

from routing_pomdp.envs.model.binning import inner_edges
from routing_pomdp.verifiers import Histogram


def gain(signal, target, edges):
    """Information gain in nats, times the queries, by scikit-learn."""
    symbol = np.searchsorted(edges, signal, side="right")
    return len(signal) * sum(mutual_info_score(column, symbol) for column in target.T)


def charge(target):
    shares = sum(len(np.unique(column)) - 1 for column in target.T)
    return 0.5 * (shares + 1) * np.log(len(target))


@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.integers(1, 2), st.integers(2, 3))
def test_supervised_bins_are_the_best_of_all_choices(seed, bins, targets, levels):
    rng = np.random.default_rng(seed)
    signal = rng.integers(0, 7, size=60).astype(float)
    target = (rng.random((60, targets)) * levels * rng.beta(0.5, 0.5) < 1).astype(int)
    target += (signal[:, None] > 3) * rng.integers(0, 2, size=(60, targets)) * (levels - 1)
    chosen = inner_edges(signal, target, bins, "supervised")
    places = np.unique(signal)[1:]
    best = max(
        gain(signal, target, cuts) - size * charge(target)
        for size in range(bins)
        for cuts in combinations(places, size)
    )
    assert len(chosen) < bins
    found = gain(signal, target, chosen) - len(chosen) * charge(target)
    assert found == pytest.approx(best, abs=1e-8)


def test_supervised_bins_cut_where_the_truth_changes_and_nowhere_else():
    rng = np.random.default_rng(0)
    signal = rng.random(4000)
    level = (rng.random(4000) < np.where(signal < 0.2, 0.1, np.where(signal < 0.7, 0.5, 0.9))) * 1
    edges = inner_edges(signal, level[:, None], 8, "supervised")
    np.testing.assert_allclose(edges, [0.2, 0.7], atol=0.02)


def test_a_signal_that_says_nothing_is_not_cut():
    rng = np.random.default_rng(0)
    for n in (10, 100, 1000):
        assert len(inner_edges(rng.random(n), rng.integers(2, size=(n, 1)), 8, "supervised")) == 0


def test_supervised_bins_of_a_histogram_say_more_than_as_many_quantiles():
    rng = np.random.default_rng(1)
    level = rng.integers(2, size=(2000, 2))
    # All that matters lies in the top twentieth.
    told = (level[:, 0] == 1) & (rng.random(2000) < 0.2)
    signal = np.where(told, rng.uniform(0.95, 1, 2000), rng.uniform(0, 0.95, 2000))
    vectors = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])

    def information(binning, bins):
        model = Histogram(bins=bins, binning=binning).fit(signal[:, None, None], level, vectors)
        return mutual_info_score(level[:, 0], model.symbols(0, signal[:, None]))

    assert information("supervised", 2) > 1.5 * information("quantile", 2)


def test_joint_bins_are_cut_for_the_other_model_too():
    rng = np.random.default_rng(0)
    level = rng.integers(2, size=(2000, 2))
    signal = level[:, 1] + rng.normal(0, 0.3, 2000)
    vectors = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])

    def edges(conditioning):
        model = Histogram(binning="supervised", conditioning=conditioning)
        return model.fit(signal[:, None, None], level, vectors).edges_[0]

    assert len(edges("own")) == 0
    assert len(edges("joint")) >= 1
