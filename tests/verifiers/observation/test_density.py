"""Densities against other libraries and closed forms, and what every observation model owes."""

from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.integrate import quad
from sklearn.mixture import GaussianMixture as SklearnMixture

from routing_pomdp.verifiers import Beta, GaussianMixture, KernelDensity
from routing_pomdp.verifiers.observation.beta import fit_beta
from routing_pomdp.verifiers.observation.kernel import silverman

VECTORS = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
FAMILIES = [KernelDensity, Beta, GaussianMixture]
LOGPROBS = st.one_of(st.floats(-1e4, 0, allow_subnormal=False), st.sampled_from([0.0, -1e4, -1.0]))


def fitted(family, signal, level, **chosen):
    return family(**chosen).fit(np.asarray(signal, float)[:, None, None], level, VECTORS)


def truth(n, seed):
    """Levels, and confidences with a beta density of their own for wrong and right answers."""
    rng = np.random.default_rng(seed)
    level = rng.integers(2, size=(n, 2))
    return level, rng.beta(*np.where(level[:, 0] == 1, [[5], [2]], [[2], [3]]))


@given(
    st.lists(LOGPROBS, min_size=1, max_size=40),
    st.sampled_from(FAMILIES),
    st.sampled_from(["quantile", "uniform", "supervised"]),
    st.sampled_from(["own", "joint"]),
    st.integers(1, 9),
    st.integers(0, 2**32 - 1),
)
def test_likelihoods_sum_to_one_and_every_training_signal_is_possible(
    signal, family, binning, conditioning, bins, seed
):
    level = np.random.default_rng(seed).integers(2, size=(len(signal), 2))
    model = fitted(family, signal, level, bins=bins, binning=binning, conditioning=conditioning)
    np.testing.assert_allclose(model.likelihood.sum(-1), 1)
    column = np.asarray(signal)[:, None]
    symbol = model.symbols(0, column)
    assert (symbol >= 0).all()
    assert (symbol < bins).all()
    assert (model.likelihood[0][:, symbol] > 0).all()
    assert np.isfinite(model.density(0, column)).all()
    used = np.arange(len(model.edges_[0]) + 1)
    shown = model.symbols(0, model.representative[0][used])
    np.testing.assert_array_equal(shown, used)


@settings(max_examples=10)
@given(st.integers(0, 2**32 - 1), st.sampled_from(FAMILIES), st.sampled_from(["own", "joint"]))
def test_densities_integrate_to_one_and_their_mass_is_the_symbols_likelihood(
    seed, family, conditioning
):
    level, confidence = truth(60, seed)
    model = fitted(family, confidence, level, conditioning=conditioning, bins=4)
    densities, group = model.densities_[0], model.group_[0]
    edges = [-60.0, *model.edges_[0], 60.0]
    for vector in range(4):
        mass = [
            quad(lambda z, g=group[vector]: densities.pdf(np.array([z]))[g, 0], low, high,
                 points=np.linspace(max(low, -16), min(high, 16), 30), limit=500)[0]
            for low, high in pairwise(edges)
        ]  # fmt: skip
        assert sum(mass) == pytest.approx(1, abs=1e-4)
        np.testing.assert_allclose(model.likelihood[0, vector, : len(mass)], mass, atol=1e-4)


@pytest.mark.parametrize(("family", "conditioning"), list(product(FAMILIES, ["own", "joint"])))
def test_more_data_shrinks_toward_the_truth(family, conditioning):
    errors = []
    for n in (60, 10_000):
        level, confidence = truth(n, 0)
        model = fitted(family, confidence, level, bins=6, conditioning=conditioning)
        edges = 1 / (1 + np.exp(-model.edges_[0]))
        wrong, right = (np.diff([0, *stats.beta(a, b).cdf(edges), 1]) for a, b in ((2, 3), (5, 2)))
        errors.append(np.abs(model.likelihood[0] - [wrong, wrong, right, right]).max())
    assert errors[-1] < 0.015
    assert errors[-1] < errors[0]


@pytest.mark.parametrize("family", FAMILIES)
def test_without_a_query_of_a_level_its_density_is_the_pooled_one(family):
    level, confidence = truth(200, 0)
    level[:, 0] = 1
    model = fitted(family, confidence, level)
    below = model.likelihood[0, 0].cumsum()
    pooled = np.array([(model.symbols(0, confidence[:, None]) <= k).mean() for k in range(8)])
    # The prior of each family has a say of its own, and all of it here, next to two queries.
    np.testing.assert_allclose(below, pooled, atol=0.2)


@pytest.mark.parametrize("family", FAMILIES)
def test_joint_conditioning_finds_what_a_signal_says_of_the_other_model(family):
    rng = np.random.default_rng(0)
    level = rng.integers(2, size=(3000, 2))
    signal = level[:, 1] + rng.normal(0, 0.3, 3000)
    own = fitted(family, signal, level, bins=4)
    joint = fitted(family, signal, level, bins=4, conditioning="joint")
    assert np.abs(own.likelihood[0, 0] - own.likelihood[0, 2]).max() < 0.05
    assert np.abs(joint.likelihood[0, 0] - joint.likelihood[0, 1]).max() > 0.3


@pytest.mark.parametrize("family", FAMILIES)
def test_a_score_vector_never_seen_has_the_density_of_own(family):
    level, confidence = truth(100, 3)
    level[:, 1] = level[:, 0]
    own = fitted(family, confidence, level)
    joint = fitted(family, confidence, level, conditioning="joint")
    np.testing.assert_allclose(joint.likelihood[0, [1, 2]], own.likelihood[0, [1, 2]])


# -- each family ----------------------------------------------------------------------------------


def test_kernels_are_scipys_for_the_same_bandwidth():
    rng = np.random.default_rng(0)
    z, weight = rng.normal(size=80), rng.random((1, 80))
    weight /= weight.sum()
    density = KernelDensity(bandwidth=0.4)._fit(z, weight)
    peer = stats.gaussian_kde(z, weights=weight[0])
    peer.set_bandwidth(0.4 / np.sqrt(peer._data_covariance[0, 0]))
    at = np.linspace(-4, 4, 9)
    np.testing.assert_allclose(density.pdf(at)[0], peer(at), rtol=1e-6)
    mass = [peer.integrate_box_1d(-np.inf, x) for x in at]
    np.testing.assert_allclose(density.cdf(at)[0], mass, atol=1e-6)


def test_the_bandwidth_is_silvermans():
    z = np.random.default_rng(0).normal(0, 2, 1000)
    spread = min(z.std(), stats.iqr(z) / 1.34)
    width = silverman(z, np.full((1, 1000), 1e-3))
    np.testing.assert_allclose(width, 0.9 * spread * 1000**-0.2, rtol=0.01)


def test_beta_shapes_are_scipys():
    p = np.random.default_rng(0).beta([[0.4], [3.0]], [[0.7], [20.0]], (2, 500))
    a, b = fit_beta(np.log(p).mean(axis=1), np.log1p(-p).mean(axis=1))
    for row in range(2):
        np.testing.assert_allclose((a[row], b[row]), stats.beta.fit(p[row], floc=0, fscale=1)[:2],
                                   rtol=1e-3)  # fmt: skip


def test_beta_densities_are_scipys_on_the_logit_scale():
    z = np.linspace(-6, 6, 13)
    p = 1 / (1 + np.exp(-z))
    level, confidence = truth(300, 0)
    model = fitted(Beta, confidence, level)
    for g in range(2):
        peer = stats.beta(model.densities_[0].a[g], model.densities_[0].b[g])
        np.testing.assert_allclose(model.densities_[0].pdf(z)[g], peer.pdf(p) * p * (1 - p))
        np.testing.assert_allclose(model.densities_[0].cdf(z)[g], peer.cdf(p))


def test_a_mixture_without_a_prior_is_scikit_learns():
    rng = np.random.default_rng(0)
    z = np.concatenate([rng.normal(-3, 0.5, 600), rng.normal(2, 1.5, 400)])
    found = GaussianMixture(strength=0, tolerance=1e-12)._fit(z, np.ones((1, 1000)))
    peer = SklearnMixture(2, means_init=[[-3], [2]], tol=1e-10, reg_covar=0).fit(z[:, None])
    order = np.argsort(peer.means_[:, 0])
    np.testing.assert_allclose(found.mean[0], peer.means_[order, 0], rtol=1e-3)
    np.testing.assert_allclose(found.spread[0] ** 2, peer.covariances_[order, 0, 0], rtol=1e-3)
    np.testing.assert_allclose(found.share[0], peer.weights_[order], rtol=1e-3)


def test_weights_are_repetitions():
    z, count = np.array([-2.0, -1.0, 0.5, 3.0]), np.array([3, 1, 2, 4])
    for family in (Beta(), GaussianMixture()):
        weighted = family._fit(z, count[None].astype(float))
        # The mixture starts at the quantiles, which repetitions move: the same start for both.
        repeated = family._fit(np.repeat(z, count), np.ones((1, 10)))
        at = np.linspace(-4, 4, 5)
        np.testing.assert_allclose(weighted.cdf(at), repeated.cdf(at), atol=0.1)


# -- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("family", "chosen", "message"),
    [
        (Beta, {"bins": 0}, "observation.bins is 0"),
        (Beta, {"binning": "kmeans"}, "observation.binning is 'kmeans'"),
        (Beta, {"conditioning": "both"}, "observation.conditioning is 'both'"),
        (Beta, {"scale": "log"}, "observation.scale is 'log'"),
        (Beta, {"smoothing": 0.0}, "observation.smoothing is 0.0"),
        (Beta, {"strength": 0.0}, "observation.strength is 0.0"),
        (KernelDensity, {"bandwidth": -1.0}, "observation.bandwidth is -1.0"),
        (GaussianMixture, {"components": 0}, "observation.components is 0"),
        (GaussianMixture, {"tolerance": -1.0}, "observation.tolerance is -1.0"),
    ],
)
def test_bad_settings_are_refused_by_key(family, chosen, message):
    with pytest.raises(ValueError, match=message):
        family(**chosen)


def test_vector_signals_are_refused_with_what_takes_them():
    with pytest.raises(ValueError, match=r"the verifier gives 2: use observation=product"):
        Beta().fit(np.zeros((3, 1, 2)), np.zeros((3, 2), int), VECTORS)
