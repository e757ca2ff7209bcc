"""The calls table: a log on disk, one row a (query, model).

Formats, by suffix: ``.parquet``, ``.csv`` (or ``.csv.gz``), ``.jsonl`` or ``.ndjson``. Columns:

========================  ==========================================================================
``query_id``, ``model``   text; each pair at most once
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

A (query, model) without a row was never called. Further columns are ignored.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
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


def read_calls(path: str | Path) -> Rollouts:
    """Reads and validates a calls table.

    Raises:
        RolloutsError: the file is missing, damaged or empty, a column is missing or of the wrong
            kind, or a value is not allowed; the message names file, column and row.
    """
    path = Path(path)
    table = read_table(path)
    signals = {
        name.removeprefix("signal_"): name
        for name in table.column_names
        if name.startswith("signal_") and not name.endswith("_cost")
    }
    costs = {
        name: f"{column}_cost"
        for name, column in signals.items()
        if f"{column}_cost" in table.column_names
    }
    return align(table, path, signals, costs)


def read_table(path: Path) -> pa.Table:
    """A file as an Arrow table, in the format of its suffix.

    Raises:
        RolloutsError: the file is missing, empty, damaged or of an unknown format.
    """
    if not path.is_file():
        raise RolloutsError(f"{path}: there is no such file")
    if path.stat().st_size == 0:
        raise RolloutsError(f"{path} is empty")
    suffix = Path(path.name.removesuffix(".gz")).suffix
    readers: dict[str, Callable[[Path], pa.Table]] = {
        ".parquet": pyarrow.parquet.read_table,
        ".csv": _read_csv,
        ".jsonl": pyarrow.json.read_json,
        ".ndjson": pyarrow.json.read_json,
    }
    if suffix not in readers:
        raise RolloutsError(
            f"{path}: unknown format {suffix!r}, expected .parquet, .csv, .csv.gz, .jsonl or "
            ".ndjson"
        )
    try:
        table = readers[suffix](path)
    except (pa.ArrowException, OSError) as error:
        raise RolloutsError(f"{path} cannot be read as {suffix[1:]}: {error}") from error
    if table.num_rows == 0:
        raise RolloutsError(f"{path} has no rows")
    return table


def _read_csv(path: Path) -> pa.Table:
    # Text stays text: "007" is an id, and an answer "NA" is no missing value.
    types = {name: pa.string() for name in _TEXT}
    return pyarrow.csv.read_csv(
        path,
        convert_options=pyarrow.csv.ConvertOptions(column_types=types),
        parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True),
    )


def align(
    table: pa.Table,
    path: Path,
    signals: Mapping[str, str],
    signal_costs: Mapping[str, str],
    cost: str = "cost",
    per_query: Mapping[str, str] | None = None,
) -> Rollouts:
    """A table of calls as aligned arrays; queries in the order of first appearance.

    Args:
        table: one row a call, with the columns above.
        path: named in errors.
        signals: name of a signal -> its column.
        signal_costs: name of a signal -> the column of its cost.
        cost: the column of answer costs.
        per_query: values of "split" or "dataset" for all rows where there is no such column.

    Raises:
        RolloutsError: as `read_calls`.
    """
    defaults = {"split": "train", "dataset": path.name.split(".")[0]} | dict(per_query or {})
    query, query_id = _codes(table, "query_id", path)
    called, names = _codes(table, "model", path)
    score = _score(table, path)
    n, n_models = len(query_id), len(names)
    values = {"score": score}
    if cost in table.column_names:
        values["cost"] = _number(table, cost, path, lambda x: (x >= 0) & (x < np.inf), ">= 0")
    order = _order(table, path, called, names, values.get("cost"))
    # Each call's place in the flat (n, N) arrays.
    place = np.empty(n_models, dtype=np.int64)
    place[order] = np.arange(n_models)
    cell = query * n_models + place[called]
    _refuse_duplicates(cell, query, called, query_id, names, path)

    def spread(column: NDArray[Any], empty: Any = np.nan) -> NDArray[Any]:
        array = np.full(n * n_models, empty, dtype=column.dtype)
        array[cell] = column
        return array.reshape(n, n_models)

    def optional(column: str) -> FloatArray | None:
        return spread(_number(table, column, path)) if column in table.column_names else None

    def of_query(column: str) -> NDArray[np.str_]:
        if column not in table.column_names:
            return np.full(n, defaults[column])
        codes, texts = _codes(table, column, path)
        return texts[_constant(codes, query, n, column, query_id, path)]

    finite = (lambda x: ~np.isinf(x), "a finite number, or nothing")
    try:
        return Rollouts(
            models=tuple(names[order].tolist()),
            query_id=query_id,
            score=spread(values["score"]),
            cost=spread(values["cost"]) if "cost" in values else None,
            signals={
                name: spread(_number(table, column, path, *finite))
                for name, column in signals.items()
            },
            signal_costs={
                name: spread(_number(table, column, path)) for name, column in signal_costs.items()
            },
            split=of_query("split"),
            dataset=of_query("dataset"),
            answer=spread(_texts(table, "answer"), None)
            if "answer" in table.column_names
            else None,
            prompt=_texts(table, "prompt")[_first(query, n)]
            if "prompt" in table.column_names
            else None,
            **{name: optional(column) for column, name in _NUMBERS.items()},
        )
    except RolloutsError as error:
        raise RolloutsError(f"{path}: {error}") from error


def write_calls(rollouts: Rollouts, path: str | Path) -> None:
    """Writes a calls table that `read_calls` reads back as it was.

    Raises:
        RolloutsError: an unknown format.
    """
    path = Path(path)
    row, model = np.nonzero(~np.isnan(rollouts.score))
    columns: dict[str, Any] = {
        "query_id": rollouts.query_id[row].astype(str),
        "model": np.array(rollouts.models)[model],
        "model_rank": model,
        "dataset": rollouts.dataset[row].astype(str),
        "split": rollouts.split[row].astype(str),
        "score": rollouts.score[row, model],
    }
    numbers = {"cost": rollouts.cost} | {
        column: getattr(rollouts, name) for column, name in _NUMBERS.items()
    }
    for name, signal in rollouts.signals.items():
        numbers[f"signal_{name}"] = signal
        numbers[f"signal_{name}_cost"] = rollouts.signal_costs.get(name)
    for name, array in numbers.items():
        if array is not None:
            # A missing number is empty in the file, not "nan".
            columns[name] = pa.array(array[row, model], from_pandas=True)
    if rollouts.answer is not None:
        columns["answer"] = pa.array(rollouts.answer[row, model], pa.string())
    if rollouts.prompt is not None:
        columns["prompt"] = pa.array(rollouts.prompt[row], pa.string())
    table = pa.table(columns)
    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(table, path, compression="zstd")
    elif path.suffix == ".csv":
        pyarrow.csv.write_csv(table, path)
    elif path.suffix in (".jsonl", ".ndjson"):
        with path.open("w", encoding="utf-8") as file:
            for batch in table.to_batches(max_chunksize=2**14):
                file.writelines(json.dumps(line) + "\n" for line in batch.to_pylist())
    else:
        raise RolloutsError(f"{path}: unknown format, expected .parquet, .csv, .jsonl or .ndjson")


# -- columns ----------------------------------------------------------------------------------


def column(table: pa.Table, name: str, path: Path) -> pa.ChunkedArray:
    """A column that has to be there.

    Raises:
        RolloutsError: it is not.
    """
    if name not in table.column_names:
        raise RolloutsError(f"{path} has no column {name!r}: it has {table.column_names}")
    return table[name]


def _score(table: pa.Table, path: Path) -> FloatArray:
    name = (
        "score"
        if "score" in table.column_names or "correct" not in table.column_names
        else "correct"
    )
    return _number(table, name, path, lambda x: (x >= 0) & (x <= 1), "in [0, 1]")


def _number(
    table: pa.Table,
    name: str,
    path: Path,
    valid: Callable[[FloatArray], Any] | None = None,
    wanted: str = "",
) -> FloatArray:
    """A column of numbers as floats, NaN where empty, checked."""
    values = column(table, name, path)
    if not (
        pa.types.is_integer(values.type)
        or pa.types.is_floating(values.type)
        or pa.types.is_boolean(values.type)
        or pa.types.is_null(values.type)
    ):
        raise RolloutsError(
            f"{path}: column {name!r} holds {values.type}, expected numbers" + _text_in(values)
        )
    if pa.types.is_boolean(values.type) or pa.types.is_null(values.type):
        values = pc.cast(values, pa.uint8() if pa.types.is_boolean(values.type) else pa.float64())
    numbers = pc.cast(values, pa.float64(), safe=False).to_numpy()
    if valid is not None:
        bad = np.flatnonzero(~valid(numbers))
        if len(bad):
            raise RolloutsError(
                f"{path}: column {name!r} is {numbers[bad[0]]} in row {bad[0] + 1}, "
                f"expected {wanted}" + (f" ({len(bad)} such rows)" if len(bad) > 1 else "")
            )
    return numbers


def _text_in(values: pa.ChunkedArray) -> str:
    """Where the first value of a text column stands that is no number."""
    if not (pa.types.is_string(values.type) or pa.types.is_large_string(values.type)):
        return ""
    for row, value in enumerate(values.to_pylist(), start=1):
        try:
            float(value)
        except (TypeError, ValueError):
            return f": row {row} is {value!r}"
    return ": they are written as text"


def _codes(table: pa.Table, name: str, path: Path) -> tuple[NDArray[np.int64], NDArray[np.str_]]:
    """A text column as codes in the order of first appearance, and the texts."""
    values = column(table, name, path).combine_chunks()
    if values.null_count:
        row = int(np.argmax(values.is_null().to_numpy(zero_copy_only=False))) + 1
        raise RolloutsError(f"{path}: column {name!r} is empty in row {row}, expected a text")
    if not pa.types.is_dictionary(values.type):
        values = pc.cast(values, pa.large_string()).dictionary_encode()
    codes = values.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    return codes, np.array(values.dictionary.to_pylist(), dtype=str)


def _texts(table: pa.Table, name: str) -> NDArray[np.object_]:
    texts = pc.fill_null(pc.cast(table[name], pa.large_string()), "")
    return texts.to_numpy(zero_copy_only=False)


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
    rank = _number(table, "model_rank", path, np.isfinite, "a number")
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
