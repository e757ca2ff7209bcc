"""Figures of a signal against pairs counted by hand, scikit-learn, and closed forms."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score

from routing_pomdp.evaluation.signals.signal_quality import (
    Answers,
    as_probability,
    auroc,
    calibration_error,
    confidence_bins,
    failure_precision,
    signal_quality,
)
from tests.support.logs import log_of

SEEDS = st.integers(0, 2**32 - 1)


def drawn(seed, n=30, graded=False, ties=5):
    """A signal with ties, scores, and weights of two resamples."""
    rng = np.random.default_rng(seed)
    score = rng.random(n) if graded else rng.integers(2, size=n).astype(float)
    signal = rng.integers(ties, size=n) + score * rng.random()
    weight = rng.multinomial(n, np.full(n, 1 / n), size=2).astype(float)
    return np.round(signal, 1), score, weight


# -- ranking --------------------------------------------------------------------------------------


@given(SEEDS, st.booleans())
def test_auroc_is_the_share_of_pairs_in_the_right_order(seed, graded):
    signal, score, weight = drawn(seed, graded=graded)
    found = auroc(signal, score, weight)
    order = np.where(signal[:, None] == signal, 0.5, signal[:, None] > signal)
    for row, w in enumerate(weight):
        right, wrong = w * score, w * (1 - score)
        pairs = right.sum() * wrong.sum()
        expected = right @ order @ wrong / pairs if pairs else np.nan
        np.testing.assert_allclose(found[row], expected)


@settings(max_examples=12)
@given(SEEDS)
def test_ranking_figures_are_scikit_learns(seed):
    signal, score, weight = drawn(seed)
    score[:2] = 0, 1
    weight[:, :2] += 1
    for row, w in enumerate(weight):
        expected = roc_auc_score(score, signal, sample_weight=w)
        assert auroc(signal, score, weight)[row] == pytest.approx(expected)
        expected = average_precision_score(1 - score, -signal, sample_weight=w)
        assert failure_precision(signal, score, weight)[row] == pytest.approx(expected)


def test_a_graded_score_counts_as_so_much_of_a_right_answer():
    signal, score, _ = drawn(3, graded=True)
    twice, label = np.tile(signal, 2), np.repeat([1, 0], len(score))
    share = np.concatenate([score, 1 - score])
    whole = np.ones((1, len(score)))
    assert auroc(signal, score, whole)[0] == pytest.approx(
        roc_auc_score(label, twice, sample_weight=share)
    )
    assert failure_precision(signal, score, whole)[0] == pytest.approx(
        average_precision_score(1 - label, -twice, sample_weight=share)
    )


@settings(max_examples=15)
@given(SEEDS)
def test_a_weight_is_a_repetition(seed):
    signal, score, weight = drawn(seed, graded=True)
    place = confidence_bins(signal, 4)
    for w in weight:
        rows = np.repeat(np.arange(len(signal)), w.astype(int))
        whole = np.ones((1, len(rows)))
        for figure in (auroc, failure_precision):
            repeated = figure(signal[rows], score[rows], whole)
            np.testing.assert_allclose(figure(signal, score, w[None]), repeated)
        np.testing.assert_allclose(
            calibration_error(signal - score, place, w[None]),
            calibration_error((signal - score)[rows], place[rows], whole),
        )


def test_without_a_wrong_answer_ranking_is_undefined_and_says_so_quietly():
    whole = np.ones((1, 4))
    assert np.isnan(auroc(np.arange(4.0), np.ones(4), whole)[0])
    assert np.isnan(failure_precision(np.arange(4.0), np.ones(4), whole)[0])
    assert np.isnan(auroc(np.arange(4.0), np.zeros(4), whole)[0])


# -- calibration ----------------------------------------------------------------------------------


def test_the_calibration_error_of_a_case_by_hand():
    confidence = np.array([0.1, 0.3, 0.7, 0.9])
    score = np.array([0.0, 1.0, 1.0, 1.0])
    place = confidence_bins(confidence, 2)
    np.testing.assert_array_equal(place, [0, 0, 1, 1])
    # Bins (0.1, 0.3) → 0.2 against 0.5; (0.7, 0.9) → 0.8 against 1: half of 0.3 and half of 0.2.
    whole = np.ones((1, 4))
    assert calibration_error(confidence - score, place, whole)[0] == pytest.approx(0.25)
    # The second query thrice: (0.1 + 0.9)/4 = 0.25 against 0.75; 0.8 against 1.
    weighted = calibration_error(confidence - score, place, np.array([[1.0, 3, 1, 1]]))
    assert weighted[0] == pytest.approx((4 * 0.5 + 2 * 0.2) / 6)


@given(arrays.arrays(float, st.integers(1, 60), elements=st.sampled_from([0, 0.25, 0.5, 1])))
def test_equal_confidences_share_a_bin(confidence):
    place = confidence_bins(confidence, 10)
    for value in np.unique(confidence):
        assert len(np.unique(place[confidence == value])) == 1
    assert (np.diff(place[np.argsort(confidence, kind="stable")]) >= 0).all()


# -- all of it ------------------------------------------------------------------------------------


def judged(n=1200, scale=1.0, seed=0, **chosen):
    """A calibrated log-odds, told ``scale`` times too loud, as a log-probability."""
    rng = np.random.default_rng(seed)
    logit = rng.normal(0, 1.5, n)
    score = (rng.random(n) < 1 / (1 + np.exp(-logit))).astype(float)
    signal = -np.logaddexp(0, -scale * logit)[:, None]
    after = (rng.random(n) < 0.3 + 0.4 * score).astype(float)
    half = n // 2
    parts = [Answers(signal[i], score[i], after[i]) for i in (slice(half), slice(half, n))]
    return parts[1], signal_quality(*parts, "logprob", resamples=300, **chosen)


def test_point_estimates_are_scikit_learns_on_the_test_queries():
    test, quality = judged()
    found = {name: estimate.value for name, estimate in quality.estimates.items()}
    p = np.exp(test.signal[:, 0])
    assert quality.queries == 600
    assert found["score"] == pytest.approx(test.score.mean())
    assert found["auroc"] == pytest.approx(roc_auc_score(test.score, p))
    assert found["auprc"] == pytest.approx(average_precision_score(1 - test.score, -p))
    assert found["brier"] == pytest.approx(brier_score_loss(test.score, p))
    assert found["ece"] == pytest.approx(quality.as_it_stands.error)
    assert found["ece_calibrated"] == pytest.approx(quality.calibrated.error)
    for estimate in quality.estimates.values():
        assert estimate.low <= estimate.value <= estimate.high


def test_a_true_confidence_errs_no_more_than_chance_and_a_loud_one_more_until_calibrated():
    _, true = judged()
    _, loud = judged(scale=4.0)
    assert true.estimates["ece"].value < 1.6 * true.estimates["ece"].chance
    assert loud.estimates["ece"].low > 3 * loud.estimates["ece"].chance
    assert loud.estimates["ece_calibrated"].value < loud.estimates["ece"].value / 2
    assert loud.estimates["brier_calibrated"].value < loud.estimates["brier"].value
    # Loudness changes no order.
    assert loud.estimates["auroc"].value == true.estimates["auroc"].value


def test_what_a_signal_says_of_the_next_model_through_its_own_score_alone_is_told_apart():
    _, quality = judged(n=6000)
    own, after, beyond = (
        quality.estimates[name] for name in ("mi_own", "mi_next", "mi_next_given_own")
    )
    assert own.value > after.value > 0
    assert own.p < 0.01
    assert after.p < 0.01
    assert abs(beyond.value) < 0.01
    assert beyond.low < 0 < beyond.high


def test_a_real_signal_has_calibrated_figures_only():
    log = log_of()
    parts = [
        Answers(part.signals["dull"][:, [0]], part.score[:, 0], None)
        for part in (log.where("train"), log.where("test"))
    ]
    quality = signal_quality(*parts, "real", resamples=50)
    assert quality.as_it_stands is None
    assert {"brier_calibrated", "ece_calibrated"} <= set(quality.estimates)
    assert not {"brier", "ece", "mi_next"} & set(quality.estimates)


def test_a_vector_is_ranked_by_its_calibrated_confidence():
    log = log_of(n=800)

    def of(names):
        parts = [
            Answers(
                np.stack([part.signals[name][:, 0] for name in names], axis=1),
                part.score[:, 0],
                part.score[:, 1],
            )
            for part in (log.where("train"), log.where("test"))
        ]
        return signal_quality(*parts, "real", resamples=50).estimates["auroc"].value

    assert of(["sharp", "dull"]) > of(["dull"]) + 0.05
    assert of(["sharp", "dull"]) > of(["sharp"]) - 0.03


def test_graded_scores_have_every_figure():
    rng = np.random.default_rng(0)
    score = rng.integers(5, size=(2, 300)) / 4
    signal = score + rng.normal(0, 0.3, score.shape)
    parts = [Answers(s[:, None], y, 1 - y) for s, y in zip(signal, score, strict=True)]
    quality = signal_quality(*parts, "real", levels=5, resamples=50)
    for estimate in quality.estimates.values():
        assert np.isfinite([estimate.value, estimate.low, estimate.high]).all()
    assert quality.estimates["mi_own"].value > 0.5
    # The next score is a function of this one: beyond it the signal says nothing.
    assert quality.estimates["mi_next_given_own"].value == pytest.approx(0, abs=1e-9)


def test_how_a_signal_is_read():
    np.testing.assert_allclose(as_probability(np.array([0.0, -1e4]), "logprob"), [1, 0])
    np.testing.assert_allclose(as_probability(np.array([0.2]), "probability"), [0.2])
    assert as_probability(np.array([3.0]), "real") is None
