"""The histogram observation model against counts by hand, and its limits."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing_pomdp.verifiers import Histogram

VECTORS = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])


def fitted(signal, level, **settings):
    return Histogram(**settings).fit(np.asarray(signal, float)[:, None, None], level, VECTORS)


def test_own_likelihood_is_the_smoothed_share_of_each_bin():
    # Signals 0 0 1 1 split at their median 0.5. Model 0 is wrong on the first three queries.
    level = np.array([[0, 0], [0, 1], [0, 1], [1, 1]])
    model = fitted([0, 0, 1, 1], level, bins=2, smoothing=2.0)
    # Pooled: 2.5 and 2.5 of 5, so one pseudo-count a bin. Wrong: (2+1)/5, (1+1)/5; right: 1/3, 2/3.
    wrong, right = [3 / 5, 2 / 5], [1 / 3, 2 / 3]
    np.testing.assert_allclose(model.likelihood[0], [wrong, wrong, right, right])


def test_joint_likelihood_is_own_where_a_score_vector_was_never_seen():
    level = np.array([[0, 0], [0, 0], [0, 0], [1, 1]])
    own = fitted([0, 0, 1, 1], level, bins=2)
    joint = fitted([0, 0, 1, 1], level, bins=2, conditioning="joint", shrinkage=3.0)
    unseen = [1, 2]
    np.testing.assert_allclose(joint.likelihood[0, unseen], own.likelihood[0, unseen])
    # Seen three times, twice in the lower bin: (2 + 3·own)/(3 + 3).
    expected = (np.array([2, 1]) + 3.0 * own.likelihood[0, 0]) / 6
    np.testing.assert_allclose(joint.likelihood[0, 0], expected)


def test_joint_conditioning_finds_what_a_signal_says_of_the_other_model():
    # The signal follows the second model's correctness and not at all the first's.
    rng = np.random.default_rng(0)
    level = rng.integers(2, size=(4000, 2))
    signal = level[:, 1] + rng.normal(0, 0.3, 4000)
    own = fitted(signal, level, bins=4)
    joint = fitted(signal, level, bins=4, conditioning="joint")
    assert np.abs(own.likelihood[0, 0] - own.likelihood[0, 2]).max() < 0.05
    assert np.abs(joint.likelihood[0, 0] - joint.likelihood[0, 1]).max() > 0.3


@given(
    st.lists(st.floats(-1e4, 0, allow_subnormal=False), min_size=1, max_size=60),
    st.sampled_from(["quantile", "uniform"]),
    st.sampled_from(["own", "joint"]),
    st.integers(1, 12),
    st.integers(0, 2**32 - 1),
)
def test_likelihoods_sum_to_one_and_every_training_signal_is_possible(
    signal, binning, conditioning, bins, seed
):
    level = np.random.default_rng(seed).integers(2, size=(len(signal), 2))
    model = fitted(signal, level, bins=bins, binning=binning, conditioning=conditioning)
    np.testing.assert_allclose(model.likelihood.sum(-1), 1)
    column = np.asarray(signal)[:, None]
    symbol = model.symbols(0, column)
    assert (symbol >= 0).all()
    assert (symbol < bins).all()
    assert (model.likelihood[0][:, symbol] > 0).all()
    used = np.unique(symbol)
    shown = model.symbols(0, model.representative[0][used])
    np.testing.assert_array_equal(shown, used)


def test_unseen_signals_far_outside_fall_into_the_outer_bins():
    level = np.array([[0, 0], [1, 1]] * 8)
    model = fitted(np.arange(16), level, bins=4)
    np.testing.assert_array_equal(model.symbols(0, np.array([[-1e9], [1e9]])), [0, 3])


def test_constant_signals_use_one_bin_and_say_nothing():
    level = np.array([[0, 0], [1, 1]] * 8)
    model = fitted(np.zeros(16), level, bins=8)
    assert len(model.edges_[0]) == 0
    np.testing.assert_allclose(model.likelihood[0][:, 0], 1)


def test_more_data_shrinks_toward_the_truth():
    rng = np.random.default_rng(0)
    errors = []
    for n in (100, 1000, 20_000):
        level = rng.integers(2, size=(n, 2))
        # Two symbols; the upper one has probability 0.9 if right, 0.2 if wrong.
        signal = (rng.random(n) < np.where(level[:, 0] == 1, 0.9, 0.2)).astype(float)
        model = fitted(signal, level, bins=2, binning="uniform")
        errors.append(np.abs(model.likelihood[0, [0, 2], 1] - [0.2, 0.9]).max())
    assert errors[-1] < 0.01
    assert errors[-1] < errors[0]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"bins": 0}, "observation.bins is 0"),
        ({"binning": "kmeans"}, "observation.binning is 'kmeans'"),
        ({"conditioning": "both"}, "observation.conditioning is 'both'"),
        ({"smoothing": 0.0}, "observation.smoothing is 0.0"),
        ({"shrinkage": -1.0}, "observation.shrinkage is -1.0"),
    ],
)
def test_bad_settings_are_refused_by_key(settings, message):
    with pytest.raises(ValueError, match=message):
        Histogram(**settings)


def test_vector_signals_are_refused():
    with pytest.raises(ValueError, match="one number an answer, the verifier gives 2"):
        Histogram().fit(np.zeros((3, 1, 2)), np.zeros((3, 2), int), VECTORS)
