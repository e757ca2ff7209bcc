"""Value iteration on the whole simplex: the tiger problem's known values and plain recursion."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linprog

from routing_pomdp.envs.model.pomdp_file import read_pomdp
from routing_pomdp.solvers.exact.pruning import prune, pruned_sum
from routing_pomdp.solvers.exact.value_iteration import value_iteration
from tests.support.pomdps import TIGER, random_pomdp, tree_value

SEEDS = st.integers(0, 2**32)


@pytest.fixture
def tiger(tmp_path):
    (tmp_path / "tiger.pomdp").write_text(TIGER)
    return read_pomdp(tmp_path / "tiger.pomdp")


# -- value iteration --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("horizon", "value"),
    [(1, -1.0), (2, -1.95), (3, 2.3098), (4, 1.79554421875), (10, 6.693368431750728)],
)
def test_tiger_at_finite_horizons(tiger, horizon, value):
    solution = value_iteration(tiger, horizon)
    assert solution.value.value(tiger.start) == pytest.approx(value, abs=1e-9)
    assert solution.iterations == horizon


def test_tiger_at_an_infinite_horizon(tiger):
    solution = value_iteration(tiger, precision=1e-9)
    assert solution.value.value(tiger.start) == pytest.approx(19.3713683744, abs=2e-9)
    assert solution.error <= 1e-9
    assert len(solution.value.vectors) == 9  # as pomdp-solve has it
    sure = np.array([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]])
    assert [tiger.actions[a] for a in solution.value.act(sure)] == [
        "open-right",
        "open-left",
        "listen",
    ]


def test_tiger_without_a_discount(tiger):
    value = value_iteration(replace(tiger, discount=1.0), 3).value
    assert value.value(tiger.start) == pytest.approx(2.72, abs=1e-9)


@given(seed=SEEDS, states=st.integers(1, 4), symbols=st.integers(1, 3), horizon=st.integers(1, 3))
def test_random_problems_equal_plain_recursion(seed, states, symbols, horizon):
    rng = np.random.default_rng(seed)
    pomdp = random_pomdp(rng, states, 2, symbols, gap=0.3)
    value = value_iteration(pomdp, horizon).value
    for belief in [pomdp.start, *np.eye(states), rng.dirichlet(np.ones(states))]:
        expected = tree_value(pomdp, list(belief), horizon)
        assert value.value(belief) == pytest.approx(expected, abs=1e-8)


def test_the_error_of_an_infinite_horizon_is_a_bound():
    pomdp = replace(random_pomdp(np.random.default_rng(3)), discount=0.6)
    rough, fine = (value_iteration(pomdp, precision=p) for p in (0.1, 1e-9))
    beliefs = np.random.default_rng(0).dirichlet(np.ones(3), size=100)
    apart = np.abs(rough.value.value(beliefs) - fine.value.value(beliefs)).max()
    assert 0 < apart <= rough.error <= 0.1
    assert rough.iterations < fine.iterations


@pytest.mark.parametrize("horizon", [None, 12])
@pytest.mark.parametrize("discount", [0.9, 1.0])
@pytest.mark.parametrize("ticks", [1, 40, 200])
def test_a_time_limit_returns_the_last_backup_with_a_bound_that_holds(
    monkeypatch, horizon, discount, ticks
):
    if horizon is None and discount == 1:
        return
    clock = itertools.count()
    monkeypatch.setattr(
        "routing_pomdp.solvers.exact.pruning.time.monotonic", lambda: float(next(clock))
    )
    pomdp = replace(random_pomdp(np.random.default_rng(5), states=3), discount=discount)
    seen = []
    found = value_iteration(pomdp, horizon, seconds=ticks, progress=seen.append)
    assert found.stopped
    assert [solution.iterations for solution in seen] == list(range(1, found.iterations + 1))
    right = value_iteration(pomdp, horizon)
    assert not right.stopped
    beliefs = np.random.default_rng(0).dirichlet(np.ones(3), size=50)
    apart = np.abs(found.value.value(beliefs) - right.value.value(beliefs)).max()
    assert 0 < apart <= found.error


def test_what_is_too_large_for_memory_is_refused_with_its_size():
    pomdp = random_pomdp(np.random.default_rng(0), states=2)
    symbols = 10**9  # a view of one number: only the problem's shape is large
    wide = np.broadcast_to(1 / symbols, (2, 2, symbols))
    monstrous = replace(pomdp)
    object.__setattr__(monstrous, "observation", wide)
    object.__setattr__(monstrous, "observations", range(symbols))
    with pytest.raises(ValueError, match=r"2 x 1,000,000,000 x 2 x 2 .* 60 GiB"):
        value_iteration(monstrous, 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"horizon": 0}, "the horizon is 0: expected at least 1"),
        ({"horizon": None}, "needs a discount below 1"),
        ({"horizon": 3, "precision": 0.0}, "precision is 0.0"),
        ({"horizon": 3, "seconds": 0.0}, "time limit is 0.0 seconds"),
        ({"horizon": 3, "seconds": float("nan")}, "time limit is nan seconds"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    pomdp = replace(random_pomdp(np.random.default_rng(0)), discount=1.0)
    with pytest.raises(ValueError, match=message):
        value_iteration(pomdp, **arguments)


def test_too_many_vectors_are_refused():
    pomdp = random_pomdp(np.random.default_rng(0), states=4, actions=4, symbols=4)
    with pytest.raises(ValueError, match="more than max_vectors=50"):
        value_iteration(pomdp, 6, max_vectors=50)


# -- pruning ----------------------------------------------------------------------------------


def _needed(vectors):
    """Those that rise above all others somewhere, by a linear program each from another solver
    interface."""
    kept = []
    for i, vector in enumerate(vectors):
        others = np.delete(vectors, i, axis=0)
        # Maximise t with b·(vector - other) >= t for every other.
        rows = np.column_stack([others - vector, np.ones(len(others))])
        found = linprog(
            np.append(np.zeros(len(vector)), -1.0),
            A_ub=rows,
            b_ub=np.zeros(len(others)),
            A_eq=np.append(np.ones(len(vector)), 0.0)[None],
            b_eq=[1.0],
            bounds=[(0, None)] * len(vector) + [(None, None)],
        )
        if -found.fun > 1e-9:
            kept.append(i)
    return kept


@given(seed=SEEDS, states=st.integers(2, 5), count=st.integers(2, 25))
def test_what_is_kept_is_what_is_needed(seed, states, count):
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(count, states))
    vectors -= np.linalg.norm(vectors, axis=1, keepdims=True) / 2  # more of them on the surface
    assert prune(vectors).tolist() == _needed(vectors)


@given(seed=SEEDS, states=st.integers(1, 4))
def test_pruning_keeps_the_surface_with_ties_and_duplicates(seed, states):
    rng = np.random.default_rng(seed)
    vectors = rng.integers(0, 4, size=(30, states)).astype(float)
    kept = prune(vectors)
    beliefs = np.concatenate([np.eye(states), rng.dirichlet(np.ones(states), size=200)])
    np.testing.assert_allclose(
        (beliefs @ vectors[kept].T).max(axis=1), (beliefs @ vectors.T).max(axis=1), atol=1e-9
    )
    assert len(np.unique(vectors[kept], axis=0)) == len(kept)


@given(seed=SEEDS, states=st.integers(2, 4), sets=st.integers(1, 4))
def test_a_pruned_sum_has_the_surface_of_the_sum(seed, states, sets):
    rng = np.random.default_rng(seed)
    parts = [rng.normal(size=(rng.integers(1, 6), states)) for _ in range(sets)]
    beliefs = np.concatenate([np.eye(states), rng.dirichlet(np.ones(states), size=200)])
    total = pruned_sum(parts, 1000)
    expected = sum((beliefs @ part.T).max(axis=1) for part in parts)
    np.testing.assert_allclose((beliefs @ total.T).max(axis=1), expected, atol=1e-9)
    assert prune(total).tolist() == list(range(len(total)))
