"""Kills real collections at random moments, and counts what was repeated, lost and overspent.

    python -m tests.trials.kill_collections --kills 30

A collection by ``scripts/collect.py`` with a budget that it cannot keep to runs against the
loopback server, which lives on and counts for itself. It is killed (``kill -9``) at random moments
and given again, until it was killed so often; then it runs until its budget is spent, and with a
larger one to its end. The exit status is 0 if nothing that was finished was repeated, nothing that
was paid for was lost, and no budget was exceeded.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.support.collecting import PRICES, lines, sums, write_questions
from tests.support.loopback import Loopback

ROOT = Path(__file__).parents[2]
FAULTS = {"truncated": 0.01, "rate_limit": 0.01, "no_usage": 0.01, "reset_after": 0.01}
MODELS = ("small", "medium", "large")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--questions", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, Loopback(FAULTS, latency=0.03) as server:
        trial = Trial(Path(folder), server, arguments.questions, random.Random(arguments.seed))
        sys.exit(trial.run(arguments.kills))


class Trial:
    """One folder that is collected into again and again."""

    def __init__(self, folder: Path, server: Loopback, questions: int, rng: random.Random) -> None:
        self.out, self.server, self.rng = folder / "out", server, rng
        write_questions(folder / "questions.jsonl", sums(questions))
        entries = [
            {
                "name": name,
                "base_url": server.url,
                "price": {"in": PRICES[name].tokens_in, "out": PRICES[name].tokens_out},
                "max_tokens": 16,
                "concurrency": 4,
                "attempts": 20,
            }
            for name in MODELS
        ]
        (folder / "models.yaml").write_text(json.dumps(entries))
        self.given = [sys.executable, str(ROOT / "scripts" / "collect.py"), "scoring=number"]
        self.given += [f"questions={folder}/questions.jsonl", f"models={folder}/models.yaml"]
        self.given += [f"out={self.out}", "progress=false", "++verifiers.votes.samples=2"]
        self.given += ["++verifiers.votes._target_=tests.support.collecting.Votes"]
        self.calls = questions * (len(MODELS) + 2 * (len(MODELS) - 1))
        self.overspent, self.exhausted = 0.0, ""

    def run(self, kills: int) -> int:
        self.kills = kills
        budget = 0.3 * self.whole_cost()
        killed = torn = under_way = repeated = 0
        while killed < kills:
            before = self.finished()
            delivered = self.server.seen.delivered
            if not self.start_and_kill(budget):
                self.exhausted = f"${self.charged():.4f} of ${budget:.4f}"
                budget *= 1.25  # it ended by itself: the budget was spent
                continue
            killed += 1
            torn += not self.text().endswith(b"\n")
            after = self.finished()
            repeated += len(before - after)
            under_way += self.server.seen.delivered - delivered - (len(after) - len(before))
            print(f"kill {killed}: {len(after):,} of {self.calls:,} calls finished", flush=True)
        for further in (1.0, 10.0):
            status = self.finish(budget := budget * further)
            if status == 3:
                self.exhausted = f"${self.charged():.4f} of ${budget:.4f}"
        found = Counter(map(key, lines(self.out)))
        repeated += sum(found.values()) - len(found)
        lost = len(lines(self.out, "lost"))
        paid_and_lost = max(0, self.server.seen.delivered - len(found) - lost)
        complete = status == 0 and len(found) == self.calls
        rows = {
            "kills": f"{killed:,}",
            "of them in the middle of a line": f"{torn:,}",
            "calls that the server answered": f"{self.server.seen.delivered:,}",
            "of them in the log": f"{len(found):,} of {self.calls:,}",
            "answered while a kill came, not in the log": f"{under_way:,}",
            "counted as perhaps paid for": f"{lost:,}",
            "finished calls that were repeated": f"{repeated:,}",
            "paid calls that nothing knows of": f"{paid_and_lost:,}",
            "charged by the server's own count": f"${self.charged():.4f}",
            "spent or perhaps spent, as the collection has it": f"${self.known():.4f}",
            "charged when the budget did not allow more": self.exhausted or "never",
            "budget at the end": f"${budget:.4f}",
            "most by which a budget was exceeded": f"${max(0.0, self.overspent):.4f}",
        }
        width = max(map(len, rows))
        print("\n".join(f"{name:{width}}  {value:>20}" for name, value in rows.items()))
        return 0 if complete and not repeated and not paid_and_lost and self.overspent <= 0 else 1

    def start_and_kill(self, budget: float) -> bool:
        """Whether a run was killed before it ended."""
        lines_then = self.text().count(b"\n") + self.rng.randrange(2 * self.calls // self.kills)
        process = self.start(budget)
        while self.text().count(b"\n") <= lines_then and process.poll() is None:
            time.sleep(0.005)
        time.sleep(self.rng.uniform(0, 0.05))
        process.send_signal(signal.SIGKILL)
        status = process.wait()
        time.sleep(0.1)  # the server makes what it was asked for
        self.check(budget)
        return status == -signal.SIGKILL

    def finish(self, budget: float) -> int:
        status = self.start(budget).wait()
        self.check(budget)
        return status

    def start(self, budget: float) -> subprocess.Popen[bytes]:
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        given = [*self.given, f"budget.usd={budget}"]
        return subprocess.Popen(given, env=environment, stdout=subprocess.DEVNULL)

    def check(self, budget: float) -> None:
        self.overspent = max(self.overspent, self.charged() - budget * (1 + 1e-9))

    def charged(self) -> float:
        """USD, as the server counts."""
        charged = dict(self.server.seen.charged)
        return sum(
            tokens * (PRICES[model].tokens_in if way == "in" else PRICES[model].tokens_out) / 1e6
            for (model, way), tokens in charged.items()
        )

    def whole_cost(self) -> float:
        """About what the collection costs, in USD."""
        words = 25
        each = sum((PRICES[name].of(words, 3)) for name in MODELS)
        return each * self.calls / len(MODELS)

    def text(self) -> bytes:
        log = self.out / "log.jsonl"
        return log.read_bytes() if log.exists() else b""

    def finished(self) -> set[tuple[object, ...]]:
        """Calls that stand in whole lines of the log."""
        whole = self.text()
        records = map(json.loads, whole[: whole.rfind(b"\n") + 1].splitlines())
        return {key(record) for record in records if "text" in record}

    def known(self) -> float:
        """USD that the collection takes for spent, or perhaps spent."""
        spent = json.loads((self.out / "manifest.json").read_text())["runs"][-1]["spent"]
        sums = re.findall(r"\$([\d.]+)", spent)
        return float(sums[0]) + (float(sums[2]) if len(sums) > 2 else 0.0)


def key(record: dict[str, object]) -> tuple[object, ...]:
    return tuple(record[name] for name in ("query", "model", "purpose", "sample", "request"))


if __name__ == "__main__":
    main()
