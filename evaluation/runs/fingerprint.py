"""The **fingerprint** of a run: a hash of its configuration, data, files and code.

It covers everything that a run reads: every field of the data, every file that a string of the
configuration names, every file of this project's packages, the sources of plug-ins and of the
user's modules that they import, and the versions of the packages that compute. A file that a
plug-in reads counts if the configuration names it.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import platform
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from routing_pomdp.envs.lazy import FOLDERS
from routing_pomdp.evaluation.runs.plug_in_code import OURS, code_of, versions_of

_PACKAGES = tuple(f"{OURS}.{folder}" for folder in FOLDERS)

# Packages whose version can change random numbers or rounding.
_COMPUTING = ("numpy", "scipy", "torch", "scikit-learn", "highspy", "pomdp-py")
_LENGTH = 12
_CHUNK = 2**16


class _Hash(Protocol):
    def update(self, content: bytes, /) -> None: ...


def fingerprint(config: Mapping[str, Any], data: Any) -> str:
    """The fingerprint of a run, twelve hexadecimal digits.

    Args:
        config: the settings that change results, as plain containers.
        data: the loaded data, see `digest`, or its digest.
    """
    targets = sorted({value for key, value in _strings(config) if key == "_target_"})
    # The log's own folder is not read: the data already cover it.
    beside = {key: value for key, value in config.items() if key != "rollouts"}
    named = _files(config)
    below = {value: _digest_of_folder(value) for _, value in _strings(beside) if _is_dir(value)}
    ours = {
        package: _digest_of_folder(importlib.import_module(package).__path__[0])
        for package in _PACKAGES
    }
    plugged = {name: _digest_of_file(path) for name, path in sorted(code_of(targets).items())}
    versions = _versions() | versions_of(targets)
    return digest([_ordered(config), data, named, below, ours, plugged, versions])[:_LENGTH]


def files_of(config: Mapping[str, Any]) -> dict[str, str]:
    """The files that a configuration names, without the log's own, with their digests."""
    return _files({key: value for key, value in config.items() if key != "rollouts"})


def digest(value: Any) -> str:
    """A hexadecimal digest of a nested value.

    Args:
        value: plain values, containers, arrays, and dataclasses of these, such as `Rollouts`.

    Raises:
        TypeError: a part has another type.
    """
    hashed = hashlib.sha256()
    _feed(hashed, value)
    return hashed.hexdigest()


def _feed(hashed: _Hash, value: Any) -> None:
    # Each value is preceded by its type and length, so that different values give different bytes.
    if value is None or isinstance(value, bool | int | float):
        _feed_bytes(hashed, type(value).__name__, repr(value).encode())
    elif isinstance(value, str):
        _feed_bytes(hashed, "str", value.encode("utf-8", "surrogatepass"))
    elif isinstance(value, bytes):
        _feed_bytes(hashed, "bytes", value)
    elif isinstance(value, np.generic):
        _feed(hashed, np.asarray(value))
    elif isinstance(value, np.ndarray):
        _feed_array(hashed, value)
    elif isinstance(value, Mapping):
        _feed_items(hashed, "mapping", [part for item in value.items() for part in item])
    elif isinstance(value, list | tuple):
        _feed_items(hashed, "sequence", value)
    elif is_dataclass(value) and not isinstance(value, type):
        named = {item.name: getattr(value, item.name) for item in fields(value)}
        _feed_items(hashed, type(value).__name__, [named])
    else:
        raise TypeError(f"no digest of a {type(value).__name__}: {str(value)[:60]!r}")


def _feed_bytes(hashed: _Hash, kind: str, content: bytes) -> None:
    hashed.update(f"{kind} {len(content)}:".encode())
    hashed.update(content)


def _feed_items(hashed: _Hash, kind: str, items: Any) -> None:
    hashed.update(f"{kind} {len(items)}:".encode())
    for item in items:
        _feed(hashed, item)


def _feed_array(hashed: _Hash, array: NDArray[Any]) -> None:
    """Feeds an array in chunks; equal texts give equal bytes in every kind of text array."""
    text = array.dtype.kind in "OUT"
    kind = "text" if text else array.dtype.str
    hashed.update(f"array of {kind} {array.shape}:".encode())
    flat = array.ravel()
    for start in range(0, flat.size, _CHUNK):
        chunk = flat[start : start + _CHUNK]
        if not text:
            hashed.update(chunk.tobytes())
            continue
        cells = [_cell(cell) for cell in chunk.tolist()]
        hashed.update(np.array([len(cell) for cell in cells], "<i8").tobytes())
        hashed.update(b"".join(cells))


def _cell(value: Any) -> bytes:
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass")
    return b"\xff" + digest(value).encode()  # no UTF-8 text begins with this byte


def _ordered(node: Any) -> Any:
    """A configuration with sorted keys."""
    if isinstance(node, Mapping):
        return {key: _ordered(node[key]) for key in sorted(node, key=repr)}
    return [_ordered(item) for item in node] if isinstance(node, list | tuple) else node


def _strings(node: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Every string of a configuration with its key; keys themselves are included."""
    if isinstance(node, str):
        yield key, node
    elif isinstance(node, Mapping):
        for name, value in node.items():
            yield from _strings(name)
            yield from _strings(value, str(name))
    elif isinstance(node, list | tuple):
        for value in node:
            yield from _strings(value, key)


def _files(config: Mapping[str, Any]) -> dict[str, str]:
    return {value: _digest_of_file(value) for _, value in _strings(config) if _is_file(value)}


def _is_file(text: str | Path) -> bool:
    return os.path.isfile(text)  # unlike Path.is_file, it never raises


def _is_dir(text: str) -> bool:
    """Whether a text names a folder that does not contain the current one, unlike "." or "/"."""
    return os.path.isdir(text) and not Path.cwd().is_relative_to(Path(text).resolve())


def _digest_of_file(path: str | Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _digest_of_folder(folder: str) -> str:
    """The digest of the names and bytes of the files below a folder, without compiled code."""
    files = [
        Path(parent, name)
        for parent, _, names in os.walk(folder)
        for name in names
        if Path(parent).name != "__pycache__" and _is_file(Path(parent, name))
    ]
    return digest({str(file.relative_to(folder)): _digest_of_file(file) for file in sorted(files)})


def _versions() -> dict[str, str | None]:
    found: dict[str, str | None] = {"python": ".".join(platform.python_version_tuple()[:2])}
    for package in _COMPUTING:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = None
    return found
