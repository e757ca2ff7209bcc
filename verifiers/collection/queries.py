"""`load_questions`: questions from a user's file, checked before any call."""

from __future__ import annotations

import hashlib
import string
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from routing_pomdp.envs.logs.rollouts import RolloutsError, canonical_split
from routing_pomdp.envs.logs.table_files import read_table
from routing_pomdp.verifiers.collection.models import ConfigError
from routing_pomdp.verifiers.live import Query

_COLUMNS = ("query_id", "prompt", "reference", "context", "choices", "dataset", "split")


@dataclass(frozen=True)
class Question:
    """A query with its reference answers, which only the scoring sees.

    Attributes:
        query: the part that models and verifiers see.
        references: right answers; an answer has to match one of them.
        split: "train", "validation", "test", or "" for none.
        repeats: further rows of the file with the same question.
    """

    query: Query
    references: tuple[str, ...]
    split: str = ""
    repeats: int = 0


def load_questions(path: str | Path, limit: int | None = None) -> list[Question]:
    """The questions of a ``.jsonl``, ``.csv`` or ``.parquet`` file, in its order.

    Columns: ``prompt`` and ``reference`` (a text, or a list of texts any of which is right);
    optional ``query_id`` (default: a hash of the question), ``context``, ``choices`` (a list; in
    CSV separated by ``|``), ``dataset`` (default: the file's name) and ``split``.

    Public data sets repeat questions. A row with the id and the question of an earlier one is
    merged into it: the earlier one keeps its position, data set and split, and gets the references
    of both.

    Args:
        path: of the file.
        limit: how many rows to read; None for all.

    Raises:
        ConfigError: the file cannot be read, or a value is not allowed; the message names column
            and row. Rows count from 1, without the header of a CSV file.
    """
    path = Path(path)
    try:
        table = read_table(path)
    except RolloutsError as error:
        raise ConfigError(str(error)) from error
    for name in ("prompt", "reference"):
        if name not in table.column_names:
            raise ConfigError(
                f"{path} has no column {name!r}: it has {table.column_names}, expected prompt and "
                "reference, and perhaps query_id, context, choices, dataset, split"
            )
    if limit is not None:
        table = table.slice(0, limit)
    columns = {name: table[name].to_pylist() for name in _COLUMNS if name in table.column_names}
    separated = pa.types.is_string(table["choices"].type) if "choices" in columns else False
    # Query id -> first row and question, in the order of first rows.
    found: dict[str, tuple[int, Question]] = {}
    for row in range(1, table.num_rows + 1):
        cells = {name: column[row - 1] for name, column in columns.items()}
        question = _question(cells, f"{path}: row {row}", path.name.split(".")[0], separated)
        query_id = question.query.query_id
        first, earlier = found.setdefault(query_id, (row, question))
        if first == row:
            continue
        if _asked(earlier) != _asked(question):
            raise ConfigError(
                f"{path}: rows {first} and {row} have one query_id, {query_id!r}, but ask "
                "different questions: give each question an id of its own"
            )
        references = tuple(dict.fromkeys(earlier.references + question.references))
        merged = replace(earlier, references=references, repeats=earlier.repeats + 1)
        found[query_id] = first, merged
    questions = [question for _, question in found.values()]
    bare = [row for row, question in found.values() if not question.split]
    if 0 < len(bare) < len(questions):
        raise ConfigError(
            f"{path}: row {bare[0]}: split is empty and in other rows it is not, expected it in "
            "all rows or none"
        )
    return questions


def _question(cells: dict[str, Any], where: str, dataset: str, separated: bool) -> Question:
    prompt = _text(cells, "prompt", where)
    if not prompt.strip():
        raise ConfigError(f"{where}: prompt is empty, expected the question")
    choices = cells.get("choices") or ()
    if separated and choices:
        choices = [choice.strip() for choice in choices.split("|")]
    if not _are_texts(choices):
        raise ConfigError(f"{where}: choices is {choices!r}, expected a list of texts")
    if len(choices) > len(string.ascii_uppercase):
        raise ConfigError(f"{where}: choices has {len(choices)} of them, expected at most 26")
    references = _references(cells.get("reference"), where)
    context = _text(cells, "context", where)
    query_id = cells.get("query_id")
    if query_id is None and "query_id" not in cells:
        whole = "\x1f".join([context, prompt, *choices])
        query_id = hashlib.sha256(whole.encode()).hexdigest()[:16]
    query_id = "" if query_id is None else str(query_id)
    if not query_id:
        raise ConfigError(f"{where}: query_id is empty, expected a text")
    return Question(
        Query(query_id, prompt, context, tuple(choices), _text(cells, "dataset", where) or dataset),
        references,
        _split(cells, where),
    )


def _asked(question: Question) -> tuple[str, str, tuple[str, ...]]:
    """The parts of a question that models see."""
    return question.query.prompt, question.query.context, question.query.choices


def _split(cells: dict[str, Any], where: str) -> str:
    split = _text(cells, "split", where)
    try:
        return canonical_split(split) if split else ""
    except RolloutsError as error:
        raise ConfigError(f"{where}: {error}, or none") from None


def _references(value: Any, where: str) -> tuple[str, ...]:
    listed = value if isinstance(value, list) else [value]
    texts = [str(one) for one in listed if one is not None and not isinstance(one, dict | list)]
    if len(texts) < len(listed) or not any(text.strip() for text in texts):
        raise ConfigError(
            f"{where}: reference is {value!r}, expected the right answer or a list of such"
        )
    return tuple(texts)


def _text(cells: dict[str, Any], name: str, where: str) -> str:
    value = cells.get(name)
    if value is None:
        return ""
    if isinstance(value, dict | list):
        raise ConfigError(f"{where}: {name} is {str(value)[:40]!r}, expected a text")
    return str(value)


def _are_texts(values: Any) -> bool:
    return isinstance(values, Sequence) and all(isinstance(value, str) for value in values)
