"""A finite POMDP refuses tables that are none."""

from dataclasses import replace

import numpy as np
import pytest

from tests.support.pomdps import random_pomdp

POMDP = random_pomdp(np.random.default_rng(0))


def _with(name, where, value):
    table = getattr(POMDP, name).copy()
    table[where] = value
    return {name: table}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_with("transition", (1, 2), 0.5), "transition of action a1 from state s2: expected"),
        (_with("observation", (0, 1), [1.5, -0.5]), "observation of action a0 after state s1"),
        (_with("transition", (0, 0, 0), np.nan), "transition of action a0 from state s0"),
        (_with("reward", (0, 0), np.nan), "reward is not finite"),
        (_with("start", 0, 0.9), "start: expected probabilities"),
        ({"discount": 0.0}, "discount is 0.0"),
        ({"discount": 1.1}, "discount is 1.1"),
        ({"discount": float("nan")}, "discount is nan"),
        ({"states": ("a", "b")}, "transition has shape"),
    ],
)
def test_bad_tables_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        replace(POMDP, **change)


def test_the_kernel_joins_both_tables():
    assert POMDP.kernel.sum(axis=(1, 3)) == pytest.approx(np.ones((2, 3)))
    expected = POMDP.transition[1, 2, 0] * POMDP.observation[1, 0, 1]
    assert POMDP.kernel[1, 1, 2, 0] == expected
