"""Tries bad inputs on every command and prints what was answered.

    python -m tests.trials.bad_inputs [--only TEXT] [--show]

Each case is a command line in a folder of small files, and what is right: an error (exit status 1
or 2, at most four lines that match a pattern, no traceback, nothing written), or success with
output that matches. Commands run in forks of a process that has loaded the packages already.
"""

from __future__ import annotations

import argparse
import os
import re
import runpy
import shlex
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from tests.trials.bad_files import write_files
from tests.trials.bad_lines import CASES

ROOT = Path(__file__).parents[2]
SECONDS = 60  # a command that takes longer has not answered
MOST_LINES = 4


@dataclass(frozen=True)
class Answer:
    """What a command did.

    Attributes:
        status: its exit status; None if it was killed for taking too long.
        output: both streams.
        seconds: how long it took.
        written: files that are there now, and were not.
    """

    status: int | None
    output: str
    seconds: float
    written: tuple[str, ...]

    def fault(self, expected: str) -> str | None:
        """Why it is not right; None if it is."""
        kind, pattern = expected[:1], expected[2:]
        if self.status is None:
            return f"no answer in {SECONDS} s"
        if "Traceback (most recent call last)" in self.output:
            return "a traceback"
        if "SECRETSECRET" in self.output:
            return "shows a key"
        if any(name.endswith("/ran") for name in self.written):
            return "ran code from a file"
        if not re.search(pattern, self.output, re.DOTALL):
            return f"does not say {pattern!r}"
        if kind == "K":
            return None if self.status == 0 else f"exit status {self.status}"
        if self.status not in (1, 2):
            return f"exit status {self.status}"
        lines = [line for line in self.output.splitlines() if line.strip()]
        usage = lines and lines[0].startswith("usage:")
        if len(lines) > MOST_LINES and not usage:
            return f"{len(lines)} lines"
        if (longest := max((len(line) for line in lines), default=0)) > 1500:
            return f"a line of {longest} characters"
        results = [name for name in self.written if re.search(r"metrics\.json|\.npz|\.png", name)]
        return f"wrote {results[0]}" if results else None


def tried(line: str, files: Path) -> Answer:
    """Runs one command line in a copy of ``files``."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "here"
        shutil.copytree(files, folder)
        before = set(folder.rglob("*"))
        heard = Path(scratch) / "heard"
        started = time.monotonic()
        child = os.fork()
        if not child:
            _become(line, folder, heard)
        status = _waited(child, started)
        written = tuple(sorted(str(path) for path in set(folder.rglob("*")) - before))
        return Answer(
            status, heard.read_text(errors="replace"), time.monotonic() - started, written
        )


def _become(line: str, folder: Path, heard: Path) -> None:
    status = 70
    try:
        os.setsid()
        os.chdir(folder)
        with heard.open("w") as stream:
            os.dup2(stream.fileno(), 1)
            os.dup2(stream.fileno(), 2)
        script, *arguments = shlex.split(line)
        sys.argv = [str(ROOT / "scripts" / f"{script}.py"), *arguments]
        sys.path[0] = str(ROOT / "scripts")
        sys.path.append(str(folder))  # where plug-ins are
        sys.stdin = open(os.devnull)  # noqa: SIM115
        runpy.run_path(sys.argv[0], run_name="__main__")
        status = 0
    except SystemExit as stop:
        if isinstance(stop.code, str):
            print(stop.code, file=sys.stderr)
        status = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _waited(child: int, started: float) -> int | None:
    while time.monotonic() - started < SECONDS:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="cases whose command line has this text")
    parser.add_argument("--show", action="store_true", help="print every answer")
    arguments = parser.parse_args()
    # What every command loads; forks share it.
    for module in (
        "hydra",
        "solvers",
        "routing_pomdp.evaluation.runs.report",
        "routing_pomdp.verifiers.collection",
        "joblib",
    ):
        __import__(module)
    counts: Counter[tuple[str, bool]] = Counter()
    with tempfile.TemporaryDirectory() as scratch:
        files = Path(scratch)
        write_files(files)
        for group, line, expected in CASES:
            if arguments.only not in f"{group} {line}":
                continue
            answer = tried(line, files)
            fault = answer.fault(expected)
            counts[group, fault is None] += 1
            if fault or arguments.show:
                print(f"{'WRONG' if fault else 'right'} {group}: {line}\n    {fault or ''}")
                print("    " + answer.output.strip()[-900:].replace("\n", "\n    "), flush=True)
    print(f"\n{'group':<16} tried  right")
    for group in dict.fromkeys(group for group, _ in counts):
        right, wrong = counts[group, True], counts[group, False]
        print(f"{group:<16} {right + wrong:5}  {right:5}")
    right = sum(n for (_, fine), n in counts.items() if fine)
    total = sum(counts.values())
    print(f"{'all':<16} {total:5}  {right:5}  ({right / max(total, 1):.1%})")


if __name__ == "__main__":
    main()
