"""Experiment tracking with Weights & Biases, or none.

In W&B a run belongs to the ``group`` of its sweep and has its solver as ``job_type``. Its frontier
is logged with the cost as step, so that the frontiers of all solvers overlay in one chart.
"""

from __future__ import annotations

import hashlib
import math
import os
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

from routing_pomdp.envs.files.secrets import masked
from routing_pomdp.envs.settings.checks import check_settings
from routing_pomdp.envs.settings.ranges import Pattern, Text

Mode = Literal["online", "offline", "disabled"]
Project = Annotated[str, Pattern(r"[^/\\#?%:]{1,128}", "up to 128 characters without / \\ # ? % :")]

# W&B writes its log every 15 s by default; a killed run would lose that much.
_FLUSH_SECONDS = 1.0
# W&B retries an unreachable server for 90 s by default, in every run of a sweep.
_REACH_SECONDS = 20.0
# Limits the wait at the end of a run if the network is lost.
_FINISH_SECONDS = 60.0

# Characters that W&B does not accept in an artifact's name.
_NO_NAME = re.compile(r"[^\w.-]+", re.ASCII)
_LONGEST_NAME = 128


class TrackedRun(Protocol):
    """A run in progress."""

    def log(self, curve: str, row: Mapping[str, float | None]) -> None:
        """Logs one row of a curve, such as "train"; ``row["step"]`` is its position."""

    def frontier(self, points: Sequence[Mapping[str, float | None]]) -> None:
        """Logs the operating points, ordered by ``"cost"``; None or NaN where undefined."""

    def summary(self, measures: Mapping[str, float | int | None]) -> None:
        """Logs the run's measures; None or NaN where undefined."""

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Logs a table of plain cells."""

    def figure(self, name: str, path: Path) -> None:
        """Logs an image file."""

    def artifact(self, path: Path, name: str, kind: str) -> None:
        """Logs a file as a version of the artifact ``name``, such as a checkpoint of the kind
        "model"."""


class Tracker(Protocol):
    """Opens tracked runs."""

    @property
    def keeps(self) -> bool:
        """Whether the tracker stores runs; a run that is not stored yet can be tracked later."""

    def run(
        self, *, folder: Path, name: str, group: str, job_type: str, config: Mapping[str, Any]
    ) -> AbstractContextManager[TrackedRun]:
        """A run that ends with the ``with`` block, as failed if the block raises.

        Args:
            folder: the run's folder; all files of the tracker are below it.
            name: name of the run.
            group: the sweep.
            job_type: the solver.
            config: the run's configuration; values under names like ``api_key`` are masked.
        """


@dataclass(frozen=True)
class NoTracker:
    """Tracks nothing."""

    @property
    def keeps(self) -> bool:
        return False

    @contextmanager
    def run(
        self, *, folder: Path, name: str, group: str, job_type: str, config: Mapping[str, Any]
    ) -> Iterator[TrackedRun]:
        yield _Nowhere()


class _Nowhere:
    def log(self, curve: str, row: Mapping[str, float | None]) -> None:
        pass

    def frontier(self, points: Sequence[Mapping[str, float | None]]) -> None:
        pass

    def summary(self, measures: Mapping[str, float | int | None]) -> None:
        pass

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        pass

    def figure(self, name: str, path: Path) -> None:
        pass

    def artifact(self, path: Path, name: str, kind: str) -> None:
        pass


@dataclass(frozen=True)
class WandbTracker:
    """Tracks with Weights & Biases.

    A run is identified in W&B by its sweep and the name of its folder. Tracking it again replaces
    it.

    Attributes:
        mode: "online" needs an account; it falls back to offline, without a prompt, if there is
            none or W&B cannot be reached. "offline" writes below the run's folder; ``wandb sync``
            sends it later. "disabled" does nothing.
        project: the W&B project.
        entity: the account or team; None for the default one.

    Raises:
        ValueError: the mode is unknown.
    """

    mode: Mode = "offline"
    project: Project = "routing-pomdp"
    entity: Text | None = None

    def __post_init__(self) -> None:
        check_settings(self, "tracker")

    @property
    def keeps(self) -> bool:
        return self.mode != "disabled"

    @contextmanager
    def run(
        self, *, folder: Path, name: str, group: str, job_type: str, config: Mapping[str, Any]
    ) -> Iterator[TrackedRun]:
        if self.mode == "disabled":
            yield _Nowhere()
            return
        folder = folder.resolve()
        folder.mkdir(parents=True, exist_ok=True)
        with _everything_below(folder / "wandb"):
            about = {
                "project": self.project,
                "entity": self.entity,
                "name": name,
                # A name may hold characters that W&B refuses in an id, and recur in another sweep.
                "id": hashlib.sha256(f"{group}/{folder.name}".encode()).hexdigest()[:16],
                "group": group,
                "job_type": job_type,
                "config": masked(config),
                "dir": folder,
            }
            run = _start_online(about) if self.mode == "online" else _start("offline", about)
            try:
                yield _WandbRun(run)
            except BaseException:
                _finish(run, folder, exit_code=1)
                raise
            _finish(run, folder, exit_code=0)


def _finish(run: Any, folder: Path, exit_code: int) -> None:
    try:
        run.finish(exit_code=exit_code)
    except TimeoutError:
        warnings.warn(
            f"W&B did not take all of this run within {_FINISH_SECONDS:.0f} s. Nothing is lost; "
            f"send it later by: wandb sync --include-online {folder}/wandb/run-*",
            stacklevel=4,
        )


def _start(mode: Mode, about: Mapping[str, Any]) -> Any:
    import wandb

    return wandb.init(
        **about,
        mode=mode,
        reinit="create_new",
        settings=wandb.Settings(
            x_transaction_log_flush_interval=_FLUSH_SECONDS,
            init_timeout=_REACH_SECONDS,
            finish_timeout=_FINISH_SECONDS,
            finish_timeout_raises=True,
            console="off",
            # Sends nothing about the machine: no name, load, packages, paths, code or remotes.
            host="-",
            program="-",
            x_disable_stats=True,
            x_disable_meta=True,
            x_disable_machine_info=True,
            x_save_requirements=False,
            disable_git=True,
            disable_code=True,
        ),
    )


def _start_online(about: Mapping[str, Any]) -> Any:
    import wandb

    try:
        return _start("online", about)
    except Exception as error:  # W&B raises many types here, not only its own
        warnings.warn(
            f"W&B cannot be used online ({' '.join(str(error).split())}). This run is kept "
            f"offline; send it later by: wandb sync {about['dir']}/wandb/offline-run-*",
            stacklevel=4,
        )
    # The attempt still holds the run's id.
    wandb.teardown()
    return _start("offline", about)


class _WandbRun:
    def __init__(self, run: Any) -> None:
        self._run = run
        self._curves: set[str] = set()

    def log(self, curve: str, row: Mapping[str, float | None]) -> None:
        self._row(curve, row, step="step")

    def frontier(self, points: Sequence[Mapping[str, float | None]]) -> None:
        # W&B summarises a curve by its last value, which is meaningless for a frontier.
        for point in points:
            self._row("frontier", _defined(point), step="cost", summary="none")
        columns = list(dict.fromkeys(key for point in points for key in point))
        rows = [[point.get(key) for key in columns] for point in points]
        self.table("operating_points", columns, rows)

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        import wandb

        table = wandb.Table(columns=list(columns), data=[list(row) for row in rows])
        try:
            self._run.log({name: table})
        except wandb.Error as error:  # unlike other data, a failed table is not sent later
            warnings.warn(f"W&B did not take a table of this run: {error}", stacklevel=2)

    def summary(self, measures: Mapping[str, float | int | None]) -> None:
        self._run.summary.update(_defined(measures))

    def figure(self, name: str, path: Path) -> None:
        import wandb

        self._run.log({name: wandb.Image(str(path))})

    def artifact(self, path: Path, name: str, kind: str) -> None:
        import wandb

        # Names of data sets can be any text, names of artifacts cannot.
        kept = wandb.Artifact(_NO_NAME.sub("_", name)[:_LONGEST_NAME], type=kind)
        kept.add_file(str(path))
        try:
            self._run.log_artifact(kept)
        except wandb.Error as error:
            warnings.warn(
                f"W&B did not take {path} as an artifact ({error}): the file stays", stacklevel=2
            )

    def _row(
        self, curve: str, row: Mapping[str, Any], step: str, summary: str | None = None
    ) -> None:
        if curve not in self._curves:
            self._curves.add(curve)
            self._run.define_metric(f"{curve}/{step}", summary=summary)
            self._run.define_metric(f"{curve}/*", step_metric=f"{curve}/{step}", summary=summary)
        self._run.log({f"{curve}/{key}": value for key, value in row.items()})


def _defined(values: Mapping[str, float | int | None]) -> dict[str, float | int]:
    return {key: v for key, v in values.items() if v is not None and not math.isnan(v)}


@contextmanager
def _everything_below(folder: Path) -> Iterator[None]:
    """Silences W&B, and moves its staged files and caches from the home folder to ``folder``."""
    # The settings folder stays the user's: `wandb login` writes server and account there.
    ours = {f"WANDB_{kind}_DIR": str(folder / kind.lower()) for kind in ("DATA", "CACHE")}
    # This also keeps W&B from asking for an account at the terminal, which would block a sweep.
    ours["WANDB_SILENT"] = "true"
    # W&B would send reports of its own errors in every mode.
    ours["WANDB_ERROR_REPORTING"] = "false"
    # W&B mistakes our package `verifiers` for another library and advertises a product for it.
    ours["WANDB_DISABLE_WEAVE"] = "true"
    before = {name: os.environ.get(name) for name in ours}
    os.environ.update(ours)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
