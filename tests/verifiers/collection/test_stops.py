"""What ends a collection, or makes it wait: refusals, budgets, interrupts, full disks."""

import asyncio
import os
import signal
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from routing_pomdp.envs.logs.calls_table import read_calls
from routing_pomdp.verifiers import LiveVerifier
from routing_pomdp.verifiers.collection import (
    BudgetExhaustedError,
    EndpointRefusedError,
    InterruptedCollectionError,
    LogError,
    ModelSpec,
)
from routing_pomdp.verifiers.collection import endpoint as endpoints
from routing_pomdp.verifiers.collection.limiter import Limiter
from tests.support.collecting import Votes, lines, run, specs, sums
from tests.support.loopback import Loopback


@pytest.mark.parametrize(
    ("status", "error", "told"),
    [
        (401, {"message": "bad key"}, "check the key"),
        (403, {"message": "no"}, "may not use this model"),
        (404, {"message": "no such model"}, "check base_url and model"),
        (400, {"message": "unknown field temperature"}, "see omit"),
        (402, {"message": "Insufficient Balance"}, "status 402: Insufficient Balance; the account"),
        (429, {"message": "x", "code": "insufficient_quota"}, "status 429: x; the account has no"),
        (429, {"message": "x", "type": "insufficient_quota"}, "no money left"),
        (405, {"detail": "Method Not Allowed"}, "Method Not Allowed; check base_url"),
    ],
)
def test_an_endpoint_that_refuses_stops_the_run_without_retries(status, error, told, tmp_path):
    with Loopback(refuse={"large": (status, error)}, latency=0.02) as server:
        models = specs(server.url, concurrency=2)
        done = run(tmp_path, models, 12, at_once=2)
        assert isinstance(done.stopped, EndpointRefusedError)
        assert "model 'large' at http://127.0.0.1" in str(done.stopped)
        assert told in str(done.stopped)
        assert server.seen.requests < 10  # the rest is not tried
        # What was paid for is kept, and gone on with once the endpoint takes calls.
        server.refuse.clear()
        kept = len(lines(tmp_path))
        again = run(tmp_path, models, 12)
    assert again.ledger.found == kept > 0
    assert not again.outcome.incomplete


def test_a_prompt_that_is_too_long_costs_only_its_query(tmp_path):
    long = replace(sums(1)[0], query=replace(sums(1)[0].query, query_id="long", context="x" * 3000))
    with Loopback(limit=1000) as server:
        done = run(tmp_path, server, questions=[*sums(4), long])
    assert done.outcome.incomplete == {4}
    assert "context" in done.outcome.calls.first
    assert done.stopped is None
    assert len(read_calls(tmp_path / "calls.parquet")) == 4


def test_an_endpoint_that_only_fails_is_given_up(tmp_path):
    with Loopback({"error": 1.0}) as server:
        done = run(tmp_path, specs(server.url, attempts=1), 100)
        assert isinstance(done.stopped, EndpointRefusedError)
        assert "20 calls in a row" in str(done.stopped)
        assert server.seen.requests < 100
    assert done.table is None


def test_where_nobody_listens_no_money_is_thought_lost(tmp_path):
    with Loopback() as server:
        pass
    done = run(tmp_path, specs(server.url, attempts=2), 3)
    assert done.outcome.incomplete == {0, 1, 2}
    assert done.ledger.budget.lost.tokens == 0


@pytest.mark.parametrize("faults", [{}, {"truncated": 0.1, "malformed": 0.1, "error": 0.1}])
def test_the_budget_is_never_overshot(faults, tmp_path):
    with Loopback(faults, seed=2) as server:
        done = run(tmp_path, specs(server.url), 100, [Votes()], tokens=4000)
        assert isinstance(done.stopped, BudgetExhaustedError)
        # All that the server made, the lost too.
        assert 1500 < server.seen.tokens <= 4000
        requests = server.seen.requests
        again = run(tmp_path, specs(server.url), 100, [Votes()], tokens=4000)
        assert isinstance(again.stopped, BudgetExhaustedError)
        assert server.seen.tokens <= 4000
        assert server.seen.requests - requests <= 8
        assert done.table.exists()
        more = run(tmp_path, specs(server.url), 20, [Votes()], tokens=10**6)
    assert not more.outcome.incomplete


def test_a_budget_in_dollars_holds_and_only_complete_queries_can_be_kept(tmp_path):
    with Loopback() as server:
        done = run(tmp_path, server, 100, [Votes()], usd=0.03, only_complete=True)
    spent = sum(record["cost"] for record in lines(tmp_path))
    assert 0.015 < spent <= 0.03
    assert done.ledger.budget.spent.usd == pytest.approx(spent)
    log = read_calls(done.table)
    assert len(log) == 100 - len(done.outcome.incomplete) > 0
    assert not np.isnan(log.score).any()


@dataclass(frozen=True)
class Interrupts(LiveVerifier):
    """The user presses Ctrl-C while the third query is verified."""

    name: str = "interrupts"

    async def verify(self, case):
        if case.query.query_id == "q2":
            os.kill(os.getpid(), signal.SIGINT)
            await asyncio.sleep(0)
        return 1.0


def test_an_interrupt_lets_calls_end_and_keeps_what_was_paid(tmp_path):
    with Loopback(latency=0.01) as server:
        done = run(tmp_path, specs(server.url), 40, [Interrupts()], at_once=2)
        assert isinstance(done.stopped, InterruptedCollectionError)
        assert server.seen.delivered == len(lines(tmp_path)) < 20
        assert done.table.exists()
        again = run(tmp_path, specs(server.url), 40)
        assert server.seen.delivered == 80
    assert not again.outcome.incomplete
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_disk_that_fills_up_ends_the_collection_with_whole_lines(tmp_path, monkeypatch):
    write, left = os.write, [5]

    def filling(file, data):
        if not data.startswith(b'{"query"') or b'"sent"' in data:
            return write(file, data)
        left[0] -= 1
        if left[0] < 0:
            raise OSError(28, "No space left on device")
        return write(file, data)

    with Loopback() as server:
        monkeypatch.setattr(os, "write", filling)
        with pytest.raises(LogError, match="No space left on device"):
            run(tmp_path, specs(server.url, concurrency=2), 30)
        monkeypatch.undo()
        assert len(lines(tmp_path)) == 5
        assert server.seen.requests < 30  # no more is paid for once nothing can be kept
        done = run(tmp_path, specs(server.url), 30)
    assert done.ledger.found == 5
    assert not done.outcome.incomplete


@pytest.mark.parametrize(
    "asked", ["0.6", lambda: format_datetime(datetime.now(UTC) + timedelta(seconds=2), usegmt=True)]
)
def test_the_server_is_not_asked_again_before_it_wants_to_be(asked, tmp_path):
    with Loopback(script=["rate_limit"], retry_after=asked) as server:
        done = run(tmp_path, specs(server.url, concurrency=1), 1)
    assert not done.outcome.incomplete
    assert done.ledger.retried == 1
    first, second = server.seen.times[:2]
    # A date has whole seconds: the one that lies two seconds ahead is at least one away.
    assert 0.6 <= second - first < 5


@settings(max_examples=20, suppress_health_check=list(HealthCheck))
@given(attempt=st.integers(0, 60), asked=st.none() | st.floats(0, 1e6))
def test_pauses_grow_are_jittered_and_never_shorter_than_asked(attempt, asked):
    async def paused():
        endpoint = endpoints.Endpoint(specs("http://127.0.0.1:9/v1")[0], Limiter(1))
        return [endpoint.pause(attempt, asked) for _ in range(20)]

    pauses = asyncio.run(paused())
    least = min(endpoints._LONGEST, endpoints._FIRST * 2**attempt)
    longest = max(1.5 * least, 0 if asked is None else asked + endpoints._FIRST)
    assert all(max(least, asked or 0) <= pause <= longest for pause in pauses)
    assert max(pauses) > min(pauses)


def test_the_attempts_of_a_call_outlast_a_quota_of_a_minute(monkeypatch):
    monkeypatch.undo()

    async def paused():
        spec = ModelSpec("small", "http://127.0.0.1:9/v1")
        endpoint = endpoints.Endpoint(spec, Limiter(1))
        return sum(endpoint.pause(attempt, None) for attempt in range(spec.attempts - 1))

    assert 60 < asyncio.run(paused()) < 120
