"""A lock that admits one process at a time to a run's folder."""

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
    """Makes a folder and locks it; other processes that want it wait.

    The system releases the lock when this process ends. The folder is removed if it is empty.
    """
    lock = _locked(folder)
    try:
        # Partial files that a killed process left.
        for parent in (folder, folder / CHECKPOINTS):
            for part in parent.glob(f"{PART}*"):
                part.unlink(missing_ok=True)
        yield
    finally:
        (folder / _LOCK).unlink(missing_ok=True)
        os.close(lock)
        with suppress(OSError):
            folder.rmdir()


def _locked(folder: Path) -> int:
    path = folder / _LOCK
    announced = False
    while True:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except FileExistsError:  # a file, or the holder removed the folder meanwhile
            if folder.exists() and not folder.is_dir():
                raise
            continue
        with suppress(FileNotFoundError):  # the holder removed the folder just now
            lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if not announced:
                    print(f"{folder}: another process runs it; waiting for it", file=sys.stderr)
                    announced = True
                fcntl.flock(lock, fcntl.LOCK_EX)
            # The previous holder removed its lock file: only a lock on the current file counts.
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(lock), os.stat(path)):
                    return lock
            os.close(lock)
