"""Parsing of the waiting times that responses ask for, in the formats of various servers."""

from __future__ import annotations

import email.utils
import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime

_UNITS = {"ms": 1e-3, "us": 1e-6, "µs": 1e-6, "s": 1, "sec": 1, "m": 60, "min": 60, "h": 3600}
_UNITS |= {"d": 86400, "hr": 3600, "millisecond": 1e-3, "second": 1, "minute": 60, "hour": 3600}
_UNITS |= {"day": 86400}
_PART = re.compile(r"(\d+(?:\.\d+)?)\s*([a-zµ]+)[\s,]*")
_LASTS = r"(\d+(?:\.\d+)?\s*[a-zµ]+(?:[\s,]*\d+(?:\.\d+)?\s*[a-zµ]+)*)"
# "Please try again in 1m30s", "Please retry after 45 seconds", "retryDelay": "34s".
_IN_TEXT = re.compile(
    rf"(?:try again|retry|available again|resets?)\s+(?:in|after)\s+(?:about\s+)?{_LASTS}"
    rf"|retry_?delay\W{{1,6}}{_LASTS}",
    re.IGNORECASE,
)
_RESET = re.compile(r"(?:x-|anthropic-)?rate-?limit-(?:.+-)?reset(?:-.+)?")
# Larger numbers are points in time: seconds, or milliseconds, since 1970.
_EPOCH, _EPOCH_MS = 1e9, 1e11


def asked_to_wait(
    headers: Mapping[str, str], body: str = "", limited: bool = True, now: datetime | None = None
) -> float | None:
    """Seconds that a response asks to wait; None if it does not.

    ``retry-after-ms`` and ``retry-after`` come first, then the body, then the reset headers of the
    rate limits that are used up (of all limits, if none is marked as used up).

    Args:
        headers: of the response, names in lower case.
        body: of the response.
        limited: whether a rate limit is the reason; other responses have reset headers too.
        now: the time.
    """
    now = now or datetime.now(UTC)
    for name, scale in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        seconds = seconds_of(headers.get(name, ""), now, scale)
        if seconds is not None:
            return seconds
    if not limited:
        return None
    if found := _IN_TEXT.search(body):
        seconds = seconds_of(found[1] or found[2], now)
        if seconds is not None:
            return seconds
    used_up: list[float] = []
    others: list[float] = []
    for name, value in headers.items():
        reset = _RESET.fullmatch(name)
        seconds = seconds_of(value, now) if reset else None
        if reset and seconds is not None:
            left = name.replace("reset", "remaining")
            (used_up if headers.get(left, "").strip() == "0" else others).append(seconds)
    return max(used_up or others, default=None)


def seconds_of(text: str, now: datetime, scale: float = 1.0) -> float | None:
    """Seconds to wait by a text with a number, a duration or a date; None if it is none of these.

    Args:
        text: such as "3", "3s", "1m30s", "6ms", "1732547000", or an HTTP or ISO date.
        now: the time.
        scale: seconds in the unit of a bare number.
    """
    text = text.strip()
    try:
        number = float(text) * scale
    except ValueError:
        duration = _duration(text.lower())
        return _until(text, now) if duration is None else duration
    if not math.isfinite(number) or number < 0:
        return None
    if number >= _EPOCH:
        number = number / (1e3 if number >= _EPOCH_MS else 1) - now.timestamp()
    return max(0.0, number)


def _duration(text: str) -> float | None:
    parts = [(float(number), _unit(unit)) for number, unit in _PART.findall(text)]
    if not parts or _PART.sub("", text):
        return None
    if not all(unit for _, unit in parts):
        return None
    return sum(number * unit for number, unit in parts)


def _unit(name: str) -> float:
    return _UNITS.get(name) or _UNITS.get(name.removesuffix("s"), 0)


def _until(text: str, now: datetime) -> float | None:
    for read in (datetime.fromisoformat, email.utils.parsedate_to_datetime):
        try:
            date = read(text)
        except (ValueError, TypeError, OverflowError):
            continue
        if date.tzinfo is None:
            date = date.replace(tzinfo=UTC)
        return max(0.0, (date - now).total_seconds())
    return None
