"""Rows of a collection, first in a temporary file and then as a calls table."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import pyarrow as pa

from routing_pomdp.envs.logs.calls_table import read_calls, write_table
from routing_pomdp.envs.logs.rollouts import Rollouts, RolloutsError
from routing_pomdp.verifiers.collection.client import Meter
from routing_pomdp.verifiers.collection.files import ROWS, part_of, private_file, replace_file
from routing_pomdp.verifiers.collection.queries import Question
from routing_pomdp.verifiers.live import Answer
from routing_pomdp.verifiers.verifier import Verifier, VerifierError, emitted, paid


@dataclass(frozen=True)
class Verified:
    """One verifier's signal of one answer, and its usage.

    Attributes:
        value: the signal; NaN if it is missing.
        notes: by name.
        meter: usage of the calls that it made.
        cut_short: whether one of its calls failed.
    """

    value: float
    notes: Mapping[str, float]
    meter: Meter
    cut_short: bool = False


@dataclass(frozen=True)
class Row:
    """One cell: a model's answer to a query, scored and verified."""

    query: int
    rank: int
    model: str
    question: Question
    answer: Answer
    score: float
    verified: Mapping[str, Verified]

    def columns(self, priced: bool) -> dict[str, Any]:
        """The columns of the calls table except those of the query.

        Notes are columns ``note_SIGNAL_NAME`` and usage columns ``verify_SIGNAL_NAME``, because a
        prefix ``signal_`` would make them signals.
        """
        made = self.answer.completion
        columns: dict[str, Any] = {
            "score": self.score,
            "cost": made.cost if priced else None,
            "latency_ms": made.latency_ms,
            "tokens_in": made.tokens_in,
            "tokens_out": made.tokens_out,
            "finish_reason": made.finish_reason,
        }
        for name, done in self.verified.items():
            meter = done.meter
            columns[f"signal_{name}"] = None if math.isnan(done.value) else done.value
            columns[f"signal_{name}_cost"] = meter.cost if priced else None
            columns |= {f"note_{name}_{note}": value for note, value in done.notes.items()}
            columns[f"verify_{name}_calls"] = meter.calls
            columns[f"verify_{name}_latency_ms"] = meter.latency_ms
            columns[f"verify_{name}_tokens_in"] = meter.tokens_in
            columns[f"verify_{name}_tokens_out"] = meter.tokens_out
        return columns | {"answer": self.answer.text}


class RowFile:
    """A temporary file of rows, in the order in which they are finished; it keeps memory constant.

    Every run writes it again from the log.
    """

    def __init__(self, folder: Path, priced: bool) -> None:
        self._path, self._priced = folder / ROWS, priced
        self._file = private_file(self._path).open("w", encoding="utf-8")
        self.count = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._path.unlink(missing_ok=True)

    def keep(self, row: Row) -> None:
        columns = row.columns(self._priced)
        self._file.write(json.dumps([row.query, row.rank, columns]) + "\n")
        self.count += 1

    def table(
        self,
        questions: Sequence[Question],
        models: Sequence[str],
        verifiers: Sequence[str],
        leave_out: Collection[int] = (),
    ) -> pa.Table:
        """The calls table of all rows, sorted by query and model.

        Args:
            questions: all of them.
            models: all names.
            verifiers: names whose signal columns exist even if they are empty; other empty columns
                are left out.
            leave_out: indices of queries to leave out.
        """
        self._file.flush()
        with self._path.open("rb") as file:
            rows = []
            for line in iter(file.readline, b""):
                query, rank, _ = json.loads(line)
                if query not in leave_out:
                    rows.append((query, rank, file.tell() - len(line)))
            rows.sort()
            cells: dict[str, list[Any]] = {}
            for row, (_, _, offset) in enumerate(rows):
                file.seek(offset)
                for name, value in json.loads(file.readline())[2].items():
                    # Earlier rows may lack the column.
                    values = cells.setdefault(name, [])
                    values += [None] * (row - len(values)) + [value]
        asked = [questions[query] for query, _, _ in rows]
        columns: dict[str, Any] = {
            "query_id": [question.query.query_id for question in asked],
            "model": [models[rank] for _, rank, _ in rows],
            "model_rank": [rank for _, rank, _ in rows],
        }
        if all(question.query.dataset for question in questions):
            columns["dataset"] = [question.query.dataset for question in asked]
        if all(question.split for question in questions):
            columns["split"] = [question.split for question in asked]
        for name, values in cells.items():
            values += [None] * (len(rows) - len(values))
            if name in _TEXTS:
                columns[name] = pa.array(values, pa.string())
            elif any(value is not None for value in values):
                columns[name] = pa.array(values, pa.float64(), from_pandas=True)
        for name in verifiers:
            columns.setdefault(f"signal_{name}", pa.nulls(len(rows), pa.float64()))
        columns["prompt"] = pa.array([question.query.prompt for question in asked], pa.string())
        return pa.table(columns)


_TEXTS = ("answer", "finish_reason")


def write_collected(table: pa.Table, path: Path, offline: Mapping[str, Verifier]) -> dict[str, str]:
    """Writes the calls table, with the signals of verifiers that need no calls.

    Args:
        table: of the rows.
        path: of the file; an older one is replaced only by a complete file.
        offline: name -> verifier that judges a log.

    Returns:
        Error messages by the name of the verifier whose column is missing; under "" the reason why
        the table cannot be read as a log yet, such as that it holds only one model.
    """
    part = private_file(part_of(path))
    failed: dict[str, str] = {}
    try:
        write_table(table, part)
        try:
            log = read_calls(part)
        except RolloutsError as error:
            failed[""] = str(error).replace(str(part), str(path))
        else:
            for name, verifier in offline.items():
                try:
                    table = _with_signal(table, name, verifier, log)
                except VerifierError as error:
                    failed[name] = str(error)
            if len(failed) < len(offline):
                write_table(table, part)
        replace_file(path)
    finally:
        part.unlink(missing_ok=True)
    return failed


def _with_signal(table: pa.Table, name: str, verifier: Verifier, log: Rollouts) -> pa.Table:
    signal, cost = emitted(verifier, log), paid(verifier, log)
    if signal.shape[2] > 1:
        raise VerifierError(
            f"verifier {name} returned {signal.shape[2]} numbers an answer: a column holds one"
        )
    row = {query: i for i, query in enumerate(log.query_id.tolist())}
    model = {name: i for i, name in enumerate(log.models)}
    rows = [row[query] for query in table["query_id"].to_pylist()]
    models = [model[name] for name in table["model"].to_pylist()]
    added = {f"signal_{name}": signal[rows, models, 0]}
    if cost is not None:
        added[f"signal_{name}_cost"] = cost[rows, models]
    for column, values in added.items():
        table = table.append_column(column, pa.array(values, pa.float64(), from_pandas=True))
    return table
