"""The copula chain's parts, against closed forms, simulation and each other."""

import numpy as np
import pytest
from scipy.integrate import quad

from routing_pomdp.solvers.cascades.copula_chain import (
    Calibration,
    CopulaChain,
    Marginal,
    gumbel,
    gumbel_theta,
    stretched,
)


def gumbel_pairs(theta, n, rng):
    """Pairs with a Gumbel copula by Marshall & Olkin (1988), from a positive stable variable."""
    alpha = 1 / theta
    angle, unit = rng.uniform(0, np.pi, n), rng.exponential(size=n)
    stable = np.sin(alpha * angle) / np.sin(angle) ** (1 / alpha)
    stable *= (np.sin((1 - alpha) * angle) / unit) ** ((1 - alpha) / alpha)
    return np.exp(-((rng.exponential(size=(2, n)) / stable) ** alpha))


@pytest.mark.parametrize("theta", [1.0, 1.5, 4.0, 60.0])
def test_the_copula_is_the_formula_with_its_bounds_and_margins(theta):
    rng = np.random.default_rng(0)
    u, v = rng.random((2, 500))
    formula = np.exp(-(((-np.log(u)) ** theta + (-np.log(v)) ** theta) ** (1 / theta)))
    np.testing.assert_allclose(gumbel(u, v, theta), formula, rtol=1e-10)
    one, zero = np.ones(500), np.zeros(500)
    np.testing.assert_allclose(gumbel(u, one, theta), u, rtol=1e-12)
    np.testing.assert_array_equal(gumbel(u, zero, theta), zero)
    assert (gumbel(u, v, theta) >= u * v - 1e-12).all()
    assert (gumbel(u, v, theta) <= np.minimum(u, v) + 1e-12).all()


@pytest.mark.parametrize("theta", [1.2, 2.0, 5.0])
def test_kendall_s_tau_gives_the_parameter_back(theta):
    u, v = gumbel_pairs(theta, 6000, np.random.default_rng(1))
    assert gumbel_theta(u, v) == pytest.approx(theta, rel=0.08)
    # Simulation and formula are of the same copula.
    assert (np.mean((u < 0.4) & (v < 0.6))) == pytest.approx(
        float(gumbel(np.array(0.4), np.array(0.6), theta)), abs=0.02
    )
    assert gumbel_theta(u, -v) == 1.0


def test_stretching_is_the_paper_s_and_rises_throughout():
    p = np.array([0.1, 0.5, 0.9])
    np.testing.assert_allclose(stretched(p, False), np.log(1 / (1 - p)))
    np.testing.assert_allclose(stretched(p, True), [np.log(2) - np.log(10), np.log(2), np.log(10)])
    fine = np.linspace(0, 1, 2001)
    for two_sided in (False, True):
        assert (np.diff(stretched(fine, two_sided)) >= -1e-12).all()
        assert np.isfinite(stretched(fine, two_sided)).all()


def test_log_probabilities_keep_their_digits():
    logged = np.array([-1e4, -1.0, -1e-9, 0.0])
    found = stretched(logged, False)
    np.testing.assert_allclose(found[1:3], [-np.log(1 - np.exp(-1)), -np.log(1e-9)], rtol=1e-6)
    assert np.isfinite(found).all()
    assert (np.diff(found) > 0).all()
    with pytest.raises(ValueError, match=r"confidences in \[0, 1\] or log-probabilities, found"):
        stretched(np.array([-1.0, 2.0]), False)


def test_calibration_finds_a_logistic_curve_back():
    rng = np.random.default_rng(0)
    x = rng.normal(2, 3, 20_000)
    truth = 1 / (1 + np.exp(-(0.7 * x - 1)))
    fitted = Calibration.fit(x, (rng.random(len(x)) < truth).astype(float))
    np.testing.assert_allclose(fitted(x), truth, atol=0.02)
    # Graded scores whose mean is the curve give the same curve.
    np.testing.assert_allclose(Calibration.fit(x, truth)(x), truth, atol=0.005)


@pytest.mark.parametrize("score", [0.0, 1.0])
def test_a_model_never_or_always_right_has_a_constant_confidence(score):
    fitted = Calibration.fit(np.arange(9.0), np.full(9, score))
    np.testing.assert_allclose(fitted(np.arange(3.0)), (9 * score + 0.5) / 10)
    assert fitted.slope == 0
    flat = Calibration.fit(np.zeros(9), np.array([1.0] * 6 + [0.0] * 3))
    np.testing.assert_allclose(flat(np.zeros(1)), 6.5 / 10)


def test_a_marginal_fits_masses_at_the_ends_and_two_humps_between():
    rng = np.random.default_rng(0)
    humps = np.where(rng.random(6000) < 0.3, rng.beta(3, 12, 6000), rng.beta(20, 4, 6000))
    values = np.concatenate([np.zeros(2000), humps, np.ones(1000)])
    fitted = Marginal.fit(values)
    assert fitted.at_low == pytest.approx(2 / 9)
    assert fitted.at_high == pytest.approx(1 / 9)
    at = np.linspace(0.02, 0.98, 25)
    empirical = np.array([(values <= a).mean() for a in at])
    np.testing.assert_allclose(fitted.cdf(at), empirical, atol=0.02)
    np.testing.assert_array_equal(fitted.cdf(np.array([-0.1, 1.0])), [0, 1])


def test_the_mixture_s_density_integrates_to_one():
    fitted = Marginal.fit(np.random.default_rng(0).beta(2, 3, 500))
    step = 1e-5

    def density(value):
        return float(fitted.cdf(value + step) - fitted.cdf(value - step)) / (2 * step)

    total, _ = quad(density, fitted.low + step, fitted.high - step, limit=200)
    assert total == pytest.approx(1, abs=1e-3)


def test_transitions_are_probabilities_and_keep_the_margins():
    rng = np.random.default_rng(0)
    u, v = gumbel_pairs(2.0, 800, rng)
    chain = CopulaChain.fit(np.stack([u, v, np.round(v, 1)], axis=1))
    assert chain.first.sum() == pytest.approx(1)
    for step in chain.step:
        np.testing.assert_allclose(step.sum(axis=1), 1, atol=1e-9)
        assert (step >= 0).all()
    second = Marginal.fit(v)
    below = np.concatenate([[0], second.cdf(chain.grid[1][1:])])
    np.testing.assert_allclose(chain.first @ chain.step[0], np.diff(below), atol=1e-6)


def test_a_cascade_is_worth_what_simulating_its_chain_says():
    """Cells drawn one after the other, decisions on the cells' confidences."""
    rng = np.random.default_rng(0)
    u, v = gumbel_pairs(2.0, 400, rng)
    chain = CopulaChain.fit(np.stack([u, v], axis=1))
    cut = np.array([chain.grid[0][20], chain.grid[1][15]])  # between cells
    call, verify = np.array([0.05, 0.1, 0.3]), np.array([0.01, 0.02])
    last = 0.5 + 0.4 * chain.value(1)
    n = 200_000
    first = rng.choice(len(chain.first), n, p=chain.first)
    cumulative = chain.step[0].cumsum(axis=1)
    second = (rng.random(n)[:, None] > cumulative[first]).sum(axis=1)
    a, b = chain.value(0)[first], chain.value(1)[np.minimum(second, len(last) - 1)]
    up, top = a < cut[0], b < cut[1]
    got = np.where(~up, a, np.where(top, last[np.minimum(second, len(last) - 1)], b))
    paid = call[0] + verify[0] + up * (call[1] + verify[1]) + (up & top) * call[2]
    found = chain.worth(cut, last, call, verify)
    assert found == pytest.approx((got - paid).mean(), abs=4e-3)


def test_two_confidences_have_the_worth_of_the_double_integral():
    """Uniform margins and a Gumbel copula: by integrating its distribution function."""
    theta = 2.0
    u, v = gumbel_pairs(theta, 4000, np.random.default_rng(3))
    chain = CopulaChain.fit(np.stack([u, v], axis=1), cells=120)
    cut, last = np.array([0.6, 0.5]), np.full(len(chain.value(1)), 0.9)
    # P(u < .6, v < .5), and the parts of E[v] over u < .6, v >= .5 by the tail integral.
    joint = float(gumbel(np.array(0.6), np.array(0.5), theta))

    def tail(t):
        return 0.6 - float(gumbel(np.array(0.6), np.array(max(t, 0.5)), theta))

    kept_second = quad(tail, 0.0, 1.0)[0]
    expected = (1 - 0.6**2) / 2 + kept_second + 0.9 * joint
    found = chain.worth(cut, last, np.zeros(3), np.zeros(2))
    assert found == pytest.approx(expected, abs=0.02)


def test_constant_confidences_are_independent_of_the_others():
    constant, rising = np.full(20, 0.5), np.arange(20.0) / 20
    assert gumbel_theta(constant, rising) == 1.0
    chain = CopulaChain.fit(np.stack([constant, rising], axis=1))
    worth = chain.worth(np.array([1.0, 0.0]), chain.value(1), np.zeros(3), np.zeros(2))
    assert worth == pytest.approx(rising.mean(), abs=0.05)
