"""Run folders: what a run leaves on disk, and how a sweep knows that it is finished already.

A run's folder is named by what was run: a readable prefix and a **fingerprint** of all that it
reads. The same run asked for again is found, not repeated; a changed log or solver makes another
run. What it computed is kept first (``outcomes.npz``, ``computed.json``); then come its figures,
its configuration and its tracker; and last, at one stroke, ``computed.json`` becomes
``metrics.json``: where that stands, the run is finished.
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
# What a comparison asks of every run.
_ABOUT = {"solver", "dataset", "costs", "seed", "queries", "finished", "config"}


class DamagedRunError(ValueError):
    """A run whose files are not as they were written; the message names its folder."""


@dataclass(frozen=True, eq=False)
class Run:
    """A run as it stands on disk.

    Attributes:
        folder: where it is.
        about: what was run: solver, data set, costs, seed, commit, times.
        measures: as in `Report`.
        intervals: as in `Report`.
        points: as in `Report`.
        models: as in `Report`.
        chosen: as in `Report`.
        guarantee: as in `Report`; None where none was asked for.
        beliefs: ``rows`` and ``diagrams`` as in `BeliefQuality`; None where none were judged.
        training: rows of the training curve, of learners.
        files: what it left beside its numbers: figures and configuration, by name.
        tracked: whether a tracker has it.
        arrays: ``outcomes.npz``, read together with the rest.
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
        """What a finished run has in its folder, and this one has not."""
        names = (*self.files, _METRICS)
        return [name for name in names if not (self.folder / name).is_file()]

    def outcomes(self) -> FrontierOutcomes:
        """Its outcomes query by query on the test split."""
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
        """What its policies did on the test split, one map a price; none in runs without them."""
        with np.load(io.BytesIO(self.arrays), allow_pickle=False) as arrays:
            return [PolicyMap(count) for count in arrays.get(_MAPS, ())]


def keep(
    folder: Path,
    about: Mapping[str, Any],
    report: Report,
    training: Sequence[Mapping[str, Any]] = (),
) -> Run:
    """Writes what a run computed; it is not finished by that, but need not be computed again."""
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
    """Marks a run as finished, once all else is done.

    Args:
        run: as computed.
        files: names of what stands beside its numbers.
        tracked: whether a tracker has it.
    """
    finished = replace(run, files=list(files), tracked=tracked)
    _write(finished)
    (run.folder / _COMPUTED).replace(run.folder / _METRICS)
    return finished


def save(folder: Path, about: Mapping[str, Any], report: Report) -> Run:
    """Writes a finished run of numbers alone; ``metrics.json`` last."""
    return finish(keep(folder, about, report))


def load(folder: Path) -> Run | None:
    """The finished run in ``folder``, or None if there is none.

    Raises:
        DamagedRunError: its files are not as they were written.
    """
    return _read(folder, _METRICS)


def computed(folder: Path) -> Run | None:
    """The run in ``folder`` that is computed and not finished, or None if there is none.

    Raises:
        DamagedRunError: its files are not as they were written.
    """
    return _read(folder, _COMPUTED)


def discard(folder: Path) -> None:
    """Takes a run's numbers and checkpoints away, so that it is run anew; the mark goes first."""
    for name in (_METRICS, _COMPUTED):
        (folder / name).unlink(missing_ok=True)
    rmtree(folder / CHECKPOINTS, ignore_errors=True)


def read_sweep(sweep: Path) -> tuple[list[Run], list[str]]:
    """Every finished run below a folder that can be compared, and what was left out, and why.

    Runs come in a stable order; of runs that differ in code or data alone the newest counts. A run
    on an earlier state of a log, or of a file such as a price table, than others is left out.

    Raises:
        ValueError: there is no such folder, or no finished run in it.
    """
    if not sweep.is_dir():
        raise ValueError(f"{sweep} is no folder: expected the folder of a sweep")
    found, left_out = [], []
    # A walk that does not mind folders which vanish meanwhile.
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


# What stands in the JSON file.
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
        except Exception as error:  # whatever is wrong with these files, they are damaged
            if _bytes(path) == text:  # else it was replaced between two reads
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
    if not (root / ".git").exists():  # installed: a repository further up is another one
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
