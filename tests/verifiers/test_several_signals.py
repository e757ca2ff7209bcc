"""Products and learned merges of several signals."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import mutual_info_score, roc_auc_score

from routing_pomdp.verifiers import Beta, Histogram, KernelDensity, Merged, Product
from routing_pomdp.verifiers.observation.product import merge_symbols

VECTORS = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])


def two_signals(n, seed=0):
    """Levels ``(n, 2)`` and two signals, independent given the first model's level."""
    rng = np.random.default_rng(seed)
    level = rng.integers(2, size=(n, 2))
    signal = level[:, :1] + rng.normal(0, [1.0, 0.7], (n, 2))
    return level, signal[:, None]


def information(joint):
    joint = joint / joint.sum()
    apart = joint.sum(axis=0) * joint.sum(axis=1, keepdims=True)
    there = joint > 0
    return float((joint[there] * np.log(joint[there] / apart[there])).sum())


# -- merging symbols ------------------------------------------------------------------------------


@given(st.integers(0, 2**32 - 1), st.integers(1, 9), st.integers(1, 12), st.integers(1, 5))
def test_merging_never_gains_information_and_keeps_what_is_asked(seed, keep, symbols, states):
    rng = np.random.default_rng(seed)
    joint = rng.dirichlet(np.ones(symbols) * 0.3, size=states) / states
    joint[:, rng.random(symbols) < 0.2] = 0
    joint[0, 0] += 0.01
    member = merge_symbols(joint, keep)
    possible = int((joint.sum(axis=0) > 0).sum())
    assert len(np.unique(member)) == min(keep, possible)
    merged = joint @ np.eye(member.max() + 1)[member]
    assert merged.sum() == pytest.approx(joint.sum())
    assert information(merged) <= information(joint) + 1e-12


def test_symbols_with_one_likelihood_are_merged_at_no_loss():
    rng = np.random.default_rng(0)
    three = rng.dirichlet(np.ones(3), size=4) / 4
    split = np.repeat(three, 4, axis=1) * rng.dirichlet(np.ones(4), 3).ravel()
    member = merge_symbols(split, 3)
    assert information(split @ np.eye(3)[member]) == pytest.approx(information(three))


def test_the_first_merger_is_the_best_of_all_pairs():
    joint = np.random.default_rng(1).dirichlet(np.ones(6), size=3) / 3
    member = merge_symbols(joint, 5)
    found = information(joint @ np.eye(5)[member])
    pairs = []
    for a in range(6):
        for b in range(a):
            onto = np.delete(np.eye(6), b, axis=1)
            onto[b] = np.delete(np.eye(6)[a], b)
            pairs.append(information(joint @ onto))
    assert found == pytest.approx(max(pairs))


# -- products -------------------------------------------------------------------------------------


def test_a_product_without_merging_multiplies_likelihoods():
    level, signal = two_signals(500)
    model = Product(Histogram(bins=3), keep=9).fit(signal, level, VECTORS)
    alone = [Histogram(bins=3).fit(signal[:, :, [d]], level, VECTORS) for d in range(2)]
    symbol = model.symbols(0, signal[:, 0])
    first, second = (a.symbols(0, signal[:, 0, [d]]) for d, a in enumerate(alone))
    expected = alone[0].likelihood[0][:, first] * alone[1].likelihood[0][:, second]
    np.testing.assert_allclose(model.likelihood[0][:, symbol], expected)


@pytest.mark.parametrize("of", [Histogram(bins=5), KernelDensity(bins=5), Beta(bins=5)])
@pytest.mark.parametrize("keep", [1, 4, 8, 40])
def test_likelihoods_sum_to_one_and_representatives_have_their_symbol(of, keep):
    level, signal = two_signals(300)
    model = Product(of, keep=keep).fit(signal, level, VECTORS)
    assert model.likelihood.shape == (1, 4, keep)
    np.testing.assert_allclose(model.likelihood.sum(axis=-1), 1)
    used = np.flatnonzero(model.likelihood[0].sum(axis=0))
    np.testing.assert_array_equal(model.symbols(0, model.representative[0, used]), used)
    assert model.symbols(0, signal[:, 0]).max() < keep


def test_the_symbols_of_a_product_rise_with_the_expected_score():
    level, signal = two_signals(2000)
    model = Product(Histogram(bins=6)).fit(signal, level, VECTORS)
    ratio = model.likelihood[0, 2] / model.likelihood[0, 0]
    assert (np.diff(ratio) > 0).all()


def test_two_signals_say_more_than_either():
    level, signal = two_signals(4000)
    fresh, seen = two_signals(4000, seed=1)

    def told(model, columns):
        model.fit(signal[:, :, columns], level, VECTORS)
        return mutual_info_score(fresh[:, 0], model.symbols(0, seen[:, 0, columns]))

    single = max(told(Histogram(), [d]) for d in range(2))
    assert told(Product(Histogram(bins=6)), [0, 1]) > 1.1 * single
    assert told(Merged(Histogram()), [0, 1]) > 1.1 * single


def test_too_many_combinations_are_refused_with_a_way_out():
    with pytest.raises(ValueError, match=r"32,768 combinations of 5 signals.*observation=merged"):
        Product(Histogram()).fit(np.zeros((4, 1, 5)), np.zeros((4, 2), int), VECTORS)


# -- learned merges -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["logistic", "isotonic"])
def test_a_merge_keeps_the_order_of_the_true_posterior(kind):
    level, signal = two_signals(2000)
    model = Merged(Histogram(bins=8), kind=kind).fit(signal, level, VECTORS)
    np.testing.assert_allclose(model.likelihood.sum(axis=-1), 1)
    symbol = model.symbols(0, signal[:, 0])
    ideal = signal[:, 0] @ [1 / 1.0, 1 / 0.49]  # log-likelihood ratio of the two Gaussians
    assert roc_auc_score(level[:, 0], symbol) > roc_auc_score(level[:, 0], ideal) - 0.02
    used = np.unique(symbol)
    np.testing.assert_array_equal(model.symbols(0, model.representative[0, used]), used)


def test_a_merge_of_noise_is_not_taken_for_knowledge():
    rng = np.random.default_rng(0)
    level = rng.integers(2, size=(120, 2))
    noise = rng.normal(size=(120, 1, 12))
    model = Merged(Histogram(bins=4), kind="isotonic").fit(noise, level, VECTORS)
    right, wrong = model.likelihood[0, 2], model.likelihood[0, 0]
    # Fitted to confidences that had seen the labels, the two would lie 0.5 and more apart.
    assert np.abs(right - wrong).sum() / 2 < 0.25


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Product(Histogram(), keep=0), "observation.keep is 0"),
        (lambda: Merged(Histogram(), kind="mean"), "observation.kind is 'mean'"),
        (lambda: Merged(Histogram(), folds=1), "observation.folds is 1"),
    ],
)
def test_bad_settings_are_refused_by_key(make, message):
    with pytest.raises(ValueError, match=message):
        make()
