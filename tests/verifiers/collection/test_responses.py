"""Responses as servers really send them."""

import json

import pytest

from routing_pomdp.verifiers.answers.free_text import extract_answer
from routing_pomdp.verifiers.collection.responses import (
    MalformedResponseError,
    answered,
    parse,
    shortfall,
)
from routing_pomdp.verifiers.live import Completion, Token

ASKED = [{"role": "user", "content": "What is 3 + 4?"}]


def body(choice=None, **fields):
    choice = {"message": {"content": "7"}, "finish_reason": "stop"} | (choice or {})
    usage = {"prompt_tokens": 9, "completion_tokens": 1}
    return json.dumps({"choices": [choice], "usage": usage} | fields)


def test_a_plain_completion_is_read():
    reply = parse(body(), ASKED)
    assert (reply.text, reply.tokens_in, reply.tokens_out) == ("7", 9, 1)
    assert reply.tokens is None
    assert not reply.estimated


def test_logprobs_of_chats_come_with_their_alternatives():
    content = [
        {"token": "7", "logprob": 0.0, "top_logprobs": [{"token": "7", "logprob": -0.1}]},
        {"token": "!", "logprob": -9999.0, "bytes": [33]},
    ]
    reply = parse(body({"logprobs": {"content": content}}), ASKED)
    assert reply.tokens == (Token("7", 0.0, {"7": -0.1}), Token("!", -9999.0))


def test_logprobs_in_the_older_shape_are_read_too():
    logprobs = {
        "tokens": ["7", "!"],
        "token_logprobs": [-0.5, -1.5],
        "top_logprobs": [{"7": -0.5, "8": -2.0}, None],
    }
    reply = parse(body({"logprobs": logprobs}), ASKED)
    assert reply.tokens == (Token("7", -0.5, {"7": -0.5, "8": -2.0}), Token("!", -1.5))


@pytest.mark.parametrize(
    "logprobs",
    [
        None,
        {},
        {"content": None},
        {"content": []},
        {"content": [{"token": "7"}]},
        {"content": [{"token": "7", "logprob": None}]},
        {"tokens": ["7"], "token_logprobs": []},
        {"content": ["7"]},
    ],
)
def test_logprobs_that_cannot_be_used_are_as_good_as_none(logprobs):
    assert parse(body({"logprobs": logprobs}), ASKED).tokens is None


def test_infinite_logprobs_are_floored_and_those_that_are_nan_are_none():
    text = body({"logprobs": {"content": [{"token": "7", "logprob": -1.0}]}})
    assert parse(text.replace("-1.0", "-Infinity"), ASKED).tokens == (Token("7", -1e4),)
    assert parse(text.replace("-1.0", "NaN"), ASKED).tokens is None


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "no JSON"),
        ('{"choices": [', "no JSON"),
        ("[]", "the response is"),
        ('{"choices": []}', "no choices"),
        ('{"error": {"message": "upstream failed"}}', "upstream failed"),
        ('{"choices": [{"finish_reason": "stop"}]}', "no message"),
        (body(error={"message": "upstream failed"}), "status 200 with an error.*upstream failed"),
        (body({"error": {"code": 502, "message": "gone"}}), "status 200 with an error.*gone"),
        (body({"finish_reason": "error"}), "finish error"),
        (body({"finish_reason": "abort"}), "finish abort"),
    ],
)
def test_what_holds_no_completion_is_malformed(text, told):
    with pytest.raises(MalformedResponseError, match=told):
        parse(text, ASKED)


@pytest.mark.parametrize("usage", [None, {}, {"prompt_tokens": -1}, {"prompt_tokens": "9"}])
def test_without_usage_tokens_are_estimated_and_it_is_said(usage):
    reply = parse(body({"message": {"content": "seven"}}, usage=usage), ASKED)
    assert (reply.tokens_in, reply.tokens_out, reply.estimated) == (4, 2, True)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (None, ""),
        ([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "ab"),
        (["a", {"type": "output_text", "text": {"value": "b"}}], "ab"),
        ([{"type": "thinking", "thinking": [{"type": "text", "text": "no"}]}, {"text": "b"}], "b"),
        ([{"type": "image_url", "image_url": {"url": "x"}}], ""),
        ({"type": "text", "text": "a"}, "a"),
    ],
)
def test_content_may_be_missing_or_come_in_parts(content, text):
    assert parse(body({"message": {"content": content}}), ASKED).text == text


def replied(message, finish="stop"):
    """A message's completion, as the log keeps it."""
    reply = parse(body({"message": message, "finish_reason": finish}), ASKED)
    return Completion(reply.text, 1, 1, 0.0, 1.0, finish_reason=reply.finish_reason)


THOUGHTS = "3 + 4 is 6? No.\nAnswer: 7"


@pytest.mark.parametrize(
    ("message", "finish", "lacks", "holds"),
    [
        ({"content": "7"}, "stop", "", True),
        ({"content": "7"}, "", "", True),
        ({"content": "so 3 + 4"}, "length", "cut", True),
        ({"content": "so 3 + 4"}, "MAX_TOKENS", "cut", True),
        ({"content": None}, "length", "cut", False),
        ({"content": ""}, "length", "cut", False),
        ({"content": "<think>3 + 4"}, "length", "cut", False),
        ({"content": None, "reasoning_content": THOUGHTS}, "length", "cut", False),
        ({"content": None}, "stop", "empty", False),
        ({"content": " \n"}, "stop", "empty", False),
        ({"content": "<think>3 + 4 is 7</think>"}, "stop", "empty", False),
        ({"content": None, "reasoning_content": "hm, 7"}, "stop", "empty", False),
        ({"content": None, "reasoning_content": THOUGHTS}, "stop", "", True),
        ({"content": "", "reasoning": THOUGHTS}, "stop", "", True),
        ({"content": None, "tool_calls": [{"id": "1"}]}, "tool_calls", "empty", False),
        ({"content": None, "reasoning": THOUGHTS}, "tool_calls", "empty", False),
        ({"content": None, "refusal": "I cannot help"}, "stop", "filtered", False),
        ({"content": "I cannot help"}, "stop", "", True),
        ({"content": "7", "refusal": None}, "stop", "", True),
        ({"content": "The"}, "content_filter", "filtered", False),
        ({"content": None}, "content_filter", "filtered", False),
        ({"content": ""}, "SAFETY", "filtered", False),
    ],
)
def test_what_is_no_answer_is_told_from_a_wrong_one(message, finish, lacks, holds):
    made = replied(message, finish)
    assert (shortfall(made), answered(made)) == (lacks, holds)


def test_an_answer_that_stands_only_among_the_thoughts_is_read_there():
    assert extract_answer(replied({"content": None, "reasoning_content": THOUGHTS}).text) == "7"


def test_logs_from_before_failures_were_told_from_answers_are_read_as_what_they_are():
    for finish, lacks in (("error", "failed"), ("length", "cut"), ("stop", "empty")):
        made = Completion("", 1, 1, 0.0, 1.0, finish_reason=finish)
        assert (shortfall(made), answered(made)) == (lacks, False)


def test_thoughts_count_where_tokens_are_estimated():
    text = body({"message": {"content": "7", "reasoning_content": "x" * 400}}, usage=None)
    assert parse(text, ASKED).tokens_out == 101
