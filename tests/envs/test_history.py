"""Histories as arrays and back."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routing_pomdp.envs import History
from tests.support.problems import problems, random_data, random_policy, steps, with_bands


def _equal(a: History, b: History) -> None:
    for name in ("stage", "called", "verified", "signal"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))


@given(problems(), st.integers(0, 2**32), st.integers(1, 3))
def test_an_array_holds_all_of_a_history(problem, seed, signals):
    rng = np.random.default_rng(seed)
    policy = random_policy(with_bands(problem, signals), rng)
    data = random_data(20, problem.n_models, rng, signals)
    for episodes, _ in steps(data, policy):
        array = episodes.history.to_array()
        n = problem.n_models
        assert array.shape == (len(episodes), 1 + 2 * n + n * signals)
        assert np.isfinite(array).all()
        restored = History.from_array(array, n)
        _equal(restored, episodes.history)
        np.testing.assert_array_equal(restored.to_array(), array)


def test_the_array_reads_stage_called_verified_signals():
    # Three models, two numbers a signal: model 0 verified, 1 passed over, 2 called.
    history = History(
        query=np.array([7]),
        stage=np.array([2]),
        called=np.array([[True, False, True]]),
        verified=np.array([[True, False, False]]),
        signal=np.array([[[0.25, -3.0], [np.nan, np.nan], [np.nan, np.nan]]]),
    )
    expected = [[2, 1, 0, 1, 1, 0, 0, 0.25, -3.0, 0, 0, 0, 0]]
    np.testing.assert_array_equal(history.to_array(), expected)


def test_a_signal_of_zero_is_told_from_none():
    seen, unseen = (
        History(
            query=np.array([0]),
            stage=np.array([0]),
            called=np.array([[True, False]]),
            verified=np.array([[verified, False]]),
            signal=np.array([[[0.0 if verified else np.nan], [np.nan]]]),
        )
        for verified in (True, False)
    )
    assert History.from_array(seen.to_array(), 2).signal[0, 0, 0] == 0
    assert np.isnan(History.from_array(unseen.to_array(), 2).signal[0, 0, 0])


def test_a_start_has_seen_nothing():
    history = History.start(np.array([4, 2]), n_models=3, n_signals=2)
    assert len(history) == 2
    assert history.n_models == 3
    assert (history.stage == -1).all()
    assert not history.called.any()
    assert not history.last_verified.any()
    assert np.isnan(history.signal).all()


@given(problems(), st.integers(0, 2**32))
def test_last_verified_speaks_of_the_last_answer(problem, seed):
    policy = random_policy(with_bands(problem), np.random.default_rng(seed))
    data = random_data(20, problem.n_models, np.random.default_rng(seed))
    for episodes, _ in steps(data, policy):
        history = episodes.history
        expected = [s >= 0 and history.verified[q, s] for q, s in enumerate(history.stage)]
        np.testing.assert_array_equal(history.last_verified, expected)


@settings(max_examples=20)
@given(problems(), st.integers(0, 2**32))
def test_taken_and_copied_histories_are_apart_from_their_source(problem, seed):
    rng = np.random.default_rng(seed)
    source = problem.decode(rng.integers(problem.n_histories, size=6))
    before = source.to_array()
    rows = np.array([4, 1])
    taken, copied = source.take(rows), source.copy()
    np.testing.assert_array_equal(taken.to_array(), before[rows])
    np.testing.assert_array_equal(taken.query, rows)
    for other in (taken, copied):
        other.stage[:] = 0
        other.called[:] = other.verified[:] = True
        other.signal[:] = 5.0
    np.testing.assert_array_equal(source.to_array(), before)


@pytest.mark.parametrize("width", [7, 5, 4, 9])
def test_an_array_of_another_width_is_refused(width):
    # Three models fit 1 + 6 + 3·D: 10, 13, …
    with pytest.raises(ValueError, match=f"width {width} is no history of 3 models"):
        History.from_array(np.zeros((1, width)), 3)
