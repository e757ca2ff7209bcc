"""Tracked runs for the tests: tracked in a process of its own, read back with W&B's own reader."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from routing_pomdp.evaluation.tracker import WandbTracker
from tests.support.checkout import environment

POINTS: list[dict[str, float | None]] = [
    {"price": 0.2, "cost": 1.5, "score": 0.5, "model_regret": None},
    {"price": 0.1, "cost": 2.0, "score": 0.6, "model_regret": float("nan")},
    {"price": 0.0, "cost": 2.5, "score": 0.75, "model_regret": 0.125},
]
CONFIG = {
    "solver": "exact",
    "costs": "50",
    "dataset": "mmlu",
    "verifier": "logged",
    "seed": 3,
    "commit": "0123abc",
    "config": {"client": {"api_key": "LEAKED", "model": "small"}},
}
ABOUT: dict[str, Any] = {"group": "first", "job_type": "exact", "config": CONFIG}


def python(
    code: str, home: Path, terminal: int | None = None, **changed: str
) -> subprocess.Popen[str]:
    """Runs code in a process that has an empty home folder, no account and, unless it is given
    one, no terminal.
    """
    home.mkdir(exist_ok=True)
    kept = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("WANDB_", "XDG_")) and key != "NETRC"
    }
    return subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=home.parent,
        env=kept | {"HOME": str(home), "PYTHONPATH": environment()["PYTHONPATH"]} | changed,
        stdin=terminal or subprocess.DEVNULL,
        stdout=terminal or subprocess.PIPE,
        stderr=terminal or subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def finished(process: subprocess.Popen[str]) -> tuple[str, str]:
    """Its output and errors, once it has ended well."""
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return out, err


def fail(tracked_by: WandbTracker, folder: Path) -> None:
    with tracked_by.run(folder=folder, name="failed", **ABOUT) as run:
        run.log("train", {"step": 0, "loss": 1.0})
        raise KeyError("mine")


@functools.cache
def read(run: Path) -> list[dict[str, Any]]:
    """All that W&B's own reader finds in an offline run."""
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(run)]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return [json.loads(line) for line in printed.splitlines()]


def records(folder: Path, kind: str) -> list[dict[str, Any]]:
    """Those of a kind in the one offline run below a run's folder."""
    (run,) = (folder / "wandb").glob("offline-run-*")
    return [record[kind] for record in read(run) if record["type"] == kind]


def history(folder: Path, curve: str) -> list[dict[str, Any]]:
    """The rows of a curve, without its prefix and W&B's own fields."""
    rows = [
        {
            key.removeprefix(f"{curve}/"): value
            for key, value in record["item"].items()
            if key.startswith(f"{curve}/")
        }
        for record in records(folder, "history")
    ]
    return [row for row in rows if row]


def summary(folder: Path) -> dict[str, Any]:
    """The summary that all updates together make."""
    found: dict[str, Any] = {}
    for record in records(folder, "summary"):
        found |= record["update"]
    return found


def kept(folder: Path, kind: str) -> dict[str, Any]:
    """The one artifact of a kind."""
    (found,) = (artifact for artifact in records(folder, "artifact") if artifact["type"] == kind)
    return found


def exit_code(folder: Path) -> int:
    (code,) = exit_codes(folder)
    return code


def exit_codes(folder: Path) -> list[int]:
    """Of every time that a run was tracked, in order."""
    runs = sorted((folder / "wandb").glob("offline-run-*"))
    return [r["exit"]["exit_code"] for run in runs for r in read(run) if r["type"] == "exit"]
