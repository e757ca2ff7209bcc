"""Kills real sweeps at random moments, and counts what came of it.

    python -m tests.trials.kill_sweeps --kills 30

A small sweep (embedded profile, fast solvers, W&B offline) is run undisturbed first. Then it is
started again and again, and its process group killed with SIGKILL, until it is complete; and anew
in another folder, until there were enough kills. Some attempts are two processes at once; every
second sweep starts as ``force=true`` on a finished one. ``compare.py`` runs after every attempt,
while the next one is under way.
"""

from __future__ import annotations

import argparse
import os
import random
import runpy
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch  # noqa: F401
import wandb  # noqa: F401
from tabulate import tabulate

# Imported for the processes that are forked from this one.
import routing_pomdp.evaluation.runs.solver_run
import routing_pomdp.evaluation.sweeps.sweep_report  # noqa: F401
from routing_pomdp.evaluation.runs.run_folder import DamagedRunError, Run, load
from tests.support.tracked_runs import read

ROOT = Path(__file__).parents[2]
SWEEP = [
    "-m",
    "solver=static,threshold",
    "costs.ratio=10,50",
    "rollouts.queries={train: 150, validation: 80, test: 150}",
    "evaluation.prices=[0, 0.1, 1]",
    "evaluation.resamples=50",
    "tracker=wandb",
    "hydra/launcher=basic",
]
RUNS = 4
FILES = (
    "config.yaml",
    *(f"{name}.{k}" for name in ("frontier", "policies") for k in ("png", "svg")),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--out", type=Path, help="a folder to keep (default: a temporary one)")
    arguments = parser.parse_args()
    if arguments.out:
        trial(arguments.out, arguments.kills, arguments.seed)
        return
    with tempfile.TemporaryDirectory() as folder:
        trial(Path(folder), arguments.kills, arguments.seed)


def trial(out: Path, kills: int, seed: int) -> None:
    rng, count = random.Random(seed), Counter[str]()
    started = time.monotonic()
    (undisturbed,) = start(out, "undisturbed")
    if undisturbed.wait():
        sys.exit(f"the sweep failed, see {out}/undisturbed.log")
    whole = time.monotonic() - started
    expected = {path.name: loaded(path) for path in runs_of(out / "undisturbed")}
    assert len(expected) == RUNS, sorted(expected)
    sweeps: list[str] = []
    comparing: Forked | None = None
    while count["kills"] < kills:
        sweeps.append(f"sweep{len(sweeps)}")
        folder = out / sweeps[-1]
        forced = len(sweeps) % 2 == 0
        if forced:
            shutil.copytree(out / "undisturbed", folder, symlinks=True)
        complete = False
        while not complete:
            twins = 1 + (rng.random() < 0.2)
            before = {} if forced else finished(folder)
            processes = start(out, folder.name, twins, *["force=true"] * forced)
            # Enough kills: what is left may run to its end.
            patience = 600.0 if count["kills"] >= kills else rng.uniform(0.05, 0.8) * whole
            complete = ended(processes, patience)
            count["comparisons that failed"] += comparing is not None and comparing.wait() != 0
            comparing = None
            if not complete:
                count["kills"] += 1
                count["kills of two at once"] += twins == 2
                count["kills of force=true"] += forced
            after = finished(folder)
            count["finished and repeated"] += sum(after.get(k) != v for k, v in before.items())
            count["damaged after a kill"] += sum(loaded(path) is None for path in runs_of(folder))
            if after:
                count["comparisons"] += 1
                comparing = Forked(out / "compare.log", "compare.py", str(folder))
            if forced and not complete:
                forced = False
            print(f"{count['kills']} kills, {folder.name}: {len(after)} finished", flush=True)
    count["comparisons that failed"] += comparing is not None and comparing.wait() != 0
    for name in sweeps:
        audit(out / name, expected, count)
    print(tabulate([(key, count[key]) for key in LINES], disable_numparse=True))
    print(f"{len(sweeps)} sweeps of {RUNS} runs, {time.monotonic() - started:.0f} s")


LINES = (
    "kills",
    "kills of two at once",
    "kills of force=true",
    "runs finished",
    "runs not finished",
    "finished and repeated",
    "damaged after a kill",
    "damaged at the end",
    "comparisons",
    "comparisons that failed",
    "without a figure or config.yaml",
    "without W&B frontier and summary",
    "with leftovers of a kill",
    "of other numbers than undisturbed",
)


class Forked:
    """A script in a process of its own, the head of a group; it has all imported already, so that
    kills fall into its work."""

    def __init__(self, log: Path, script: str, *arguments: str) -> None:
        self.code: int | None = None
        self.pid = os.fork()
        if self.pid == 0:
            code = 1
            try:
                os.setsid()
                with log.open("ab") as file:
                    for stream in (1, 2):
                        os.dup2(file.fileno(), stream)
                sys.argv = [str(ROOT / "scripts" / script), *arguments]
                runpy.run_path(sys.argv[0], run_name="__main__")
                code = 0
            except SystemExit as end:
                if isinstance(end.code, str):
                    print(end.code, file=sys.stderr)
                code = end.code if isinstance(end.code, int) else int(end.code is not None)
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)

    def poll(self, flags: int = os.WNOHANG) -> int | None:
        if self.code is None:
            pid, status = os.waitpid(self.pid, flags)
            self.code = os.waitstatus_to_exitcode(status) if pid else None
        return self.code

    def wait(self) -> int:
        return self.poll(0) or 0

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.wait()


def start(out: Path, sweep: str, copies: int = 1, *more: str) -> list[Forked]:
    """So many processes of the same sweep."""
    out.mkdir(parents=True, exist_ok=True)
    arguments = [*SWEEP, *more, f"out={out}", f"sweep={sweep}"]
    return [Forked(out / f"{sweep}.log", "train.py", *arguments) for _ in range(copies)]


def ended(processes: list[Forked], patience: float) -> bool:
    """Whether all end well in time; if they do not end, their groups are killed."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        codes = [process.poll() for process in processes]
        if None not in codes:
            return not any(codes)
        time.sleep(0.005)
    for process in processes:
        process.kill()
    return False


def runs_of(sweep: Path) -> list[Path]:
    return sorted(path.parent for path in sweep.glob("*/metrics.json"))


def finished(sweep: Path) -> dict[Path, int]:
    return {path: (path / "metrics.json").stat().st_mtime_ns for path in runs_of(sweep)}


def loaded(folder: Path) -> Run | None:
    try:
        return load(folder)
    except DamagedRunError:
        return None


def audit(sweep: Path, expected: dict[str, Run | None], count: Counter[str]) -> None:
    """Counts what is missing in a sweep that was made up."""
    for name, right in expected.items():
        folder = sweep / name
        run = loaded(folder)
        if run is None or right is None:
            there = (folder / "metrics.json").exists()
            count["damaged at the end" if there else "runs not finished"] += 1
            continue
        count["runs finished"] += 1
        count["without a figure or config.yaml"] += any(
            not (folder / file).is_file() or not (folder / file).stat().st_size for file in FILES
        )
        count["without W&B frontier and summary"] += not any(
            tracked(log, run) for log in sorted(folder.glob("wandb/offline-run-*"), reverse=True)
        )
        left = [*folder.rglob(".part-*"), folder / ".lock", folder / "computed.json"]
        count["with leftovers of a kill"] += any(path.exists() for path in left)
        same = all(
            getattr(run, part) == getattr(right, part)
            for part in ("measures", "intervals", "points", "models", "chosen")
        )
        ours, theirs = vars(run.outcomes()), vars(right.outcomes())
        same &= all(np.array_equal(ours[key], theirs[key]) for key in theirs)
        count["of other numbers than undisturbed"] += not same


def tracked(log: Path, run: Run) -> bool:
    """Whether a W&B run is complete: every measure, every point, and a good end."""
    try:
        found = read(log)
    except subprocess.CalledProcessError:
        return False  # the log of a killed attempt
    summary: dict[str, object] = {}
    for record in found:
        if record["type"] == "summary":
            summary |= record["summary"]["update"]
    rows = [r for r in found if r["type"] == "history" and "frontier/cost" in r["history"]["item"]]
    ends = [record["exit"]["exit_code"] for record in found if record["type"] == "exit"]
    defined = {key for key, value in run.measures.items() if value is not None}
    return ends == [0] and len(rows) == len(run.points) and defined <= set(summary)


if __name__ == "__main__":
    main()
