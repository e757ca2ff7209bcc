"""The calls table: a log on disk, one row a (query, model).

Formats, by suffix: ``.parquet``, ``.csv``, ``.jsonl`` or ``.ndjson``; the last three also with
``.gz``. Columns:

========================  ==========================================================================
``query_id``, ``model``   text, not empty; each pair at most once
``score``                 in [0, 1]; or a boolean ``correct``
``cost``                  of the answer, >= 0, in any one unit (optional)
``signal_NAME``           a verifier's signal of the answer; empty where it gave none (any number)
``signal_NAME_cost``      what that signal cost, in the unit of ``cost`` (optional)
``split``                 "train", "validation", "test"; "train" without the column
``dataset``               text; the file's name without the column
``model_rank``            order of the models, cheapest first. Without it they are ordered by mean
                          cost, and without costs by first appearance
``answer``, ``prompt``    text (optional)
``latency_ms``            (optional)
``tokens_in``             (optional)
``tokens_out``            (optional)
========================  ==========================================================================

A (query, model) without a row was never called. ``split`` and ``dataset`` are one value a query.
Further columns are ignored. In errors, rows count from 1, without the header of a CSV file.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet
from numpy.typing import NDArray

from envs.rollouts import FloatArray, Rollouts, RolloutsError

_TEXT = ("query_id", "model", "split", "dataset", "answer", "prompt")
_NUMBERS = {"latency_ms": "latency", "tokens_in": "tokens_in", "tokens_out": "tokens_out"}
# Bytes of a file parsed at a time: more than any one row, which may hold a whole document.
_BLOCK = 2**26


def read_calls(path: str | Path, signals: Mapping[str, str | None] | None = None) -> Rollouts:
    """Reads and validates a calls table.

    Args:
        path: of the file.
        signals: columns that hold signals -> the column of each one's cost, or None where it is
            free; None for the ``signal_NAME`` columns.

    Raises:
        RolloutsError: the file is missing, damaged or empty, a column is missing or of the wrong
            kind, or a value is not allowed; the message names file, column and row.
    """
    path = Path(path)
    table = read_table(path)
    return align(table, path, _signals(table.column_names) if signals is None else signals)


def _signals(names: Sequence[str]) -> dict[str, str | None]:
    signals = [name for name in names if name.startswith("signal_")]
    # "signal_low_cost" is a cost only beside a "signal_low".
    costs = {f"{name}_cost" for name in signals} & set(names)
    return {
        name: f"{name}_cost" if f"{name}_cost" in costs else None
        for name in signals
        if name not in costs
    }


def read_table(path: Path) -> pa.Table:
    """A file as an Arrow table, in the format of its suffix.

    Raises:
        RolloutsError: the file is missing, empty, damaged or of an unknown format.
    """
    if not path.is_file():
        raise RolloutsError(f"{path}: there is no such file")
    if path.stat().st_size == 0:
        raise RolloutsError(f"{path} is empty")
    suffix = _format(path)
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


def _format(path: Path) -> str:
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


def align(
    table: pa.Table,
    path: Path,
    signals: Mapping[str, str | None],
    cost: str = "cost",
    per_query: Mapping[str, str] | None = None,
) -> Rollouts:
    """A table of calls as aligned arrays; queries in the order of first appearance.

    Args:
        table: one row a call, with the columns above.
        path: named in errors.
        signals: columns of signals -> the column of each one's cost, or None.
        cost: the column of answer costs.
        per_query: values of "split" or "dataset" for all rows where there is no such column.

    Raises:
        RolloutsError: as `read_calls`.
    """
    names = table.column_names
    defaults = {"split": "train", "dataset": path.name.split(".")[0]} | dict(per_query or {})
    query, query_id = _codes(table, "query_id", path)
    called, models = _codes(table, "model", path)
    n, n_models = len(query_id), len(models)
    score_column = "correct" if "correct" in names and "score" not in names else "score"
    score = numbers(table, score_column, path, in_unit_interval, "in [0, 1]")
    paid = numbers(table, cost, path, _chargeable, ">= 0") if cost in names else None
    order = _order(table, path, called, models, paid)
    # Each call's place in the flat (n, N) arrays.
    place = np.empty(n_models, dtype=np.int64)
    place[order] = np.arange(n_models)
    cell = query * n_models + place[called]
    _refuse_duplicates(cell, query, called, query_id, models, path)

    def spread(column: NDArray[Any], empty: Any = np.nan) -> NDArray[Any]:
        array = np.full(n * n_models, empty, dtype=column.dtype)
        array[cell] = column
        return array.reshape(n, n_models)

    def of_query(name: str) -> NDArray[np.str_]:
        if name not in names:
            return np.full(n, defaults[name])
        codes, texts = _codes(table, name, path)
        return texts[_constant(codes, query, n, name, query_id, path)]

    arrays: dict[str, Any] = {
        "score": spread(score),
        "cost": None if paid is None else spread(paid),
        "split": of_query("split"),
        "dataset": of_query("dataset"),
    }
    for name, field in _NUMBERS.items():
        if name in names:
            arrays[field] = spread(numbers(table, name, path))
    arrays["signals"], arrays["signal_costs"] = {}, {}
    for name, charge in signals.items():
        signal = numbers(table, name, path, lambda x: ~np.isinf(x), "a finite number, or nothing")
        arrays["signals"][name.removeprefix("signal_")] = spread(signal)
        if charge is not None:
            chargeable = partial(_chargeable, due=~np.isnan(signal))
            charged = numbers(table, charge, path, chargeable, ">= 0")
            arrays["signal_costs"][name.removeprefix("signal_")] = spread(charged)
    if "answer" in names:
        arrays["answer"] = spread(texts(table, "answer", path), None)
    if "prompt" in names:
        arrays["prompt"] = texts(table, "prompt", path, _first(query, n))
    try:
        return Rollouts(models=tuple(models[order].tolist()), query_id=query_id, **arrays)
    except RolloutsError as error:
        raise RolloutsError(f"{path}: {error}") from error


def write_calls(rollouts: Rollouts, path: str | Path) -> None:
    """Writes a calls table that `read_calls` reads back as it was.

    A query or a model that has no call has no row, and is not read back.

    Raises:
        RolloutsError: an unknown format, or signals whose columns would clash.
    """
    path = Path(path)
    suffix = _format(path)
    row, model = np.nonzero(~np.isnan(rollouts.score))
    columns: dict[str, Any] = {
        "query_id": rollouts.query_id[row].astype(str),
        "model": np.array(rollouts.models)[model],
        "model_rank": model,
        "dataset": rollouts.dataset[row].astype(str),
        "split": rollouts.split[row].astype(str),
        "score": rollouts.score[row, model],
    }
    arrays = {"cost": rollouts.cost} | {
        column: getattr(rollouts, name) for column, name in _NUMBERS.items()
    }
    for name, signal in rollouts.signals.items():
        if f"{name}_cost" in rollouts.signals:
            raise RolloutsError(
                f"{path}: signal {f'{name}_cost'!r} would be read as the cost of signal {name!r}: "
                "rename it"
            )
        arrays[f"signal_{name}"] = signal
        arrays[f"signal_{name}_cost"] = rollouts.signal_costs.get(name)
    for name, array in arrays.items():
        if array is not None:
            # A missing number is empty in the file, not "nan".
            columns[name] = pa.array(array[row, model], from_pandas=True)
    if rollouts.answer is not None:
        columns["answer"] = pa.array(rollouts.answer[row, model], pa.string())
    if rollouts.prompt is not None:
        columns["prompt"] = pa.array(rollouts.prompt[row], pa.string())
    table = pa.table(columns)
    if suffix == ".parquet":
        pyarrow.parquet.write_table(table, path, compression="zstd")
        return
    with pa.output_stream(str(path)) as file:
        if suffix == ".csv":
            pyarrow.csv.write_csv(table, file)
        else:
            for batch in table.to_batches(max_chunksize=2**14):
                lines = "".join(json.dumps(line) + "\n" for line in batch.to_pylist())
                file.write(lines.encode())


# -- columns ----------------------------------------------------------------------------------


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


def in_unit_interval(scores: FloatArray) -> NDArray[np.bool_]:
    """Which scores are there and allowed."""
    return (scores >= 0) & (scores <= 1)


def _chargeable(
    costs: FloatArray, due: NDArray[np.bool_] | np.bool_ = np.True_
) -> NDArray[np.bool_]:
    return (costs >= 0) & (costs < np.inf) | ~due


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


def _as_text(table: pa.Table, name: str, path: Path) -> pa.ChunkedArray:
    values = column(table, name, path)
    try:
        return pc.cast(values, pa.large_string())
    except pa.ArrowException as error:
        raise RolloutsError(
            f"{path}: column {name!r} holds {values.type}, expected text"
        ) from error


def _codes(table: pa.Table, name: str, path: Path) -> tuple[NDArray[np.int64], NDArray[np.str_]]:
    """A text column as codes in the order of first appearance, and the texts."""
    # Encoded afresh even if the file did: its dictionary may be in another order, or too long.
    values = _as_text(table, name, path)
    encoded = values.combine_chunks().dictionary_encode()
    found = encoded.dictionary.to_pylist()
    if encoded.null_count or "" in found:
        row = pc.index(pc.fill_null(values, ""), "").as_py() + 1
        raise RolloutsError(f"{path}: column {name!r} is empty in row {row}, expected a text")
    codes = encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    return codes, np.array(found, dtype=str)


def _first(query: NDArray[np.int64], n: int) -> NDArray[np.int64]:
    """The first row of each query, ``(n,)``."""
    first = np.empty(n, dtype=np.int64)
    first[query[::-1]] = np.arange(len(query))[::-1]
    return first


def _constant(
    codes: NDArray[np.int64],
    query: NDArray[np.int64],
    n: int,
    name: str,
    query_id: NDArray[np.str_],
    path: Path,
) -> NDArray[np.int64]:
    """The code of each query, all of whose rows must agree."""
    of_query = codes[_first(query, n)]
    differs = np.flatnonzero(of_query[query] != codes)
    if len(differs):
        raise RolloutsError(
            f"{path}: column {name!r} changes within query {str(query_id[query[differs[0]]])!r} in "
            f"row {differs[0] + 1}, expected one value a query"
        )
    return of_query


def _order(
    table: pa.Table,
    path: Path,
    called: NDArray[np.int64],
    names: NDArray[np.str_],
    cost: FloatArray | None,
) -> NDArray[np.int64]:
    """The models' codes, cheapest first."""
    count = np.bincount(called, minlength=len(names))
    if "model_rank" not in table.column_names:
        if cost is None:
            return np.arange(len(names))
        return np.argsort(np.bincount(called, cost, len(names)) / count, kind="stable")
    rank = numbers(table, "model_rank", path, np.isfinite, "a number")
    mean = np.bincount(called, rank, len(names)) / count
    differs = np.flatnonzero(np.abs(mean[called] - rank) > 1e-9)
    if len(differs):
        raise RolloutsError(
            f"{path}: column 'model_rank' differs between rows of model "
            f"{str(names[called[differs[0]]])!r} (row {differs[0] + 1}), expected one rank a model"
        )
    if len(np.unique(mean)) < len(names):
        raise RolloutsError(f"{path}: two models have one model_rank, expected a rank for each")
    return np.argsort(mean, kind="stable")


def _refuse_duplicates(
    cell: NDArray[np.int64],
    query: NDArray[np.int64],
    called: NDArray[np.int64],
    query_id: NDArray[np.str_],
    names: NDArray[np.str_],
    path: Path,
) -> None:
    count = np.bincount(cell)
    if count.max() == 1:
        return
    rows = np.flatnonzero(cell == np.argmax(count > 1))
    raise RolloutsError(
        f"{path}: query {str(query_id[query[rows[0]]])!r} calls model "
        f"{str(names[called[rows[0]]])!r} in rows {rows[0] + 1} and {rows[1] + 1}, expected one "
        "row for each query and model"
    )
