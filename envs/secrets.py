"""Secrets in a configuration, known by their names, are masked before it is shown or kept."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any


def masked(config: Any) -> Any:
    """A copy of a config in which whatever stands under a name like ``api_key`` is ``"***"``.

    Args:
        config: nested mappings, lists and plain values.
    """
    if isinstance(config, Mapping):
        return {
            key: _MASK if is_secret(str(key), value) else masked(value)
            for key, value in config.items()
        }
    if isinstance(config, list | tuple):
        return [masked(value) for value in config]
    return config


def is_secret(name: str, value: Any) -> bool:
    """Whether a value under such a name may be a key, a password or the like."""
    if value is None:
        return False
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|[^A-Za-z0-9]+", "_", name).lower()
    if _SECRET.search(words):
        return True
    return _SECRET_IF_TEXT.search(words) is not None and not isinstance(value, int | float)


_MASK = "***"
_SECRET = re.compile(
    r"pass(word|wd|phrase)|secret|credential|(api|access|private)_?key|authorization|bearer"
)
# Ambiguous alone: a token may be a secret or a unit of text, whose counts and prices are numbers.
_SECRET_IF_TEXT = re.compile(r"(^|_)(?<!max_)(key|token|auth|pwd)s?$")
