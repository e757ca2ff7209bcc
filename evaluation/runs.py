"""Run folders: what a run leaves on disk, and how a sweep knows that it is finished already.

A run's folder is named by what was run: a readable prefix and a **fingerprint** of its
configuration, its data and the code. The same run asked for again is found, not repeated; a
changed log or solver makes another run. ``metrics.json`` is written last and at one stroke: where
it stands, the run is finished.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from envs import Rollouts
from evaluation.families import FamilyOutcomes
from evaluation.policy_map import PolicyMap
from evaluation.report import Report

_METRICS, _OUTCOMES, _MAPS = "metrics.json", "outcomes.npz", "policy_map"
_PACKAGES = ("envs", "solvers", "verifiers", "evaluation")
_ARRAYS = ("score", "cost", "model_score", "model_cost", "oracle_score", "oracle_cost")


@dataclass(frozen=True, eq=False)
class Run:
    """A finished run, read back.

    Attributes:
        folder: where it is.
        about: what was run: solver, data set, costs, seed, commit, times.
        measures: as in `Report`.
        intervals: as in `Report`.
        points: as in `Report`.
        models: as in `Report`.
        chosen: as in `Report`.
        beliefs: ``rows`` and ``diagrams`` as in `BeliefQuality`; None where none were judged.
    """

    folder: Path
    about: dict[str, Any]
    measures: dict[str, Any]
    intervals: dict[str, Any]
    points: list[dict[str, Any]]
    models: list[dict[str, Any]]
    chosen: list[dict[str, Any]] = field(default_factory=list)
    beliefs: dict[str, Any] | None = None

    def outcomes(self) -> FamilyOutcomes:
        """Its outcomes query by query on the test split."""
        with np.load(self.folder / _OUTCOMES, allow_pickle=False) as arrays:
            return FamilyOutcomes(**{name: arrays[name] for name in _ARRAYS})

    def maps(self) -> list[PolicyMap]:
        """What its policies did on the test split, one map a price; none in runs without them."""
        with np.load(self.folder / _OUTCOMES, allow_pickle=False) as arrays:
            return [PolicyMap(count) for count in arrays.get(_MAPS, ())]


def fingerprint(config: Mapping[str, Any], rollouts: Rollouts) -> str:
    """Eight hexadecimal digits that stand for configuration, data and code.

    Args:
        config: what changes the numbers, as plain containers; the source of every ``_target_`` in
            it counts as code.
        rollouts: the data as loaded.
    """
    digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode())
    for array in (rollouts.score, rollouts.cost, *rollouts.signals.values()):
        if array is not None:
            digest.update(np.ascontiguousarray(array).tobytes())
    digest.update("\n".join(map(str, rollouts.query_id)).encode())
    digest.update("\n".join(map(str, rollouts.split)).encode())
    for path in sorted(_code(config)):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:8]


def _code(config: Mapping[str, Any]) -> set[Path]:
    """The source files that a run's numbers depend on."""
    files: set[Path] = set()
    for package in _PACKAGES:
        root = importlib.import_module(package).__path__[0]
        files.update(Path(root).rglob("*.py"))
    for target in _targets(config):
        module = inspect.getmodule(_resolve(target))
        source = module and inspect.getsourcefile(module)
        if source:
            files.add(Path(source))
    return files


def _targets(node: Any) -> Iterator[str]:
    if isinstance(node, Mapping):
        for key, value in node.items():
            if key == "_target_":
                yield value
            else:
                yield from _targets(value)
    elif isinstance(node, list):
        for value in node:
            yield from _targets(value)


def _resolve(target: str) -> Any:
    module, _, name = target.rpartition(".")
    return getattr(importlib.import_module(module), name)


def save(folder: Path, about: Mapping[str, Any], report: Report) -> None:
    """Writes a finished run; ``metrics.json`` last."""
    folder.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, Any] = {name: getattr(report.test, name) for name in _ARRAYS}
    arrays[_MAPS] = report.maps
    np.savez_compressed(folder / _OUTCOMES, **arrays)
    metrics = {
        "about": dict(about),
        "measures": report.measures,
        "intervals": report.intervals,
        "points": report.points,
        "models": report.models,
        "chosen": report.chosen,
    }
    if report.beliefs is not None:
        metrics["beliefs"] = {"rows": report.beliefs.rows, "diagrams": report.beliefs.diagrams}
    partial = folder / f".{_METRICS}.{os.getpid()}"
    partial.write_text(json.dumps(metrics, indent=2, allow_nan=False) + "\n")
    partial.replace(folder / _METRICS)


def load(folder: Path) -> Run | None:
    """The finished run in ``folder``, or None if there is none.

    Raises:
        ValueError: its ``metrics.json`` is damaged.
    """
    path = folder / _METRICS
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text())
        return Run(folder=folder, **content)
    except (json.JSONDecodeError, TypeError) as error:
        raise ValueError(
            f"{path} is no finished run's metrics ({error}): delete its folder and run it again"
        ) from error


def load_all(sweep: Path) -> list[Run]:
    """Every finished run below a folder, in a stable order; of runs that differ in code alone
    the newest.

    Raises:
        ValueError: there is no such folder, or no finished run in it.
    """
    if not sweep.is_dir():
        raise ValueError(f"{sweep} is no folder: expected the folder of a sweep")
    newest: dict[str, Run] = {}
    runs = [load(path.parent) for path in sweep.rglob(_METRICS)]
    for run in sorted((run for run in runs if run), key=lambda run: run.about["finished"]):
        newest[json.dumps(run.about["config"], sort_keys=True)] = run
    if not newest:
        raise ValueError(f"{sweep} holds no finished run: none of its folders has a {_METRICS}")
    return sorted(newest.values(), key=lambda run: run.folder.name)


def git_commit() -> str | None:
    """The commit of this checkout, marked if files have changed since; None outside one."""
    root = Path(__file__).parents[1]
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
