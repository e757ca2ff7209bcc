"""Reads a pickled `pandas.DataFrame` without importing or calling anything that the pickle names.

A pickle is a program that names functions and calls them. This reader replaces each call by a
record of its arguments, and refuses names that no table needs. It then rebuilds the columns from
the records, and checks every size against the bytes in the file.
"""

from __future__ import annotations

import gzip
import io
import math
import pickle
import re
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

_MOST_BYTES = 1 << 32  # of a decompressed pickle: the largest published table has 0.5 GB

# The names that a table's pickle may use -> the kind of record: pandas since 1.3, numpy 1 and 2.
_NAMES: dict[tuple[str, str], str] = {
    (module, name): kind
    for kind, modules, names in (
        ("frame", ("pandas", "pandas.core.frame"), ("DataFrame",)),
        ("manager", ("pandas.core.internals.managers",), ("BlockManager",)),
        ("block", ("pandas._libs.internals",), ("_unpickle_block",)),
        ("new_index", ("pandas.core.indexes.base",), ("_new_Index",)),
        (
            "index",
            ("pandas", "pandas.core.indexes.base", "pandas.core.indexes.numeric"),
            ("Index", "Int64Index"),
        ),
        ("range", ("pandas", "pandas.core.indexes.range"), ("RangeIndex",)),
        ("array", ("numpy.core.multiarray", "numpy._core.multiarray"), ("_reconstruct",)),
        ("buffer", ("numpy.core.numeric", "numpy._core.numeric"), ("_frombuffer",)),
        ("ndarray", ("numpy",), ("ndarray",)),
        ("dtype", ("numpy",), ("dtype",)),
        ("string_dtype", ("pandas", "pandas.core.arrays.string_"), ("StringDtype",)),
        ("strings", ("pandas.core.arrays.string_", "pandas.arrays"), ("StringArray",)),
        ("backed", ("pandas._libs.arrays",), ("__pyx_unpickle_NDArrayBacked",)),
        (
            "arrow_strings",
            ("pandas.arrays", "pandas.core.arrays.string_arrow"),
            ("ArrowStringArray",),
        ),
        ("arrow", ("pyarrow.lib",), ("_restore_array",)),
        ("arrow_type", ("pyarrow.lib",), ("type_for_alias",)),
        ("arrow_chunks", ("pyarrow.lib",), ("chunked_array",)),
        ("bytes", ("pyarrow.lib",), ("py_buffer",)),
        ("bytes", ("builtins", "__builtin__"), ("bytearray", "bytes")),
        ("missing", ("pandas", "pandas._libs.missing"), ("NA",)),
        ("scalar", ("numpy.core.multiarray", "numpy._core.multiarray"), ("scalar",)),
        ("encode", ("_codecs",), ("encode",)),
        ("slice", ("builtins", "__builtin__"), ("slice",)),
    )
    for module in modules
    for name in names
}
_TEXT_TYPES = {"string": pa.string(), "large_string": pa.large_string()}
_NUMBERS = re.compile(r"[<>|=]?(?:b1|[iu][1248]|f[248])")


class PickledTableError(ValueError):
    """The file is no pickled table, or names something that no table needs."""


def read_pickled_table(path: Path) -> pa.Table:
    """The columns of a pickled `pandas.DataFrame`, gzipped or not, without its row labels.

    Numbers, booleans and texts are read. A column of other objects is refused.

    Raises:
        PickledTableError: the file holds no such table, names something that no table needs, or is
            damaged.
        OSError: the file cannot be read.
    """
    data = _bytes_of(path)
    stream = io.BytesIO(data)
    try:
        content = _Records(stream).load()
    except PickledTableError:
        raise
    except Exception as error:  # the stream is not trusted: any error of its reader means damage
        raise PickledTableError(
            f"it is no complete pickle: what stands before byte {stream.tell():,} of {len(data):,} "
            f"cannot be read ({type(error).__name__})"
        ) from None
    try:
        return _table(content)
    except PickledTableError:
        raise
    except (
        ValueError,
        TypeError,
        LookupError,
        AttributeError,
        ArithmeticError,
        RecursionError,
        pa.ArrowException,
    ) as error:
        raise PickledTableError(f"it is no table as pandas writes one: {error}") from None


def _bytes_of(path: Path) -> bytes:
    with path.open("rb") as raw:
        zipped = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        try:
            with gzip.open(raw) if zipped else raw as file:
                data: bytes = file.read(_MOST_BYTES + 1)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise PickledTableError(f"it is damaged gzip data: {error}") from None
    if len(data) > _MOST_BYTES:
        raise PickledTableError(f"it holds more than {_MOST_BYTES:,} bytes")
    return data


class _Record:
    """The arguments of one call in the pickle, and the state that the result would be given."""

    kind: ClassVar[str]
    arguments: tuple[Any, ...]
    state: Any

    def __new__(cls, *arguments: Any) -> _Record:
        record = object.__new__(cls)
        record.arguments, record.state = arguments, None
        return record

    def __init__(self, *arguments: Any) -> None:
        """Does nothing: `__new__` has kept the arguments."""

    def __setstate__(self, state: Any) -> None:
        self.state = state


# The C unpickler allocates an array as long as the largest memo index in the stream, which a few
# bytes can make huge; the one in Python keeps a dictionary.
class _Records(pickle._Unpickler):
    """An unpickler that makes records instead of objects."""

    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = dict(pickle._Unpickler.dispatch)
    _classes: ClassVar[dict[str, type[_Record]]] = {}
    read: Callable[[int], bytes]  # as `load` makes them
    append: Callable[[Any], None]

    def load_bytearray8(self) -> None:
        """As in the library, except that the promised size is bounded before it is allocated."""
        (size,) = struct.unpack("<Q", self.read(8))
        self.append(bytearray(self.read(min(size, _MOST_BYTES))))

    dispatch[pickle.BYTEARRAY8[0]] = load_bytearray8

    def find_class(self, module: str, name: str) -> type[_Record]:
        if (kind := _NAMES.get((module, name))) is None:
            shown = f"{module}.{name}"[:200]
            raise PickledTableError(f"it asks for {shown}, which no table needs")
        return self._classes.setdefault(kind, type(kind, (_Record,), {"kind": kind}))


# -- from records to columns ----------------------------------------------------------------------


def _is(record: Any, *kinds: str) -> bool:
    return isinstance(record, _Record) and record.kind in kinds


def _shown(value: Any) -> str:
    return value.kind if isinstance(value, _Record) else type(value).__name__


def _table(content: Any) -> pa.Table:
    if not _is(content, "frame"):
        raise PickledTableError(f"it holds {_shown(content)}, expected a pandas.DataFrame")
    manager = content.state["_mgr"] if isinstance(content.state, dict) else content.state
    if not _is(manager, "manager") or len(manager.arguments) != 2:
        raise PickledTableError(
            "it was written by pandas before 1.3: open it with that version and save it again"
        )
    blocks, (columns, _) = manager.arguments
    names = [str(name) for name in _index(columns)]
    if len(set(names)) < len(names):
        raise PickledTableError("it has two columns of one name")
    found: dict[int, pa.Array] = {}
    for block in blocks:
        values, indices, _ = block.arguments
        for index, column in zip(_indices(indices, len(names)), _columns(values), strict=True):
            try:
                found[index] = pa.array(column, from_pandas=True)
            except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
                name = names[index]
                raise PickledTableError(
                    f"column {name!r} is neither text nor numbers: {error}"
                ) from None
    if sorted(found) != list(range(len(names))):
        raise PickledTableError("its blocks do not fill its columns")
    return pa.table([found[index] for index in range(len(names))], names=names)


def _index(record: Any) -> Sequence[Any]:
    if not _is(record, "new_index"):
        raise PickledTableError("its column names are no plain index")
    kind, content = record.arguments
    if kind.kind == "range":
        names = range(content["start"], content["stop"], content["step"])
        if len(names) > 1_000_000:
            raise PickledTableError(f"it has {len(names):,} columns")
        return names
    return list(next(_columns(content["data"])))


def _indices(record: Any, count: int) -> list[int]:
    """The indices of the columns that a block holds."""
    if _is(record, "slice"):
        return list(range(count)[slice(*record.arguments)])
    return [int(index) for index in _array(record)]


def _columns(values: Any) -> Iterator[Sequence[Any] | pa.Array]:
    """The columns of one block: ``(columns, n)`` of an array, one of an extension array."""
    if _is(values, "arrow_strings"):
        yield _arrow(values.state["_pa_array"])
        return
    if _is(values, "backed", "strings"):  # (dtype, array, attributes)
        values = next(part for part in values.state if _is(part, "array", "buffer"))
    array = _array(values)
    yield from array if array.ndim == 2 else array[None]


def _array(record: Any) -> NDArray[Any]:
    """A numpy array of numbers, or of the plain Python objects that the pickle itself holds."""
    if _is(record, "buffer"):
        raw, dtype, shape, order = record.arguments
        by_column = order == "F"
    else:
        _require(record, "array")
        _, shape, dtype, by_column, raw = record.state
    shape = tuple(int(size) for size in shape)
    if isinstance(raw, list):
        if len(raw) != math.prod(shape):
            raise PickledTableError(f"an array of shape {shape} has {len(raw):,} values")
        flat = np.empty(len(raw), dtype=object)
        flat[:] = [_plain(value) for value in raw]
        # Many rows may refer to one text, but the columns copy it.
        if sum(len(value) for value in flat if isinstance(value, str)) > _MOST_BYTES:
            raise PickledTableError(f"its texts are more than {_MOST_BYTES:,} characters")
    else:
        flat = np.frombuffer(_raw(raw), dtype=_dtype(dtype))
    return flat.reshape(shape, order="F" if by_column else "C")


def _plain(value: Any) -> str | float | None:
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, type) and issubclass(value, _Record) and value.kind == "missing":
        return None
    if _is(value, "scalar"):
        dtype, raw = value.arguments
        number: float = np.frombuffer(_raw(raw), _dtype(dtype))[0].item()
        return number
    raise PickledTableError(
        f"a column of objects holds {_shown(value)}, expected texts and numbers"
    )


def _dtype(record: Any) -> np.dtype[Any]:
    _require(record, "dtype")
    code = record.arguments[0]
    if not _NUMBERS.fullmatch(code):
        raise PickledTableError(f"a column is of numpy's type {code!r}, which is not read")
    order = record.state[1] if record.state else "="
    return np.dtype(code).newbyteorder({"<": "<", ">": ">"}.get(order, "="))


def _arrow(record: Any) -> pa.Array | pa.ChunkedArray:
    if _is(record, "arrow_chunks"):
        return pa.chunked_array([_arrow(chunk) for chunk in record.arguments[0]])
    _require(record, "arrow")
    ((alias, length, nulls, offset, buffers, children, dictionary),) = record.arguments
    (name,) = alias.arguments
    if name not in _TEXT_TYPES or children or dictionary:
        raise PickledTableError(f"a column is of Arrow's type {name!r}, which is not read")
    parts = [None if part is None else pa.py_buffer(_raw(part)) for part in buffers]
    entries = len(_raw(buffers[1])) // (8 if name == "large_string" else 4)
    if min(offset, length) < 0 or offset + length >= entries:
        raise PickledTableError(f"a column promises {length:,} texts that it does not hold")
    array = pa.Array.from_buffers(_TEXT_TYPES[name], length, parts, nulls, offset)
    array.validate(full=True)
    return array


def _raw(record: Any) -> bytes:
    """Bytes in any pickle protocol; protocol 2 stores them as an encoded text."""
    if isinstance(record, bytes | bytearray):
        return bytes(record)
    if _is(record, "encode"):
        text, encoding = record.arguments
        if encoding != "latin1":
            raise PickledTableError(f"it encodes bytes by {encoding!r}, expected 'latin1'")
        return bytes(text, "latin1")
    _require(record, "bytes")
    if not record.arguments:
        return b""
    if isinstance(first := record.arguments[0], int):
        raise PickledTableError(f"it asks for {first:,} bytes that it does not hold")
    return _raw(first)


def _require(record: Any, kind: str) -> None:
    if not _is(record, kind):
        raise PickledTableError(f"expected {kind}, found {_shown(record)}")
