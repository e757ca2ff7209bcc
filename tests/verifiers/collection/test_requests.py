"""The most that a request can cost, from what is really sent; and what nobody can bound."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing_pomdp.verifiers.collection import ConfigError, EndpointRefusedError
from routing_pomdp.verifiers.collection.requests import hint, most_of, request_of
from tests.support.collecting import run, specs
from tests.support.loopback import Loopback

ASKED = [{"role": "user", "content": "What is 3 + 4?"}]


def most(**options):
    (spec,) = specs("http://localhost:1/v1", ("small",), **options)
    return most_of(request_of(spec, ASKED, 0.0, spec.max_tokens, None), spec.max_tokens_field)


@pytest.mark.parametrize(
    ("options", "generated"),
    [
        ({}, 16),
        ({"extra_body": {"max_tokens": 4000}}, 4000),
        ({"extra_body": {"max_completion_tokens": 4000}}, 4000),
        ({"extra_body": {"max_completion_tokens": 8}}, 16),
        ({"max_tokens_field": "max_completion_tokens"}, 16),
        ({"max_tokens_field": "limit"}, 16),
        ({"extra_body": {"n": 50}}, 800),
        ({"extra_body": {"n": 2, "best_of": 50}}, 800),
        ({"extra_body": {"n": 2, "max_completion_tokens": 40}}, 80),
        ({"extra_body": {"max_tokens": 40.0}}, 40),
        ({"extra_body": {"thinking": {"budget_tokens": 1000}}}, 1016),
        ({"extra_body": {"options": {"num_predict": 1000}}}, 1016),
        ({"extra_body": {"thinking_budget": 1000, "min_tokens": 9}}, 1016),
        ({"extra_body": {"n_predict": 99, "temperature": 1}}, 99),
        # What has no limit, or one that servers take for none.
        ({"omit": ("max_tokens",)}, None),
        ({"extra_body": {"max_tokens": None}}, None),
        ({"extra_body": {"max_tokens": -1}}, None),
        ({"extra_body": {"max_tokens": 0}}, None),
        ({"extra_body": {"max_tokens": "4000"}}, None),
        ({"extra_body": {"n": "50"}}, None),
        ({"extra_body": {"n": True}}, None),
        ({"extra_body": {"thinking": {"budget_tokens": -1}}}, None),
    ],
)
def test_the_limit_is_that_of_the_request_which_is_sent(options, generated):
    assert most(**options).tokens_out == generated


def test_a_prompt_counts_once_a_copy_and_with_all_that_may_be_part_of_it():
    plain = most().tokens_in
    assert most(extra_body={"n": 3}).tokens_in == 3 * plain
    tools = [{"type": "function", "function": {"name": "f", "description": "x" * 5000}}]
    for extra in ({"tools": tools}, {"response_format": {"s": "x" * 5000}}, {"suffix": "x" * 5000}):
        assert most(extra_body=extra).tokens_in >= plain + 5000
    assert most(extra_body={"top_p": 0.5, "logit_bias": {}, "seed": 10**12}).tokens_in < plain + 10


@given(st.lists(st.text(), max_size=4))
def test_no_prompt_has_more_tokens_than_its_bound(texts):
    # A byte-level tokeniser makes at most one token a byte, and a template adds a few a message.
    messages = [{"role": "user", "content": text} for text in texts]
    bound = most_of({"messages": messages, "max_tokens": 1}).tokens_in
    assert bound >= sum(len(text.encode()) + 10 for text in texts)


@pytest.mark.parametrize("budget", [{"usd": 5.0}, {"tokens": 100_000}])
@pytest.mark.parametrize(
    "options", [{"omit": ("max_tokens",)}, {"extra_body": {"max_tokens": -1}}], ids=str
)
def test_what_cannot_be_bounded_is_refused_under_a_budget_before_anything_is_sent(
    budget, options, tmp_path
):
    with Loopback() as server:
        models = specs(server.url, **options)
        with pytest.raises(ConfigError, match=r"'small'.*no budget can be kept.*max_tokens_field"):
            run(tmp_path / "out", models, 2, **budget)
        assert server.seen.requests == 0
        assert not (tmp_path / "out").exists()
        assert not run(tmp_path / "out", models, 2).outcome.incomplete


@pytest.mark.parametrize(
    ("field", "said", "expected"),
    [
        (
            "max_tokens",
            "Unsupported parameter: 'max_tokens' is not supported with this model. Use "
            "'max_completion_tokens' instead.",
            "max_tokens_field: max_completion_tokens",
        ),
        ("max_tokens", "max_tokens: Extra inputs are not permitted", "max_tokens_field: max_comp"),
        ("max_completion_tokens", "unknown max_completion_tokens", "max_tokens_field: max_tokens"),
        ("max_tokens", "unknown field temperature", "see omit"),
        ("max_tokens", "max_tokens is 9 and must be at least 16", "see omit"),
    ],
)
def test_the_hint_for_a_refused_limit_names_the_setting_that_keeps_it(field, said, expected):
    (spec,) = specs("http://localhost:1/v1", ("small",), max_tokens_field=field)
    assert expected in hint(spec, said)


def test_a_refused_max_tokens_stops_the_run_with_that_hint(tmp_path):
    error = {"message": "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."}
    with Loopback(refuse={"small": (400, error)}) as server:
        done = run(tmp_path, server, 2)
    assert isinstance(done.stopped, EndpointRefusedError)
    assert "give max_tokens_field: max_completion_tokens" in str(done.stopped)
