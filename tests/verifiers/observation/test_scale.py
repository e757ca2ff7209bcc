"""The logit scale: its limits, its order, its inverse."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import logit

from routing_pomdp.verifiers.observation.scale import LogitScale


def test_log_probabilities_at_zero_and_very_far_below_are_cut_off_alike():
    scale = LogitScale.fit(np.array([0.0, -1.0, -1e4]))
    assert scale.kind == "logprob"
    np.testing.assert_allclose(scale(np.array([0.0, -0.0, -1e-300, -1e4, -1e300])),
                               [16, 16, 16, -16, -16])  # fmt: skip


def test_a_log_probability_and_its_probability_have_one_logit():
    p = np.array([1e-6, 0.01, 0.3, 0.5, 0.9, 0.999])
    np.testing.assert_allclose(LogitScale("probability")(p), logit(p))
    np.testing.assert_allclose(LogitScale("logprob")(np.log(p)), logit(p))
    np.testing.assert_allclose(LogitScale("probability")(np.array([0.0, 1.0])), [-16, 16])


def test_real_signals_have_the_quartiles_of_a_logistic_variable():
    signal = np.random.default_rng(0).logistic(5, 3, 100_001)
    scale = LogitScale.fit(signal)
    assert scale.kind == "real"
    np.testing.assert_allclose(scale(np.quantile(signal, [0.5, 0.75])), [0, np.log(3)], atol=0.02)


@pytest.mark.parametrize(
    ("signal", "kind"),
    [([-3, 0], "logprob"), ([-3, -1], "logprob"), ([0, 0], "probability"), ([0, 1], "probability"),
     ([-1, 1], "real"), ([0.5, 1.5], "real")],
)  # fmt: skip
def test_auto_recognises_the_kind(signal, kind):
    assert LogitScale.fit(np.array(signal, float)).kind == kind


@given(
    st.sampled_from(["logprob", "probability", "real"]),
    st.lists(st.floats(-12, 12), min_size=2, max_size=20),
)
def test_the_inverse_inverts_and_order_is_kept(kind, z):
    z = np.sort(z)
    scale = LogitScale(kind, 3.0, 0.5)
    signal = scale.inverse(z)
    assert (np.diff(signal) >= 0).all()
    np.testing.assert_allclose(scale(signal), z, atol=1e-8)


@pytest.mark.parametrize("signal", [np.zeros(5), np.full(5, 7.0), np.array([1, 1, 1, 1, 9.0])])
def test_signals_that_tie_have_finite_logits(signal):
    assert np.isfinite(LogitScale.fit(signal, "real")(signal)).all()


@pytest.mark.parametrize(
    ("signal", "kind", "message"),
    [
        ([0.5], "logprob", "'logprob', but signals reach 0.5 > 0"),
        ([-1, 2], "probability", r"'probability', but signals lie in \[-1, 2\]"),
        ([0.5], "log", "observation.scale is 'log'"),
    ],
)
def test_signals_of_another_kind_are_refused(signal, kind, message):
    with pytest.raises(ValueError, match=message):
        LogitScale.fit(np.array(signal, float), kind)
