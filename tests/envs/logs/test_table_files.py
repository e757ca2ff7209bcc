"""Tables as files: those that cannot be read are refused with what is wrong in which row."""

import bz2
import gzip
import json
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest

from routing_pomdp.envs.logs.calls_table import read_calls
from tests.support.calls import COLUMNS, refused, write


@pytest.fixture(params=[".parquet", ".csv", ".jsonl"])
def path(request, tmp_path) -> Path:
    return tmp_path / f"calls{request.param}"


def test_a_file_without_a_byte_or_a_row_is_refused(path):
    path.touch()
    assert "is empty" in refused(path)
    if path.suffix == ".jsonl":
        path.write_text("\n\n")
    else:
        write(path, **{name: pa.array([], pa.float64()) for name in COLUMNS})
    assert "has no rows" in refused(path)


def test_a_file_that_is_not_there_is_refused(path):
    assert "there is no such file" in refused(path)


@pytest.mark.parametrize("name", ["calls.xlsx", "calls", "calls.gz", "calls.parquet.gz"])
def test_an_unknown_format_is_refused(tmp_path, name):
    (tmp_path / name).write_text("a")
    assert "unknown format" in refused(tmp_path / name)


@pytest.mark.parametrize("kept", [0.3, 0.99])
def test_a_truncated_parquet_is_refused(tmp_path, kept):
    path = write(tmp_path / "calls.parquet")
    path.write_bytes(path.read_bytes()[: int(kept * path.stat().st_size)])
    assert "cannot be read as parquet" in refused(path)


def test_a_truncated_archive_is_refused(tmp_path):
    text = write(tmp_path / "calls.csv").read_bytes()
    (tmp_path / "calls.csv.gz").write_bytes(gzip.compress(text, mtime=0)[:-12])
    assert "cannot be read as csv" in refused(tmp_path / "calls.csv.gz")


@pytest.fixture
def small_blocks(monkeypatch):
    """Files are parsed a few rows at a time: a row's number in its block is not its number."""
    monkeypatch.setattr("routing_pomdp.envs.logs.table_files._BLOCK", 2**12)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("before", [2, 500])
@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('{"query_id": "x", "mod', "is not a JSON object: Unterminated string"),
        ("{query_id: 1}", "is not a JSON object: Expecting property name"),
        ('["x", "small", 1]', "is not a JSON object: it is"),
    ],
)
def test_a_bad_json_line_is_refused_with_its_row(tmp_path, before, line, expected):
    path = tmp_path / "calls.jsonl"
    good = '{"query_id": "q%d", "model": "small", "score": 1, "prompt": "' + "p" * 200 + '"}\n'
    path.write_text("".join(good % i for i in range(before)) + "\n" + line + "\n" + good % before)
    assert f"row {before + 1} {expected}" in refused(path)


def test_a_json_column_of_two_kinds_is_refused_with_its_row(tmp_path):
    message = refused(write(tmp_path / "calls.jsonl", score=[1, 0.5, "high", 1]))
    assert "column 'score' is 'high' in row 3, expected one kind of value" in message


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("before", [2, 500])
@pytest.mark.parametrize(("line", "columns"), [("x,small", 2), ("x,small,1,p,5", 5)])
def test_a_ragged_csv_row_is_refused_with_its_number(tmp_path, before, line, columns):
    path = tmp_path / "calls.csv"
    # A row may span lines: rows are counted, not lines.
    good = 'q%d,small,1,"' + "p" * 200 + '\nmore"\n'
    rows = "".join(good % i for i in range(before)) + line + "\n" + good % before
    path.write_text("query_id,model,score,prompt\n" + rows)
    message = refused(path)
    assert f"row {before + 1} has {columns} columns, expected 4: {line!r}" in message


def test_a_column_that_is_there_twice_is_refused(tmp_path):
    path = tmp_path / "calls.csv"
    path.write_text("query_id,model,score,score\na,small,1,1\na,large,1,1\n")
    assert "column 'score' is there twice" in refused(path)


# -- files that are not what their name says ------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (gzip.compress(b"a,b", mtime=0), "it is compressed by gzip: end its name in .gz"),
        (bz2.compress(b"a,b"), "it is compressed by bzip2: decompress it"),
        (
            b"PK\x03\x04" + b"x" * 40,
            "a zip archive or an Excel file: unpack it, or export the sheet",
        ),
        (b"PAR1" + b"x" * 40, "it is a parquet file: end its name in .parquet"),
        ("query_id,model".encode("utf-16"), "it is encoded as UTF-16: convert it by iconv"),
        ("query_id,model".encode("utf-16-le"), "full of NUL bytes, as if it were encoded as UTF-1"),
    ],
)
@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_a_file_of_another_kind_is_named_by_its_first_bytes(tmp_path, suffix, content, expected):
    path = tmp_path / f"calls{suffix}"
    path.write_bytes(content)
    assert expected in refused(path)


def test_text_under_a_compressed_name_and_other_texts_under_parquet_are_refused(tmp_path):
    (tmp_path / "calls.csv.gz").write_text("query_id,model,score\n")
    assert "not compressed by gzip, as its name says" in refused(tmp_path / "calls.csv.gz")
    (tmp_path / "calls.parquet").write_text("query_id,model,score\n")
    assert "cannot be read as parquet" in refused(tmp_path / "calls.parquet")


def test_only_regular_files_are_read(tmp_path):
    (tmp_path / "folder.csv").mkdir()
    assert "is a folder, expected a file" in refused(tmp_path / "folder.csv")
    os.mkfifo(tmp_path / "pipe.csv")
    assert "is no regular file" in refused(tmp_path / "pipe.csv")


@pytest.mark.parametrize(
    ("name", "hint"), [("c.xlsx", "export the sheet"), ("c.json", "jq -c"), ("c.tsv", "commas")]
)
def test_a_known_format_that_is_not_read_has_its_way_in(tmp_path, name, hint):
    (tmp_path / name).write_text("a")
    assert hint in refused(tmp_path / name)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_byte_order_marks_and_line_ends_of_any_system_are_no_matter(tmp_path, end, encoding):
    text = write(tmp_path / "calls.csv").read_text()
    (tmp_path / "calls.csv").write_bytes(text.replace("\n", end).encode(encoding))
    assert read_calls(tmp_path / "calls.csv").query_id.tolist() == ["a", "b"]
    if end != "\r":
        text = write(tmp_path / "calls.jsonl").read_text()
        (tmp_path / "calls.jsonl").write_bytes(text.replace("\n", end).encode(encoding))
        assert read_calls(tmp_path / "calls.jsonl").query_id.tolist() == ["a", "b"]


# -- text that is no UTF-8 ------------------------------------------------------------------------


def test_text_in_another_encoding_is_refused_with_row_and_column(tmp_path):
    path = write(tmp_path / "calls.csv", answer=["x", "y", "caf\u00e9", "z"])
    path.write_bytes(path.read_text().encode("latin-1"))
    assert "row 3, column 'answer' is not UTF-8 text: b'caf\\xe9'" in refused(path)
    write(path, reponse=["x"] * 4)
    path.write_bytes(path.read_text().replace("reponse", "r\u00e9ponse").encode("latin-1"))
    assert "the header, column " in refused(path)
    path = write(tmp_path / "calls.jsonl", answer=["x", "y", "@", "z"])
    path.write_bytes(path.read_bytes().replace(b"@", b"\xe9"))
    assert "row 3 is not UTF-8 text" in refused(path)
    raw = pa.array([b"x", b"y", b"\xe9", b"z"], pa.binary())
    answer = pa.Array.from_buffers(pa.string(), 4, raw.buffers())
    message = refused(write(tmp_path / "calls.parquet", answer=answer))
    assert "column 'answer' is b'\\xe9' in row 3, expected UTF-8 text" in message


def test_half_a_sign_at_the_end_of_an_answer_stops_nothing(tmp_path):
    path = write(tmp_path / "calls.jsonl", answer=["@", "y", "x", "z"])
    path.write_text(path.read_text().replace("@", "cut \\ud83d"))
    assert read_calls(path).answer[0, 0] == "cut \ufffd"


# -- too much of something ------------------------------------------------------------------------


@pytest.fixture
def few_columns(monkeypatch):
    monkeypatch.setattr("routing_pomdp.envs.logs.table_files._MOST_COLUMNS", 50)


@pytest.mark.usefixtures("few_columns")
def test_a_table_of_very_many_columns_is_refused_before_it_is_read(path, monkeypatch):
    write(path, **{f"c{i}": [0] * 4 for i in range(60)})
    for reader in ("csv.read_csv", "json.read_json"):
        monkeypatch.setattr(f"pyarrow.{reader}", None)
    assert "66 columns" in (message := refused(path)) or "row 1 has 66 keys" in message
    assert "expected at most 50" in message


def test_a_footer_of_very_many_columns_is_not_parsed(tmp_path, monkeypatch):
    path = write(tmp_path / "calls.parquet", **{f"c{i}": [0] * 4 for i in range(60)})
    monkeypatch.setattr("routing_pomdp.envs.logs.table_files._BLOCK", 2**10)
    assert "too many columns or row groups" in refused(path)


@pytest.mark.parametrize("brackets", ["[]", "{}"])
def test_json_that_is_nested_very_deep_is_refused_with_its_row(tmp_path, brackets):
    path = write(tmp_path / "calls.jsonl")
    opened = brackets[0] + ('"a":' if brackets == "{}" else "")
    deep = '{"query_id": "q", "x": ' + opened * 100_000 + "1" + brackets[1] * 100_000 + "}"
    path.write_text(path.read_text() + deep + "\n")
    assert "row 5 is nested deeper than 200 levels" in refused(path)


def test_brackets_in_a_text_are_no_nesting(tmp_path):
    code = '{["\\' * 1000
    log = read_calls(write(tmp_path / "calls.jsonl", prompt=[code] * 4))
    assert log.prompt.tolist() == [code] * 2


@pytest.mark.parametrize("name", ["query_id", "model", "split", "dataset"])
def test_one_very_long_name_is_refused_with_its_row(path, name):
    # Names are kept in arrays of a fixed width: all would be as wide.
    values = {"query_id": ["a", "b"] * 2, "model": ["s", "s", "l", "l"]} | {
        name: ["train", "x" * 2_000_000] * 2
    }
    message = refused(write(path, **values))
    assert f"column {name!r} is 'xxx" in message
    assert "(2,000,000 characters) in row 2" in message
    assert len(message) < 400 + len(str(path))


@pytest.mark.usefixtures("small_blocks")
def test_a_json_line_longer_than_what_is_parsed_at_a_time_is_refused(tmp_path):
    path = write(tmp_path / "calls.jsonl", prompt=["x", "x", "p" * 5000, "x"])
    assert "row 3 is longer than 4,096 bytes" in refused(path)


def test_a_column_of_models_that_is_none_is_refused_before_the_arrays_are_made(path, monkeypatch):
    monkeypatch.setattr("routing_pomdp.envs.logs.calls_table._MOST_CELLS", 15)
    names = [f"r{i}" for i in range(4)]
    message = refused(write(path, query_id=names, model=names))
    assert "4 queries and 4 models in 4 rows" in message


# -- CSV ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("column", [0, 3])
def test_a_quote_that_is_never_closed_is_refused_with_its_row(tmp_path, column):
    rows = [[f"q{i}", "small", "1", "0.5"] for i in range(50)]
    rows[20][column] = '"' + rows[20][column]
    path = tmp_path / "calls.csv"
    path.write_text("query_id,model,score,signal_a\n" + "\n".join(map(",".join, rows)) + "\n")
    assert "row 21 opens a quote that is never closed" in refused(path)


def test_an_odd_number_of_quotes_inside_of_values_is_no_fault(tmp_path):
    path = write(tmp_path / "calls.csv")
    lines = path.read_text().replace('"', "").splitlines()
    ends = ["answer", '5"', "b", "c", "d"]
    lines = [f"{line},{end}" for line, end in zip(lines, ends, strict=True)]
    path.write_text("\n".join(lines))
    assert read_calls(path).answer[0, 0] == '5"'


def test_what_is_not_used_may_hold_anything(tmp_path):
    mixed = [1, "x", {"a": [1]}, None]
    path = write(tmp_path / "calls.jsonl", meta=mixed)
    assert len(read_calls(path)) == 2
    path = write(tmp_path / "calls.parquet", meta=[{"a": 1}] * 4)
    assert len(read_calls(path)) == 2


# -- numbers and names ----------------------------------------------------------------------------


@pytest.mark.parametrize("first", [2**63, 2**64 - 2, 2**70])
@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_whole_numbers_above_2_to_the_63_are_ids_digit_by_digit(tmp_path, suffix, first):
    ids = [first, first, first + 1, first + 1]
    path = tmp_path / f"calls{suffix}"
    write(path, query_id=ids if suffix == ".jsonl" else list(map(str, ids)))
    assert read_calls(path).query_id.tolist() == [str(first), str(first + 1)]


def test_ids_of_unsigned_numbers_times_and_bytes_are_read_from_parquet(tmp_path):
    path = tmp_path / "calls.parquet"
    for ids in (
        pa.array([2**63, 2**63, 2**63 + 1, 2**63 + 1], pa.uint64()),
        pa.array([0, 0, 1, 1], pa.timestamp("s")),
        pa.array([b"a", b"a", b"b", b"b"]),
    ):
        assert len(read_calls(write(path, query_id=ids))) == 2


@pytest.mark.parametrize(
    "spelled", [["True", "False"], ["true", "false"], ["1", "0"], [" 1", "0 "]]
)
def test_truth_and_numbers_may_be_written_as_text(path, spelled):
    log = read_calls(write(path, score=spelled * 2))
    np.testing.assert_array_equal(log.score, [[1, 0], [1, 0]])


@pytest.mark.parametrize("value", ["0,5", "1,234.5", "1.234,5"])
def test_other_ways_to_write_a_number_are_refused_with_ours(path, value):
    message = refused(write(path, cost=["1", value, "2", "3"]))
    assert f"expected numbers: row 2 is {value!r} (write a decimal point" in message


@pytest.mark.parametrize("name", ["query_id", "model"])
def test_names_that_differ_in_spaces_only_are_refused(path, name):
    values = ["a", "a", "a ", "b"] if name == "query_id" else ["s", "l", "s ", "l"]
    message = refused(write(path, **{name: values}))
    assert (
        f"column {name!r} has {values[0]!r} and {values[2]!r} (row 3), which differ in" in message
    )


def test_a_name_with_nul_is_refused(path):
    assert "in row 2: 3 characters, expected a name without NUL" in refused(
        write(path, query_id=["a", "a\0b", "c", "d"])
    )


@pytest.mark.parametrize("mark", [";", "\t"])
def test_values_separated_by_something_else_are_recognised(tmp_path, mark):
    path = write(tmp_path / "calls.csv")
    path.write_text(path.read_text().replace(",", mark))
    assert f"values are separated by {mark!r} there, expected commas" in refused(path)


def test_a_key_that_is_there_twice_in_a_json_object_is_refused(tmp_path):
    path = write(tmp_path / "calls.jsonl")
    path.write_text(path.read_text() + '{"query_id": "x", "query_id": "y"}\n')
    assert "row 5 is not a JSON object: the key 'query_id' is there twice" in refused(path)


def test_a_folder_named_like_a_partition_adds_no_column(tmp_path):
    (tmp_path / "split=test").mkdir()
    log = read_calls(write(tmp_path / "split=test" / "calls.parquet"))
    assert set(log.split) == {"train"}


def test_a_long_value_is_cut_in_a_message(tmp_path):
    rows = [{"query_id": "a", "model": "s", "score": "x" * 10**6}, {"query_id": "a", "model": "l"}]
    path = tmp_path / "calls.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    assert len(refused(path)) < 300 + len(str(path))
