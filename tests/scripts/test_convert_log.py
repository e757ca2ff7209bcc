"""The command that converts other tools' logs: what it writes, says and refuses."""

import pytest

from routing_pomdp.envs.logs.calls_table import read_calls
from tests.support.commands import command
from tests.support.other_logs import harness, sample, spend, spend_file


def convert(*arguments):
    return command("convert_log", *arguments).stdout


def refused(*arguments):
    message = command("convert_log", *arguments, fails=True).stderr
    assert message.startswith("error: ")
    assert message.count("\n") == 1
    return message


def test_it_says_what_was_written_and_what_the_table_lacks(tmp_path):
    files = [
        harness(tmp_path, "small", lines=[sample(i) for i in range(3)]),
        harness(tmp_path, "large", lines=[sample(i) for i in range(2)]),
    ]
    said = convert("lm_eval", *files, "--out", tmp_path / "calls.csv")
    assert "calls.csv, 5 calls on 3 queries" in said
    assert "small: 3 calls" in said
    assert "2 of 3 queries were answered by all 2 models: rollouts.complete_only=true" in said
    assert "it has no costs: give costs=ratio" in said
    assert "it has no signals: give verifier=none" in said
    assert len(read_calls(tmp_path / "calls.csv")) == 3
    assert [path.name for path in tmp_path.glob(".part*")] == []


def test_what_was_left_out_is_counted(tmp_path):
    file = spend_file(tmp_path, [spend(1), spend(2, status="failure")])
    said = convert("litellm", file, "--score", "metadata.spend_logs_metadata.ok",
                   "--out", tmp_path / "calls.parquet")  # fmt: skip
    assert "left out: 1 failed" in said


def test_options_of_another_tool_are_refused(tmp_path):
    file = harness(tmp_path, lines=[sample(0)])
    message = refused("lm_eval", file, "--score", "x", "--out", tmp_path / "c.csv")
    assert "--score is no option of lm_eval" in message
    message = refused("litellm", file, "--metric", "x", "--out", tmp_path / "c.csv")
    assert "--metric is no option of litellm" in message


def test_a_log_is_never_overwritten_and_nothing_is_written_of_a_bad_one(tmp_path):
    file = harness(tmp_path, lines=[sample(0)])
    before = file.read_bytes()
    assert "would be overwritten" in refused("lm_eval", file, "--out", file)
    assert file.read_bytes() == before
    scores = tmp_path / "scores.csv"
    assert "would be overwritten" in refused("litellm", file, "--scores", scores, "--out", scores)
    bad = harness(tmp_path, "bad", lines=[sample(0, exact_match=2.0)])
    out = tmp_path / "calls.csv"
    assert "row 1: exact_match is 2.0" in refused("lm_eval", bad, "--out", out)
    assert not out.exists()
    assert "unknown format '.txt'" in refused("lm_eval", file, "--out", tmp_path / "calls.txt")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("spend.json", "{", "is no JSON"),
        ("spend.json", '{"rows": 3}', "holds no list of records"),
        ("spend.json", "[" * 5000 + "]" * 5000, "is nested too deep"),
        ("spend.json", "[]", "has no rows"),
        ("spend.jsonl", "[1]\n", "row 1 is not a JSON object"),
        ("spend.jsonl", '{"id": 1}\n', "row 1 has no 'request_id': it has ['id']"),
        ("spend.csv", "request_id\n", "has no rows"),
        ("spend.csv", "request_id\na\n", "row 1 has no 'call_type'"),
    ],
)
def test_a_file_of_something_else_is_refused(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    assert message in refused("litellm", tmp_path / name, "--score", "x",
                              "--out", tmp_path / "c.csv")  # fmt: skip


def test_a_file_that_is_not_there_is_refused(tmp_path):
    for name in ("a.json", "a.jsonl", "a.parquet"):
        assert "there is no such file" in refused(
            "litellm", tmp_path / name, "--score", "x", "--out", tmp_path / "c.csv"
        )
