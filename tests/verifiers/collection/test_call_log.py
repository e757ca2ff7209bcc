"""The log: durable, torn ends, locks, and what is found again."""

import asyncio
import json
import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing_pomdp.verifiers.collection.call_log import CallKey, CallLog, LogError, Record
from routing_pomdp.verifiers.live import Completion, Token

TEXTS = st.text(st.characters(codec="utf-8"), max_size=20)
LOGPROBS = st.floats(-1e4, 0)
COMPLETIONS = st.builds(
    Completion,
    text=TEXTS,
    tokens_in=st.integers(0, 10**6),
    tokens_out=st.integers(0, 10**6),
    cost=st.floats(0, 1e3),
    latency_ms=st.floats(0, 1e6),
    tokens=st.none()
    | st.lists(
        st.builds(Token, TEXTS, LOGPROBS, st.dictionaries(TEXTS, LOGPROBS, max_size=3)), max_size=3
    ).map(tuple),
    finish_reason=TEXTS,
)
KEYS = st.builds(CallKey, TEXTS, TEXTS, TEXTS, st.integers(0, 100), TEXTS)


def key(i):
    return CallKey(f"q{i}", "small", "answer", 0, "hash")


def completion(i):
    return Completion(f"text {i}\n\u2028", i, 1, 0.5, 2.0)


def append(log, *records):
    async def all_at_once():
        await asyncio.gather(*map(log.append, records))

    asyncio.run(all_at_once())


def filled(folder, n=3):
    log = CallLog(folder)
    append(log, *(Record(key(i), completion(i)) for i in range(n)))
    log.close()


@given(KEYS, COMPLETIONS, st.lists(st.sampled_from(["usage_estimated", "no_logprobs"])))
def test_a_record_is_read_as_it_was_written(key, completion, flags):
    record = Record(key, completion, tuple(flags))
    line = record.line()
    assert line.count(b"\n") == 1
    assert Record.parse(line) == record


def test_calls_are_found_by_all_that_makes_them_the_same(tmp_path):
    filled(tmp_path)
    log = CallLog(tmp_path)
    assert len(log) == 3
    assert log.find(key(1)).completion == completion(1)
    for other in (
        CallKey("q1", "large", "answer", 0, "hash"),
        CallKey("q1", "small", "verify:x", 0, "hash"),
        CallKey("q1", "small", "answer", 1, "hash"),
        CallKey("q1", "small", "answer", 0, "other"),
    ):
        assert log.find(other) is None
    log.close()


def test_a_line_longer_than_one_read_is_found(tmp_path):
    log = CallLog(tmp_path)
    long = Completion("x" * 100_000, 1, 1, 0.0, 1.0)
    append(log, Record(key(0), long), Record(key(1), completion(1)))
    assert log.find(key(0)).completion == long
    assert log.find(key(1)).completion == completion(1)
    log.close()


@pytest.mark.parametrize("cut", [2, 40, "garbage", "text", "zeros"])
def test_a_torn_last_line_is_set_aside_and_all_before_it_is_kept(cut, tmp_path):
    filled(tmp_path)
    path = tmp_path / "log.jsonl"
    whole = path.read_bytes()
    lines = whole.splitlines(keepends=True)
    if isinstance(cut, int):
        torn, kept = whole[:-cut], lines[:2]
    else:
        end = {"garbage": b"\xff\xfe", "text": b'{"query":"q9","mod\n', "zeros": bytes(100)}[cut]
        torn, kept = whole + end, lines
    path.write_bytes(torn)
    log = CallLog(tmp_path)
    assert path.read_bytes() == b"".join(kept)
    assert log.torn.read_bytes() == torn[len(b"".join(kept)) :]
    assert len(log) == len(kept)
    append(log, Record(key(9), completion(9)))
    log.close()
    again = CallLog(tmp_path)
    assert again.torn is None
    assert len(again) == len(kept) + 1
    again.close()


def test_a_last_line_that_lacks_only_its_end_is_kept(tmp_path):
    filled(tmp_path)
    path = tmp_path / "log.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    log = CallLog(tmp_path)
    assert (log.torn, len(log)) == (None, 3)
    append(log, Record(key(9), completion(9)))
    assert log.find(key(9)).completion == completion(9)
    log.close()
    assert path.read_bytes().startswith(whole)


def test_an_older_torn_end_is_never_overwritten(tmp_path):
    for number in (1, 2, 3):
        filled(tmp_path, number)
        with (tmp_path / "log.jsonl").open("a") as file:
            file.write(f"torn {number}")
        if number == 3:
            (tmp_path / "log.torn-1").unlink()
        log = CallLog(tmp_path)
        log.close()
    assert log.torn.name == "log.torn-1"
    assert (tmp_path / "log.torn-2").read_text() == "torn 2"


@pytest.mark.parametrize("many", [2, 6])
def test_more_than_one_damaged_line_is_refused_with_the_first_and_left_as_it_is(many, tmp_path):
    filled(tmp_path)
    path = tmp_path / "log.jsonl"
    damaged = path.read_bytes() + b'{"query": "q\n' * many
    path.write_bytes(damaged)
    with pytest.raises(LogError, match=r"log\.jsonl: line 4 is damaged .*more lines follow"):
        CallLog(tmp_path)
    assert path.read_bytes() == damaged
    assert not list(tmp_path.glob("log.torn*"))


WRONG = {
    "query": 7,
    "model": None,
    "purpose": ["answer"],
    "sample": -1,
    "request": {},
    "text": 3,
    "tokens_in": "9",
    "tokens_out": 1.5,
    "cost": "free",
    "latency_ms": 1e400,
    "finish_reason": False,
    "tokens": [["a", "b", {}]],
    "flags": "usage_estimated",
}


@pytest.mark.parametrize("name", [*WRONG, "all", "deep"])
@pytest.mark.parametrize("line", [2, 3])
def test_a_field_of_a_wrong_type_is_named_with_its_line(name, line, tmp_path):
    filled(tmp_path)
    path = tmp_path / "log.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    record = json.loads(lines[line - 1]) | {name: WRONG.get(name)}
    lines[line - 1] = json.dumps(record).encode() + b"\n"
    if name == "all":
        lines[line - 1] = b"[1, 2]\n"
    if name == "deep":
        lines[line - 1] = b'{"query": ' + b"[" * 100_000 + b"]" * 100_000 + b"}\n"
        lines.append(lines[0])
    path.write_bytes(b"".join(lines))
    with pytest.raises(LogError) as caught:
        CallLog(tmp_path)
    said = str(caught.value)
    assert f"{path}: line {line} is damaged (" in said
    assert len(said.splitlines()) == 1
    assert len(said) < 500
    assert name in ("all", "deep") or f"({name}" in said


def test_calls_under_way_at_a_kill_count_as_perhaps_paid_for(tmp_path):
    log = CallLog(tmp_path)

    def sent(i):
        return Record(key(i), None, (), 10 * (i + 1), 5, kind="sent")

    append(log, *map(sent, range(5)))
    append(log, Record(key(0), completion(0)))  # came
    append(log, Record(key(1), None, kind="free"))  # was refused
    append(log, sent(2), Record(key(2), None, (), 30, 5, kind="lost"))  # a second attempt, lost
    append(log, sent(3))  # a second attempt, after one that was not charged
    log._release()  # killed: 3 and 4 were under way
    for cut_off in (2, 0):
        log = CallLog(tmp_path)
        totals = log.totals["small"]
        assert log.cut_off == cut_off
        assert (totals.calls, totals.lost) == (1, 3)
        assert (totals.lost_in, totals.lost_out) == (30 + 40 + 50, 15)
        assert log.find(key(3)) is None
        log.close()


def test_damage_in_the_middle_is_refused_and_left_as_it_is(tmp_path):
    filled(tmp_path)
    path = tmp_path / "log.jsonl"
    damaged = path.read_bytes().replace(b'"q1"', b'"q1', 1)
    path.write_bytes(damaged)
    for _ in range(2):  # the lock was let go of
        with pytest.raises(LogError, match=r"log\.jsonl: line 2 is damaged"):
            CallLog(tmp_path)
    assert path.read_bytes() == damaged


def test_two_collectors_cannot_share_a_folder(tmp_path):
    log = CallLog(tmp_path)
    other = (
        "import sys, pathlib; from routing_pomdp.verifiers.collection import CallLog, LogError\n"
    )
    other += "try: CallLog(pathlib.Path(sys.argv[1]))\nexcept LogError as e: print(e)"
    done = subprocess.run(
        [sys.executable, "-c", other, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert "is being collected into by another process" in done.stdout
    assert f"process {os.getpid()}" in done.stdout
    log.close()
    CallLog(tmp_path).close()


def test_a_full_disk_is_an_error_and_leaves_whole_lines(tmp_path, monkeypatch):
    filled(tmp_path)
    log = CallLog(tmp_path)
    write = os.write
    monkeypatch.setattr(os, "write", lambda file, data: write(file, data[: len(data) // 2]))
    with pytest.raises(LogError, match="could not be kept"):
        append(log, Record(key(7), completion(7)))
    monkeypatch.undo()
    log.close()
    again = CallLog(tmp_path)
    assert again.torn is None
    assert len(again) == 3
    again.close()


def test_lines_are_synced_before_the_call_returns_and_many_share_a_sync(tmp_path, monkeypatch):
    log, synced, sizes = CallLog(tmp_path), os.fsync, []

    def fsync(file):
        sizes.append(os.fstat(file).st_size)
        synced(file)

    monkeypatch.setattr(os, "fsync", fsync)

    async def one(i):
        await log.append(Record(key(i), completion(i)))
        # A sync that began after this line was written has ended.
        assert sizes
        assert f'"q{i}"'.encode() in log.path.read_bytes()[: sizes[-1]]

    async def many():
        await asyncio.gather(*map(one, range(200)))

    asyncio.run(many())
    assert len(sizes) < 100
    monkeypatch.undo()
    log.close()


def test_lost_calls_are_added_up_and_not_found(tmp_path):
    log = CallLog(tmp_path)
    append(log, Record(key(0), None, (), 30, 4), Record(key(1), completion(5)))
    log.close()
    log = CallLog(tmp_path)
    assert log.find(key(0)) is None
    totals = log.totals["small"]
    assert (totals.lost, totals.lost_in, totals.lost_out) == (1, 30, 4)
    assert (totals.calls, totals.tokens_in, totals.tokens_out) == (1, 5, 1)
    log.close()
