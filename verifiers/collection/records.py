"""`Record`: one line of the call log, validated when it is read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

from routing_pomdp.verifiers.live import Completion, Token

Kind = Literal["sent", "lost", "free"]
_KINDS: tuple[Kind, ...] = ("sent", "lost", "free")
# Larger numbers in the log come from damage.
LARGEST = 1e15


class RecordError(ValueError):
    """A line is no record; the message names the field, its value and what was expected."""


class TornError(RecordError):
    """A line is no JSON, for example because it was written only in part."""


@dataclass(frozen=True)
class CallKey:
    """The identity of a call.

    Attributes:
        query: id of the query.
        model: name of the model.
        purpose: "answer", or the verification that the call is for.
        sample: its index among equal requests.
        request: a hash of everything that decides the response.
    """

    query: str
    model: str
    purpose: str
    sample: int
    request: str

    def digest(self) -> bytes:
        parts = (self.query, self.model, self.purpose, str(self.sample), self.request)
        return hashlib.sha256("\x1f".join(parts).encode(errors="surrogatepass")).digest()[:16]


@dataclass(frozen=True)
class Record:
    """One line of the log.

    Attributes:
        key: of the call.
        completion: the result; None in lines without one.
        flags: anomalies: "usage_estimated", "no_logprobs", "impossible_usage", "secret_repeated".
        charged_in: the most prompt tokens that may be charged for a call without a completion.
        charged_out: the same for generated tokens; None if there is no limit.
        kind: of a line without a completion. "sent": an attempt is about to be sent. "lost": its
            response did not arrive and may be charged. "free": it was refused and is not charged.
    """

    key: CallKey
    completion: Completion | None
    flags: tuple[str, ...] = ()
    charged_in: int = 0
    charged_out: int | None = 0
    kind: Kind = "lost"

    def line(self) -> bytes:
        record: dict[str, Any] = {
            "query": self.key.query,
            "model": self.key.model,
            "purpose": self.key.purpose,
            "sample": self.key.sample,
            "request": self.key.request,
        }
        if self.completion is None:
            record |= {self.kind: True}
            record |= {"tokens_in": self.charged_in, "tokens_out": self.charged_out}
        else:
            made = self.completion
            record |= {
                "text": made.text,
                "tokens_in": made.tokens_in,
                "tokens_out": made.tokens_out,
                "cost": made.cost,
                "latency_ms": made.latency_ms,
                "finish_reason": made.finish_reason,
            }
            if made.tokens is not None:
                record["tokens"] = [[t.text, t.logprob, dict(t.top)] for t in made.tokens]
            if self.flags:
                record["flags"] = list(self.flags)
        # ASCII, so that no character inside a text counts as a line break.
        return json.dumps(record, allow_nan=False, separators=(",", ":")).encode() + b"\n"

    @classmethod
    def parse(cls, line: bytes) -> Self:
        """The record in a line.

        Raises:
            TornError: the line is no JSON.
            RecordError: it is JSON, but no record.
        """
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise TornError(f"it is no JSON: {error}") from None
        if not isinstance(record, dict):
            raise RecordError(f"it is {_short(record)}, expected a JSON object")
        query, model, purpose = (_text(record, name) for name in ("query", "model", "purpose"))
        key = CallKey(query, model, purpose, _count(record, "sample"), _text(record, "request"))
        tokens_in = _count(record, "tokens_in")
        for kind in _KINDS:
            if record.get(kind):
                unlimited = "tokens_out" in record and record["tokens_out"] is None
                tokens_out = None if unlimited else _count(record, "tokens_out")
                return cls(key, None, (), tokens_in, tokens_out, kind)
        completion = Completion(
            text=_text(record, "text"),
            tokens_in=tokens_in,
            tokens_out=_count(record, "tokens_out"),
            cost=_number(record, "cost"),
            latency_ms=_number(record, "latency_ms"),
            tokens=_tokens(record.get("tokens")),
            finish_reason=_text(record, "finish_reason"),
        )
        flags = record.get("flags", [])
        if not isinstance(flags, list) or not all(isinstance(flag, str) for flag in flags):
            raise RecordError(f"flags is {_short(flags)}, expected a list of texts")
        return cls(key, completion, tuple(flags))


def _text(record: Mapping[str, Any], name: str) -> str:
    value = record.get(name)
    if not isinstance(value, str):
        raise _wrong(record, name, "a text")
    return value


def _count(record: Mapping[str, Any], name: str) -> int:
    value = record.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < LARGEST:
        raise _wrong(record, name, "a whole number >= 0")
    return value


def _number(record: Mapping[str, Any], name: str) -> float:
    value = record.get(name)
    if value is None or not _is_number(value) or value < 0:
        raise _wrong(record, name, "a number >= 0")
    return float(value)


def _is_number(value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and -LARGEST < value < LARGEST


def _tokens(value: Any) -> tuple[Token, ...] | None:
    if value is None:
        return None
    expected = "expected a list of [text, log-probability, {text: log-probability}]"
    if not isinstance(value, list):
        raise RecordError(f"tokens is {_short(value)}, {expected}")
    for i, token in enumerate(value):
        if (
            not isinstance(token, list)
            or len(token) != 3
            or not isinstance(token[0], str)
            or not isinstance(token[2], dict)
            or not all(map(_is_number, (token[1], *token[2].values())))
        ):
            raise RecordError(f"tokens[{i}] is {_short(token)}, {expected}")
    return tuple(Token(*token) for token in value)


def _wrong(record: Mapping[str, Any], name: str, expected: str) -> RecordError:
    if name not in record:
        return RecordError(f"{name} is missing, expected {expected}")
    return RecordError(f"{name} is {_short(record[name])}, expected {expected}")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:40] + " …"
