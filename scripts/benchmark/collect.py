"""Throughput and memory of the collector, with a local server in another process."""

from __future__ import annotations

import asyncio
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from routing_pomdp.verifiers import LiveVerifier
from routing_pomdp.verifiers.collection import ModelSpec, Plan, Price, Question, collect
from routing_pomdp.verifiers.live import Case, Query

ROOT = Path(__file__).parents[2]
CONCURRENCY = 64
_SAMPLES = 3


def throughput(calls: int = 20_000, bare: int = 2000) -> Iterator[tuple[str, ...]]:
    """Calls per second and resident memory, compared with the openai client in a plain gather."""
    with server() as url:
        peer, peer_cpu = asyncio.run(plain_gather(url, bare))
        with tempfile.TemporaryDirectory() as folder:
            plan = a_plan(url, calls)
            with memory(Path(folder) / "log.jsonl") as samples:
                cpu, started = cpu_seconds(), time.perf_counter()
                done = collect(plan, Path(folder), progress=False)
                seconds, cpu = time.perf_counter() - started, cpu_seconds() - cpu
            made = done.ledger.made
            again = time.perf_counter()
            collect(plan, Path(folder), progress=False)
            again = time.perf_counter() - again
    rate = made / seconds
    yield (
        f"collect {made:,} calls, {CONCURRENCY} at once",
        f"{rate:.0f} calls/s ({cpu / made * 1e3:.2f} ms CPU per call)",
        "≥ 200",
        f"openai's client: {peer:.0f} calls/s ({peer_cpu * 1e3:.2f} ms CPU)",
        f"{rate / peer:.1f}×",
    )
    size = samples[-1][0]
    quarter = next(held for written, held in samples if written >= size / 4)
    last = next(held for written, held in samples if written >= 0.99 * size)
    grown = (last - quarter) / (0.75 * made)
    yield (
        f"memory over {made:,} calls",
        f"{quarter / 2**20:.0f} MiB after a quarter, {last / 2**20:.0f} after all "
        f"({grown:.0f} bytes per call), {samples[-1][1] / 2**20:.0f} with the table written",
        "flat",
    )
    yield (f"resume with {made:,} calls in the log", f"{again:.1f} s, none repeated")


@dataclass(frozen=True)
class Verdicts(LiveVerifier):
    """Asks for a few verdicts on each answer; the signal is the share of correct ones."""

    name: str = "verdicts"

    async def verify(self, case: Case) -> float:
        text = f"{case.query.prompt} Verdict on {case.answer.text}: correct or incorrect?"
        verdicts = await case.client.complete(
            [{"role": "user", "content": text}], samples=_SAMPLES, temperature=1.0, max_tokens=8
        )
        return sum(each.text.endswith(" correct") for each in verdicts) / len(verdicts)


def a_plan(url: str, calls: int) -> Plan:
    """A plan with two models on one endpoint and verdicts on the first model's answers."""
    n = calls // (2 + _SAMPLES)
    questions = [
        Question(Query(f"q{i}", f"What is {i} + {i % 97}?"), (str(i + i % 97),)) for i in range(n)
    ]
    models = [
        ModelSpec(name, url, name, price=Price(price, price), concurrency=CONCURRENCY)
        for name, price in (("small", 1.0), ("large", 30.0))
    ]
    return Plan(questions, models, verifiers=(Verdicts(),))


async def plain_gather(url: str, calls: int) -> tuple[float, float]:
    """Calls per second and CPU seconds per call of the openai client, used in the plain way."""
    import openai

    client = openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0)
    slots = asyncio.Semaphore(CONCURRENCY)

    async def call(i: int) -> None:
        async with slots:
            await client.chat.completions.create(
                model="small",
                messages=[{"role": "user", "content": f"What is {i} + 1?"}],
                temperature=0.0,
                max_tokens=8,
            )

    await call(0)
    cpu, started = cpu_seconds(), time.perf_counter()
    await asyncio.gather(*map(call, range(calls)))
    seconds, cpu = time.perf_counter() - started, cpu_seconds() - cpu
    await client.close()
    return calls / seconds, cpu / calls


@contextmanager
def server() -> Iterator[str]:
    """The address of the tests' server, which runs on the same cores as its client."""
    process = subprocess.Popen(
        [sys.executable, ROOT / "tests/support/loopback.py"], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.kill()
        process.wait()


@contextmanager
def memory(log: Path, every: float = 0.1) -> Iterator[list[tuple[int, int]]]:
    """Samples (bytes of the log, resident bytes of this process) while the block runs."""
    samples: list[tuple[int, int]] = []
    ended = threading.Event()

    def sample() -> None:
        while not ended.wait(every):
            samples.append((log.stat().st_size if log.exists() else 0, resident()))

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        yield samples
    finally:
        ended.set()
        thread.join()


def resident() -> int:
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:  # other systems only know the peak
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return pages * os.sysconf("SC_PAGE_SIZE")


def cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
