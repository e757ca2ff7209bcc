"""Values are checked against declared types and ranges: whatever is out of them is named."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing_pomdp.envs.settings.checks import check_settings, declared, fault
from routing_pomdp.envs.settings.ranges import (
    Count,
    Distinct,
    Length,
    Ordered,
    Pattern,
    Range,
    Share,
)

if TYPE_CHECKING:
    from nowhere import Thing

number = st.floats(allow_nan=False, allow_infinity=False)


@given(number, number, number)
def test_a_number_passes_exactly_where_it_lies_between_its_bounds(value, low, high):
    def passes(bounds: Range) -> bool:
        return fault(value, Annotated[float, bounds], "x") is None

    assert passes(Range(low, high)) == (low <= value <= high)
    assert passes(Range(above=low, below=high)) == (low < value < high)
    assert passes(Range(above=low)) == (low < value)
    assert passes(Range(most=high)) == (value <= high)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, "1", None, True, [1.0]])
@pytest.mark.parametrize("kind", [float, Annotated[float, Range()], Share, Share | Literal["all"]])
def test_what_is_no_finite_number_never_passes_for_one(value, kind):
    assert fault(value, kind, "x").startswith("x is ")


@pytest.mark.parametrize(
    ("kind", "good", "bad", "expected"),
    [
        (Count, [1, np.int64(7), 10**9], [0, 1.0, True], "a whole number from 1 to 1,000,000,000"),
        (Annotated[float, Range(above=0, most=1)], [1, 0.5], [0, 1.1], r"a number in \(0, 1\]"),
        (Annotated[float, Range(0)], [0, 1e308], [-1e-9], "a number >= 0"),
        (Annotated[int, Range(below=0)], [-1], [0], "a whole number < 0"),
        (bool, [True], [0, "true", None], "true or false"),
        (Literal["own", "joint"], ["own"], ["Own", None, 1], "one of 'own', 'joint'"),
        (Literal[2, 4], [2], [3, 2.0, "2"], "one of 2, 4"),
        (int | None, [None, 3], [1.5, "x"], "a whole number or null"),
        (Sequence[int], [[], [1], (1,)], [3, "12", {1: 2}], "a list of whole numbers"),
        (tuple[int, int], [[1, 2]], [[1], [1, 2, 3]], r"a list \[a whole number, a whole number\]"),
        (
            Annotated[Sequence[int], Length(1), Distinct()],
            [[1, 2]],
            [[], [1, 1]],
            "a list of whole",
        ),
        (Annotated[Sequence[int], Ordered()], [[1, 1, 2]], [[2, 1]], ".* in rising order"),
        (Annotated[Sequence[int], Ordered("two", strictly=True)], [[1, 2]], [[1, 1]], "two$"),
        (Annotated[str, Pattern("a+", "a few a")], ["aa"], ["", "ab"], "a few a$"),
        (Mapping[str, int], [{}, {"a": 1}], [3, [1]], "a mapping from texts to whole numbers"),
    ],
)
def test_each_kind_takes_what_fits_and_says_what_it_expects(kind, good, bad, expected):
    for value in good:
        assert fault(value, kind, "group.key") is None
    for value in bad:
        with pytest.raises(ValueError, match=rf"^group\.key is .*: expected {expected}"):
            raise ValueError(fault(value, kind, "group.key"))


def test_an_entry_of_a_list_or_mapping_is_named_by_its_place():
    assert fault([1, "x"], Sequence[int] | None, "a").startswith("a[1] is 'x': expected")
    assert fault({"b": "x"}, Mapping[str, int], "a").startswith("a.b is 'x': expected")


def test_a_text_that_reads_as_a_number_is_told_how_to_be_quoted():
    assert fault(2024, str, "sweep").endswith("""(as a text: sweep='"2024"')""")


@dataclass(frozen=True)
class Plugin:
    size: Count = 1
    thing: Thing | None = None
    fitted_: Any = None


def test_fitted_fields_are_no_settings_and_annotations_for_type_checkers_cost_nothing_else():
    assert set(declared(Plugin).kinds) == {"size", "thing"}
    check_settings(Plugin(thing=3), "solver")
    with pytest.raises(ValueError, match=r"solver\.size is 0: expected a whole number from 1"):
        check_settings(Plugin(size=0), "solver")
