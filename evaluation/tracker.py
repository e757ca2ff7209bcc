"""Where runs are tracked: Weights & Biases, or nowhere.

In W&B a run belongs to the ``group`` of its sweep and has its solver as ``job_type``. Its frontier
is history with the cost as step, so that the frontiers of all solvers overlay in one chart.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

Mode = Literal["online", "offline", "disabled"]

# W&B writes its log every 15 s by default; a run that is killed would lose that much.
_FLUSH_SECONDS = 1.0
_SECRET = ("key", "token", "secret", "password", "credential")


class TrackedRun(Protocol):
    """A run under way."""

    def log(self, curve: str, row: Mapping[str, float]) -> None:
        """One row of a curve, such as "train"; ``row["step"]`` is its place on the axis."""

    def frontier(self, points: Sequence[Mapping[str, float | None]]) -> None:
        """The operating points, in the order of their cost."""

    def summary(self, measures: Mapping[str, float | int | None]) -> None:
        """The run's final figures; None where one is undefined."""

    def figure(self, name: str, path: Path) -> None:
        """A picture on disk."""


class Tracker(Protocol):
    """Opens tracked runs."""

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

    @contextmanager
    def run(
        self, *, folder: Path, name: str, group: str, job_type: str, config: Mapping[str, Any]
    ) -> Iterator[TrackedRun]:
        yield _Nowhere()


class _Nowhere:
    def log(self, curve: str, row: Mapping[str, float]) -> None:
        pass

    def frontier(self, points: Sequence[Mapping[str, float | None]]) -> None:
        pass

    def summary(self, measures: Mapping[str, float | int | None]) -> None:
        pass

    def figure(self, name: str, path: Path) -> None:
        pass


@dataclass(frozen=True)
class WandbTracker:
    """Tracks with Weights & Biases.

    Attributes:
        mode: "online" needs an account (and falls back to offline if it cannot be reached, so
            that no finished run is lost); "offline" writes below the run's folder, to be sent by
            ``wandb sync``; "disabled" does nothing.
        project: in W&B.
        entity: the account or team; None for the default one.

    Raises:
        ValueError: an unknown mode.
    """

    mode: Mode = "offline"
    project: str = "routing-pomdp"
    entity: str | None = None

    def __post_init__(self) -> None:
        if self.mode not in get_args(Mode):
            raise ValueError(f"tracker.mode is {self.mode!r}: expected one of {get_args(Mode)}")

    @contextmanager
    def run(
        self, *, folder: Path, name: str, group: str, job_type: str, config: Mapping[str, Any]
    ) -> Iterator[TrackedRun]:
        folder.mkdir(parents=True, exist_ok=True)
        with _everything_below(folder.resolve() / "wandb"):
            import wandb

            def start(mode: Mode) -> Any:
                return wandb.init(
                    mode=mode,
                    project=self.project,
                    entity=self.entity,
                    name=name,
                    # The run's own folder is its identity: logged again, it is the same run.
                    id=name,
                    group=group,
                    job_type=job_type,
                    config=_masked(config),
                    dir=folder,
                    reinit="create_new",
                    settings=wandb.Settings(
                        x_transaction_log_flush_interval=_FLUSH_SECONDS,
                        silent=True,
                        console="off",
                        x_disable_stats=True,
                        x_disable_meta=True,
                        disable_git=True,
                        disable_code=True,
                    ),
                )

            try:
                run = start(self.mode)
            except wandb.Error as error:
                if self.mode != "online":
                    raise
                warnings.warn(
                    f"W&B cannot be reached ({error}): this run is kept offline, send it later by "
                    f"wandb sync --include-offline {folder}/wandb/offline-run-*",
                    stacklevel=2,
                )
                run = start("offline")
            try:
                yield _WandbRun(run)
            except BaseException:
                run.finish(exit_code=1)
                raise
            run.finish()


class _WandbRun:
    def __init__(self, run: Any) -> None:
        self._run = run
        self._curves: set[str] = set()

    def log(self, curve: str, row: Mapping[str, float], step: str = "step") -> None:
        if curve not in self._curves:
            self._curves.add(curve)
            self._run.define_metric(f"{curve}/{step}")
            self._run.define_metric(f"{curve}/*", step_metric=f"{curve}/{step}")
        self._run.log({f"{curve}/{key}": value for key, value in row.items()})

    def frontier(self, points: Sequence[Mapping[str, float | None]]) -> None:
        import wandb

        for point in points:
            self.log("frontier", {key: v for key, v in point.items() if v is not None}, "cost")
        columns = list(points[0])
        table = wandb.Table(columns=columns, data=[[p[key] for key in columns] for p in points])
        self._run.log({"operating_points": table})

    def summary(self, measures: Mapping[str, float | int | None]) -> None:
        self._run.summary.update({key: v for key, v in measures.items() if v is not None})

    def figure(self, name: str, path: Path) -> None:
        import wandb

        self._run.log({name: wandb.Image(str(path))})


@contextmanager
def _everything_below(folder: Path) -> Iterator[None]:
    """Keeps W&B's staged files, caches and settings beside the run, and off the home folder."""
    ours = {
        f"WANDB_{kind}_DIR": str(folder / kind.lower())
        for kind in ("DATA", "CACHE", "ARTIFACT", "CONFIG")
    }
    # W&B takes our package `verifiers` for a library of that name, and advertises another product.
    ours["WANDB_DISABLE_WEAVE"] = "true"
    # An account that the user is logged in with is found in the home folder's netrc all the same.
    before = {name: os.environ.get(name) for name in ours}
    os.environ.update(ours)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _masked(config: Any) -> Any:
    if isinstance(config, Mapping):
        return {
            key: "***" if _is_secret(str(key)) and isinstance(value, str) else _masked(value)
            for key, value in config.items()
        }
    if isinstance(config, list | tuple):
        return [_masked(value) for value in config]
    return config


def _is_secret(name: str) -> bool:
    words = name.lower().replace("-", "_").split("_")
    return any(word.rstrip("s") in _SECRET for word in words)
