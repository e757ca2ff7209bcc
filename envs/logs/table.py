"""`Table`: the rows of one or several files, with columns as checked numpy arrays."""

from __future__ import annotations

import glob
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from routing_pomdp.envs.arrays import FloatArray
from routing_pomdp.envs.logs.rollouts import RolloutsError
from routing_pomdp.envs.logs.table_files import FAULT, listed, read_table, shown

# Names are stored in arrays of fixed width, so one very long name makes all entries as wide.
_LONGEST_NAME = 10_000
_MOST_BYTES_OF_NAMES = 2**31
# Spellings of a missing number, in lower case.
_EMPTY = ("", "na", "n/a", "#n/a", "null", "none")


@dataclass(frozen=True)
class Table:
    """Rows of one or several files. In errors, rows count from 1, without the header of a CSV file.

    Attributes:
        data: the rows.
        files: the files that they come from.
        starts: the index of each file's first row.
        known: whether ``rollouts.columns`` may rename a column of this name.
    """

    data: pa.Table
    files: tuple[Path, ...]
    starts: tuple[int, ...] = (0,)
    known: Callable[[str], bool] = field(default=lambda name: False)

    @classmethod
    def of(cls, path: str | Path | Sequence[str] | Mapping[str, str]) -> Self:
        """Reads files.

        Args:
            path: of a file; a pattern such as ``logs/*.csv``; a list of both; or model -> file.
                If there are several files without a column ``model``, each file's name is the
                model's.

        Raises:
            RolloutsError: a file is missing, damaged or empty, or files do not fit together.
        """
        files: list[tuple[Path, str | None]]
        if isinstance(path, Mapping):
            named = {model: _files(pattern) for model, pattern in path.items()}
            files = [(file, str(model)) for model, found in named.items() for file in found]
        else:
            paths = path if isinstance(path, list | tuple) else [path]
            files = [(file, None) for pattern in paths for file in _files(pattern)]
        if not files:
            raise RolloutsError("rollouts.path is empty: expected at least one file")
        names = [file for file, _ in files]
        if again := [file for i, file in enumerate(names) if file in names[:i]]:
            raise RolloutsError(f"{again[0]} is named twice, expected each file once")
        tables = [read_table(file) for file in names]
        by_model = not any("model" in table.column_names for table in tables)
        if len(files) > 1 and (isinstance(path, Mapping) or by_model):
            tables = [
                _with_model(table, file, model)
                for table, (file, model) in zip(tables, files, strict=True)
            ]
        starts = np.cumsum([0, *(table.num_rows for table in tables[:-1])]).tolist()
        return cls(_joined(tables, names), tuple(names), tuple(starts))

    def __str__(self) -> str:
        more = len(self.files) - 1
        return f"{self.files[0]}{f' and {more} more' if more else ''}"

    def __len__(self) -> int:
        return int(self.data.num_rows)

    def __contains__(self, name: str) -> bool:
        return name in self.data.column_names

    @property
    def names(self) -> list[str]:
        return list(self.data.column_names)

    @property
    def title(self) -> str:
        """The file's name without suffixes; for several files, the name of their folder."""
        if len(self.files) == 1:
            return self.files[0].name.split(".")[0]
        return self.files[0].absolute().parent.name or "log"

    def row(self, index: int) -> str:
        """The name of a row in error messages."""
        file = int(np.searchsorted(self.starts, index, side="right")) - 1
        of_file = f" of {self.files[file]}" if len(self.files) > 1 else ""
        return f"row {index - self.starts[file] + 1}{of_file}"

    def renamed(self, columns: Mapping[str, str] | None, known: Callable[[str], bool]) -> Self:
        """The table with columns added under other names.

        Args:
            columns: new name -> the column in this table.
            known: whether a reader uses a new name.

        Raises:
            RolloutsError: no reader uses a new name, or a column does not exist.
        """
        data = self.data
        if not isinstance(columns, Mapping | None):
            raise RolloutsError(
                f"rollouts.columns is {shown(columns)}: expected {{NAME: COLUMN, ...}}, or null"
            )
        for name, own in (columns or {}).items():
            if not isinstance(name, str) or not known(name):
                raise RolloutsError(
                    f"rollouts.columns names {shown(name)}, which no reader looks for: expected "
                    "such as query_id, model, score, cost or signal_NAME -> the column here"
                )
            if own not in self:
                raise RolloutsError(
                    f"{self} has no column {shown(own)} (rollouts.columns.{name}): it has "
                    f"{listed(self.names)}"
                )
            if name in data.column_names:
                data = data.drop_columns([name])
            data = data.append_column(self.data.schema.field(own).with_name(name), self.data[own])
        return replace(self, data=data, known=known)

    def with_column(self, name: str, values: Sequence[Any] | NDArray[Any]) -> Self:
        return replace(self, data=self.data.append_column(name, pa.array(values, from_pandas=True)))

    def column(self, name: str) -> pa.ChunkedArray:
        """A required column.

        Raises:
            RolloutsError: it does not exist, or it holds values of several kinds.
        """
        if name not in self:
            raise RolloutsError(
                f"{self} has no column {shown(name)}: it has {listed(self.names)}{self._hint(name)}"
            )
        if fault := (self.data.schema.field(name).metadata or {}).get(FAULT):
            raise RolloutsError(f"{self}: {fault.decode()}")
        return self.data[name]

    def _hint(self, name: str) -> str:
        if len(self.names) == 1 and (mark := next((m for m in ";\t|" if m in self.names[0]), "")):
            return f"; values are separated by {mark!r} there, expected commas"
        if not self.known(name):
            return ""
        near = [n for n in self.names if n.strip().casefold() == name.casefold()]
        near = [shown(n) for n in near] or ["COLUMN"]
        return f"; rollouts.columns={{{name}: {near[0]}}} reads another one as it"

    def numbers(
        self,
        name: str,
        valid: Callable[[FloatArray], NDArray[np.bool_]] | None = None,
        wanted: str = "",
        empty: bool = False,
    ) -> FloatArray:
        """A column of numbers as floats, NaN where empty.

        Args:
            name: of the column.
            valid: which numbers are allowed.
            wanted: the allowed numbers in words, for errors.
            empty: whether empty rows are allowed in any case.

        Raises:
            RolloutsError: there is no such column, it holds something else, or a number is not
                valid.
        """
        values = self.column(name)
        kind = values.type
        if pa.types.is_dictionary(kind):
            values = pc.cast(values, kind.value_type)
            kind = values.type
        if pa.types.is_boolean(kind):
            values = pc.cast(values, pa.uint8())
        elif _is_text(kind):
            values = self._parsed(name)
        elif not (
            pa.types.is_integer(kind)
            or pa.types.is_floating(kind)
            or pa.types.is_decimal(kind)
            or pa.types.is_null(kind)
        ):
            raise RolloutsError(f"{self}: column {shown(name)} holds {kind}, expected numbers")
        floats = pc.cast(values, pa.float64(), safe=False).to_numpy()
        if valid is not None:
            allowed = valid(floats)
            if empty:
                allowed = allowed | values.is_null().to_numpy()
            bad = np.flatnonzero(~allowed)
            if len(bad):
                raise RolloutsError(
                    f"{self}: column {shown(name)} is {floats[bad[0]]} in {self.row(bad[0])}, "
                    f"expected {wanted}" + (f" ({len(bad)} such rows)" if len(bad) > 1 else "")
                )
        return floats

    def _parsed(self, name: str) -> pa.ChunkedArray:
        """The numbers in a column of texts."""
        bare = pc.utf8_trim_whitespace(self._text(name))
        low = pc.utf8_lower(bare)
        bare = pc.if_else(pc.is_in(low, pa.array(_EMPTY, low.type)), None, bare)
        spelled = {"true": "1", "false": "0"}
        for text, number in spelled.items():
            bare = pc.if_else(pc.equal(low, text), number, bare)
        try:
            return pc.cast(bare, pa.float64())
        except pa.ArrowInvalid:
            for index, value in enumerate(bare.to_pylist()):
                if value is not None and not _spells_number(value):
                    raise RolloutsError(
                        f"{self}: column {shown(name)} holds text, expected numbers: "
                        f"{self.row(index)} is {shown(self._text(name)[index].as_py())}"
                        + (
                            " (write a decimal point, and no separators of thousands)"
                            if "," in value and value.strip("+-0123456789., ") == ""
                            else ""
                        )
                    ) from None
            raise

    def texts(self, name: str, rows: NDArray[np.int64] | None = None) -> NDArray[np.object_]:
        """A text column, or some of its rows, as Python strings, "" where empty.

        Raises:
            RolloutsError: there is no such column, or it holds something else.
        """
        values = self._text(name)
        if rows is not None:
            values = values.take(pa.array(rows))
        return pc.fill_null(values, "").to_numpy(zero_copy_only=False)

    def labels(self, name: str) -> NDArray[np.str_]:
        """A column of short texts, "" where empty, as an array of a fixed width.

        Raises:
            RolloutsError: as `texts`, or a text that is too long.
        """
        return self._fixed(name, self.texts(name).tolist())

    def codes(self, name: str) -> tuple[NDArray[np.int64], NDArray[np.str_]]:
        """A column of names as codes ``(n,)`` in the order of first appearance, and the names.

        Raises:
            RolloutsError: as `labels`, or a row is empty, or names differ in outer spaces only.
        """
        # A file's own dictionary is not used: it may have another order, or unused entries.
        values = self._text(name)
        encoded = values.combine_chunks().dictionary_encode()
        found = encoded.dictionary.to_pylist()
        if encoded.null_count or "" in found:
            row = pc.index(pc.fill_null(values, ""), "").as_py()
            raise RolloutsError(
                f"{self}: column {shown(name)} is empty in {self.row(row)}, expected a text"
            )
        numbered = encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
        bare = pc.utf8_trim_whitespace(encoded.dictionary)
        if len(bare.unique()) < len(found):
            same = bare.dictionary_encode().indices.to_numpy(zero_copy_only=False)
            one, other = np.flatnonzero(same == np.argmax(np.bincount(same) > 1))[:2]
            raise RolloutsError(
                f"{self}: column {shown(name)} has {shown(found[one])} and {shown(found[other])} "
                f"({self.row(int(np.argmax(numbered == other)))}), which differ in spaces only"
            )
        return numbered, self._fixed(name, found)

    def row_names(self, columns: Sequence[str]) -> NDArray[np.str_]:
        """Unique names ``(n,)`` of the rows: the first of these columns that exists and is unique,
        else names made from row numbers."""
        for name in columns:
            if name in self:
                names = self.labels(name)
                if "" not in names and len(np.unique(names)) == len(names):
                    return names
        return np.array([f"row-{row}" for row in range(1, len(self) + 1)])

    def _fixed(self, name: str, texts: Sequence[str]) -> NDArray[np.str_]:
        most = min(_LONGEST_NAME, _MOST_BYTES_OF_NAMES // (4 * max(1, len(texts))))
        for problem, bad in (
            (f"expected a name of at most {most:,}", lambda text: len(text) > most),
            ("expected a name without NUL", lambda text: "\0" in text),
        ):
            if found := next((text for text in texts if bad(text)), None):
                row = pc.index(self._text(name), found).as_py()
                raise RolloutsError(
                    f"{self}: column {shown(name)} is {shown(found, 40)} in {self.row(row)}: "
                    f"{len(found):,} characters, {problem}"
                )
        return np.array(texts, dtype=str)

    def _text(self, name: str) -> pa.ChunkedArray:
        values = self.column(name)
        if pa.types.is_floating(values.type):
            values = pc.if_else(pc.is_nan(values), None, values)
        try:
            cast = pc.cast(values, pa.large_string())
            cast.validate(full=True)
        except pa.ArrowException as error:
            if _is_text(values.type):
                for index, raw in enumerate(pc.cast(values, pa.large_binary()).to_pylist()):
                    try:
                        (raw or b"").decode()
                    except UnicodeDecodeError:
                        raise RolloutsError(
                            f"{self}: column {shown(name)} is {shown(raw)} in {self.row(index)}, "
                            "expected UTF-8 text"
                        ) from error
            raise RolloutsError(
                f"{self}: column {shown(name)} holds {values.type}, expected text"
            ) from error
        return cast


def _is_text(kind: pa.DataType) -> bool:
    return any(
        is_kind(kind)
        for is_kind in (
            pa.types.is_string,
            pa.types.is_large_string,
            pa.types.is_string_view,
            pa.types.is_binary,
            pa.types.is_large_binary,
        )
    )


def _spells_number(text: str) -> bool:
    try:
        pc.cast(pa.scalar(text), pa.float64())
    except pa.ArrowInvalid:
        return False
    return True


def _files(pattern: object) -> list[Path]:
    """The files that a path or a pattern names, sorted."""
    if not isinstance(pattern, str | Path) or not str(pattern):
        raise RolloutsError(
            f"rollouts.path is {shown(pattern)}: expected a file, a pattern such as logs/*.csv, a "
            "list of them, or {MODEL: FILE}"
        )
    # A file may have a name that looks like a pattern.
    path = Path(pattern).expanduser()
    if not glob.has_magic(str(path)) or path.exists():
        return [path]
    found = sorted(Path(name) for name in glob.glob(str(path), recursive=True))
    if not found:
        raise RolloutsError(f"{pattern}: no file has such a name")
    return found


def _with_model(table: pa.Table, file: Path, model: str | None) -> pa.Table:
    if "model" not in table.column_names:
        name = file.name.split(".")[0] if model is None else model
        return table.append_column("model", pa.array([name] * len(table), pa.large_string()))
    if model is not None:
        raise RolloutsError(
            f"{file} has a column 'model', and rollouts.path says that it is {shown(model)}: give "
            "the file without a model's name"
        )
    return table


def _joined(tables: Sequence[pa.Table], files: Sequence[Path]) -> pa.Table:
    """The rows of all tables; columns that a table lacks are empty in its rows."""
    if len(tables) == 1:
        return tables[0]
    # A column that is text in one file and numbers in another becomes text, parsed when it is read.
    for name in dict.fromkeys(name for table in tables for name in table.column_names):
        kinds = {
            table.schema.field(name).type for table in tables if name in table.column_names
        } - {pa.null()}
        if len(kinds) > 1 and any(map(_is_text, kinds)):
            tables = [_as_text(table, name) for table in tables]
    try:
        joined = pa.concat_tables(tables, promote_options="permissive")
    except pa.ArrowException as error:
        raise RolloutsError(
            f"{files[0]} and {len(files) - 1} more do not fit together: {error}"
        ) from error
    for table, file in zip(tables, files, strict=True):
        for one in table.schema:
            if fault := (one.metadata or {}).get(FAULT):
                index = joined.column_names.index(one.name)
                marked = joined.schema.field(index).with_metadata(
                    {FAULT: fault + f" ({file})".encode()}
                )
                joined = joined.set_column(index, marked, joined[one.name])
    return joined


def _as_text(table: pa.Table, name: str) -> pa.Table:
    if name not in table.column_names:
        return table
    index = table.column_names.index(name)
    field = table.schema.field(name)
    try:
        text = pc.cast(table[name], pa.large_string())
    except pa.ArrowException:
        return table
    return table.set_column(index, field.with_type(text.type), text)
