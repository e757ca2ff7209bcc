"""EM of query classes: against closed forms, enumeration and known classes."""

from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routing_pomdp.envs.model.latent_classes import (
    Cells,
    ClassTables,
    Strength,
    ascents,
    fit_classes,
)

SEEDS = st.integers(0, 2**32)


def random_tables(
    rng: np.random.Generator, classes: int, models: int = 3, levels: int = 2, symbols: int = 3
) -> ClassTables:
    return ClassTables(
        rng.dirichlet(np.full(classes, 5.0)),
        rng.dirichlet(np.ones(levels), (classes, models)),
        rng.dirichlet(np.ones(symbols), (classes, models - 1, levels)),
        np.empty((classes, 0)),
    )


def drawn(shares: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One of ``K`` for each row of shares ``(..., K)``."""
    return (rng.random((*shares.shape[:-1], 1)) > shares.cumsum(axis=-1)[..., :-1]).sum(axis=-1)


def draw(tables: ClassTables, n: int, rng: np.random.Generator) -> Cells:
    """Queries of a model, with the class-free shares of the drawn ones."""
    _, models, levels = tables.level.shape
    symbols = tables.symbol.shape[-1]
    z = rng.choice(tables.n_classes, size=n, p=tables.share)
    level = drawn(tables.level[z], rng)
    shares = tables.symbol[z[:, None], np.arange(models - 1), level[:, :-1]]
    symbol = drawn(shares, rng)
    return cells_of(level, symbol, levels, symbols)


def cells_of(level, symbol, levels: int, symbols: int) -> Cells:
    level_share = np.stack([(level == k).mean(axis=0) for k in range(levels)], axis=1) + 0.01
    symbol_share = np.ones((symbol.shape[1], levels, symbols))
    for model, k in product(range(symbol.shape[1]), range(levels)):
        shown = symbol[level[:, model] == k, model]
        symbol_share[model, k] += np.bincount(shown, minlength=symbols)
    return Cells(
        level,
        symbol,
        level_share / level_share.sum(axis=1, keepdims=True),
        symbol_share / symbol_share.sum(axis=2, keepdims=True),
    )


@settings(max_examples=12)
@given(SEEDS, st.integers(1, 5), st.floats(0.1, 50), st.floats(0.1, 50))
def test_the_posterior_density_never_falls(seed, classes, level, symbol):
    rng = np.random.default_rng(seed)
    cells = draw(random_tables(rng, 3), 60, rng)
    trace = [
        objective for objective, _ in ascents(cells, classes, Strength(level, symbol), 3, seed, 0.0)
    ]
    assert (np.diff(trace, axis=0) >= -1e-8).all()


@given(SEEDS)
def test_one_class_is_the_closed_form(seed):
    rng = np.random.default_rng(seed)
    cells = draw(random_tables(rng, 2), 40, rng)
    found = fit_classes(cells, 1, Strength(4.0, 16.0))
    assert found.share == 1
    for model in range(3):
        for k in (0, 1):
            rows = cells.level[:, model] == k
            level = (rows.sum() + 4 * cells.level_share[model, k]) / (40 + 4)
            assert found.level[0, model, k] == pytest.approx(level)
            if model < 2:
                count = np.bincount(cells.symbol[rows, model], minlength=3)
                shares = (count + 16 * cells.symbol_share[model, k]) / (rows.sum() + 16)
                np.testing.assert_allclose(found.symbol[0, model, k], shares)


@given(SEEDS, st.integers(1, 4))
def test_responsibilities_are_bayes_rule(seed, classes):
    rng = np.random.default_rng(seed)
    tables = random_tables(rng, classes)
    cells = draw(tables, 10, rng)
    for query in range(10):
        joint = []
        for z in range(classes):
            p = tables.share[z]
            for model in range(3):
                k = cells.level[query, model]
                p *= tables.level[z, model, k]
                if model < 2:
                    p *= tables.symbol[z, model, k, cells.symbol[query, model]]
            joint.append(p)
        np.testing.assert_allclose(
            tables.responsibilities(cells)[query], np.array(joint) / sum(joint), atol=1e-12
        )
        assert tables.log_likelihood(cells)[query] == pytest.approx(np.log(sum(joint)))


def test_classes_that_are_known_come_back():
    rng = np.random.default_rng(3)
    easy, hard = np.array([[0.3, 0.7]] * 3), np.array([[0.8, 0.2], [0.7, 0.3], [0.5, 0.5]])
    sure, unsure = np.array([0.05, 0.1, 0.85]), np.array([0.7, 0.2, 0.1])
    truth = ClassTables(
        np.array([0.6, 0.4]),
        np.stack([hard, easy]),
        np.stack([np.tile(unsure, (2, 2, 1)), np.tile(sure, (2, 2, 1))]),
        np.empty((2, 0)),
    )
    found = fit_classes(draw(truth, 20_000, rng), 2, Strength(1.0, 1.0), tolerance=1e-6)
    errors = []
    for order in permutations(range(2)):
        parts = [
            np.abs(getattr(found, name)[list(order)] - getattr(truth, name)).max()
            for name in ("share", "level", "symbol")
        ]
        errors.append(max(parts))
    assert min(errors) < 0.05


def test_a_strong_prior_is_the_class_free_tables():
    rng = np.random.default_rng(4)
    cells = draw(random_tables(rng, 3), 100, rng)
    found = fit_classes(cells, 3, Strength(1e9, 1e9))
    np.testing.assert_allclose(found.level, np.tile(cells.level_share, (3, 1, 1)), atol=1e-5)
    np.testing.assert_allclose(found.symbol, np.tile(cells.symbol_share, (3, 1, 1, 1)), atol=1e-5)


def test_starts_and_results_repeat():
    rng = np.random.default_rng(5)
    cells = draw(random_tables(rng, 3), 200, rng)
    one, other = (fit_classes(cells, 4, Strength(), starts=3, seed=7) for _ in range(2))
    np.testing.assert_array_equal(one.symbol, other.symbol)
    best = max(objective.max() for objective, _ in ascents(cells, 4, Strength(), starts=3, seed=7))
    alone = max(objective.max() for objective, _ in ascents(cells, 4, Strength(), starts=1, seed=7))
    assert best >= alone - 1e-3
