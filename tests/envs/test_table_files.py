"""Tables as files: those that cannot be read are refused with what is wrong in which row."""

import gzip
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest

from tests.calls import COLUMNS, refused, write


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
    (tmp_path / "calls.csv.gz").write_bytes(gzip.compress(text)[:-12])
    assert "cannot be read as csv" in refused(tmp_path / "calls.csv.gz")


@pytest.fixture
def small_blocks(monkeypatch):
    """Files are parsed a few rows at a time: a row's number in its block is not its number."""
    monkeypatch.setattr("envs.table_files._BLOCK", 2**12)


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
