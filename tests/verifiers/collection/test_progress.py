"""What the progress bar says while nothing seems to happen."""

import asyncio
from types import SimpleNamespace

from routing_pomdp.verifiers.collection import progress
from routing_pomdp.verifiers.collection.budget import Budget
from routing_pomdp.verifiers.collection.client import Ledger
from routing_pomdp.verifiers.collection.limiter import Limiter


def test_it_shows_calls_under_way_and_when_something_last_happened():
    async def main():
        ledger, slots, clock = Ledger(None, Budget(None, None)), Limiter(4), SimpleNamespace(now=0)
        bar = progress.Bar(10, ledger, [slots, Limiter(2)], False, lambda: clock.now)
        async with slots, slots:
            clock.now = 4
            assert bar.says().endswith("0 calls/s, 2 under way")
            clock.now = 200
            assert bar.says().endswith("2 under way, last response 200 s ago")
            ledger.made = 50
            assert bar.says().endswith("0.25 calls/s, 2 under way")
            ledger.retried = 3
            clock.now = 230
            assert bar.says().endswith("2 under way, 3 retried")
            clock.now = 250
            assert bar.says().endswith("3 retried, last response 20 s ago")
            slots.hold(99.9)
            assert bar.says().endswith("ago, an endpoint asked to wait: 100 s left")

    asyncio.run(main())


def test_it_is_renewed_where_no_answer_comes(monkeypatch, capsys):
    monkeypatch.setattr(progress, "_LINE", 0.01)

    async def main():
        ledger = Ledger(None, Budget(None, None))
        with progress.Bar(10, ledger, [Limiter(2)], True):
            while "under way" not in (shown := capsys.readouterr().err):
                await asyncio.sleep(0.01)
        assert "0/10" in shown

    asyncio.run(asyncio.wait_for(main(), 20))
