"""Files of a collection: readable only by their owner, and none of them an input or a link."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path

from routing_pomdp.verifiers.collection.models import ConfigError

# Files of a collection beside the table; torn ends and temporary files have a suffix or prefix.
LOG, LOCK, MANIFEST, ROWS = "log.jsonl", ".lock", "manifest.json", "rows.partial.jsonl"
_OWN = (LOG, LOCK, MANIFEST, ROWS)
_NAME = re.compile(r"\w[\w.-]*")


def check_outputs(folder: Path, table: str, inputs: Iterable[Path] = ()) -> None:
    """Refuses outputs that would overwrite an input or a file of the collection, or are links.

    Nothing is read or written. Names that differ only in letter case count as the same, as on many
    systems.

    Args:
        folder: of the collection.
        table: name of the calls table in it.
        inputs: files that are read.

    Raises:
        ConfigError: the message names the file.
    """
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"out is {str(folder)!r}, which is a file: expected a folder")
    if not isinstance(table, str) or not _NAME.fullmatch(table):
        raise ConfigError(
            f"table is {table!r}: expected the name of a file in the output folder, of letters, "
            "digits, _ . -"
        )
    if _same_name(table) in map(_same_name, _OWN) or _same_name(table).startswith("log.torn-"):
        raise ConfigError(f"table is {table!r}, a file of the collection itself: give another name")
    for path in (folder / name for name in (*_OWN, table)):
        if path.is_symlink():
            raise ConfigError(f"{path} is a link to {path.resolve()}: expected a file of its own")
        if path.exists() and not path.is_file():
            raise ConfigError(f"{path} is no file: move it away, or give another name")
        for read in inputs:
            if _same_file(path, read) or _same_file(part_of(path), read):
                raise ConfigError(
                    f"{read} would be overwritten: it is read, and is {path}, which is written. "
                    "Give another out or table"
                )
        # The log and the lock are written in place; other files are replaced by new ones.
        if path.name in (LOG, LOCK) and path.exists() and path.stat().st_nlink > 1:
            raise ConfigError(
                f"{path} has another name elsewhere (a hard link), where it would change as well: "
                "copy it in place of linking it"
            )


def private_folder(folder: Path) -> None:
    """Makes a folder that only its owner can enter, unless it exists."""
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)


def private_file(path: Path) -> Path:
    """Makes an empty file that only its owner can read, in place of an older one."""
    path.unlink(missing_ok=True)
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    return path


def part_of(path: Path) -> Path:
    """The temporary name under which a file's replacement is written."""
    return path.with_name(f".part-{path.name}")


def replace_file(path: Path) -> None:
    """Replaces a file atomically by its complete part (`part_of`), and syncs it to disk.

    Raises:
        OSError: the disk is full, or fails.
    """
    part = part_of(path)
    with part.open("rb") as file:
        os.fsync(file.fileno())
    part.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Syncs the names in a folder to disk."""
    entry = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(entry)
    finally:
        os.close(entry)


def _same_name(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _same_file(one: Path, other: Path) -> bool:
    if one.exists() and other.exists() and one.samefile(other):
        return True
    return _same_name(str(one.resolve())) == _same_name(str(other.resolve()))
