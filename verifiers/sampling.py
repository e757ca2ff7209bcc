"""What may be asked of an endpoint."""

from __future__ import annotations

import math
from typing import Any

_LEAST = {"samples": 1, "max_tokens": 1, "temperature": 0, "top_logprobs": 1}


def check_sampling(verifier: Any) -> None:
    """Raise ValueError unless a verifier's settings can be asked for; the message names the key."""
    for key, least in _LEAST.items():
        value = getattr(verifier, key, None)
        if value is not None and not least <= value < math.inf:
            raise ValueError(f"verifier.{key} is {value}: expected at least {least}")
