"""A progress bar over the runs of a sweep, whichever launcher runs them."""

from __future__ import annotations

import fcntl
import os
import sys
import threading
from contextlib import suppress
from math import prod
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.utils import JobReturn
from hydra.experimental.callback import Callback
from omegaconf import DictConfig
from tqdm import tqdm

from routing_pomdp.evaluation.configuration.command_line import FailedRun

_FOLDER = ".progress-"


class SweepProgress(Callback):
    """The progress bar of a sweep. Each job, in whatever process, writes one line to a folder of
    this launch; the main process prints the lines and advances the bar."""

    _folder: Path | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {"_folder": self._folder}  # launchers send callbacks to workers; the bar stays here

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        sweep = Path(config.hydra.sweep.dir)
        sweep.mkdir(parents=True, exist_ok=True)
        for left in sweep.glob(f"{_FOLDER}*"):
            with suppress(OSError):  # another launch of this sweep is running
                os.close(_held(left))
                rmtree(left)
        self._folder = folder = Path(mkdtemp(prefix=_FOLDER, dir=sweep))
        self._lock = _held(folder)
        swept = sweep_overrides(config)
        self._swept = {override.get_key_element() for override in swept}
        self._bar = _Bar(folder, prod(len(list(each.sweep_string_iterator())) for each in swept))
        self._bar.start()

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        folder = self._folder
        if folder is None or not folder.is_dir():
            return  # a single run, or a job that outlived its sweep
        # Reading `return_value` would raise the job's error.
        line = outcome = job_return._return_value
        if failed := isinstance(outcome, FailedRun | Exception):
            line = f"FAILED {' '.join(job_return.overrides or [])}: {outcome}"
        from routing_pomdp.envs.files.atomic import (
            write_text,  # heavy, and loaded in every job by now
        )

        write_text(folder / f"{config.hydra.job.num}.{'failed' if failed else 'done'}", str(line))

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        self._bar.stop()
        assert self._folder is not None
        rmtree(self._folder, ignore_errors=True)
        os.close(self._lock)
        if failed := self._bar.failed:
            which = ", ".join(self._swept_overrides(line) for line in failed)
            sys.exit(f"error: {len(failed)} of {self._bar.seen} runs failed: {which}")

    def _swept_overrides(self, line: str) -> str:
        """The overrides of a failed run that vary in the sweep."""
        overrides = line.partition(": ")[0].removeprefix("FAILED ").split()
        return " ".join(one for one in overrides if one.split("=")[0] in self._swept)


class _Bar(threading.Thread):
    def __init__(self, folder: Path, total: int) -> None:
        super().__init__(daemon=True)
        self._folder, self._total = folder, total
        self._stopped = threading.Event()
        self._seen: set[str] = set()
        self.failed: list[str] = []

    def run(self) -> None:
        with tqdm(total=self._total, unit="run", dynamic_ncols=True) as bar:
            while not self._stopped.wait(0.2):
                self._show(bar)
            self._show(bar)

    @property
    def seen(self) -> int:
        return len(self._seen)

    def stop(self) -> None:
        self._stopped.set()
        self.join()

    def _show(self, bar: tqdm) -> None:
        for path in sorted(self._folder.glob("*.*")):
            if path.suffix in (".done", ".failed") and path.name not in self._seen:
                self._seen.add(path.name)
                bar.write(line := path.read_text())
                if path.suffix == ".failed":
                    self.failed.append(line)
                bar.update()


def _held(folder: Path) -> int:
    """A lock that the system releases when this process ends.

    Raises:
        OSError: another process holds it.
    """
    lock = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        raise
    return lock


def sweep_overrides(config: DictConfig) -> list[Override]:
    """The swept overrides of the command line and of an experiment."""
    arguments = list(config.hydra.overrides.task)
    named = {argument.split("=")[0] for argument in arguments}
    arguments += [
        f"{key}={value}"
        for key, value in (config.hydra.sweeper.get("params") or {}).items()
        if key not in named
    ]
    overrides = OverridesParser.create().parse_overrides(arguments)
    return [override for override in overrides if override.is_sweep_override()]
