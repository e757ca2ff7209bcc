"""The calls table: a log on disk, one row a (query, model).

Formats, by suffix: ``.parquet``, ``.csv``, ``.jsonl`` or ``.ndjson``; the last three also with
``.gz``. Columns:

========================  ==========================================================================
``query_id``, ``model``   text, not empty; each pair at most once
``score``                 in [0, 1]; or a boolean ``correct``
``cost``                  of the answer, >= 0, in any one unit (optional)
``signal_NAME``           a verifier's signal of the answer: any number, -inf for the log of
                          probability 0; empty where it gave none
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

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from numpy.typing import NDArray

from envs.rollouts import FloatArray, Rollouts, RolloutsError
from envs.table_files import codes, file_format, numbers, read_table, texts

_NUMBERS = {"latency_ms": "latency", "tokens_in": "tokens_in", "tokens_out": "tokens_out"}


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
    return align(table, path, signal_columns(table.column_names) if signals is None else signals)


def signal_columns(names: Sequence[str]) -> dict[str, str | None]:
    """The ``signal_NAME`` columns -> the column of each one's cost, or None."""
    signals = [name for name in names if name.startswith("signal_")]
    # "signal_low_cost" is a cost only beside a "signal_low".
    costs = {f"{name}_cost" for name in signals} & set(names)
    return {
        name: f"{name}_cost" if f"{name}_cost" in costs else None
        for name in signals
        if name not in costs
    }


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
    query, query_id = codes(table, "query_id", path)
    called, models = codes(table, "model", path)
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
        numbered, found = codes(table, name, path)
        return found[_constant(numbered, query, n, name, query_id, path)]

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
        signal = numbers(table, name, path)
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
    file_format(path)
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
    write_table(pa.table(columns), path)


def write_table(table: pa.Table, path: Path) -> None:
    """Writes a table in the format of the file's suffix.

    Raises:
        RolloutsError: an unknown format.
    """
    suffix = file_format(path)
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


def in_unit_interval(scores: FloatArray) -> NDArray[np.bool_]:
    """Which scores are there and allowed."""
    return (scores >= 0) & (scores <= 1)


def _chargeable(
    costs: FloatArray, due: NDArray[np.bool_] | np.bool_ = np.True_
) -> NDArray[np.bool_]:
    return (costs >= 0) & (costs < np.inf) | ~due


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
