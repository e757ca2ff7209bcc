"""Files of questions, models and prices: what is taken, and what is refused with which words."""

import json

import pyarrow as pa
import pyarrow.parquet
import pytest

from routing_pomdp.envs.files.secrets import Secrets
from routing_pomdp.verifiers.collection import (
    ConfigError,
    Plan,
    Price,
    load_models,
    load_prices,
    load_questions,
)
from routing_pomdp.verifiers.collection.models import check_priced


def jsonl(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_questions_are_read_from_json_lines(tmp_path):
    path = jsonl(
        tmp_path / "mine.jsonl",
        {"query_id": "007", "prompt": "3 + 4?", "reference": ["7", "seven"], "choices": ["7", "8"]},
        {"query_id": "b", "prompt": "5 + 5?", "reference": ["10"], "choices": []},
    )
    first, second = load_questions(path)
    assert first.query.query_id == "007"
    assert first.references == ("7", "seven")
    assert first.query.choices == ("7", "8")
    assert second.query.choices == ()
    assert second.query.dataset == "mine"
    assert len(load_questions(path, limit=1)) == 1


def test_questions_are_read_from_csv_and_parquet_alike(tmp_path):
    (tmp_path / "mine.csv").write_text(
        "query_id,prompt,reference,choices,split\n"
        "1,Which?,Rome,Paris | Rome,train\n"
        "2,Who?,007,,test\n"
    )
    table = pa.table(
        {
            "query_id": ["1", "2"],
            "prompt": ["Which?", "Who?"],
            "reference": ["Rome", "007"],
            "choices": [["Paris", "Rome"], []],
            "split": ["train", "test"],
        }
    )
    pyarrow.parquet.write_table(table, tmp_path / "mine.parquet")
    assert load_questions(tmp_path / "mine.csv") == load_questions(tmp_path / "mine.parquet")


def test_without_ids_a_question_is_known_by_all_that_is_asked(tmp_path):
    rows = [
        {"prompt": "Who?", "reference": "x", "context": "a"},
        {"prompt": "Who?", "reference": "x", "context": "b"},
    ]
    one, two = load_questions(jsonl(tmp_path / "q.jsonl", *rows))
    assert one.query.query_id != two.query.query_id
    (again,) = load_questions(jsonl(tmp_path / "r.jsonl", rows[1]))
    assert again.query.query_id == two.query.query_id


def test_a_repeated_question_is_asked_once_and_keeps_all_references(tmp_path):
    rows = [
        {"prompt": "3 + 4?", "reference": ["7"], "split": "test"},
        {"prompt": "5 + 5?", "reference": ["10"], "split": "train"},
        {"prompt": "3 + 4?", "reference": ["seven", "7"], "split": "train"},
        {"prompt": "3 + 4?", "reference": ["7"], "split": "dev"},
    ]
    for named in (rows, [row | {"query_id": row["prompt"][0]} for row in rows]):
        first, second = load_questions(jsonl(tmp_path / "q.jsonl", *named))
        assert (first.references, first.split, first.repeats) == (("7", "seven"), "test", 2)
        assert (second.references, second.repeats) == (("10",), 0)


def test_splits_have_one_name_each(tmp_path):
    names = ["train", "validation", "val", "valid", "dev", "test"]
    rows = [{"query_id": name, "prompt": "?", "reference": "x", "split": name} for name in names]
    read = [question.split for question in load_questions(jsonl(tmp_path / "q.jsonl", *rows))]
    assert read == ["train"] + ["validation"] * 4 + ["test"]


GOOD = {"query_id": "a", "prompt": "Who?", "reference": "x"}


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([{"query_id": "a", "prompt": "Who?"}], "has no column 'reference'"),
        ([GOOD, GOOD | {"prompt": " ", "query_id": "b"}], "row 2: prompt is empty"),
        ([GOOD, GOOD | {"reference": None, "query_id": "b"}], "row 2: reference is None"),
        ([GOOD, GOOD | {"reference": "", "query_id": "b"}], "row 2: reference is ''"),
        (
            [GOOD, GOOD | {"query_id": "b"}, GOOD | {"prompt": "Why?"}],
            "rows 1 and 3 have one query_id, 'a', but ask different questions",
        ),
        ([GOOD, GOOD | {"context": "c"}], "rows 1 and 2 have one query_id"),
        ([GOOD | {"split": "dev2"}], "row 1: the split is 'dev2', expected .* dev"),
        ([GOOD | {"query_id": ""}], "row 1: query_id is empty"),
        ([GOOD | {"choices": [1, 2]}], "row 1: choices is"),
        ([GOOD | {"split": "train"}, {"query_id": "b", "prompt": "?", "reference": "x"}], "split"),
    ],
)
def test_bad_questions_are_refused_by_row(rows, told, tmp_path):
    with pytest.raises(ConfigError, match=told) as caught:
        load_questions(jsonl(tmp_path / "q.jsonl", *rows))
    assert "q.jsonl" in str(caught.value)


def test_models_take_prices_of_their_own_or_from_the_table(tmp_path, monkeypatch):
    (tmp_path / "prices.yaml").write_text("vendor/big: {in: 2.5, out: 10}\nfree: null\n")
    (tmp_path / "models.yaml").write_text(
        "- {name: small, base_url: 'http://localhost:1/v1', price: {in: 0, out: 0}}\n"
        "- {name: large, base_url: 'https://u:p@x.y/v1?k=1', model: vendor/big, api_key_env: KEY,"
        " omit: [temperature]}\n"
        "- {name: free, base_url: 'http://localhost:1/v1'}\n"
    )
    prices = load_prices(tmp_path / "prices.yaml")
    small, large, free = load_models(tmp_path / "models.yaml", prices)
    assert (small.price, large.price, free.price) == (Price(0, 0), Price(2.5, 10), None)
    assert small.model == "small"
    assert large.shown_url == "https://x.y/v1"
    monkeypatch.setenv("KEY", " secret\n")
    assert large.key() == "secret"
    monkeypatch.delenv("KEY")
    with pytest.raises(ConfigError, match="environment variable KEY is not set"):
        large.key()
    with pytest.raises(ConfigError, match="'free' has no price, but other models have one"):
        check_priced([small, large, free], in_usd=False)
    with pytest.raises(ConfigError, match="'free' has no price, but the budget is in USD"):
        check_priced([free], in_usd=True)
    check_priced([free], in_usd=False)


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ("{base_url: 'http://x/v1'}", r"models\[0\].name is None"),
        ("{name: a}", "base_url is None"),
        ("{name: a, base_url: x}", "no http:// or https:// address"),
        ("{name: a, base_url: 'http://x', tempature: 1}", "has the key 'tempature'"),
        ("{name: a, base_url: 'http://x', temperature: -1}", "temperature is -1"),
        ("{name: a, base_url: 'http://x', concurrency: 0}", "concurrency is 0"),
        ("{name: a, base_url: 'http://x', max_tokens: many}", "max_tokens is 'many'"),
        ("{name: a, base_url: 'http://x', timeout: .nan}", "timeout is nan"),
        ("{name: a, base_url: 'http://x', price: 3}", "price is 3"),
        ("{name: a, base_url: 'http://x', price: {in: -1, out: 0}}", "price.in is -1"),
        ("{name: a, base_url: 'http://x', omit: temperature}", "omit is 'temperature'"),
        ("{name: a, base_url: 'http://x', headers: [a]}", "headers is no mapping"),
        ("{name: a, base_url: 'http://x', headers: {a: {b: c}}}", "headers.a is no text"),
        ("{name: a, base_url: 'http://x', headers: {'a b': c}}", "is no header"),
        ("{name: a, base_url: 'http://x', headers: {a: 'ä'}}", "headers.a is no header"),
        ("{name: a, base_url: 'http://x', query: {a: null}}", "query.a is no text"),
        ("{name: a, base_url: 'http://x', max_wait: -1}", "max_wait is -1"),
        ("just text", "is no mapping"),
        ("{name: a, base_url: 'http://x'}\n- {name: a, base_url: 'http://x'}", "two models"),
    ],
)
def test_bad_models_are_refused_by_key(entry, told, tmp_path):
    (tmp_path / "models.yaml").write_text(f"- {entry}\n")
    with pytest.raises(ConfigError, match=told):
        load_models(tmp_path / "models.yaml")


@pytest.mark.parametrize(
    "secret",
    ["headers: {api-key: sk-123}", "headers: {Authorization: b 123}", "query: {apikey: sk-123}"],
)
def test_a_key_in_a_header_or_query_is_refused_and_not_repeated(secret, tmp_path):
    (tmp_path / "m.yaml").write_text(f"- {{name: a, base_url: 'http://x', {secret}}}\n")
    with pytest.raises(ConfigError, match=r"models\[0\].*write \$NAME") as caught:
        load_models(tmp_path / "m.yaml")
    assert "123" not in str(caught.value)


def test_headers_and_query_are_filled_from_the_environment(tmp_path, monkeypatch):
    (tmp_path / "m.yaml").write_text(
        "- {name: a, base_url: 'http://u:secret-pw@x/v1?sig=s1gnature&api-version=v1',"
        " headers: {api-key: $MINE}, query: {api-version: 2024-10-21, n: 3, by: '${WHO}-x'}}\n"
    )
    (model,) = load_models(tmp_path / "m.yaml")
    with pytest.raises(ConfigError, match="environment variable MINE is not set, which headers"):
        model.filled("headers")
    monkeypatch.setenv("MINE", " sk-1234\n")
    monkeypatch.setenv("WHO", "me and you")
    assert model.filled("headers") == {"api-key": "sk-1234"}
    assert model.filled("query") == {"api-version": "2024-10-21", "n": "3", "by": "me and you-x"}
    told = "secret-pw s1gnature sk-1234 me and you, me%20and%20you; v1 2024-10-21 $MINE"
    assert Secrets(model.secrets()).text(told) == "*** *** *** ***, ***; v1 2024-10-21 $MINE"
    assert "sk-1234" not in repr(model)


@pytest.mark.parametrize("field", ["api_key", "key", "api_key_env"])
def test_a_key_in_a_file_is_refused_and_not_repeated(field, tmp_path):
    (tmp_path / "m.yaml").write_text(f"- {{name: a, base_url: 'http://x', {field}: sk-proj-123}}\n")
    with pytest.raises(ConfigError, match=field) as caught:
        load_models(tmp_path / "m.yaml")
    assert "123" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "[]", "{", "models: 3"])
def test_a_file_without_models_is_refused(text, tmp_path):
    (tmp_path / "models.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"models\.yaml"):
        load_models(tmp_path / "models.yaml")


def test_settings_that_do_not_fit_together_are_refused(tmp_path):
    from tests.support.collecting import Length, specs, sums

    models, questions = specs("http://localhost:1/v1"), sums(2)
    for options, told in [
        ({"models": []}, "no models"),
        ({"judges": models[:1]}, "'small' is a model and a judge"),
        ({"verifiers": [Length(), Length()]}, "two verifiers are named 'length'"),
        ({"verifiers": [Length(), Length("length_cost")]}, "the cost of 'length'"),
        ({"verifiers": [Length("a b")]}, "expected letters"),
        ({"at_once": 0}, "at_once is 0"),
        ({"table": "calls.xlsx"}, "unknown format"),
    ]:
        with pytest.raises(ValueError, match=told):
            Plan(**{"questions": questions, "models": models} | options)
