"""Where runs are tracked: Weights & Biases, or nowhere.

In W&B a run belongs to the ``group`` of its sweep and has its solver as ``job_type``. Its frontier
is history with the cost as step, so that the frontiers of all solvers overlay in one chart.
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

# W&B writes its log every 15 s by default; a run that is killed would lose that much.
_FLUSH_SECONDS = 1.0
# W&B retries an unreachable server for 90 s by default, and a sweep would wait so in every run.
_REACH_SECONDS = 20.0
# Nor must a sweep wait for ever where the network is lost on the way.
_FINISH_SECONDS = 60.0

# What W&B takes as an artifact's name.
_NO_NAME = re.compile(r"[^\w.-]+", re.ASCII)
_LONGEST_NAME = 128


class TrackedRun(Protocol):
    """A run under way."""

    def log(self, curve: str, row: Mapping[str, float | None]) -> None:
        """One row of a curve, such as "train"; ``row["step"]`` is its place on the axis."""

    def frontier(self, points: Sequence[Mapping[str, float | None]]) -> None:
        """The operating points, in the order of their ``"cost"``; None or NaN where undefined."""

    def summary(self, measures: Mapping[str, float | int | None]) -> None:
        """The run's final figures; None or NaN where one is undefined."""

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """A table of plain cells."""

    def figure(self, name: str, path: Path) -> None:
        """A picture on disk."""

    def artifact(self, path: Path, name: str, kind: str) -> None:
        """A file on disk, kept as a version of the artifact ``name``, such as a checkpoint of
        the kind "model"."""


class Tracker(Protocol):
    """Opens tracked runs."""

    @property
    def keeps(self) -> bool:
        """Whether anything of a run is kept; a run that no tracker has yet is tracked later."""

    def run(
        self, *, folder: Path, name: str, group: str, job_type: str, config: Mapping[str, Any]
    ) -> AbstractContextManager[TrackedRun]:
        """A run that ends with the ``with`` block, as failed if that raises.

        Args:
            folder: the run's own; whatever the tracker writes lies below it.
            name: of the run.
            group: the sweep.
            job_type: the solver.
            config: what was run; values under names like ``api_key`` are masked.
        """


@dataclass(frozen=True)
class NoTracker:
    """Tracks nothing, and needs nothing installed."""

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

    A run's identity in W&B is its sweep and the name of its folder: tracked again, it replaces
    what W&B has of it.

    Attributes:
        mode: "online" needs an account, never asks for one, and falls back to offline if there is
            none or W&B cannot be reached, so that no run is lost; "offline" writes below the run's
            folder and sends nothing, ``wandb sync`` does later; "disabled" does nothing.
        project: in W&B.
        entity: the account or team; None for the default one.

    Raises:
        ValueError: an unknown mode.
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
            # Of the machine nothing is told: no name, load, packages, paths, code or remotes.
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
    except Exception as error:  # W&B raises many kinds here, not all of them its own
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
        # W&B sums a curve up by its last value; a frontier's last value means nothing.
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
        except wandb.Error as error:  # a table, unlike the rest, is not kept for better times
            warnings.warn(f"W&B did not take a table of this run: {error}", stacklevel=2)

    def summary(self, measures: Mapping[str, float | int | None]) -> None:
        self._run.summary.update(_defined(measures))

    def figure(self, name: str, path: Path) -> None:
        import wandb

        self._run.log({name: wandb.Image(str(path))})

    def artifact(self, path: Path, name: str, kind: str) -> None:
        import wandb

        # Names of data sets come from logs: any text, which an artifact's name is not.
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
    """Keeps W&B quiet, and its staged files and caches beside the run, off the home folder."""
    # The settings folder stays the user's: which server and account, `wandb login` wrote there.
    ours = {f"WANDB_{kind}_DIR": str(folder / kind.lower()) for kind in ("DATA", "CACHE")}
    # Silent, W&B does not ask for an account at the terminal either: a sweep would stand still.
    ours["WANDB_SILENT"] = "true"
    # Reports of W&B's own errors go out in every mode.
    ours["WANDB_ERROR_REPORTING"] = "false"
    # W&B takes our package `verifiers` for a library of that name, and advertises another product.
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
