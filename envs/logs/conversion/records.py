"""Reading of records from other tools' logs, and their collection into a calls table."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

from routing_pomdp.envs.logs.rollouts import RolloutsError
from routing_pomdp.envs.logs.table_files import is_deep, json_lines, listed, read_table, shown

Record = Mapping[str, Any]
Repeated = Literal["refuse", "first", "last"]

_TEXTS = ("query_id", "model", "dataset", "answer", "prompt")


def records(path: Path) -> Iterator[tuple[str, Record]]:
    """The records of a JSON, JSON-lines, CSV or parquet file, each with its name for errors.

    Raises:
        RolloutsError: the file cannot be read, or holds no records.
    """
    found: Any
    if path.suffix == ".json":
        found = _json(path)
    elif ".parquet" in path.suffixes or ".csv" in path.suffixes:
        found = read_table(path).to_pylist()
    else:
        if not path.is_file():
            raise RolloutsError(f"{path}: there is no such file")
        found = json_lines(path)
    row = 0
    for row, record in enumerate(found, start=1):
        yield f"{path}: row {row}", {str(name): _text(value) for name, value in record.items()}
    if row == 0:
        raise RolloutsError(f"{path} has no rows")


def _json(path: Path) -> list[Record]:
    if not path.is_file():
        raise RolloutsError(f"{path}: there is no such file")
    text = path.read_bytes()
    if is_deep(text):
        raise RolloutsError(f"{path} is nested too deep")
    try:
        found = json.loads(text)
    except ValueError as error:
        raise RolloutsError(f"{path} is no JSON: {error}") from error
    # Answers of an API keep their records under "data".
    found = found.get("data") if isinstance(found, dict) else found
    if not isinstance(found, list) or not all(isinstance(record, dict) for record in found):
        raise RolloutsError(f"{path} holds no list of records")
    return found


def _text(value: Any) -> Any:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def at(record: Record, path: str) -> Any:
    """The value at a path such as ``metadata.score``; None if there is none.

    JSON that is stored as text, as in a CSV file, is parsed.
    """
    found: Any = record
    for name in path.split("."):
        found = parsed(found)
        if isinstance(found, list) and name.isdigit() and int(name) < len(found):
            found = found[int(name)]
        elif isinstance(found, Mapping):
            found = found.get(name)
        else:
            return None
    return found


def parsed(value: Any) -> Any:
    """The JSON object or list in a text; any other value unchanged."""
    if isinstance(value, str) and value[:1] in ("{", "["):
        with suppress(ValueError):
            text = value.encode()
            return value if is_deep(text) else json.loads(text)
    return value


def first(record: Record, *paths: str) -> Any:
    """The first value at one of these paths that is not empty; None if all are."""
    values = (parsed(at(record, path)) for path in paths)
    return next((value for value in values if value not in (None, "", {}, [])), None)


def needed(record: Record, where: str, *names: str) -> Any:
    """The value of the first of these fields.

    Raises:
        RolloutsError: the record has none of them.
    """
    value = first(record, *names)
    if value is None:
        raise RolloutsError(
            f"{where} has no {' or '.join(map(repr, names))}: it has {listed(list(record))}"
        )
    return value


def number(value: Any, where: str, name: str, least: float = 0.0, most: float = math.inf) -> float:
    """A value as a number.

    Raises:
        RolloutsError: it is no number, or out of range.
    """
    found = math.nan
    if isinstance(value, bool | int | float | str):
        spelled = {"true": "1", "false": "0"}
        with suppress(ValueError):
            found = float(spelled.get(value.lower(), value) if isinstance(value, str) else value)
    if not (least <= found <= most) or math.isinf(found):
        wanted = (
            f"a number >= {least:g}" if math.isinf(most) else f"a number in [{least:g}, {most:g}]"
        )
        raise RolloutsError(f"{where}: {name} is {shown(value)}, expected {wanted}")
    return found


def score_of(value: Any, where: str, name: str) -> float:
    """A value as a score in [0, 1]."""
    return number(value, where, name, 0.0, 1.0)


def optional(value: Any, where: str, name: str) -> float | None:
    return None if value in (None, "") else number(value, where, name)


def chat_text(value: Any) -> str | None:
    """The text of a prompt or an answer in any of the formats of chat APIs."""
    value = parsed(value)
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, list):
        parts = [part for part in map(chat_text, value) if part]
        return "\n\n".join(parts) or None
    if isinstance(value, Mapping):
        for name in ("messages", "content", "text", "message", "choices", "output", "input"):
            if value.get(name):
                return chat_text(value[name])
        return json.dumps(value, sort_keys=True) if value else None
    return str(value)


def fingerprint(value: Any) -> str:
    """A query id: a hash of the question."""
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def milliseconds(start: Any, end: Any, where: str) -> float | None:
    """Milliseconds between two time stamps; None if one is missing or they are reversed."""
    if start in (None, "") or end in (None, ""):
        return None
    try:
        moments = [
            value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
            for value in (start, end)
        ]
        passed = (moments[1] - moments[0]).total_seconds() * 1000
    except (ValueError, TypeError) as error:
        raise RolloutsError(
            f"{where}: {shown(start)} and {shown(end)} are no two times: {error}"
        ) from error
    return passed if passed >= 0 else None


@dataclass
class Calls:
    """Collects calls and makes a calls table of them.

    Attributes:
        repeated: how to treat a second call of one model on one query.
        rows: (query id, model) -> column -> value.
        left_out: reason -> how many calls were left out for it.
    """

    repeated: Repeated = "refuse"
    rows: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    left_out: Counter[str] = field(default_factory=Counter)

    def add(self, where: str, query_id: str, model: str, **values: Any) -> None:
        """Adds one call.

        Raises:
            RolloutsError: the model's call on this query is repeated, and ``repeated`` is "refuse".
        """
        key = (query_id, model)
        if key in self.rows:
            if self.repeated == "refuse":
                raise RolloutsError(
                    f"{where}: query {shown(query_id)} calls model {shown(model)} again (before: "
                    f"{self.rows[key]['where']}): keep one by --repeated first or last"
                )
            self.left_out["a repeated call"] += 1
            if self.repeated == "first":
                return
        self.rows[key] = {"where": where, "query_id": query_id, "model": model, **values}

    def table(self) -> pa.Table:
        """A calls table of the columns that are not empty.

        Raises:
            RolloutsError: there are no calls.
        """
        if not self.rows:
            reasons = ", ".join(f"{count} {why}" for why, count in self.left_out.items())
            raise RolloutsError(f"no call is left: {reasons or 'there are none'}")
        rows = list(self.rows.values())
        names = dict.fromkeys(name for row in rows for name in row if name != "where")
        columns = {}
        for name in names:
            values = [row.get(name) for row in rows]
            if any(value is not None for value in values):
                kind = pa.string() if name in _TEXTS else pa.float64()
                columns[name] = pa.array(map(_whole, values) if name in _TEXTS else values, kind)
        return pa.table(columns)


def _whole(text: str | None) -> str | None:
    """A text without halves of surrogate pairs, which servers leave where they cut an answer."""
    return text and text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
