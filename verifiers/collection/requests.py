"""The body of a request, and the most tokens that a server can count for it."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from routing_pomdp.verifiers.collection.models import ConfigError, ModelSpec
from routing_pomdp.verifiers.live import Message

# Fields that limit generated tokens; a server uses one of those in the request.
_LIMITS = (
    *("max_completion_tokens", "max_tokens", "max_output_tokens", "max_new_tokens"),
    *("n_predict", "num_predict"),
)
# Fields that ask for several completions of one prompt.
_COPIES = ("n", "best_of", "num_return_sequences", "num_beams", "candidate_count")
# Further allowances, such as a budget of thoughts, that may add to the limit.
_ALLOWANCE = re.compile(r"(?!min_).*(tokens|predict|budget)")
# Words of errors about an unknown field.
_UNKNOWN = re.compile(
    r"unsupported|not (supported|permitted|allowed)|unknown|unrecogni|unexpected|instead|extra",
    re.IGNORECASE,
)
_NO_PROMPT = ("messages", "model")
# Tokens of a chat template: for the request, and for each message.
_TEMPLATE = 16


class UnboundedError(ValueError):
    """A request has no bound on generated tokens; the message says why."""


@dataclass(frozen=True)
class Most:
    """The most tokens that a server can count for a request.

    Attributes:
        tokens_in: of the prompt.
        tokens_out: generated; None if there is no limit.
        unbounded: why there is no limit.
    """

    tokens_in: int
    tokens_out: int | None
    unbounded: str = ""


def request_of(
    spec: ModelSpec,
    messages: Sequence[Message],
    temperature: float,
    max_tokens: int,
    top_logprobs: int | None,
) -> dict[str, Any]:
    """The body of a request, with the fields that the model's settings add or omit."""
    request: dict[str, Any] = {
        "model": spec.model,
        "messages": [dict(message) for message in messages],
        "temperature": float(temperature),
        spec.max_tokens_field: max_tokens,
    }
    if top_logprobs is not None:
        request["logprobs"] = True
        if top_logprobs:
            request["top_logprobs"] = top_logprobs
    request |= spec.extra_body
    return {name: value for name, value in request.items() if name not in spec.omit}


def check_bounded(models: Sequence[ModelSpec]) -> None:
    """Raise ConfigError for a model whose requests have no bound on their cost."""
    for spec in models:
        most = most_of(
            request_of(spec, (), spec.temperature, spec.max_tokens, None), spec.max_tokens_field
        )
        if most.tokens_out is None:
            raise ConfigError(
                f"model {spec.name!r}: {most.unbounded}, so that no budget can be kept: limit it "
                "by max_tokens, with max_tokens_field for an endpoint with another name for it "
                "(max_completion_tokens) in place of omit or extra_body; or give no budget"
            )


def hint(spec: ModelSpec, text: str) -> str:
    """Advice on the error message of an endpoint that refuses a request."""
    if spec.max_tokens_field in text and _UNKNOWN.search(text):
        others = [name for name in _LIMITS if name != spec.max_tokens_field]
        named = next((name for name in others if name in text), others[0])
        return f"give max_tokens_field: {named}, as this endpoint calls the limit"
    return "the endpoint does not take such requests: see omit"


def most_of(request: Mapping[str, Any], limit_field: str = "max_tokens", hidden: int = 0) -> Most:
    """Upper bounds of a request's tokens.

    A token is at least one byte, so the prompt has at most as many tokens as all texts in the
    request have bytes: messages, tools, formats. For generated tokens, the largest limit counts,
    plus further allowances, times the number of copies.

    Args:
        request: the body.
        limit_field: the field that the endpoint takes its limit from.
        hidden: tokens that the endpoint itself puts before a prompt.
    """
    messages = request.get("messages", ())
    prompt = hidden + _TEMPLATE + _bytes({k: v for k, v in request.items() if k not in _NO_PROMPT})
    prompt += sum(_TEMPLATE + _bytes({**each, "role": None}) for each in messages)
    try:
        copies = max([1, *(_whole(request, name) for name in _COPIES if name in request)])
        limits = [
            _whole(request, name)
            for name in dict.fromkeys((*_LIMITS, limit_field))
            if name in request
        ]
        if not limits:
            raise UnboundedError("the request has no limit of generated tokens")
        more = sum(_allowances(request, (*_LIMITS, limit_field)))
    except UnboundedError as error:
        return Most(prompt, None, str(error))
    return Most(prompt * copies, (max(limits) + more) * copies)


def _bytes(fields: Mapping[str, Any]) -> int:
    """Bytes of all field values that may become text for a model."""
    texts = (
        value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for value in fields.values()
        if not (value is None or isinstance(value, int | float))
    )
    return sum(len(text.encode(errors="replace")) for text in texts)


def _whole(fields: Mapping[str, Any], name: str, low: int = 1) -> int:
    value = fields[name]
    if not _is_number(value):
        raise UnboundedError(f"{name} is no number")
    if not (low <= value < 1e9 and value == int(value)):
        raise UnboundedError(f"{name} is {value!r}, which is no limit")
    return int(value)


def _allowances(fields: Mapping[str, Any], counted: Collection[str]) -> Iterator[int]:
    for name, value in fields.items():
        if isinstance(value, Mapping):
            yield from _allowances(value, ())
        elif name not in counted and _ALLOWANCE.fullmatch(name) and _is_number(value):
            yield _whole(fields, name, low=0)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
