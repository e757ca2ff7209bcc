"""What settings declare beside their types: ranges of numbers, lengths, forms of texts.

``Annotated[int, Range(1, 100)]`` is a type that `envs.settings.checks` understands, as are the
names at the end of this module for the kinds that recur.
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
    """What a value of the right type must fulfil besides. Its text follows that of the type in
    "expected …", or says all if it has an attribute ``whole``."""

    def holds(self, value: Any) -> bool: ...

    def __str__(self) -> str: ...


@dataclass(frozen=True)
class Range:
    """Bounds of a number; without any, every finite number is in range.

    Attributes:
        least: the smallest that is allowed.
        most: the largest that is allowed.
        above: all that is allowed is larger.
        below: all that is allowed is smaller.
    """

    least: float = -math.inf
    most: float = math.inf
    above: float = -math.inf
    below: float = math.inf

    def holds(self, value: float) -> bool:
        # Said so that NaN fails.
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
    """How many entries a list has, or characters a text."""

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
    """No entry twice."""

    def holds(self, value: Sequence[Any]) -> bool:
        return len(set(value)) == len(value)

    def __str__(self) -> str:
        return "without repetitions"


@dataclass(frozen=True)
class Ordered:
    """Entries that never fall.

    Attributes:
        said: the whole list in words; None to say of what entries it is.
        strictly: no entry is like the one before it.
    """

    said: str | None = None
    strictly: bool = False

    @property
    def whole(self) -> bool:
        return self.said is not None

    def holds(self, value: Sequence[Any]) -> bool:
        return all(a < b or (a == b and not self.strictly) for a, b in itertools.pairwise(value))

    def __str__(self) -> str:
        return self.said or "in rising order"


@dataclass(frozen=True)
class Pattern:
    """A text of a given form.

    Attributes:
        form: the regular expression that all of it matches.
        said: the form in words.
    """

    form: str
    said: str
    whole: ClassVar[bool] = True

    def holds(self, value: str) -> bool:
        return re.fullmatch(self.form, value) is not None

    def __str__(self) -> str:
        return self.said


# Kinds of settings that recur. Upper bounds are what memory or time allow on any machine.
Count = Annotated[int, Range(1, 10**9)]
CountOrZero = Annotated[int, Range(0, 10**9)]
Seed = Annotated[int, Range(0, 2**32 - 1)]
Share = Annotated[float, Range(0, 1)]
PositiveShare = Annotated[float, Range(above=0, most=1)]
Positive = Annotated[float, Range(above=0)]
Finite = Annotated[float, Range()]
NotNegative = Annotated[float, Range(0)]
Symbols = Annotated[int, Range(1, 10_000)]
"""Values that an observation model tells apart."""
Folds = Annotated[int, Range(2, 1000)]
Text = Annotated[str, Length(1)]
Names = Annotated[Sequence[Text], Length(1), Distinct()]
"""Names of models, each once."""


def _number(value: float) -> str:
    return f"{int(value):,}" if float(value).is_integer() else f"{value:g}"
