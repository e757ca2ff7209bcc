"""A whole collection from two slow local models, in virtual time."""

import asyncio
import json
import random

import openai

from routing_pomdp.verifiers.collection import collector
from routing_pomdp.verifiers.collection import run as runs
from tests.support.collecting import Votes, run, specs, sums
from tests.support.loopback import complete
from tests.support.virtual_time import run as in_virtual_time

SECONDS, SLOTS = 20.0, 2


class Servers:
    """One a model, with so many slots in order of arrival; clients that gave up are answered."""

    def __init__(self):
        self.free_at = {"small": [0.0] * SLOTS, "large": [0.0] * SLOTS}
        self.asked = 0

    async def post(self, _path, *, body, **_):
        self.asked += 1
        now = asyncio.get_running_loop().time()
        slots = self.free_at[body["model"]]
        slot = slots.index(min(slots))
        slots[slot] = done = max(now, slots[slot]) + SECONDS
        await asyncio.sleep(done - now)
        return json.dumps(complete(body, random.Random(0)))


def test_two_slow_models_answer_soon_and_nothing_times_out(tmp_path, monkeypatch):
    """With sixteen requests at each at once, the first verified answer came after 6½ minutes."""
    servers, finished = Servers(), []

    async def post(client, path, **options):
        return await servers.post(path, **options)

    monkeypatch.setattr(openai.AsyncOpenAI, "post", post)
    monkeypatch.setattr(runs.asyncio, "run", lambda main: in_virtual_time(main)[0])
    keep = collector.Collector.run

    async def watched(self, *arguments):
        self.watch = lambda: finished.append(asyncio.get_running_loop().time())
        return await keep(self, *arguments)

    monkeypatch.setattr(collector.Collector, "run", watched)
    default = {"concurrency": 16, "timeout": 120.0}
    models = [
        *specs("http://127.0.0.1:8/v1", ("small",), **default),
        *specs("http://127.0.0.1:9/v1", ("large",), **default),
    ]
    done = run(tmp_path, models, 40, [Votes(samples=2)], questions=sums(40))
    assert not done.outcome.incomplete
    assert done.ledger.retried == 0
    assert servers.asked == 40 * (1 + 2 + 1)
    assert finished[0] <= 180
    # The small model's slots are never idle: 120 calls, two at a time.
    assert max(finished) <= 1.15 * 120 * SECONDS / SLOTS
