"""What may be asked of an endpoint, and what its samples say together."""

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
    """The mean of judgements; None stands for one that could not be read. NaN if none
    could: the verifier said nothing.

    Notes: ``unparsable``, how many could not be read; ``no_verdict``, 1 if none could.
    """
    read = [judgement for judgement in judgements if judgement is not None]
    return Signal(
        sum(read) / len(read) if read else math.nan,
        {"unparsable": float(len(judgements) - len(read)), "no_verdict": float(not read)},
    )
