"""One process at a time in a run's folder."""

from __future__ import annotations

import fcntl
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from routing_pomdp.envs.files.atomic import PART
from routing_pomdp.evaluation.runs.run_folder import CHECKPOINTS

_LOCK = ".lock"


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Makes a folder, and holds it against other processes that ask for it; these wait.

    The system lets go of it however this process ends. A folder in which nothing was left is
    removed again.
    """
    lock = _locked(folder)
    try:
        # Only a kill leaves these.
        for place in (folder, folder / CHECKPOINTS):
            for part in place.glob(f"{PART}*"):
                part.unlink(missing_ok=True)
        yield
    finally:
        (folder / _LOCK).unlink(missing_ok=True)
        os.close(lock)
        with suppress(OSError):
            folder.rmdir()


def _locked(folder: Path) -> int:
    path = folder / _LOCK
    said = False
    while True:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except FileExistsError:  # a file; or a holder removed the folder as it was looked at
            if folder.exists() and not folder.is_dir():
                raise
            continue
        with suppress(FileNotFoundError):  # the holder removed the folder just now
            lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if not said:
                    print(f"{folder}: another process runs it; waiting for it", file=sys.stderr)
                    said = True
                fcntl.flock(lock, fcntl.LOCK_EX)
            # The holder before removed its lock: what counts is the one that stands there now.
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(lock), os.stat(path)):
                    return lock
            os.close(lock)
