"""Constraints that settings declare beside their types: ranges, lengths, patterns of texts.

`envs.settings.checks` checks types such as ``Annotated[int, Range(1, 100)]``. The end of this
module names frequent ones.
"""

from __future__ import annotations

import itertools
import math
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Protocol


class Constraint(Protocol):
    """A condition on a value of the right type. In messages its text follows that of the type, or
    replaces it if the constraint has a true attribute ``whole``."""

    def holds(self, value: Any) -> bool: ...

    def __str__(self) -> str: ...


@dataclass(frozen=True)
class Range:
    """Bounds of a number; without any, every finite number is in range.

    Attributes:
        least: the smallest number allowed.
        most: the largest number allowed.
        above: an exclusive lower bound.
        below: an exclusive upper bound.
    """

    least: float = -math.inf
    most: float = math.inf
    above: float = -math.inf
    below: float = math.inf

    def holds(self, value: float) -> bool:
        # These comparisons are false for NaN.
        return self.least <= value <= self.most and (
            (self.above < value or self.above == -math.inf)
            and (value < self.below or self.below == math.inf)
        )

    def __str__(self) -> str:
        low = "(" if self.above > self.least else "["
        high = ")" if self.below < self.most else "]"
        bottom, top = max(self.least, self.above), min(self.most, self.below)
        if math.isinf(bottom) and math.isinf(top):
            return ""
        if math.isinf(top):
            return f"{'>' if low == '(' else '>='} {_number(bottom)}"
        if math.isinf(bottom):
            return f"{'<' if high == ')' else '<='} {_number(top)}"
        if low + high == "[]":
            return f"from {_number(bottom)} to {_number(top)}"
        return f"in {low}{_number(bottom)}, {_number(top)}{high}"


@dataclass(frozen=True)
class Length:
    """Bounds of the number of a list's entries or a text's characters."""

    least: int = 1
    most: int = sys.maxsize

    def holds(self, value: Any) -> bool:
        return self.least <= len(value) <= self.most

    def __str__(self) -> str:
        if self.most == sys.maxsize:
            return "that is not empty" if self.least == 1 else f"of length {self.least} or more"
        if self.least == self.most:
            return f"of length {self.least}"
        return f"of length {self.least} to {self.most:,}"


@dataclass(frozen=True)
class Distinct:
    """A list without repeated entries."""

    def holds(self, value: Sequence[Any]) -> bool:
        return len(set(value)) == len(value)

    def __str__(self) -> str:
        return "without repetitions"


@dataclass(frozen=True)
class Ordered:
    """A list in non-decreasing order.

    Attributes:
        words: the description of the whole list; None for that of its entries.
        strictly: whether equal neighbours are not allowed.
    """

    words: str | None = None
    strictly: bool = False

    @property
    def whole(self) -> bool:
        return self.words is not None

    def holds(self, value: Sequence[Any]) -> bool:
        return all(a < b or (a == b and not self.strictly) for a, b in itertools.pairwise(value))

    def __str__(self) -> str:
        return self.words or "in rising order"


@dataclass(frozen=True)
class Pattern:
    """A text of a given form.

    Attributes:
        form: the regular expression that the whole text matches.
        words: the form in words.
    """

    form: str
    words: str
    whole: ClassVar[bool] = True

    def holds(self, value: str) -> bool:
        return re.fullmatch(self.form, value) is not None

    def __str__(self) -> str:
        return self.words


# Frequent kinds of settings. Upper bounds are what memory or time allow on any machine.
Count = Annotated[int, Range(1, 10**9)]
CountOrZero = Annotated[int, Range(0, 10**9)]
Seed = Annotated[int, Range(0, 2**32 - 1)]
Share = Annotated[float, Range(0, 1)]
PositiveShare = Annotated[float, Range(above=0, most=1)]
Positive = Annotated[float, Range(above=0)]
Finite = Annotated[float, Range()]
NotNegative = Annotated[float, Range(0)]
Symbols = Annotated[int, Range(1, 10_000)]
"""The number of symbols of an observation model."""
Folds = Annotated[int, Range(2, 1000)]
Text = Annotated[str, Length(1)]
Names = Annotated[Sequence[Text], Length(1), Distinct()]
"""Distinct names of models."""


def _number(value: float) -> str:
    return f"{int(value):,}" if float(value).is_integer() else f"{value:g}"
