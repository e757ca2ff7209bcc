"""Responses as servers really send them, and how long they ask to wait."""

import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from verifiers.collection.endpoint import retry_after
from verifiers.collection.responses import MalformedResponseError, parse
from verifiers.live import Token

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
    [(None, ""), ([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "ab")],
)
def test_content_may_be_missing_or_come_in_parts(content, text):
    assert parse(body({"message": {"content": content}}), ASKED).text == text


NOW = datetime(2024, 5, 1, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "3"}, 3.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after-ms": "250", "retry-after": "3"}, 0.25),
        ({"retry-after": format_datetime(NOW + timedelta(seconds=90), usegmt=True)}, 90.0),
        ({"retry-after": format_datetime(NOW - timedelta(seconds=90), usegmt=True)}, 0.0),
    ],
)
def test_how_long_an_endpoint_asks_to_wait(headers, seconds):
    assert retry_after(headers, NOW) == seconds
