"""`CallLog`: every completed call on disk before it is used; nothing paid for is lost.

One JSON line a call, in a file that only grows. A line is one ``write`` and is synced to the disk
before the call returns: what returned survives ``kill -9`` and a power cut. Calls that complete
while a sync is under way share the next one, so that syncing does not limit throughput.

In memory stands where each call's line is, about 100 bytes a call, and no text.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from verifiers.live import Completion, Token

FILE = "log.jsonl"
_LOCK = ".lock"


class LogError(ValueError):
    """A log that cannot be gone on with; the message names the file."""


@dataclass(frozen=True)
class CallKey:
    """What makes two calls the same one.

    Attributes:
        query: its id.
        model: its name.
        purpose: "answer", or the verification that it is for.
        sample: which of several equal requests.
        request: a hash of all that decides the response.
    """

    query: str
    model: str
    purpose: str
    sample: int
    request: str

    def digest(self) -> bytes:
        parts = (self.query, self.model, self.purpose, str(self.sample), self.request)
        return hashlib.sha256("\x1f".join(parts).encode()).digest()[:16]


@dataclass(frozen=True)
class Record:
    """One line of the log.

    Attributes:
        key: of the call.
        completion: what it returned; None where the response was lost on the wire.
        flags: what was out of the ordinary: "usage_estimated", "no_logprobs".
        charged_in: tokens of the prompt that may have been paid for without a response.
        charged_out: generated ones.
    """

    key: CallKey
    completion: Completion | None
    flags: tuple[str, ...] = ()
    charged_in: int = 0
    charged_out: int = 0

    def line(self) -> bytes:
        record: dict[str, Any] = {
            "query": self.key.query,
            "model": self.key.model,
            "purpose": self.key.purpose,
            "sample": self.key.sample,
            "request": self.key.request,
        }
        if self.completion is None:
            record |= {"lost": True, "tokens_in": self.charged_in, "tokens_out": self.charged_out}
        else:
            made = self.completion
            record |= {
                "text": made.text,
                "tokens_in": made.tokens_in,
                "tokens_out": made.tokens_out,
                "cost": made.cost,
                "latency_ms": made.latency_ms,
                "finish_reason": made.finish_reason,
            }
            if made.tokens is not None:
                record["tokens"] = [[t.text, t.logprob, dict(t.top)] for t in made.tokens]
            if self.flags:
                record["flags"] = list(self.flags)
        # ASCII: no character inside a text is taken for the end of a line.
        return json.dumps(record, allow_nan=False, separators=(",", ":")).encode() + b"\n"

    @classmethod
    def parse(cls, line: bytes) -> Self:
        """Raises ValueError, KeyError or TypeError for what is no such line."""
        record = json.loads(line)
        key = CallKey(*(record[name] for name in ("query", "model", "purpose")), **_sampled(record))
        if record.get("lost"):
            return cls(key, None, (), int(record["tokens_in"]), int(record["tokens_out"]))
        tokens = record.get("tokens")
        completion = Completion(
            text=record["text"],
            tokens_in=record["tokens_in"],
            tokens_out=record["tokens_out"],
            cost=record["cost"],
            latency_ms=record["latency_ms"],
            tokens=None if tokens is None else tuple(Token(*token) for token in tokens),
            finish_reason=record["finish_reason"],
        )
        return cls(key, completion, tuple(record.get("flags", ())))


def _sampled(record: Mapping[str, Any]) -> dict[str, Any]:
    return {"sample": record["sample"], "request": record["request"]}


@dataclass
class Totals:
    """Of one model: completed calls and their tokens; lost ones, and what they may have cost."""

    calls: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    lost: int = 0
    lost_in: int = 0
    lost_out: int = 0


class CallLog:
    """The log of one folder, which it locks until it is closed.

    Raises:
        LogError: another collection is at work in the folder, or a line in the middle of the log
            is damaged.

    Attributes:
        torn: the file that a torn end of the log was set aside in; None if there was none.
        totals: model -> what its lines add up to.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.path = folder, folder / FILE
        self.torn: Path | None = None
        self.totals: dict[str, Totals] = {}
        self._lock = _locked(folder)
        self._places: dict[bytes, int] = {}
        self._waiting: list[asyncio.Future[None]] = []
        self._syncing: asyncio.Task[None] | None = None
        self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            self._recover()
        except BaseException:
            self._release()
            raise

    def __len__(self) -> int:
        return len(self._places)

    def find(self, key: CallKey) -> Record | None:
        """A call that was completed before."""
        place = self._places.get(key.digest())
        if place is None:
            return None
        line, size = b"", 2**12
        while not line.endswith(b"\n"):
            text, end, _ = os.pread(self._file, size, place).partition(b"\n")
            line = text + end
            size *= 4
        return Record.parse(line)

    async def append(self, record: Record) -> None:
        """Writes a line, and returns once it is on the disk.

        Raises:
            LogError: the disk is full, or fails.
        """
        line = record.line()
        place = self._end
        try:
            written = os.write(self._file, line)
            if written < len(line):
                os.ftruncate(self._file, place)  # half a line must not be followed by another
                raise OSError(f"only {written} of {len(line)} bytes could be written")
        except OSError as error:
            raise LogError(f"{self.path}: a call could not be kept: {error}") from error
        self._end += written
        self._note(record, place)
        synced: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(synced)
        if self._syncing is None or self._syncing.done():
            self._syncing = asyncio.create_task(self._sync())
        await synced

    def records(self) -> Iterator[Record]:
        """All lines, in the order of writing."""
        with self.path.open("rb") as file:
            for line in file:
                yield Record.parse(line)

    def close(self) -> None:
        os.fsync(self._file)
        self._release()

    def _release(self) -> None:
        os.close(self._file)
        os.close(self._lock)

    def _note(self, record: Record, place: int) -> None:
        totals = self.totals.setdefault(record.key.model, Totals())
        if record.completion is None:
            totals.lost += 1
            totals.lost_in += record.charged_in
            totals.lost_out += record.charged_out
        else:
            self._places[record.key.digest()] = place
            totals.calls += 1
            totals.tokens_in += record.completion.tokens_in
            totals.tokens_out += record.completion.tokens_out

    async def _sync(self) -> None:
        while self._waiting:
            waiting, self._waiting = self._waiting, []
            failure: LogError | None = None
            try:
                await asyncio.to_thread(os.fsync, self._file)
            except OSError as error:
                failure = LogError(f"{self.path}: a call could not be kept: {error}")
            for synced in waiting:
                if not synced.done():
                    synced.set_exception(failure) if failure else synced.set_result(None)

    def _recover(self) -> None:
        """Indexes the log; what a kill tore off at its end is set aside."""
        place, damaged, number = 0, None, 0
        with self.path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                try:
                    if not line.endswith(b"\n"):
                        raise ValueError("it has no end")
                    record = Record.parse(line)
                except (ValueError, KeyError, TypeError, AttributeError) as error:
                    damaged = damaged or (place, number, error)
                else:
                    if damaged:
                        raise LogError(
                            f"{self.path}: line {damaged[1]} is damaged ({damaged[2]}), and whole "
                            "ones follow: nothing was changed. Take that line out by hand; its "
                            "call is then made again"
                        )
                    self._note(record, place)
                place += len(line)
        self._end = place
        if damaged:
            start = damaged[0]
            tail = os.pread(self._file, place - start, start)
            taken = len(list(self.folder.glob("log.torn-*")))
            self.torn = self.folder / f"log.torn-{taken + 1}"
            self.torn.write_bytes(tail)
            os.ftruncate(self._file, start)
            os.fsync(self._file)
            self._end = start


def _locked(folder: Path) -> int:
    """A lock that the system lets go of however this process ends."""
    lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        holder = os.pread(lock, 100, 0).decode(errors="replace").strip()
        os.close(lock)
        raise LogError(
            f"{folder} is being collected into by another process{f' ({holder})' * bool(holder)}: "
            "wait for it, or give another out="
        ) from None
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"process {os.getpid()}".encode(), 0)
    return lock
