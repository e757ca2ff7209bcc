"""Parsing of chat completions in the variants that OpenAI-compatible servers send."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from routing_pomdp.verifiers.answers.free_text import extract_answer, marked_answer
from routing_pomdp.verifiers.collection.records import LARGEST
from routing_pomdp.verifiers.live import Completion, Message, Token

# Values of finish_reason, in lower case.
_CUT = {
    "length",
    "max_tokens",
    "max_output_tokens",
    "model_length",
    "model_context_window_exceeded",
}
_FILTERED = {
    "blocklist",
    "content_filter",
    "content_filtered",
    "guardrail_intervened",
    "prohibited_content",
    "recitation",
    "refusal",
    "safety",
    "sensitive",
}
_FAILED = {
    "abort",
    "aborted",
    "cancelled",
    "error",
    "insufficient_system_resource",
    "network_error",
}
_CALLED = {"tool_calls", "function_call"}
# Parts of a message that hold no answer.
_THOUGHTS = ("reasoning_content", "reasoning", "thinking")
# The log-probability that llama.cpp and others give to an impossible token.
_FLOOR = -1e4


class MalformedResponseError(ValueError):
    """A response holds no completion, or one that the endpoint itself calls failed."""


@dataclass(frozen=True)
class Reply:
    """A parsed completion.

    Attributes:
        text: the message's content. If it is blank and the model ended by itself with a marked
            answer among its thoughts, the thoughts.
        tokens_in: of the prompt.
        tokens_out: generated.
        tokens: with log-probabilities; None without them.
        finish_reason: of the endpoint; "refusal" if the message has a refusal in place of content.
        estimated: whether the endpoint gave no usage. Tokens are then estimated as one for every
            four bytes (generated ones by the number of log-probabilities, if there are any).
        redacted: whether it held a secret.
    """

    text: str
    tokens_in: int
    tokens_out: int
    tokens: tuple[Token, ...] | None
    finish_reason: str
    estimated: bool
    redacted: bool = False


def parse(
    body: str, messages: Sequence[Message], mask: Callable[[Any], Any] = lambda read: read
) -> Reply:
    """The first choice of a response.

    Args:
        body: of the response.
        messages: of the request.
        mask: masks secrets in the parsed body before it is used.

    Raises:
        MalformedResponseError: the body is no JSON, has no choices, or holds an error.
    """
    try:
        read = json.loads(body)
    except ValueError as error:
        raise MalformedResponseError(f"the response is no JSON: {error}") from None
    read, sent = mask(read), read
    if not isinstance(read, dict):
        raise MalformedResponseError(f"the response is {str(read)[:80]!r}")
    choices = read.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise MalformedResponseError(
            f"the response has no choices: {str(read.get('error', read))[:200]!r}"
        )
    choice = choices[0]
    finish = str(choice.get("finish_reason") or "")
    wrong = read.get("error") or choice.get("error") or (failed(finish) and f"finish {finish}")
    if wrong:
        raise MalformedResponseError(f"status 200 with an error: {str(wrong)[:200]!r}")
    message = choice.get("message")
    if not isinstance(message, dict):
        raise MalformedResponseError("the response's first choice has no message")
    text, thoughts = _text(message.get("content")), _thoughts(message)
    if not text.strip():
        if message.get("refusal"):
            finish = "refusal"
        elif finish.lower() not in _CUT | _FILTERED | _CALLED and marked_answer(thoughts):
            text = thoughts
    tokens = _tokens(choice.get("logprobs"))
    usage = read.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    tokens_in, tokens_out = (
        _count(usage.get(f"{part}_tokens")) for part in ("prompt", "completion")
    )
    estimated = tokens_in is None or tokens_out is None
    if tokens_in is None:
        tokens_in = _guess("".join(message["content"] for message in messages))
    if tokens_out is None:
        generated = text if text == thoughts else thoughts + text
        tokens_out = _guess(generated) if tokens is None else len(tokens)
    total = _count(usage.get("total_tokens"))
    if total is not None and not estimated:  # some servers count thoughts only in the total
        tokens_out = max(tokens_out, total - tokens_in)
    return Reply(text, tokens_in, tokens_out, tokens, finish, estimated, read != sent)


def failed(finish_reason: str) -> bool:
    """Whether a finish reason says that the endpoint failed, even if there is text."""
    return finish_reason.lower() in _FAILED


def shortfall(completion: Completion) -> str:
    """Why a completion may hold no answer; "" for one that ended by itself with an answer.

    - "cut": it ended at the limit of tokens. Its answer is scored, if it has one.
    - "filtered": the endpoint or the model refused; it has no answer, even if there is text.
    - "failed": the endpoint failed; it has no answer either.
    - "empty": it ended by itself without an answer: with only thoughts, a tool call, or nothing.
    """
    finish = completion.finish_reason.lower()
    for found, reasons in (("failed", _FAILED), ("filtered", _FILTERED), ("cut", _CUT)):
        if finish in reasons:
            return found
    return "" if extract_answer(completion.text) else "empty"


def answered(completion: Completion) -> bool:
    """Whether a completion holds an answer that can be scored; see `shortfall`."""
    return shortfall(completion) in ("", "cut") and extract_answer(completion.text) != ""


def _count(value: Any) -> int | None:
    whole = isinstance(value, int) and not isinstance(value, bool)
    return value if whole and 0 <= value < LARGEST else None


def _guess(text: str) -> int:
    return -(-len(text.encode()) // 4)


def _text(content: Any) -> str:
    """The text of a message's content: a text, or a list of parts, without thoughts."""
    if isinstance(content, list):
        return "".join(map(_text, content))
    if isinstance(content, dict):
        if str(content.get("type", "text")) not in ("text", "output_text"):
            return ""
        text = content.get("text")
        return _text(text.get("value") if isinstance(text, dict) else text)
    return content if isinstance(content, str) else ""


def _thoughts(message: Mapping[str, Any]) -> str:
    """A model's thoughts, if the endpoint sends them apart from the answer; else ""."""
    return next((text for name in _THOUGHTS if (text := _text(message.get(name)))), "")


def _tokens(logprobs: Any) -> tuple[Token, ...] | None:
    """Log-probabilities in either format; None if there are none, or they are malformed."""
    if not isinstance(logprobs, dict):
        return None
    try:
        if isinstance(logprobs.get("content"), list):
            return tuple(_chat_token(entry) for entry in logprobs["content"]) or None
        if isinstance(logprobs.get("tokens"), list):
            return _listed_tokens(logprobs) or None
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
    return None


def _chat_token(entry: Mapping[str, Any]) -> Token:
    top = {
        str(other["token"]): _logprob(other["logprob"]) for other in entry.get("top_logprobs") or ()
    }
    return Token(str(entry["token"]), _logprob(entry["logprob"]), top)


def _listed_tokens(logprobs: Mapping[str, Any]) -> tuple[Token, ...]:
    """Tokens in the older format, parallel lists."""
    texts, values = logprobs["tokens"], logprobs["token_logprobs"]
    tops = logprobs.get("top_logprobs") or [None] * len(texts)
    return tuple(
        Token(str(text), _logprob(value), {str(k): _logprob(v) for k, v in (top or {}).items()})
        for text, value, top in zip(texts, values, tops, strict=True)
    )


def _logprob(value: Any) -> float:
    number = float(value)
    if math.isnan(number):
        raise ValueError("a log-probability is NaN")
    return min(0.0, max(_FLOOR, number))
