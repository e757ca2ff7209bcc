"""Reading of table files in several formats as Arrow tables; errors name the row at fault."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import json
import re
import sys
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet

from routing_pomdp.envs.logs.rollouts import RolloutsError

# Columns that are always text.
_TEXT = (
    *("query_id", "model", "split", "dataset", "answer", "prompt"),
    *("reference", "context", "choices"),  # of questions
)
# Bytes of a file parsed at a time, and the most bytes of one row, which may hold a document.
_BLOCK = 2**26
_MOST_COLUMNS = 10_000
# Arrow and Python parse nested JSON recursively and would exhaust the stack.
_DEEPEST = 200
# First bytes of files whose content does not match their name -> what they are.
_SIGNATURES = {
    b"\x1f\x8b": "compressed by gzip: end its name in .gz",
    b"BZh": "compressed by bzip2: decompress it",
    b"\xfd7zXZ": "compressed by xz: decompress it",
    b"\x28\xb5\x2f\xfd": "compressed by zstd: decompress it",
    b"PK\x03\x04": "a zip archive or an Excel file: unpack it, or export the sheet as CSV",
    b"\xd0\xcf\x11\xe0": "an Excel file: export the sheet as CSV",
    b"PAR1": "a parquet file: end its name in .parquet",
    b"\xff\xfe": "encoded as UTF-16: convert it by iconv -f UTF-16 -t UTF-8",
    b"\xfe\xff": "encoded as UTF-16: convert it by iconv -f UTF-16 -t UTF-8",
}
_INSTEAD = {
    ".tsv": "write commas and name it .csv",
    ".json": "write one object a line (jq -c '.[]') and name it .jsonl",
    ".xlsx": "export the sheet as CSV",
    ".xls": "export the sheet as CSV",
    ".ods": "export the sheet as CSV",
}
FAULT = b"fault"
"""Key of a field's metadata for the reason why the column cannot be used."""


def read_table(path: Path) -> pa.Table:
    """A file as an Arrow table; the suffix names the format.

    Columns of a CSV file are bytes, except for those that are always text. A column of JSON lines
    that holds values of several kinds is empty, and its field has the reason under `FAULT`.

    Raises:
        RolloutsError: the file is missing, empty, damaged or of an unknown format.
    """
    if not path.is_file():
        found = "a folder" if path.is_dir() else "no regular file" if path.exists() else None
        problem = f"is {found}, expected a file of rows" if found else "there is no such file"
        raise RolloutsError(f"{path}{' ' if found else ': '}{problem}")
    if path.stat().st_size == 0:
        raise RolloutsError(f"{path} is empty")
    suffix = file_format(path)
    readers: dict[str, Callable[[Path], pa.Table]] = {
        ".parquet": _read_parquet,
        ".csv": _read_csv,
        ".jsonl": _read_json,
        ".ndjson": _read_json,
    }
    _refuse_other_kinds(path, suffix)
    try:
        table = readers[suffix](path)
    except (pa.ArrowException, OSError, EOFError, zlib.error) as error:
        reason = " ".join(str(error).replace(f" '{path}'", "").split())
        raise RolloutsError(f"{path} cannot be read as {suffix[1:]}: {reason}") from error
    if table.num_rows == 0:
        raise RolloutsError(f"{path} has no rows")
    _check_names(table.column_names, path)
    return table


def file_format(path: Path) -> str:
    suffixes = path.suffixes[-2:]
    suffix = suffixes[0] if suffixes[1:] == [".gz"] and suffixes[0] != ".parquet" else path.suffix
    if suffix not in (".parquet", ".csv", ".jsonl", ".ndjson"):
        instead = f": {_INSTEAD[suffix]}" if suffix in _INSTEAD else ""
        raise RolloutsError(
            f"{path}: unknown format {suffix!r}, expected .parquet, .csv, .jsonl or .ndjson (the "
            f"last three also with .gz){instead}"
        )
    return suffix


def shown(value: object, length: int = 80) -> str:
    """A value for an error message; long ones are cut."""
    # Cut before `repr`, which would copy a text of gigabytes.
    text = repr(value[: length + 1]) if isinstance(value, str | bytes) else repr(value)
    whole = len(value) if isinstance(value, str | bytes) else len(text)
    return text if len(text) <= length + 2 else f"{text[:length]}… ({whole:,} characters)"


def listed(names: Sequence[str]) -> str:
    """Names for an error message; at most the first 40."""
    first = ", ".join(shown(name) for name in names[:40])
    return f"[{first}{f', … ({len(names):,} in all)' if len(names) > 40 else ''}]"


def _check_names(names: Sequence[str], path: Path) -> None:
    if len(names) > _MOST_COLUMNS:
        raise RolloutsError(
            f"{path} has {len(names):,} columns, expected at most {_MOST_COLUMNS:,}: each row is a "
            "call, each column a property of it"
        )
    name, count = Counter(names).most_common(1)[0]
    if count > 1:
        raise RolloutsError(f"{path}: column {shown(name)} is there twice, expected it once")


def _refuse_other_kinds(path: Path, suffix: str) -> None:
    with path.open("rb") as file:
        start = file.read(2**12)
    if path.suffix == ".gz":
        if not start.startswith(b"\x1f\x8b"):
            raise RolloutsError(
                f"{path} cannot be read as {suffix[1:]}: it is not compressed by gzip, as its name "
                "says"
            )
        return
    wanted = b"PAR1" if suffix == ".parquet" else None
    for signature, kind in _SIGNATURES.items():
        if start.startswith(signature) and signature != wanted:
            raise RolloutsError(f"{path} cannot be read as {suffix[1:]}: it is {kind}")
    if wanted is None and start.count(b"\0") > len(start) // 4:
        kind = _SIGNATURES[b"\xff\xfe"]
        raise RolloutsError(
            f"{path} cannot be read as {suffix[1:]}: it is full of NUL bytes, as if it were {kind}"
        )


def _open(path: Path) -> IO[bytes]:
    return gzip.open(path) if path.suffix == ".gz" else path.open("rb")  # type: ignore[return-value]


# -- parquet --------------------------------------------------------------------------------------


def _read_parquet(path: Path) -> pa.Table:
    with path.open("rb") as raw:
        raw.seek(-min(8, path.stat().st_size), io.SEEK_END)
        footer = int.from_bytes(raw.read(4), "little")
    if _BLOCK < footer < path.stat().st_size:
        raise RolloutsError(
            f"{path} has a footer of {footer:,} bytes, expected at most {_BLOCK:,}: it describes "
            "too many columns or row groups"
        )
    # Not `pyarrow.parquet.read_table`, which makes columns of parent folders named a=b.
    with pyarrow.parquet.ParquetFile(path) as file:
        _check_names(file.schema_arrow.names or [""], path)
        return file.read()


# -- CSV ------------------------------------------------------------------------------------------


def _read_csv(path: Path) -> pa.Table:
    names = _header(path)
    _check_names(names, path)
    if not _is_sound(path):
        raise RolloutsError(f"{path}: {_csv_fault(path, names) or 'it is not UTF-8 text'}")
    ragged: list[pyarrow.csv.InvalidRow] = []

    def note(row: pyarrow.csv.InvalidRow) -> str:
        ragged.append(row)
        return "error"

    try:
        table = pyarrow.csv.read_csv(
            path,
            # Row numbers of errors are known with one thread only; more were no faster.
            read_options=pyarrow.csv.ReadOptions(use_threads=False, block_size=_BLOCK),
            # Values stay bytes until their meaning is known: "007" may be an id, "NA" an answer,
            # and an unused column may hold anything.
            convert_options=pyarrow.csv.ConvertOptions(column_types=dict.fromkeys(names, _BYTES)),
            parse_options=pyarrow.csv.ParseOptions(
                newlines_in_values=True, invalid_row_handler=note
            ),
        )
    except pa.ArrowInvalid as error:
        if ragged:
            row = ragged[0]
            raise RolloutsError(
                f"{path}: row {row.number - 1} has {row.actual_columns} columns, expected "
                f"{row.expected_columns}: {shown(row.text)}"
            ) from error
        if fault := _csv_fault(path, names):
            raise RolloutsError(f"{path}: {fault}") from error
        raise
    for index, name in enumerate(table.column_names):
        if name in _TEXT:
            table = table.set_column(index, name, pc.cast(table[name], pa.string()))
    return table


_BYTES = pa.large_binary()


def _header(path: Path) -> list[str]:
    """The names in the first line that is not empty."""
    csv.field_size_limit(sys.maxsize)
    with _open(path) as file:
        text = io.TextIOWrapper(file, "utf-8-sig", errors="replace")
        rows = csv.reader(iter(lambda: text.readline(_BLOCK), ""))
        return next(filter(None, rows), [""])


def _is_sound(path: Path) -> bool:
    """Whether a file is UTF-8 and leaves no quote open; an even count of quotes is accepted."""
    decoder, quotes = codecs.getincrementaldecoder("utf-8")(), 0
    try:
        with _open(path) as file:
            while piece := file.read(2**20):
                decoder.decode(piece)
                quotes += piece.count(b'"')
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return quotes % 2 == 0 or _csv_fault(path, []) is None


def _csv_fault(path: Path, names: Sequence[str]) -> str | None:
    """What is wrong with the first row that is not CSV in UTF-8; None if all rows are."""
    row = 0
    with _open(path) as file:
        text = io.TextIOWrapper(file, "utf-8-sig", errors="surrogateescape", newline="")
        rows = csv.reader(text)
        try:
            # The header is row 0; empty lines do not count.
            for row, fields in enumerate(filter(None, rows)):
                for index, field in enumerate(fields):
                    if not field.isascii() and re.search("[\udc80-\udcff]", field):
                        where = f"row {row}" if row else "the header"
                        named = f", column {shown(names[index])}" if index < len(names) else ""
                        raw = shown(field.encode("utf-8", "surrogateescape"))
                        return f"{where}{named} is not UTF-8 text: {raw}; convert it by iconv"
                if sum(map(len, fields)) > _BLOCK:
                    return f"row {row} is longer than {_BLOCK:,} bytes: is a quote left open?"
        except csv.Error as error:
            return f"row {row + 1} is no CSV: {error}"
    return _open_quote(path)


def _open_quote(path: Path) -> str | None:
    row = 0
    with _open(path) as file:
        text = io.TextIOWrapper(file, "utf-8-sig", errors="surrogateescape", newline="")
        try:
            for _ in filter(None, csv.reader(text, strict=True)):
                row += 1
        except csv.Error as error:
            if "unexpected end" in str(error):
                # ``row`` counts the header, but not the row with the open quote.
                return f"{f'row {row}' if row else 'the header'} opens a quote that is never closed"
    return None


# -- JSON lines -----------------------------------------------------------------------------------


def _read_json(path: Path) -> pa.Table:
    _check_lines(path)
    options = pyarrow.json.ReadOptions(block_size=_BLOCK)
    try:
        table = pyarrow.json.read_json(path, read_options=options)
        # Arrow turns text that looks like a date into timestamps; it has to stay text.
        dates = [
            (field.name, pa.string()) for field in table.schema if pa.types.is_timestamp(field.type)
        ]
        if dates:
            parse = pyarrow.json.ParseOptions(explicit_schema=pa.schema(dates))
            table = pyarrow.json.read_json(path, read_options=options, parse_options=parse)
    except pa.ArrowInvalid:
        return _from_records(list(json_lines(path)))
    if any(_has_long_integers(column) for column in table.columns):
        return _from_records(list(json_lines(path)))
    return table


def _has_long_integers(values: pa.ChunkedArray) -> bool:
    """Whether a column of floats may have been integers too large for a float."""
    if not pa.types.is_floating(values.type):
        return False
    floats = values.to_numpy()
    return bool((np.isfinite(floats) & (np.abs(floats) >= 2.0**63)).any())


def _check_lines(path: Path) -> None:
    """Raise RolloutsError for the first line that is not safe to parse."""
    with _open(path) as file:
        for row, line in enumerate(_lines(file), start=1):
            reason = None
            if len(line) > _BLOCK:
                reason = f"is longer than {_BLOCK:,} bytes"
            elif is_deep(line):
                reason = f"is nested deeper than {_DEEPEST} levels"
            elif line.count(b":") > _MOST_COLUMNS and _keys(line) > _MOST_COLUMNS:
                reason = f"has {_keys(line):,} keys, expected at most {_MOST_COLUMNS:,}"
            elif not line.isascii():
                try:
                    line.decode()
                except UnicodeDecodeError as error:
                    part = shown(line[max(0, error.start - 20) : error.start + 20])
                    reason = f"is not UTF-8 text: {part}; convert it by iconv"
            if reason:
                raise RolloutsError(f"{path}: row {row} {reason}")


def _lines(file: IO[bytes]) -> Iterator[bytes]:
    """The lines that are not empty; too long ones are cut just above the limit."""
    first = True
    while line := file.readline(_BLOCK + 1):
        line = line.removeprefix(codecs.BOM_UTF8) if first else line
        first = False
        if line := line.strip():
            yield line


def is_deep(line: bytes) -> bool:
    """Whether JSON is nested too deep to be parsed safely."""
    if line.count(b"[") + line.count(b"{") <= _DEEPEST:
        return False
    bare = re.sub(rb'"(?:[^"\\]|\\.)*"?', b"", line)
    steps = np.frombuffer(bare, dtype=np.uint8)
    opened = np.isin(steps, list(b"[{")).astype(np.int64) - np.isin(steps, list(b"]}"))
    return bool(np.cumsum(opened).max(initial=0) > _DEEPEST)


def _keys(line: bytes) -> int:
    try:
        return len(json.loads(line))
    except ValueError:
        return 0


def json_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a file of JSON lines.

    Raises:
        RolloutsError: a line is no JSON object; the message names the row.
    """
    _check_lines(path)
    with _open(path) as file:
        for row, line in enumerate(_lines(file), start=1):
            try:
                record = json.loads(line, object_pairs_hook=_once)
            except ValueError as error:
                raise RolloutsError(f"{path}: row {row} is not a JSON object: {error}") from error
            if not isinstance(record, dict):
                raise RolloutsError(
                    f"{path}: row {row} is not a JSON object: it is {shown(record, 40)}"
                )
            yield record


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = Counter(key for key, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"the key {shown(twice)} is there twice")
    return found


def _from_records(records: Sequence[dict[str, Any]]) -> pa.Table:
    """A table of records that Arrow cannot read: long integers, columns of several kinds."""
    names = dict.fromkeys(name for record in records for name in record)
    fields, columns = [], []
    for name in names:
        values = [record.get(name) for record in records]
        fault = _mixture(name, values)
        column = pa.nulls(len(values)) if fault else _as_array(values)
        fields.append(pa.field(name, column.type, metadata={FAULT: fault} if fault else None))
        columns.append(column)
    return pa.table(columns, pa.schema(fields))


def _as_array(values: list[Any]) -> pa.Array:
    try:
        return pa.array(values)
    except UnicodeEncodeError:
        # Half of a surrogate pair, which a server leaves where it cuts an answer.
        whole = [v if v is None else _replaced(v) for v in values]
        return pa.array(whole)
    except (pa.ArrowException, OverflowError):
        return pa.array([v if v is None or isinstance(v, str) else json.dumps(v) for v in values])


def _replaced(value: Any) -> Any:
    text = value if isinstance(value, str) else json.dumps(value)
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _mixture(name: str, values: Sequence[Any]) -> str | None:
    """The error message for a column that holds several kinds of values; None for one kind."""
    first: type | None = None
    for row, value in enumerate(values, start=1):
        kind = float if type(value) is int else type(value)
        if value is not None and kind is not first:
            if first is not None:
                return (
                    f"column {shown(name)} is {shown(value)} in row {row}, expected one kind of "
                    f"value: rows before hold {first.__name__}"
                )
            first = kind
    return None
