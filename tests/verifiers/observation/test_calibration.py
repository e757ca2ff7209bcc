"""Calibrations against scikit-learn and against the truth."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from routing_pomdp.verifiers.observation.calibration import Calibrator


def sample(n, seed=0):
    """Two signals, a log-probability and a real number, and the true probability of a right
    answer, logistic in both."""
    rng = np.random.default_rng(seed)
    z, real = rng.normal(0, 2, n), rng.logistic(0, 1, n)
    p = 1 / (1 + np.exp(-(0.8 * z - 0.5 * real + 0.3)))
    signal = np.column_stack([-np.logaddexp(0, -z), real])
    return signal, (rng.random(n) < p).astype(float), p


def test_the_logistic_calibration_is_scikit_learns():
    signal, score, _ = sample(5000)
    found, _ = Calibrator(penalty=2.0).fit(signal, score)
    z = np.column_stack([s(c) for s, c in zip(found.scales, signal.T, strict=True)])
    standard = (z - z.mean(axis=0)) / z.std(axis=0)
    peer = LogisticRegression(C=0.5, tol=1e-10).fit(standard, score)
    # Ours adds one query, half right: a 5,000th of the evidence.
    np.testing.assert_allclose(found(signal), peer.predict_proba(standard)[:, 1], atol=2e-3)


@pytest.mark.parametrize("kind", ["logistic", "isotonic"])
def test_confidences_approach_the_true_probability(kind):
    errors = []
    for n in (100, 20_000):
        signal, score, _ = sample(n)
        found, held_out = Calibrator(kind).fit(signal, score)
        fresh, _, truth = sample(5000, seed=9)
        errors.append(np.abs(found(fresh) - truth).mean())
        assert ((held_out > 0) & (held_out < 1)).all()
    assert errors[1] < 0.03
    assert errors[1] < errors[0]


@pytest.mark.parametrize("kind", ["logistic", "isotonic"])
def test_a_held_out_confidence_is_learned_from_the_other_folds_alone(kind):
    signal, score, _ = sample(61)
    calibrator = Calibrator(kind, folds=4)
    _, held_out = calibrator.fit(signal, score)
    fold = calibrator.fold(score)
    for k in range(4):
        rest, _ = calibrator.fit(signal[fold != k], score[fold != k])
        np.testing.assert_array_equal(held_out[fold == k], rest(signal[fold == k]))
        assert abs(score[fold == k].sum() - score.sum() / 4) <= 1


def test_isotonic_confidences_never_fall_as_the_signal_rises():
    rng = np.random.default_rng(0)
    signal = rng.random(300)
    score = (rng.random(300) < signal**3).astype(float)
    found, _ = Calibrator("isotonic").fit(signal[:, None], score)
    assert (np.diff(found(np.sort(signal)[:, None])) >= 0).all()


def test_a_signal_that_runs_the_wrong_way_is_turned_round():
    rng = np.random.default_rng(0)
    signal = rng.normal(size=(500, 1))
    score = (rng.random(500) < 1 / (1 + np.exp(2 * signal[:, 0]))).astype(float)
    for kind in ("logistic", "isotonic"):
        found, _ = Calibrator(kind).fit(signal, score)
        low, high = found(np.array([[-2.0], [2.0]]))
        assert low > 0.9
        assert high < 0.1


def test_a_graded_score_counts_as_that_share_of_right_answers():
    rng = np.random.default_rng(0)
    signal, graded = rng.random((500, 1)), rng.choice([0, 0.25, 1.0], 500)
    found, _ = Calibrator().fit(signal, graded)
    assert found(signal).mean() == pytest.approx(graded.mean(), abs=2e-3)


@pytest.mark.parametrize("n", [1, 2, 5])
@pytest.mark.parametrize("right", [0.0, 1.0])
def test_few_queries_and_one_outcome_are_never_certain(n, right):
    signal = np.linspace(-1e4, 0, n)[:, None]
    for kind in ("logistic", "isotonic"):
        found, held_out = Calibrator(kind).fit(signal, np.full(n, right))
        for confidence in (found(signal), held_out):
            assert ((confidence > 0) & (confidence < 1)).all()


@pytest.mark.parametrize(
    ("chosen", "message"),
    [({"kind": "platt"}, "kind is 'platt'"), ({"penalty": 0.0}, "penalty is 0"),
     ({"folds": 1}, "folds is 1")],
)  # fmt: skip
def test_bad_settings_are_refused_by_key(chosen, message):
    with pytest.raises(ValueError, match=message):
        Calibrator(**chosen)
