"""The calls table: a log on disk, one row for each (query, model).

Formats, by suffix: ``.parquet``, ``.csv``, ``.jsonl`` or ``.ndjson``; the last three also with
``.gz``. Columns:

=========================  =========================================================================
``query_id``, ``model``    text, not empty; each pair at most once
``score``                  in [0, 1], empty where a call failed; or a boolean ``correct``
``cost``                   of the answer, >= 0, in any one unit (optional)
``signal_NAME``            a verifier's signal of the answer: any number, -inf for the log of
                           probability 0; empty for a missing signal
``signal_NAME_cost``       cost of that signal, in the unit of ``cost`` (optional)
``verify_NAME_tokens_in``  tokens read to emit the signal (optional); likewise
                           ``verify_NAME_tokens_out`` and ``verify_NAME_latency_ms``
``split``                  "train", "validation" (or "val", "valid", "dev"), "test"; "train" without
                           the column
``dataset``                text; by default the file's name (of several files, their folder's)
``model_rank``             order of the models, cheapest first; by default by mean cost, and without
                           costs by first appearance
``answer``, ``prompt``     text (optional)
``latency_ms``             (optional)
``tokens_in``              (optional)
``tokens_out``             (optional)
=========================  =========================================================================

A (query, model) without a row, or with an empty score, was never called. ``split`` and ``dataset``
have one value for each query. Further columns are ignored. In errors, rows count from 1, without
the header of a CSV file.
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

from routing_pomdp.envs.arrays import FloatArray
from routing_pomdp.envs.logs.rollouts import (
    SPLIT_NAMES,
    SPLITS_EXPECTED,
    Rollouts,
    RolloutsError,
)
from routing_pomdp.envs.logs.table import Table
from routing_pomdp.envs.logs.table_files import file_format, listed, shown

_NUMBERS = {"latency_ms": "latency", "tokens_in": "tokens_in", "tokens_out": "tokens_out"}
# The part of a verification's column after verify_NAME_.
_OF_SIGNALS = {name: f"signal_{field}" for name, field in _NUMBERS.items()}
# The most (query, model) cells; each takes 8 bytes in each of several arrays.
_MOST_CELLS = 2**28
_KNOWN = {
    *("query_id", "model", "score", "correct", "cost", "split", "dataset", "model_rank"),
    *("answer", "prompt"),
    *_NUMBERS,
}


def is_column(name: str) -> bool:
    """Whether the name is one of a calls table's columns."""
    return name in _KNOWN or name.startswith(("signal_", "verify_"))


def read_calls(
    path: str | Path | Sequence[str] | Mapping[str, str],
    signals: Mapping[str, str | None] | None = None,
    columns: Mapping[str, str] | None = None,
) -> Rollouts:
    """Reads and validates a calls table.

    Args:
        path: of the file, or of several (`envs.logs.table.Table.of`).
        signals: columns of signals -> the column of each one's cost, or None for a free one; None
            for the ``signal_NAME`` columns.
        columns: names of the columns above -> their names in the file.

    Raises:
        RolloutsError: the file is missing, damaged or empty, a column is missing or of the wrong
            kind, or a value is not allowed; the message names file, column and row.
    """
    if not isinstance(signals, Mapping | None):
        raise RolloutsError(
            f"rollouts.signals is {shown(signals)}: expected {{COLUMN: COLUMN of its cost or null}}"
        )
    table = Table.of(path).renamed(columns, is_column)
    return align(table, signal_columns(table.names) if signals is None else signals)


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
    table: Table,
    signals: Mapping[str, str | None],
    cost: str = "cost",
    per_query: Mapping[str, str] | None = None,
) -> Rollouts:
    """A table of calls as aligned arrays; queries in the order of first appearance.

    Args:
        table: one row for each call, with the columns above.
        signals: columns of signals -> the column of each one's cost, or None.
        cost: the column of answer costs.
        per_query: values of "split" or "dataset" for all rows if there is no such column.

    Raises:
        RolloutsError: as `read_calls`.
    """
    defaults = {"split": "train", "dataset": table.title} | dict(per_query or {})
    query, query_id = table.codes("query_id")
    called, models = table.codes("model")
    n, n_models = len(query_id), len(models)
    if n * n_models > _MOST_CELLS:
        raise RolloutsError(
            f"{table}: {n:,} queries and {n_models:,} models in {len(table):,} rows: expected each "
            "model on many queries; is 'model' the column of their names?"
        )
    score = scores(table, "correct" if "correct" in table and "score" not in table else "score")
    answered = ~np.isnan(score)
    paid = None
    if cost in table:
        paid = table.numbers(cost, partial(chargeable, due=answered), ">= 0")
    order = _order(table, called, models, paid, answered)
    # The index of each call in the flattened (n, N) arrays.
    rank = np.empty(n_models, dtype=np.int64)
    rank[order] = np.arange(n_models)
    cell = query * n_models + rank[called]
    _refuse_duplicates(table, cell, query_id[query], models[called])

    def spread(column: NDArray[Any], empty: Any = np.nan) -> NDArray[Any]:
        array = np.full(n * n_models, empty, dtype=column.dtype)
        array[cell] = column
        return array.reshape(n, n_models)

    def of_query(name: str) -> NDArray[np.str_]:
        if name not in table:
            return np.full(n, defaults[name])
        numbered, found = table.codes(name)
        if name == "split":
            found, same = np.unique(
                [SPLIT_NAMES.get(name, name) for name in found.tolist()], return_inverse=True
            )
            numbered = same[numbered]
        values = _constant(table, name, numbered, query, query_id)
        if name == "split":
            _refuse_unknown_splits(table)
        return found[values]

    arrays: dict[str, Any] = {
        "score": spread(score),
        "cost": None if paid is None else spread(paid),
        "split": of_query("split"),
        "dataset": of_query("dataset"),
    }
    for name, field in _NUMBERS.items():
        if name in table:
            arrays[field] = spread(table.numbers(name))
    arrays["signals"], arrays["signal_costs"] = {}, {}
    for name, charge in signals.items():
        signal = table.numbers(name)
        arrays["signals"][name.removeprefix("signal_")] = spread(signal)
        if charge is not None:
            due = partial(chargeable, due=~np.isnan(signal))
            arrays["signal_costs"][name.removeprefix("signal_")] = spread(
                table.numbers(charge, due, ">= 0")
            )
    for column, field in _OF_SIGNALS.items():
        arrays[field] = {
            name: spread(table.numbers(f"verify_{name}_{column}"))
            for name in arrays["signals"]
            if f"verify_{name}_{column}" in table
        }
    if "answer" in table:
        arrays["answer"] = spread(table.texts("answer"), None)
    if "prompt" in table:
        arrays["prompt"] = table.texts("prompt", _first(query, n))
    try:
        return Rollouts(models=tuple(models[order].tolist()), query_id=query_id, **arrays)
    except RolloutsError as error:
        raise RolloutsError(f"{table}: {error}") from error


def write_calls(rollouts: Rollouts, path: str | Path) -> None:
    """Writes a calls table, from which `read_calls` restores the rollouts.

    A query or a model without any call has no row and is not restored.

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
        for column, field in _OF_SIGNALS.items():
            arrays[f"verify_{name}_{column}"] = getattr(rollouts, field).get(name)
    for name, array in arrays.items():
        if array is not None:
            # Missing numbers are empty cells, not "nan".
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


def scores(table: Table, name: str) -> FloatArray:
    """A column of scores, NaN for empty cells: the model was not called, or did not answer.

    Raises:
        RolloutsError: a score is not allowed, or the column is empty.
    """
    found = table.numbers(name, _in_unit_interval, "in [0, 1]", empty=True)
    if np.isnan(found).all():
        raise RolloutsError(f"{table}: column {name!r} is empty in all rows, expected in [0, 1]")
    return found


def _in_unit_interval(scores: FloatArray) -> NDArray[np.bool_]:
    return (scores >= 0) & (scores <= 1)


def chargeable(
    costs: FloatArray, due: NDArray[np.bool_] | np.bool_ = np.True_
) -> NDArray[np.bool_]:
    """Which costs are valid; a missing cost is valid only where none is ``due``."""
    return (costs >= 0) & (costs < np.inf) | np.isnan(costs) & ~due


def by_cost(paid: Sequence[FloatArray]) -> list[int]:
    """Indices of the models by mean cost, cheapest first; a model without costs comes last.

    Args:
        paid: each model's costs, NaN where it was not called.
    """
    mean = [float(np.nanmean(cost)) if (~np.isnan(cost)).any() else np.inf for cost in paid]
    return sorted(range(len(mean)), key=mean.__getitem__)


def _first(query: NDArray[np.int64], n: int) -> NDArray[np.int64]:
    """The first row of each query, ``(n,)``."""
    first = np.empty(n, dtype=np.int64)
    first[query[::-1]] = np.arange(len(query))[::-1]
    return first


def _refuse_unknown_splits(table: Table) -> None:
    numbered, found = table.codes("split")
    for code, name in enumerate(found.tolist()):
        if name not in SPLIT_NAMES:
            row = table.row(int(np.argmax(numbered == code)))
            raise RolloutsError(
                f"{table}: column 'split' is {shown(name)} in {row}, expected {SPLITS_EXPECTED}; "
                f"it has {listed(found.tolist())}"
            )


def _constant(
    table: Table,
    name: str,
    codes: NDArray[np.int64],
    query: NDArray[np.int64],
    query_id: NDArray[np.str_],
) -> NDArray[np.int64]:
    """The code of each query; all rows of a query must have the same."""
    of_query = codes[_first(query, len(query_id))]
    differs = np.flatnonzero(of_query[query] != codes)
    if len(differs):
        raise RolloutsError(
            f"{table}: column {name!r} changes within query "
            f"{shown(str(query_id[query[differs[0]]]))} in {table.row(differs[0])}, expected one "
            "value a query"
        )
    return of_query


def _order(
    table: Table,
    called: NDArray[np.int64],
    names: NDArray[np.str_],
    cost: FloatArray | None,
    answered: NDArray[np.bool_],
) -> NDArray[np.int64]:
    """The models' codes, cheapest first."""
    if "model_rank" not in table:
        if cost is None:
            return np.arange(len(names))
        return np.array(by_cost([cost[(called == i) & answered] for i in range(len(names))]))
    rank = table.numbers("model_rank", np.isfinite, "a number")
    mean = np.bincount(called, rank, len(names)) / np.bincount(called, minlength=len(names))
    differs = np.flatnonzero(np.abs(mean[called] - rank) > 1e-9)
    if len(differs):
        raise RolloutsError(
            f"{table}: column 'model_rank' differs between rows of model "
            f"{shown(str(names[called[differs[0]]]))} ({table.row(differs[0])}), expected one rank "
            "a model"
        )
    if len(np.unique(mean)) < len(names):
        raise RolloutsError(f"{table}: two models have one model_rank, expected a rank for each")
    return np.argsort(mean, kind="stable")


def _refuse_duplicates(
    table: Table,
    cell: NDArray[np.int64],
    query_id: NDArray[np.str_],
    model: NDArray[np.str_],
) -> None:
    cells, count = np.unique(cell, return_counts=True)
    if count.max() == 1:
        return
    one, other = np.flatnonzero(cell == cells[np.argmax(count > 1)])[:2]
    rows = f"{table.row(one)} and {table.row(other)}"
    if len(table.files) == 1:
        rows = f"rows {one + 1} and {other + 1}"
    raise RolloutsError(
        f"{table}: query {shown(str(query_id[one]))} calls model {shown(str(model[one]))} in "
        f"{rows}, expected one row for each query and model"
    )
