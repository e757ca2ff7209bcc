"""Ranges of sampling settings, and the mean of sampled judgements."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated

from routing_pomdp.envs.settings.ranges import Range
from routing_pomdp.verifiers.live import Signal

Samples = Annotated[int, Range(1, 1000)]
Temperature = Annotated[float, Range(0, 100)]
Tokens = Annotated[int, Range(1, 10_000_000)]


def mean_of_read(judgements: Sequence[float | None]) -> Signal:
    """The mean of the judgements that are not None (unparsable); NaN if all are.

    Notes: ``unparsable``, how many were not parsable; ``no_verdict``, 1 if none was.
    """
    read = [judgement for judgement in judgements if judgement is not None]
    return Signal(
        sum(read) / len(read) if read else math.nan,
        {"unparsable": float(len(judgements) - len(read)), "no_verdict": float(not read)},
    )
