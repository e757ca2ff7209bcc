"""Atomic replacement of files: a reader finds the old content or the new, never a part of one.

The new content is written under a temporary name in the same folder, forced to disk, and renamed.
A kill, a full disk or a power cut leaves the old content. The folder itself is not forced to disk,
so a power cut may undo the latest renames, which leaves the old content again.
"""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

PART = ".part-"
"""Prefix of the temporary names. A kill may leave such a file; nothing reads it."""


def check_output(path: Path, *inputs: Path) -> None:
    """Raise ValueError unless a file can be written at ``path``: its folder exists, and the path is
    none of the input files, also through a link."""
    if not path.parent.is_dir():
        raise ValueError(f"{path} cannot be written: there is no folder {path.parent}")
    if path.is_dir():
        raise ValueError(f"{path} is a folder: expected the name of a file to write")
    for each in inputs:
        same = path.exists() and each.exists() and path.samefile(each)
        if same or path.resolve() == each.resolve():
            raise ValueError(f"{path} is read, and would be overwritten: give another name")


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A binary file to write; it replaces ``path`` when the block ends without an error.

    Links are followed, and a replaced file's permissions are kept. A path that is not a regular
    file, such as ``/dev/stdout``, is written directly.

    Raises:
        OSError: it cannot be written; the error names ``path``.
    """
    target = Path(os.path.realpath(path))
    part = target.with_name(PART + secrets.token_hex(8))
    try:
        if os.path.exists(path) and not os.path.isfile(path):
            with open(path, "wb") as file:
                yield file
            return
        with part.open("xb") as file:
            if target.exists():
                os.fchmod(file.fileno(), stat.S_IMODE(target.stat().st_mode))
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(target)
    except OSError as error:
        if error.errno is not None and error.filename in (None, str(part), str(target)):
            # "No space left on device" alone would not say where.
            raise type(error)(error.errno, error.strerror, os.fspath(path)) from None
        raise
    finally:
        part.unlink(missing_ok=True)


def write_bytes(path: str | os.PathLike[str], content: bytes) -> None:
    """Replaces a file's content by bytes, see `replacing`."""
    with replacing(path) as file:
        file.write(content)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Replaces a file's content by a text in UTF-8, see `replacing`."""
    write_bytes(path, text.encode())
