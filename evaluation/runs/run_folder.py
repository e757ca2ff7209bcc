"""Run folders: the files of a run, and whether it is finished.

The name of a run's folder is a readable prefix and a **fingerprint** of everything that the run
reads. A run with the same fingerprint is found and not repeated; a changed log or solver makes
another run. A run first writes its results (``outcomes.npz``, ``computed.json``), then its figures,
its configuration and its tracker's data. At the end ``computed.json`` is renamed, atomically, to
``metrics.json``, which marks the run as finished.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from shutil import rmtree
from typing import Any

import numpy as np

from routing_pomdp.envs.files.atomic import write_bytes, write_text
from routing_pomdp.evaluation.frontier_outcomes import FrontierOutcomes
from routing_pomdp.evaluation.guarantee import Calibration
from routing_pomdp.evaluation.policies.policy_map import PolicyMap
from routing_pomdp.evaluation.runs.report import Report

FORMAT = 2  # of metrics.json; CHANGELOG.md states the policy
_METRICS, _COMPUTED = "metrics.json", "computed.json"
_OUTCOMES, _MAPS, CHECKPOINTS = "outcomes.npz", "policy_map", "checkpoints"
_ARRAYS = ("score", "cost", "model_score", "model_cost", "oracle_score", "oracle_cost")
_CALIBRATION = "calibration"
_CALIBRATION_ARRAYS = ("score", "cost", "reference_score", "reference_cost", "order", "group")
# Keys that a comparison needs.
_ABOUT = {"solver", "dataset", "costs", "seed", "queries", "finished", "config"}


class DamagedRunError(ValueError):
    """Raised where a run's files have changed since they were written; names the folder."""


@dataclass(frozen=True, eq=False)
class Run:
    """A run on disk.

    Attributes:
        folder: its folder.
        about: solver, data set, costs, seed, commit, times.
        measures: see `Report`.
        intervals: see `Report`.
        points: see `Report`.
        models: see `Report`.
        chosen: see `Report`.
        guarantee: see `Report`; None if none was asked for.
        beliefs: ``rows`` and ``diagrams`` of `BeliefQuality`; None without a belief.
        training: rows of a learner's training curve.
        files: names of its figures and configuration.
        tracked: whether a tracker has it.
        arrays: content of ``outcomes.npz``.
    """

    folder: Path
    about: dict[str, Any]
    measures: dict[str, Any]
    intervals: dict[str, Any]
    points: list[dict[str, Any]]
    models: list[dict[str, Any]]
    chosen: list[dict[str, Any]] = field(default_factory=list)
    guarantee: dict[str, Any] | None = None
    beliefs: dict[str, Any] | None = None
    training: list[dict[str, Any]] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    tracked: bool = False
    arrays: bytes = field(default=b"", repr=False)

    def missing(self) -> list[str]:
        """The files of a finished run that this folder lacks."""
        names = (*self.files, _METRICS)
        return [name for name in names if not (self.folder / name).is_file()]

    @property
    def drawn(self) -> bool:
        """Whether its figures are among its files."""
        return any(name.endswith(".png") for name in self.files)

    def outcomes(self) -> FrontierOutcomes:
        """Its outcomes of each query of the test split."""
        with np.load(io.BytesIO(self.arrays), allow_pickle=False) as arrays:
            return FrontierOutcomes(**{name: arrays[name] for name in _ARRAYS})

    def calibration(self) -> Calibration | None:
        """What its guarantee was found on; None in runs without one."""
        if self.guarantee is None:
            return None
        with np.load(io.BytesIO(self.arrays), allow_pickle=False) as arrays:
            found = {key: arrays.get(f"{_CALIBRATION}_{key}") for key in _CALIBRATION_ARRAYS}
        return Calibration(**(found | {"order": found["order"].tolist()}))

    def maps(self) -> list[PolicyMap]:
        """Its policy maps on the test split, one per price; empty in runs without them."""
        with np.load(io.BytesIO(self.arrays), allow_pickle=False) as arrays:
            return [PolicyMap(count) for count in arrays.get(_MAPS, ())]


def keep(
    folder: Path,
    about: Mapping[str, Any],
    report: Report,
    training: Sequence[Mapping[str, Any]] = (),
) -> Run:
    """Writes the results of a run, without marking it as finished."""
    folder.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, Any] = {name: getattr(report.test, name) for name in _ARRAYS}
    if report.calibration is not None:
        for name in _CALIBRATION_ARRAYS:
            if (values := getattr(report.calibration, name)) is not None:
                arrays[f"{_CALIBRATION}_{name}"] = np.asarray(values)
    packed = io.BytesIO()
    np.savez_compressed(packed, **(arrays | {_MAPS: report.maps}))
    write_bytes(folder / _OUTCOMES, packed.getvalue())
    beliefs = None
    if report.beliefs is not None:
        beliefs = {"rows": report.beliefs.rows, "diagrams": report.beliefs.diagrams}
    computed = Run(
        folder,
        about=dict(about),
        measures=report.measures,
        intervals=report.intervals,
        points=report.points,
        models=report.models,
        chosen=report.chosen,
        guarantee=report.guarantee,
        beliefs=beliefs,
        training=[dict(row) for row in training],
        arrays=packed.getvalue(),
    )
    _write(computed)
    kept = _read(folder, _COMPUTED)
    assert kept is not None
    return kept


def finish(run: Run, files: Sequence[str] = (), tracked: bool = False) -> Run:
    """Marks a run as finished; this is its last step.

    Args:
        run: the computed run.
        files: names of its figures and configuration.
        tracked: whether a tracker has it.
    """
    finished = replace(run, files=list(files), tracked=tracked)
    _write(finished)
    (run.folder / _COMPUTED).replace(run.folder / _METRICS)
    return finished


def save(folder: Path, about: Mapping[str, Any], report: Report) -> Run:
    """Writes a finished run without figures."""
    return finish(keep(folder, about, report))


def load(folder: Path) -> Run | None:
    """The finished run in ``folder``, or None if there is none.

    Raises:
        DamagedRunError: its files have changed since they were written.
    """
    return _read(folder, _METRICS)


def computed(folder: Path) -> Run | None:
    """The computed but unfinished run in ``folder``, or None if there is none.

    Raises:
        DamagedRunError: its files have changed since they were written.
    """
    return _read(folder, _COMPUTED)


def discard(folder: Path) -> None:
    """Deletes a run's results and checkpoints, the mark of a finished run first."""
    for name in (_METRICS, _COMPUTED):
        (folder / name).unlink(missing_ok=True)
    rmtree(folder / CHECKPOINTS, ignore_errors=True)


def read_sweep(sweep: Path) -> tuple[list[Run], list[str]]:
    """The finished runs below a folder that can be compared, and messages on those left out.

    Runs have a stable order. Of runs that differ only in code or data the newest counts. A run is
    left out if later runs read another state of its log, or of a file such as a price table.

    Raises:
        ValueError: there is no such folder, or no finished run in it.
    """
    if not sweep.is_dir():
        raise ValueError(f"{sweep} is no folder: expected the folder of a sweep")
    found, left_out = [], []
    # os.walk ignores folders that vanish meanwhile.
    for parent, folders, files in os.walk(sweep):
        if _METRICS in files:
            folders.clear()
            try:
                found.append(load(Path(parent)))
            except (DamagedRunError, OSError) as error:
                left_out.append(str(error))
    runs = sorted((run for run in found if run), key=lambda run: str(run.about["finished"]))
    newest = {_text(run.about["config"]): run for run in runs}
    logs = {_log(run): run.about.get("data") for run in runs}
    latest = {path: state for run in runs for path, state in _files(run).items()}
    current = []
    for run in newest.values():
        stale = ["its log"] if run.about.get("data") != logs[_log(run)] else []
        stale += [path for path, state in _files(run).items() if latest[path] != state]
        if not stale:
            current.append(run)
        else:
            left_out.append(
                f"{run.folder}: later runs read another state of {stale[0]}: run it again"
            )
    if not current:
        why = "\n".join(left_out) or f"none of its folders has a {_METRICS}"
        raise ValueError(f"{sweep} holds no finished run: {why}")
    return sorted(current, key=lambda run: run.folder.name), sorted(left_out)


def load_all(sweep: Path) -> list[Run]:
    """The runs of `read_sweep`."""
    return read_sweep(sweep)[0]


def _log(run: Run) -> str:
    return _text(run.about["config"].get("rollouts"))


def _files(run: Run) -> dict[str, str]:
    return dict(run.about.get("files") or {})


def _text(config: Any) -> str:
    return json.dumps(config, sort_keys=True)


# The content of the JSON file.
_CONTENT = [item.name for item in fields(Run) if item.name not in ("folder", "arrays")]


def _write(run: Run) -> None:
    content = {"format": FORMAT} | {name: getattr(run, name) for name in _CONTENT}
    content["outcomes"] = hashlib.sha256(run.arrays).hexdigest()
    for name in ("guarantee", "beliefs"):
        if content[name] is None:
            del content[name]
    write_text(run.folder / _COMPUTED, json.dumps(content, indent=2, allow_nan=False) + "\n")


def _read(folder: Path, name: str) -> Run | None:
    path = folder / name
    while (text := _bytes(path)) is not None:
        try:
            return _parsed(folder, json.loads(text))
        except Exception as error:  # any error means damaged files
            if _bytes(path) == text:  # otherwise it was replaced between two reads
                raise DamagedRunError(
                    f"{path} is no finished run's metrics ({error or type(error).__name__}): the "
                    "same command repeats the run"
                ) from error
    return None


def _parsed(folder: Path, content: Any) -> Run:
    if content.pop("format", FORMAT) != FORMAT:
        raise ValueError(f"another format than {FORMAT}, which this version reads")
    outcomes = content.pop("outcomes", None)
    arrays = (folder / _OUTCOMES).read_bytes()
    if outcomes not in (None, hashlib.sha256(arrays).hexdigest()):
        raise ValueError(f"{_OUTCOMES} is not what was written with it")
    run = Run(folder=folder, **content, arrays=arrays)
    for part in (run.about, run.measures, run.intervals):
        if not isinstance(part, dict):
            raise ValueError(f"found {str(part)[:40]!r} in place of a mapping")
    if missing := _ABOUT - set(run.about):
        raise ValueError(f"about lacks {sorted(missing)}")
    run.outcomes(), run.maps(), run.calibration()
    return run


def _bytes(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def git_commit() -> str | None:
    """The commit of this checkout, marked if files have changed since; None outside one."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():  # installed: a repository in a parent folder is not ours
        return None
    try:
        commit, status = (
            subprocess.run(
                ["git", "-C", str(root), *arguments],
                capture_output=True,
                text=True,
                check=True,
                timeout=10,
            ).stdout.strip()
            for arguments in (["rev-parse", "HEAD"], ["status", "--porcelain"])
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return f"{commit}+changes" if status else commit
