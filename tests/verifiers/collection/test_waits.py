"""How long a response asks to wait, in the ways in which servers say it."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing_pomdp.verifiers.collection.waits import asked_to_wait, seconds_of

NOW = datetime(2024, 5, 1, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "3"}, 3.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": "3s"}, 3.0),
        ({"retry-after": "30 seconds"}, 30.0),
        ({"retry-after": "-3"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": ""}, None),
        ({"retry-after": str(int(NOW.timestamp()) + 40)}, 40.0),
        ({"retry-after-ms": "250", "retry-after": "3"}, 0.25),
        ({"retry-after-ms": "soon", "retry-after": "3"}, 3.0),
        ({"retry-after": format_datetime(NOW + timedelta(seconds=90), usegmt=True)}, 90.0),
        ({"retry-after": format_datetime(NOW - timedelta(seconds=90), usegmt=True)}, 0.0),
        ({"retry-after": "2024-05-01T12:01:00Z"}, 60.0),
        # OpenAI and Groq: durations.
        ({"x-ratelimit-reset-requests": "6ms", "x-ratelimit-reset-tokens": "1m30s"}, 90.0),
        ({"x-ratelimit-reset-requests": "8.64s"}, 8.64),
        ({"x-ratelimit-reset-tokens": "1h0m2.5s"}, 3602.5),
        # Only what is used up is waited for, and -1 says nothing.
        (
            {
                "x-ratelimit-remaining-requests": "9",
                "x-ratelimit-reset-requests": "23h",
                "x-ratelimit-remaining-tokens": "0",
                "x-ratelimit-reset-tokens": "7s",
            },
            7.0,
        ),
        ({"x-ratelimit-remaining-tokens": "-1", "x-ratelimit-reset-tokens": "-1"}, None),
        # Azure, OpenRouter, Anthropic, Cerebras, the IETF's draft.
        ({"x-rate-limit-reset-tokens": "55"}, 55.0),
        ({"x-ratelimit-reset": str(int(NOW.timestamp() * 1000) + 2500)}, 2.5),
        ({"anthropic-ratelimit-requests-reset": "2024-05-01T12:00:20Z"}, 20.0),
        ({"x-ratelimit-reset-requests-day": "33011.38"}, 33011.38),
        ({"ratelimit-reset": "50"}, 50.0),
        # A server that says to wait knows better than a window.
        ({"retry-after": "2", "x-ratelimit-reset-tokens": "1m"}, 2.0),
    ],
)
def test_headers_say_how_long_to_wait(headers, seconds):
    found = asked_to_wait(headers, now=NOW)
    assert found == (None if seconds is None else pytest.approx(seconds))


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("Rate limit reached for gpt-4o. Please try again in 1m30s. Visit the billing page", 90.0),
        ("Rate limit reached. Please try again in 976ms.", 0.976),
        ("exceeded token rate limit. Please retry after 45 seconds. Please go here", 45.0),
        ("No deployments available, Try again in 60 seconds. Passed model=x", 60.0),
        ("{'@type': 'google.rpc.RetryInfo', 'retryDelay': '34s'}", 34.0),
        ("60 queries per minute are allowed, see the billing page", None),
        ("try again in a while", None),
    ],
)
def test_messages_say_how_long_to_wait(said, seconds):
    assert asked_to_wait({}, said) == seconds
    assert asked_to_wait({"x-ratelimit-reset-tokens": "3"}, said) == (seconds or 3.0)
    assert asked_to_wait({"retry-after": "1"}, said) == 1.0


def test_only_a_rate_limit_is_waited_out_to_its_reset():
    headers = {"x-ratelimit-reset-tokens": "50s"}
    assert asked_to_wait(headers, "try again in 5 s", limited=False) is None
    assert asked_to_wait(headers | {"retry-after": "2"}, limited=False) == 2.0


@given(h=st.integers(0, 99), m=st.integers(0, 99), s=st.integers(0, 99), ms=st.integers(0, 999))
def test_durations_add_up(h, m, s, ms):
    expected = pytest.approx(3600 * h + 60 * m + s + ms / 1e3)
    assert seconds_of(f"{h}h{m}m{s}s{ms}ms", NOW) == expected
    assert seconds_of(f"{h} hours, {m} min {s}.{ms:03d} seconds", NOW) == expected


@given(text=st.text(st.sampled_from("0123456789.-+eEmsh:TZ ,GMTinfaNµ")) | st.text())
def test_whatever_a_server_writes_is_a_time_or_nothing(text):
    seconds = asked_to_wait({"retry-after": text, "x-ratelimit-reset": text}, text, now=NOW)
    assert seconds is None or 0 <= seconds < float("inf")
