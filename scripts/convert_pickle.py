"""Converts a pickled table to parquet, CSV or JSON lines without running code that it brings.

A pickle names functions to be called. Only those are called that rebuild tables, columns and
arrays; any other name is refused, and nothing of it runs.
"""

from __future__ import annotations

import argparse
import importlib
import pickle
import sys
from pathlib import Path
from typing import Any

# Package -> names in it or below: constructors of tables, of these and older versions of pandas.
_ALLOWED = {
    "pandas": {
        "DataFrame", "Index", "RangeIndex", "Int64Index", "_new_Index", "BlockManager",
        "_unpickle_block", "StringDtype", "StringArray", "ArrowStringArray",
    },
    "numpy": {"ndarray", "dtype", "_reconstruct", "_frombuffer"},
    "pyarrow": {"_restore_array", "py_buffer", "type_for_alias"},
    "builtins": {"slice", "bytearray"},
    "_codecs": {"encode"},
}  # fmt: skip
_MOVED = {"__builtin__": "builtins", "numpy.core": "numpy._core", "Int64Index": "Index"}


class TableUnpickler(pickle.Unpickler):
    """Reads tables, and refuses everything else."""

    def find_class(self, module: str, name: str) -> Any:
        package = _MOVED.get(module, module).partition(".")[0]
        if name not in _ALLOWED.get(package, ()):
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no table needs")
        if name in _MOVED:
            module, name = package, _MOVED[name]
        for old, new in _MOVED.items():
            if module == old or module.startswith(f"{old}."):
                module = new + module.removeprefix(old)
        return getattr(importlib.import_module(module), name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pickle", type=Path, help="a pickled pandas.DataFrame, maybe .gz")
    parser.add_argument("out", type=Path, help=".parquet, .csv or .jsonl to write")
    arguments = parser.parse_args()
    try:
        convert(arguments.pickle, arguments.out)
    except (ValueError, OSError, pickle.UnpicklingError, AttributeError, ImportError) as error:
        sys.exit(f"error: {arguments.pickle}: {error}")
    print(f"written: {arguments.out}")


def convert(source: Path, target: Path) -> None:
    """Reads the pickled table ``source`` and writes ``target``.

    Raises:
        ValueError: it holds no table, pandas is not installed, or an unknown format.
        pickle.UnpicklingError: it asks for code that no table needs.
    """
    import gzip

    try:
        import pandas
    except ImportError:
        raise ValueError("reading it needs the package pandas: pip install pandas") from None
    if target.suffix not in (".parquet", ".csv", ".jsonl"):
        raise ValueError(f"cannot write {target.name!r}: expected .parquet, .csv or .jsonl")
    with gzip.open(source) if source.suffix == ".gz" else source.open("rb") as file:
        try:
            table = TableUnpickler(file).load()
        except (EOFError, IndexError, KeyError, TypeError) as error:
            raise ValueError(f"it is no complete pickle: {error}") from error
    if not isinstance(table, pandas.DataFrame):
        raise ValueError(f"it holds {type(table).__name__}, expected a pandas.DataFrame")
    table.columns = table.columns.map(str)
    if target.suffix == ".parquet":
        table.to_parquet(target, index=False)
    elif target.suffix == ".csv":
        table.to_csv(target, index=False)
    else:
        table.to_json(target, orient="records", lines=True)


if __name__ == "__main__":
    main()
