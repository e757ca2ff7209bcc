"""Small collections against the loopback server: questions, models, verifiers of tests."""

import json
import random
from dataclasses import dataclass, field

from routing_pomdp.verifiers import LiveVerifier, Signal
from routing_pomdp.verifiers.collection import ModelSpec, Plan, Price, Question, collect
from routing_pomdp.verifiers.collection.scoring import Number
from routing_pomdp.verifiers.live import Query

PRICES = {"small": Price(1.0, 4.0), "medium": Price(5.0, 20.0), "large": Price(25.0, 100.0)}


def sums(n, seed=0):
    """Questions that the loopback server can answer."""
    rng = random.Random(seed)
    made = []
    for i in range(n):
        a, b = rng.randrange(1000), rng.randrange(1000)
        made.append(Question(Query(f"q{i}", f"What is {a} + {b}?", dataset="sums"), (str(a + b),)))
    return made


def write_questions(path, questions):
    lines = [
        {"query_id": q.query.query_id, "prompt": q.query.prompt, "reference": q.references[0]}
        for q in questions
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def specs(url, names=("small", "large"), **options):
    options = {"concurrency": 32, "timeout": 10.0, "max_tokens": 16} | options
    return [ModelSpec(name, url, name, price=PRICES[name], **options) for name in names]


@dataclass(frozen=True)
class Votes(LiveVerifier):
    """The share of verdicts that say correct."""

    name: str = "votes"
    samples: int = 2

    async def verify(self, case):
        text = f"{case.query.prompt} Verdict on {case.answer.text}"
        asked = [{"role": "user", "content": text}]
        verdicts = await case.client.complete(
            asked, samples=self.samples, temperature=1.0, max_tokens=8
        )
        right = [verdict.text == "Verdict: correct" for verdict in verdicts]
        return Signal(sum(right) / len(right), {"verdicts": len(right)})


@dataclass(frozen=True)
class Length(LiveVerifier):
    """Asks nobody."""

    name: str = "length"

    async def verify(self, case):
        return -len(case.answer.text)


@dataclass(frozen=True)
class Broken(LiveVerifier):
    """Fails on every third query, in as many ways as it is given."""

    name: str = "broken"
    returns: tuple = ()
    seen: list = field(default_factory=list)

    async def verify(self, case):
        if int(case.query.query_id[1:]) % 3:
            return 0.5
        if not self.returns:
            raise RuntimeError("my mistake")
        return self.returns[int(case.query.query_id[1:]) // 3 % len(self.returns)]


def run(folder, server_or_specs, n=20, verifiers=(), progress=False, **options):
    models = server_or_specs if isinstance(server_or_specs, list) else specs(server_or_specs.url)
    options = {"questions": sums(n), "scoring": Number()} | options
    plan = Plan(models=models, verifiers=tuple(verifiers), **options)
    return collect(plan, folder, progress=progress)


def lines(folder, kind="made"):
    """The log's records of completed calls, or of those "sent", "lost" or "free"."""
    records = map(json.loads, (folder / "log.jsonl").read_text().splitlines())
    others = ("sent", "lost", "free")
    return [r for r in records if kind == next((each for each in others if each in r), "made")]
