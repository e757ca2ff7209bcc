"""No key stands in a file or a message, whatever repeats it and wherever it was pasted."""

import base64
import io
import json
import logging
import sys

import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing_pomdp.envs.files.secrets import (
    MASK,
    Secrets,
    masked,
    secret_values,
    shown,
    without_secrets,
)
from routing_pomdp.verifiers import LiveVerifier
from routing_pomdp.verifiers.collection import ConfigError, ModelSpec, load_models, load_prices
from tests.support.collecting import lines, run, specs
from tests.support.loopback import Loopback

KEY = "sk-loopback-0123456789abcdef"


def everything(folder):
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


def echoing(completion, request, head):
    """A server that repeats its headers and the body wherever it can."""
    choice = completion["choices"][0]
    said = choice["message"]["content"]
    # As tokens are: none of them is the key.
    pieces = ["Key", " ", *(KEY[i : i + 3] for i in range(0, len(KEY), 3)), "\n", said]
    tokens = [
        {
            "token": piece,
            "logprob": -0.5,
            "top_logprobs": [{"token": piece, "logprob": -0.5}, {"token": KEY, "logprob": -1.0}],
        }
        for piece in pieces
    ]
    whole = {"message": {"content": f"Key {KEY}\n{said}"}, "finish_reason": f"stop {KEY}"}
    return completion | {
        "choices": [choice | whole | {"logprobs": {"content": tokens}}],
        "model": KEY,
        "system_fingerprint": head,
    }


@pytest.mark.parametrize("where", ["api_key_env", "extra_body", "url", "headers", "query"])
def test_a_key_that_the_server_repeats_in_every_field_stands_nowhere(where, tmp_path, monkeypatch):
    monkeypatch.setenv("LOOPBACK_KEY", KEY)

    @dataclass_verifier
    async def sees(case):
        assert KEY not in repr(case)
        assert MASK in case.answer.completion.finish_reason
        return 1.0

    with Loopback(shape=echoing) as server:
        options = {
            "api_key_env": {"api_key_env": "LOOPBACK_KEY"},
            "extra_body": {"extra_body": {"api_key": KEY}},
            "url": {},
            "headers": {"headers": {"x-api-key": "$LOOPBACK_KEY"}},
            "query": {"query": {"code": "${LOOPBACK_KEY}"}},
        }[where]
        url = server.url.replace("//", f"//user:{KEY}@") if where == "url" else server.url
        done = run(tmp_path, specs(url, **options), 3, [sees], top_logprobs=2)
    assert not done.outcome.incomplete
    assert not done.outcome.verifiers
    assert done.ledger.flags["secret_repeated"] == 6
    assert KEY.encode() not in everything(tmp_path)
    for record in lines(tmp_path):
        assert record["text"].startswith("Key ***\nAnswer: ")
        assert record["finish_reason"] == "stop ***"
        assert KEY not in "".join(text for text, _, _ in record["tokens"])
        assert KEY[:6] not in "".join(text for text, _, _ in record["tokens"])
        assert "".join(text for text, _, _ in record["tokens"]).startswith("Key ***")
    table = pyarrow.parquet.read_table(tmp_path / "calls.parquet").to_pylist()
    assert table[0]["finish_reason"] == "stop ***"
    assert table[0]["answer"].isdigit()


def dataclass_verifier(function):
    class Sees(LiveVerifier):
        name = "sees"

        async def verify(self, case):
            return await function(case)

    return Sees()


ERRORS = {
    "no_choices": {"choices": [], "error": {"message": f"{'x' * 190} {KEY}"}},
    "no_object": [f"{'x' * 70}{KEY}"],
    "no_message": {"choices": [{"error": KEY}]},
}


@pytest.mark.parametrize("kind", [*ERRORS, "401", "500", "400", "no_json"])
def test_a_key_in_an_error_of_any_shape_is_not_repeated_not_even_its_beginning(
    kind, tmp_path, monkeypatch
):
    monkeypatch.setenv("LOOPBACK_KEY", KEY)
    refuse = {}
    if kind.isdigit():
        said = {"message": f"{'x' * 290}{KEY}", "key": KEY, "code": KEY}
        refuse = {"small": (int(kind), said), "large": (int(kind), said)}
    options = {"api_key_env": "LOOPBACK_KEY", "attempts": 1}
    with Loopback(refuse=refuse, shape=lambda *_: Odd(kind)) as server:
        done = run(tmp_path, specs(server.url, **options), 3)
    told = f"{done.stopped} {done.outcome.calls.first}"
    assert "small" in told
    assert KEY[:8] not in told
    assert KEY[:8].encode() not in everything(tmp_path)


class Odd(dict):
    """A completion that is sent as something else."""

    def __init__(self, kind):
        super().__init__(ERRORS[kind] if isinstance(ERRORS.get(kind), dict) else {"x": [KEY]})
        self["usage"] = {"prompt_tokens": 1, "completion_tokens": 1}


def test_an_error_of_a_plug_in_does_not_repeat_a_key(tmp_path, monkeypatch):
    monkeypatch.setenv("LOOPBACK_KEY", KEY)

    @dataclass_verifier
    async def fails(case):
        raise RuntimeError(f"no luck with {KEY}")

    def scoring(answer, references, query):
        raise RuntimeError(KEY)

    with Loopback() as server:
        done = run(
            tmp_path, specs(server.url, api_key_env="LOOPBACK_KEY"), 2, [fails], scoring=scoring
        )
    assert "no luck with ***" in done.outcome.verifiers["sees"].first
    assert "RuntimeError: ***" in done.outcome.scoring.first


def test_the_manifest_holds_no_key_of_a_body_and_another_key_asks_nothing_again(tmp_path):
    with Loopback() as server:
        for key in (KEY, "another-key-1"):
            extra = {"api_key": key, "metadata": {"user_token": key, "top": 1}, "top_p": 0.5}
            done = run(tmp_path, specs(server.url, extra_body=extra), 3)
    assert (done.ledger.made, done.ledger.found) == (6, 0)  # a token may also be one of text
    assert b"another-key-1" not in everything(tmp_path)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    kept = manifest["answers"]["models"]["small"]["extra_body"]
    hidden = {"user_token": "***", "top": 1}
    assert kept == {"api_key": "***", "metadata": hidden, "top_p": 0.5}


def test_a_key_of_a_body_may_change_and_an_older_manifest_is_cleaned(tmp_path):
    with Loopback() as server:
        for key in (KEY, "another-key-1"):
            done = run(tmp_path, specs(server.url, extra_body={"api_key": key}), 3)
            if key == KEY:
                text = (tmp_path / "manifest.json").read_text()
                assert '"***"' in text
                (tmp_path / "manifest.json").write_text(text.replace("***", KEY))
    assert (done.ledger.made, done.ledger.found) == (0, 6)
    assert KEY.encode() not in everything(tmp_path)


MODELS = "- {name: a, base_url: 'http://x', %s}\n"


@pytest.mark.parametrize(
    "text",
    [
        MODELS % f"api_key_env: {KEY}",
        MODELS % f"extra_body: {KEY}",
        MODELS % f"extra_body: [{KEY}]",
        MODELS % f"price: {KEY}",
        MODELS % f"price: {{in: {KEY}, out: 1}}",
        MODELS % f"price: {{{KEY}: 1, out: 1}}",
        MODELS % f"max_tokens: {KEY}",
        MODELS % f"system: [{KEY}]",
        MODELS % f"omit: {KEY}",
        MODELS % f"{KEY}: 1",
        MODELS % f"headers: {{{KEY}: [a]}}",
        MODELS % f"headers: {{x-token: {KEY}}}",
        MODELS % f"query: {{{KEY}: null}}",
        MODELS % f"headers: {KEY}",
        MODELS % f"concurrency: !!int {KEY}",
        MODELS % f"key_{KEY}: 1",
        MODELS % f"extra_body: {{{KEY}: .inf}}",
        f"- {KEY}\n",
        f"- name: a\n  api_key: {KEY}: x\n",
        f"- name: a\n\tapi_key: {KEY}\n",
        f"- name: *{KEY}\n",
        f"- name: !{KEY} x\n",
        f"- name: '{KEY}\n",
        f"- {{name: a, name: b, {KEY}: 1, {KEY}: 2}}\n",
        f"{KEY}",
        f"a: 1\n{KEY}\nb: 2\n",
        f"- base_url: http://x\n  name: [{KEY}]\n",
        f"- name: a\n  base_url: {KEY}\n",
        f"%{KEY}\n---\n",
        f'- name: "\\x{KEY}"\n',
        f"- name: a\n  base_url: 'http://x'\n  timeout: 2024-99-99 {KEY}\n",
        f"- name: a\n  base_url: 'http://[{KEY}'\n",
    ],
)
@pytest.mark.parametrize("read", [load_models, load_prices])
def test_a_key_that_was_pasted_anywhere_is_not_printed(text, read, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read(path)
    said = str(caught.value)
    assert str(path) in said
    assert len(said.splitlines()) == 1
    for part in ("loopback", "0123", "abcdef"):
        assert part not in said


@pytest.mark.parametrize(
    ("name", "is_shown"),
    [
        ("OPENAI_API_KEY", True),
        ("MY_GPT4_KEY_2", True),
        ("a1b2c3d4e5f60718a1b2c3d4e5f60718", False),
        ("AKIAIOSFODNN7EXAMPLE", False),
        ("sk_live_abcdefghijkl", False),
        ("gsk_abcdefghijklmnopqrstuvwxyzabcdef", False),
        ("abcdefghijklmnopqrstuvwxyz", False),
    ],
)
def test_a_variable_that_is_not_set_is_named_unless_its_name_may_be_a_key(name, is_shown):
    with pytest.raises(ConfigError, match="is not set") as caught:
        ModelSpec("a", "http://x", api_key_env=name).key()
    assert (name in str(caught.value)) is is_shown


def test_a_broken_line_is_named_by_its_number(tmp_path):
    path = tmp_path / "m.yaml"
    path.write_text("- name: a\n  base_url: x: y\n")
    with pytest.raises(ConfigError, match=r"m\.yaml is not YAML: line 2: "):
        load_models(path)
    path.write_text("- {name: a, base_url: 'http://x',\n   name: b}\n")
    with pytest.raises(ConfigError, match="line 2: the key 'name' is given twice"):
        load_models(path)


@given(st.text(min_size=6, max_size=30), st.text(), st.text(), st.data())
def test_no_text_keeps_a_secret_and_what_holds_none_stays(secret, before, after, data):
    secrets = Secrets([secret])
    whole = before + secret + after
    assert secret not in secrets.text(whole) or secret in MASK * 10
    if secret not in before:
        assert secrets.text(before) == before
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=5)))
    pieces = [whole[i:j] for i, j in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    hidden = secrets.pieces(pieces)
    kept = "".join("" if within else piece for piece, within in zip(pieces, hidden, strict=True))
    if secret not in before + after:
        assert secret not in kept


def test_secrets_are_known_by_name_and_placeholders_are_none():
    config = {
        "api_key": "abcdefgh",
        "a": [{"Authorization": "Bearer token-1234"}],
        "stop_token": "<|end|>",
        "hf_token": "hf_12345678",
        "max_tokens": 9,
        "note": "plain",
    }
    found = set(secret_values(config))
    assert {"abcdefgh", "token-1234", "hf_12345678"} <= found
    assert not {"<|end|>", "plain"} & found
    assert Secrets(["EMPTY", "none"]).text("EMPTY none") == "EMPTY none"
    assert without_secrets(config)["stop_token"] == "<|end|>"
    assert masked(config)["stop_token"] == MASK


def test_a_password_of_an_address_is_known_in_every_form(monkeypatch):
    spec = ModelSpec("a", "https://me:p%40ssword@x.y/v1?api-key=query-key-1&api-version=1")
    found = spec.secrets()
    basic = base64.b64encode(b"me:p@ssword").decode()
    assert {"p%40ssword", "p@ssword", basic, "query-key-1"} <= set(found)
    assert "1" not in found


@pytest.mark.parametrize("value", [3, None, True, -0.5, "many", ""])
def test_what_cannot_be_a_key_is_shown(value):
    assert shown(value) == repr(value)


def test_whatever_is_printed_or_logged_passes_the_gate(monkeypatch):
    out, err = io.StringIO(), io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    handler = logging.StreamHandler(err)
    logging.getLogger().addHandler(handler)
    try:
        secrets = Secrets()
        secrets.guard_output()
        secrets.add([KEY])
        print("printed", KEY)
        print(f"bar {KEY}", file=sys.stderr)
        sys.stderr.writelines([KEY])
        logging.getLogger("openai").warning("request %s", {"api_key": KEY})
    finally:
        logging.getLogger().removeHandler(handler)
    assert out.getvalue() == "printed ***\n"
    assert KEY not in err.getvalue()
    assert err.getvalue().count("***") == 3


def test_the_report_counts_calls_in_which_a_key_was_repeated(tmp_path, monkeypatch):
    monkeypatch.setenv("LOOPBACK_KEY", KEY)
    with Loopback(shape=lambda c, request, head: c | {"id": head}) as server:
        done = run(tmp_path, specs(server.url, api_key_env="LOOPBACK_KEY"), 2)
    assert done.ledger.flags == {"secret_repeated": 4}
