"""Types of settings that several solvers share."""

from __future__ import annotations

from typing import Annotated

from routing_pomdp.envs.settings.ranges import CountOrZero, NotNegative, Ordered, Pattern, Range

Width = Annotated[int, Range(1, 65_536)]
"""The number of units of a layer."""

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


def check_count(what: str, count: int, most: int, models: int) -> None:
    """Raise ValueError if a solver would have to enumerate more than ``most`` items."""
    if count > most:
        raise ValueError(
            f"{models} models make {count:,} {what} or more, expected at most {most:,}: choose "
            "fewer models (rollouts.models=[…]), rules that allow less (env=core), or a solver "
            "such as static or pairwise_envelope"
        )
