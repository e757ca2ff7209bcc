"""Secrets in a configuration are masked before it is kept anywhere."""

from __future__ import annotations

from typing import Any

import pytest

from routing_pomdp.envs.files.secrets import masked


@pytest.mark.parametrize(
    "name",
    ["api_key", "apiKey", "OPENAI_API_KEY", "x-api-key", "apikey", "password", "db_passwd"]
    + ["token", "hf_token", "accessToken", "auth_tokens", "client_secret", "Authorization", "key"]
    + ["credentials", "private-key", "pwd", "bearer"],
)
def test_secrets_are_masked_at_any_depth(name: str) -> None:
    told = {"a": [{name: "LEAKED"}], "b": {name: {"user": "LEAKED"}}, name: ["LEAKED"]}
    assert masked(told) == {"a": [{name: "***"}], "b": {name: "***"}, name: "***"}
    assert told["a"] == [{name: "LEAKED"}]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("tokens_in", "n_in"),
        ("max_tokens", 512),
        ("price_per_token", 0.5),
        ("keyword", "a"),
        ("monkey", "a"),
        ("author", "a"),
        ("api_key", None),
        ("seed", 0),
    ],
)
def test_what_only_resembles_a_secret_is_kept(name: str, value: Any) -> None:
    assert masked({name: value}) == {name: value}


def test_a_number_may_be_a_password() -> None:
    assert masked({"password": 12345}) == {"password": "***"}
