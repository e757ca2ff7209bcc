"""Kinds of settings that several solvers have."""

from __future__ import annotations

from typing import Annotated

from envs.ranges import CountOrZero, NotNegative, Ordered, Pattern, Range

Width = Annotated[int, Range(1, 65_536)]
"""Units of a layer."""

PriceRange = Annotated[tuple[NotNegative, NotNegative], Ordered("[low, high], both >= 0")]
"""The smallest and the largest price to train for."""

_Ratio = Annotated[float, Range(1)]
CostRatios = Annotated[tuple[_Ratio, _Ratio], Ordered("[low, high], both >= 1")]
"""The smallest and the largest cost ratio to train for."""

Pair = Annotated[
    tuple[CountOrZero, CountOrZero],
    Ordered("two indexes of models, the cheaper first", strictly=True),
]

Device = Annotated[str, Pattern(r"auto|cpu|mps|xpu|cuda(:\d+)?", "auto, cpu, mps, cuda or cuda:N")]
