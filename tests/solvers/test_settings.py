"""Settings out of range are refused by their config keys, NaN among them."""

import math
from dataclasses import dataclass
from typing import Literal

import pytest

from solvers.settings import check_least, check_shares, check_words

Tree = Literal["oak", "elm"]


@dataclass(frozen=True)
class Solver:
    depth: int = 1
    rate: float = 1.0
    tree: Tree = "oak"


def check(solver):
    check_least(solver, depth=1)
    check_shares(solver, "rate")
    check_words(solver, tree=Tree)


@pytest.mark.parametrize("solver", [Solver(), Solver(9, 1e-9, "elm")])
def test_what_lies_in_range_passes(solver):
    check(solver)


@pytest.mark.parametrize(
    ("solver", "message"),
    [
        (Solver(depth=0), r"solver\.depth is 0: expected at least 1$"),
        (Solver(depth=math.nan), r"solver\.depth is nan: expected at least 1$"),
        (Solver(rate=0.0), r"solver\.rate is 0\.0: expected in \(0, 1\]$"),
        (Solver(rate=1.5), r"solver\.rate is 1\.5: expected in \(0, 1\]$"),
        (Solver(rate=math.nan), r"solver\.rate is nan: expected in \(0, 1\]$"),
        (Solver(tree="ash"), r"solver\.tree is 'ash': expected one of \('oak', 'elm'\)$"),
    ],
)
def test_what_lies_out_of_range_is_named(solver, message):
    with pytest.raises(ValueError, match=message):
        check(solver)
