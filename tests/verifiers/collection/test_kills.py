"""A kill at any moment: nothing finished is repeated, nothing paid is lost, the budget holds.

A death is simulated before every single write, sync and renaming of a small collection, which is
after the one before it, and in the middle of every write; the server lives on, and what was sent to
it is charged.
"""

import os
import threading
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import pytest

from routing_pomdp.envs.logs.calls_table import read_calls
from routing_pomdp.verifiers.collection import CallLog
from routing_pomdp.verifiers.collection.files import LOCK
from tests.support.collecting import Votes, lines, run, specs
from tests.support.loopback import Loopback, Seen


class Killed(BaseException):
    """The process is no more."""


@contextmanager
def killed_at(step, how, monkeypatch):
    """Whatever reaches the disk from the given step on, does not; yields the steps so far.

    Args:
        step: which write, sync or renaming; None for none.
        how: "before" it, or "torn": half of it is done, and writes alone are counted.
    """
    steps, dead, lock = [0], [False], threading.Lock()

    def dying(function, name):
        def called(*arguments, **options):
            with lock:
                if dead[0]:
                    raise Killed
                steps[0] += how == "before" or name == "write"
                if steps[0] - 1 != step or (how == "torn" and name != "write"):
                    return function(*arguments, **options)
                dead[0] = True
                if how == "torn":
                    file, data = arguments
                    function(file, data[: len(data) // 2])
            raise Killed

        return called

    with monkeypatch.context() as patch:
        for name in ("write", "fsync", "ftruncate"):
            patch.setattr(os, name, dying(getattr(os, name), name))
        patch.setattr(Path, "replace", dying(Path.replace, "replace"))
        yield steps


def collected(folder, server, **options):
    """A small collection that fits the budget, unless a kill makes it pay twice."""
    models = specs(server.url, concurrency=2)
    return run(folder, models, 2, [Votes(samples=1)], at_once=2, **options)


def steps_of_a_run(how, folder, server, monkeypatch):
    with killed_at(None, how, monkeypatch) as steps:
        collected(folder, server)
    return steps[0]


def check(folder, server, finished, before, limit):
    """What has to hold after a kill and one resumption."""
    assert server.seen.tokens <= limit
    assert lines(folder)[: len(finished)] == finished
    keys = Counter((r["query"], r["model"], r["purpose"], r["sample"]) for r in lines(folder))
    assert max(keys.values()) == 1
    # All that the server charged for is known: as a call that came, or as one that may have.
    known = len(lines(folder)) + len(lines(folder, "lost"))
    assert server.seen.delivered <= known
    assert server.seen.delivered - before <= len(lines(folder)) - len(finished)


@pytest.mark.parametrize("how", ["before", "torn"])
def test_a_kill_at_any_write_repeats_and_loses_nothing(how, tmp_path, monkeypatch):
    with Loopback() as server:
        steps = steps_of_a_run(how, tmp_path / "whole", server, monkeypatch)
        assert steps >= {"before": 30, "torn": 12}[how]
        for step in range(steps):
            folder, server.seen = tmp_path / str(step), Seen()
            with killed_at(step, how, monkeypatch), pytest.raises(Killed):
                collected(folder, server, tokens=5000)
            log = folder / "log.jsonl"
            text = log.read_bytes() if log.exists() else b""
            finished = completed(text[: text.rfind(b"\n") + 1], folder)
            before = server.seen.delivered
            done = collected(folder, server, tokens=5000)
            assert not done.outcome.incomplete
            check(folder, server, finished, before, 5000)
            spent = done.ledger.budget.spent + done.ledger.budget.lost
            assert spent.tokens >= server.seen.tokens
            assert read_calls(folder / "calls.parquet").score.shape == (2, 2)
            assert not [path.name for path in folder.iterdir() if "part" in path.name]


def completed(text, folder):
    """Of whole lines, those of completed calls."""
    copy = folder / "copy"
    copy.mkdir(parents=True, exist_ok=True)
    (copy / "log.jsonl").write_bytes(text)
    found = lines(copy)
    (copy / "log.jsonl").unlink()
    copy.rmdir()
    return found


def test_a_budget_holds_over_many_kills_by_the_servers_own_count(tmp_path, monkeypatch):
    limit, kills = 900, 0
    with Loopback(latency=0.005) as server:
        for step in (30, 12, 50, 21, 8, 40, 17, 60, 25, 33):
            with killed_at(step, "before", monkeypatch):
                try:
                    run(tmp_path, specs(server.url, concurrency=4), 40, tokens=limit)
                except Killed:
                    kills += 1
            assert server.seen.tokens <= limit
        run(tmp_path, specs(server.url, concurrency=4), 40, tokens=limit)
        assert kills >= 3
        assert 0 < server.seen.tokens <= limit
        assert max(Counter((r["query"], r["model"]) for r in lines(tmp_path)).values()) == 1
        done = run(tmp_path, specs(server.url, concurrency=4), 40, tokens=20_000)
    assert not done.outcome.incomplete


def test_a_lock_is_let_go_of_by_a_process_that_dies_while_it_closes(tmp_path, monkeypatch):
    log = CallLog(tmp_path)
    with killed_at(0, "before", monkeypatch), pytest.raises(Killed):
        log.close()
    CallLog(tmp_path).close()
    assert (tmp_path / LOCK).exists()
