"""One factor on quadrature points: EM that never falls, and slopes that are known."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routing_pomdp.envs.model.latent_classes import ClassTables
from routing_pomdp.envs.model.latent_factor import factor_ascent, fit_factor
from tests.envs.model.test_latent_classes import draw, random_tables


@pytest.mark.slow
@settings(max_examples=10)
@given(st.integers(0, 2**32), st.integers(2, 7), st.floats(0.05, 20))
def test_the_posterior_density_never_falls(seed, points, strength):
    rng = np.random.default_rng(seed)
    cells = draw(random_tables(rng, 3), 60, rng)
    trace = [objective for objective, _ in factor_ascent(cells, points, strength, 0.0)]
    assert (np.diff(trace) >= -1e-8).all()


def test_a_known_factor_comes_back():
    points = np.linspace(-2, 2, 7)
    share = np.exp(-(points**2) / 2)
    share /= share.sum()
    right = 1 / (1 + np.exp(-(0.3 + np.outer(points, [1.5, 1.0, 0.5]))))  # (C, N)
    sure = 1 / (1 + np.exp(-(np.outer(points, [1.0, 2.0]))))[:, :, None, None]
    symbol = np.tile(np.concatenate([1 - sure, sure], axis=-1), (1, 1, 2, 1))
    truth = ClassTables(share, np.stack([1 - right, right], axis=2), symbol, np.empty((7, 0)))
    found = fit_factor(draw(truth, 20_000, np.random.default_rng(0)), 7, 0.01, tolerance=1e-7)
    middle = slice(1, 6)  # hardly a query lies at the ends
    np.testing.assert_allclose(found.level[middle], truth.level[middle], atol=0.06)
    np.testing.assert_allclose(found.symbol[middle], truth.symbol[middle], atol=0.08)


def test_slopes_that_are_held_at_nothing_leave_independence():
    rng = np.random.default_rng(1)
    cells = draw(random_tables(rng, 2), 200, rng)
    found = fit_factor(cells, 5, 1e9)
    assert np.ptp(found.level, axis=0).max() < 1e-4
    assert np.ptp(found.symbol, axis=0).max() < 1e-4
    np.testing.assert_allclose(found.level[0], cells.level_share, atol=0.02)


def test_a_symbol_that_was_never_shown_stays_impossible():
    rng = np.random.default_rng(2)
    cells = draw(random_tables(rng, 2), 100, rng)
    cells.symbol_share[0, :, 2] = 0
    cells.symbol_share[0] /= cells.symbol_share[0].sum(axis=1, keepdims=True)
    cells.symbol[:, 0] = np.minimum(cells.symbol[:, 0], 1)
    found = fit_factor(cells, 3, 1.0)
    assert (found.symbol[:, 0, :, 2] == 0).all()
    assert found.symbol.sum(axis=-1) == pytest.approx(1)
