"""What may be asked of an endpoint, and what its samples say together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from verifiers.live import Signal

_LEAST = {"samples": 1, "max_tokens": 1, "temperature": 0, "top_logprobs": 1}


def check_sampling(verifier: Any) -> None:
    """Raise ValueError unless a verifier's settings can be asked for; the message names the key."""
    for key, least in _LEAST.items():
        value = getattr(verifier, key, None)
        if value is not None and not least <= value < math.inf:
            raise ValueError(f"verifier.{key} is {value}: expected at least {least}")


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
