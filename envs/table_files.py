"""Files of rows in any format as Arrow tables, and their columns as checked numpy arrays."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet
from numpy.typing import NDArray

from envs.rollouts import FloatArray, RolloutsError

# Columns that are text whatever they look like.
_TEXT = (
    *("query_id", "model", "split", "dataset", "answer", "prompt"),
    *("reference", "context", "choices"),  # of questions
)
# Bytes of a file parsed at a time: more than any one row, which may hold a whole document.
_BLOCK = 2**26


def read_table(path: Path) -> pa.Table:
    """A file as an Arrow table, in the format of its suffix.

    Raises:
        RolloutsError: the file is missing, empty, damaged or of an unknown format.
    """
    if not path.is_file():
        raise RolloutsError(f"{path}: there is no such file")
    if path.stat().st_size == 0:
        raise RolloutsError(f"{path} is empty")
    suffix = file_format(path)
    readers: dict[str, Callable[[Path], pa.Table]] = {
        ".parquet": pyarrow.parquet.read_table,
        ".csv": _read_csv,
        ".jsonl": _read_json,
        ".ndjson": _read_json,
    }
    try:
        table = readers[suffix](path)
    except (pa.ArrowException, OSError) as error:
        reason = str(error).replace(f" '{path}'", "")
        raise RolloutsError(f"{path} cannot be read as {suffix[1:]}: {reason}") from error
    if table.num_rows == 0:
        raise RolloutsError(f"{path} has no rows")
    names = table.column_names
    if repeated := [name for name in names if names.count(name) > 1]:
        raise RolloutsError(f"{path}: column {repeated[0]!r} is there twice, expected it once")
    return table


def file_format(path: Path) -> str:
    suffixes = path.suffixes[-2:]
    suffix = suffixes[0] if suffixes[1:] == [".gz"] and suffixes[0] != ".parquet" else path.suffix
    if suffix not in (".parquet", ".csv", ".jsonl", ".ndjson"):
        raise RolloutsError(
            f"{path}: unknown format {suffix!r}, expected .parquet, .csv, .jsonl or .ndjson (the "
            "last three also with .gz)"
        )
    return suffix


def _read_csv(path: Path) -> pa.Table:
    ragged: list[pyarrow.csv.InvalidRow] = []

    def note(row: pyarrow.csv.InvalidRow) -> str:
        ragged.append(row)
        return "error"

    try:
        return pyarrow.csv.read_csv(
            path,
            # Only one thread knows the number of a bad row; more were no faster.
            read_options=pyarrow.csv.ReadOptions(use_threads=False, block_size=_BLOCK),
            # Text stays text: "007" is an id, and an answer "NA" is no missing value.
            convert_options=pyarrow.csv.ConvertOptions(
                column_types={name: pa.string() for name in _TEXT}
            ),
            parse_options=pyarrow.csv.ParseOptions(
                newlines_in_values=True, invalid_row_handler=note
            ),
        )
    except pa.ArrowInvalid as error:
        if not ragged:
            raise
        row = ragged[0]
        raise RolloutsError(
            f"{path}: row {row.number - 1} has {row.actual_columns} columns, expected "
            f"{row.expected_columns}: {row.text!r}"
        ) from error


def _read_json(path: Path) -> pa.Table:
    options = pyarrow.json.ReadOptions(block_size=_BLOCK)
    try:
        table = pyarrow.json.read_json(path, read_options=options)
    except pa.ArrowInvalid as error:
        fault = _fault(path)
        if fault is None:
            raise
        raise RolloutsError(f"{path}: {fault}") from error
    # Text that looks like a date is taken for one, and would not stay as it was written.
    dates = [
        (field.name, pa.string()) for field in table.schema if pa.types.is_timestamp(field.type)
    ]
    if dates:
        parse = pyarrow.json.ParseOptions(explicit_schema=pa.schema(dates))
        table = pyarrow.json.read_json(path, read_options=options, parse_options=parse)
    return table


def _fault(path: Path) -> str | None:
    """The first JSON line that is wrong, and how; Arrow counts rows within a block only."""
    kinds: dict[str, type] = {}
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        for row, line in enumerate(filter(bytes.strip, file), start=1):
            try:
                record = json.loads(line.strip())
            except ValueError as error:
                return f"row {row} is not a JSON object: {error}"
            if not isinstance(record, dict):
                return f"row {row} is not a JSON object: it is {str(record)[:40]!r}"
            for name, value in record.items():
                kind = float if type(value) is int else type(value)
                if value is not None and kinds.setdefault(name, kind) is not kind:
                    return (
                        f"column {name!r} is {value!r} in row {row}, expected one kind of value: "
                        f"rows before hold {kinds[name].__name__}"
                    )
    return None


def column(table: pa.Table, name: str, path: Path) -> pa.ChunkedArray:
    """A column that has to be there.

    Raises:
        RolloutsError: it is not.
    """
    if name not in table.column_names:
        raise RolloutsError(f"{path} has no column {name!r}: it has {table.column_names}")
    return table[name]


def numbers(
    table: pa.Table,
    name: str,
    path: Path,
    valid: Callable[[FloatArray], NDArray[np.bool_]] | None = None,
    wanted: str = "",
) -> FloatArray:
    """A column of numbers as floats, NaN where empty.

    Raises:
        RolloutsError: there is no such column, it holds something else, or a number is not valid.
    """
    values = column(table, name, path)
    kind = values.type
    if pa.types.is_boolean(kind):
        values = pc.cast(values, pa.uint8())
    elif not (
        pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_decimal(kind)
        or pa.types.is_null(kind)
    ):
        raise RolloutsError(
            f"{path}: column {name!r} holds {kind}, expected numbers" + _text_in(values)
        )
    floats = pc.cast(values, pa.float64(), safe=False).to_numpy()
    if valid is not None:
        bad = np.flatnonzero(~valid(floats))
        if len(bad):
            raise RolloutsError(
                f"{path}: column {name!r} is {floats[bad[0]]} in row {bad[0] + 1}, "
                f"expected {wanted}" + (f" ({len(bad)} such rows)" if len(bad) > 1 else "")
            )
    return floats


def _text_in(values: pa.ChunkedArray) -> str:
    """Where the first value of a text column stands that is no number."""
    if not (pa.types.is_string(values.type) or pa.types.is_large_string(values.type)):
        return ""
    for row, value in enumerate(values.to_pylist(), start=1):
        try:
            float(value or "nan")
        except ValueError:
            return f": row {row} is {value!r}"
    return ": they are written as text"


def texts(
    table: pa.Table, name: str, path: Path, rows: NDArray[np.int64] | None = None
) -> NDArray[np.object_]:
    """A text column, or some rows of it, as Python strings, "" where empty.

    Raises:
        RolloutsError: there is no such column, or it holds something else.
    """
    values = _as_text(table, name, path)
    if rows is not None:
        values = values.take(pa.array(rows))
    return pc.fill_null(values, "").to_numpy(zero_copy_only=False)


def row_names(table: pa.Table, columns: Sequence[str], path: Path) -> NDArray[np.str_]:
    """A name ``(n,)`` for each row: those of the first of these columns that is there and tells
    all rows apart, else by the rows' numbers."""
    for name in columns:
        if name in table.column_names:
            names = texts(table, name, path).astype(str)
            if "" not in names and len(np.unique(names)) == len(names):
                return names
    return np.array([f"row-{row}" for row in range(1, table.num_rows + 1)])


def _as_text(table: pa.Table, name: str, path: Path) -> pa.ChunkedArray:
    values = column(table, name, path)
    try:
        return pc.cast(values, pa.large_string())
    except pa.ArrowException as error:
        raise RolloutsError(
            f"{path}: column {name!r} holds {values.type}, expected text"
        ) from error


def codes(table: pa.Table, name: str, path: Path) -> tuple[NDArray[np.int64], NDArray[np.str_]]:
    """A text column as codes in the order of first appearance, and the texts."""
    # Encoded afresh even if the file did: its dictionary may be in another order, or too long.
    values = _as_text(table, name, path)
    encoded = values.combine_chunks().dictionary_encode()
    found = encoded.dictionary.to_pylist()
    if encoded.null_count or "" in found:
        row = pc.index(pc.fill_null(values, ""), "").as_py() + 1
        raise RolloutsError(f"{path}: column {name!r} is empty in row {row}, expected a text")
    numbered = encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    return numbered, np.array(found, dtype=str)
