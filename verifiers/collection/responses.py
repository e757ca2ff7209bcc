"""Reading chat completions as OpenAI-compatible servers really send them."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from routing_pomdp.verifiers.answers.free_text import extract_answer, marked_answer
from routing_pomdp.verifiers.collection.records import LARGEST
from routing_pomdp.verifiers.live import Completion, Message, Token

# What endpoints write as finish_reason, in small letters.
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
# What llama.cpp and others give for an impossible token.
_FLOOR = -1e4


class MalformedResponseError(ValueError):
    """A response that holds no completion, or one that the endpoint itself calls failed."""


@dataclass(frozen=True)
class Reply:
    """A completion as it was sent.

    Attributes:
        text: the message's content. Where a model that ended by itself marked its answer among its
            thoughts and said nothing else, it is the thoughts.
        tokens_in: of the prompt.
        tokens_out: generated.
        tokens: with log-probabilities; None where there are none.
        finish_reason: as the endpoint says; "refusal" where the model refused in the field for it.
        estimated: whether the endpoint gave no usage, and tokens are counted as one for every four
            bytes (generated ones by their log-probabilities, where there are any).
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
    body: str, messages: Sequence[Message], gate: Callable[[Any], Any] = lambda read: read
) -> Reply:
    """The first choice of a response.

    Args:
        body: of the response.
        messages: what was sent.
        gate: takes secrets out of what was read, before anything of it is used or cut.

    Raises:
        MalformedResponseError: no JSON, no choices, or an error in place of a completion, beside
            it or in it.
    """
    try:
        read = json.loads(body)
    except ValueError as error:
        raise MalformedResponseError(f"the response is no JSON: {error}") from None
    read, sent = gate(read), read
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
        said = text if text == thoughts else thoughts + text
        tokens_out = _guess(said) if tokens is None else len(tokens)
    total = _count(usage.get("total_tokens"))
    if total is not None and not estimated:  # some count thoughts there alone
        tokens_out = max(tokens_out, total - tokens_in)
    return Reply(text, tokens_in, tokens_out, tokens, finish, estimated, read != sent)


def failed(finish_reason: str) -> bool:
    """Whether an endpoint says that it failed, whatever text came before."""
    return finish_reason.lower() in _FAILED


def shortfall(completion: Completion) -> str:
    """What a completion lacks of an answer; "" for one that ended by itself and holds an answer.

    - "cut": it ended at the limit of tokens. What it says is scored; it may say nothing.
    - "filtered": the endpoint or the model refused; no answer, whatever text there is.
    - "failed": the endpoint failed meanwhile; no answer either.
    - "empty": it ended by itself without an answer: with thoughts alone, a call of a tool, or
      nothing.
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
    """The text of a content: a text, or parts as some servers send them, without their thoughts."""
    if isinstance(content, list):
        return "".join(map(_text, content))
    if isinstance(content, dict):
        if str(content.get("type", "text")) not in ("text", "output_text"):
            return ""
        text = content.get("text")
        return _text(text.get("value") if isinstance(text, dict) else text)
    return content if isinstance(content, str) else ""


def _thoughts(message: Mapping[str, Any]) -> str:
    """What a model thought, where an endpoint gives it apart from the answer."""
    return next((text for name in _THOUGHTS if (text := _text(message.get(name)))), "")


def _tokens(logprobs: Any) -> tuple[Token, ...] | None:
    """Log-probabilities in either shape; None where there are none, or none that can be used."""
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
    """The older shape: parallel lists."""
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
