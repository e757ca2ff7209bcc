"""A small calls table in any format, and what is said of a bad one."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest

from routing_pomdp.envs.logs.calls_table import read_calls
from routing_pomdp.envs.logs.rollouts import RolloutsError

COLUMNS: dict[str, list] = {
    "query_id": ["a", "a", "b", "b"],
    "model": ["small", "large", "small", "large"],
    "score": [1.0, 0.5, 0.0, 1.0],
    "cost": [1.0, 9.0, 2.0, 8.0],
    "signal_vote": [0.5, 0.25, None, 0.75],
    "signal_vote_cost": [0.1, 0.2, None, 0.3],
}


def write(path: Path, **changed: list | None) -> Path:
    """A file of the columns above, some of them changed, or left out where None."""
    columns = {name: c for name, c in (COLUMNS | changed).items() if c is not None}
    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(pa.table(columns), path)
    elif path.suffix == ".csv":
        pyarrow.csv.write_csv(pa.table(columns), path)
    else:
        rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def refused(path: Path) -> str:
    """Why a file is refused."""
    with pytest.raises(RolloutsError) as error:
        read_calls(path)
    message = str(error.value)
    assert message.count(str(path)) == 1, f"names the file once: {message}"
    return message
