"""Outputs are never an input, a file of the collection or elsewhere; and nobody else reads them."""

import json
import os
import stat
from pathlib import Path

import pytest

from routing_pomdp.verifiers.collection import ConfigError
from routing_pomdp.verifiers.collection.files import check_outputs
from tests.support.collecting import Votes, run, specs, sums, write_questions
from tests.support.loopback import Loopback


@pytest.fixture
def folder(tmp_path):
    """An output folder with an input in it, and one beside it."""
    out = tmp_path / "out"
    out.mkdir()
    for path in (out / "questions.jsonl", tmp_path / "models.yaml"):
        path.write_text("input")
    return out


def inputs(folder):
    return [folder / "questions.jsonl", folder.parent / "models.yaml"]


@pytest.mark.parametrize(
    "table",
    [
        *("log.jsonl", "manifest.json", ".lock", "rows.partial.jsonl", "log.torn-1.jsonl"),
        *("LOG.jsonl", "Log.JSONL", "questions.jsonl", "QUESTIONS.jsonl", ".part-questions.jsonl"),
        *("../x.csv", "/tmp/x.csv", "sub/x.csv", "./x.csv", "..", ".", "", "a/../../x.csv"),
        *("x\0.csv", "x\n.csv", "~/x.csv", "..\\x.csv"),
    ],
)
def test_a_table_under_another_files_name_or_elsewhere_is_refused(table, folder):
    with pytest.raises(ConfigError, match=r"table|would be overwritten"):
        check_outputs(folder, table, inputs(folder))


def test_plain_names_are_taken_also_where_an_older_table_stands(folder):
    for table in ("calls.parquet", "calls.csv.gz", "mine-2.jsonl", "Größe.csv"):
        check_outputs(folder, table, inputs(folder))
        (folder / table).write_text("older")
        check_outputs(folder, table, inputs(folder))


@pytest.mark.parametrize("name", ["calls.csv", "log.jsonl", "manifest.json", ".lock"])
@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_links_to_an_input_or_elsewhere_are_refused(name, link, folder):
    for target in (*inputs(folder), folder.parent / "elsewhere"):
        target.touch()
        link(target, folder / name)
        if (
            link is os.link
            and target.name == "elsewhere"
            and name in ("calls.csv", "manifest.json")
        ):
            check_outputs(folder, "calls.csv", inputs(folder))  # it is replaced, not written into
        else:
            with pytest.raises(ConfigError, match=r"link|overwritten"):
                check_outputs(folder, "calls.csv", inputs(folder))
        (folder / name).unlink()


def test_an_input_that_is_the_log_itself_is_refused(folder):
    (folder / "log.jsonl").touch()
    odd = folder.parent / "out" / ".." / "out" / "log.jsonl"
    with pytest.raises(ConfigError, match="would be overwritten"):
        check_outputs(folder, "calls.csv", [odd])


def test_a_folder_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "out").touch()
    with pytest.raises(ConfigError, match="which is a file: expected a folder"):
        check_outputs(tmp_path / "out", "calls.csv")


def test_it_is_decided_before_anything_is_sent_or_written(tmp_path):
    write_questions(tmp_path / "q.csv", sums(2))
    with Loopback() as server:
        for options in ({"table": "log.jsonl"}, {"table": "q.csv", "inputs": [tmp_path / "q.csv"]}):
            with pytest.raises(ConfigError):
                run(tmp_path, server, 2, **options)
        assert server.seen.requests == 0
    assert [path.name for path in tmp_path.iterdir()] == ["q.csv"]


def modes(folder):
    return {
        path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.rglob("*") if path.is_file()
    }


def test_what_holds_prompts_and_answers_is_readable_by_its_owner_alone(tmp_path):
    out = tmp_path / "some" / "out"
    mask = os.umask(0)
    try:
        with Loopback() as server:
            run(out, server, 3, [Votes()])
            with (out / "log.jsonl").open("a") as file:
                file.write("torn")
            for name in ("log.jsonl", "calls.parquet", "manifest.json"):
                (out / name).chmod(0o666)  # as an older version may have left them
            run(out, server, 4, [Votes()])
            run(out, server, 4, [Votes()], table="calls.csv")
    finally:
        os.umask(mask)
    assert stat.S_IMODE(out.stat().st_mode) == 0o700
    found = modes(out)
    assert set(found) == {
        *("log.jsonl", ".lock", "manifest.json", "log.torn-1", "calls.parquet", "calls.csv")
    }
    assert set(found.values()) == {0o600}


def test_rows_under_way_are_readable_by_their_owner_alone(tmp_path):
    mask, found = os.umask(0), {}

    def shape(completion, request, head):
        found.update(modes(tmp_path))
        return completion

    try:
        with Loopback(shape=shape) as server:
            run(tmp_path, specs(server.url), 3)
    finally:
        os.umask(mask)
    assert {"rows.partial.jsonl", "log.jsonl", "manifest.json"} <= set(found)
    assert set(found.values()) == {0o600}


def test_a_folder_that_was_there_stays_as_it_is(tmp_path):
    tmp_path.chmod(0o755)
    with Loopback() as server:
        run(tmp_path, server, 1)
    assert stat.S_IMODE(Path(tmp_path).stat().st_mode) == 0o755


MANIFEST = {
    "answers": {"models": {"small": {"model": "small"}}, "prompt": "x", "top_logprobs": None},
    "prices": {"small": {"in": 1, "out": 2}},
    "runs": [{"started": "x"}],
}


@pytest.mark.parametrize(
    "wrong",
    [
        *([], 3, None, {"answers": 3}, {"runs": 3}, {"runs": [3]}, {"prices": []}),
        *({"answers": {"models": []}}, {"answers": {"models": {"a": 1}}}, {"prices": {"a": 3}}),
        *({"prices": {"a": {"in": "1"}}}, {"answers": {"models": {}}}, "deep", "half"),
    ],
    ids=str,
)
def test_a_manifest_of_another_shape_is_refused_by_name(wrong, tmp_path):
    text = json.dumps(MANIFEST | wrong if isinstance(wrong, dict) else wrong)
    text = {"deep": "[" * 100_000, "half": text[: len(text) // 2]}.get(str(wrong), text)
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(ConfigError, match=r"manifest\.json is no manifest of a collection"):
        run(tmp_path, specs("http://127.0.0.1:9/v1"), 1)
    assert (tmp_path / "manifest.json").read_text() == text
