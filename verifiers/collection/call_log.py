"""`CallLog`: records every call on disk before it is sent, and before its response is used.

The log is an append-only file with one JSON line for each step of a call. A line is written by one
``write`` and synced to disk before anything depends on it. So completed calls survive ``kill -9``
and a power cut, and calls that were under way are known and count as possibly charged. Calls that
arrive during a sync share the next one, so that syncing does not limit throughput.

Memory holds the offset of each call's line, about 100 bytes a call, and no text.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from routing_pomdp.verifiers.collection.files import LOCK, LOG, private_folder, sync_folder
from routing_pomdp.verifiers.collection.records import CallKey, Record, RecordError, TornError


class LogError(ValueError):
    """The log cannot be continued; the message names the file."""


@dataclass
class Totals:
    """Sums over the logged calls of one model.

    Attributes:
        calls: how many were completed.
        tokens_in: of their prompts.
        tokens_out: that they generated.
        cost: in USD, at the price when they were made.
        lost: calls without a response that may be charged.
        lost_in: the most prompt tokens that may be charged beyond those of completed calls.
        lost_out: the same for generated tokens.
        unlimited: lost calls without a bound on generated tokens.
        impossible: completed calls for which the endpoint counted more than their request allows.
        least_in: tokens of the shortest prompt by the endpoint's count; None before any.
    """

    calls: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    cost: float = 0.0
    lost: int = 0
    lost_in: int = 0
    lost_out: int = 0
    unlimited: int = 0
    impossible: int = 0
    least_in: int | None = None


class CallLog:
    """The call log of a folder; it locks the folder until it is closed.

    Raises:
        LogError: another collection uses the folder, or a line other than a torn last one is
            damaged.

    Attributes:
        torn: the file to which a torn last line was moved; None if there was none.
        cut_off: calls that were under way when the previous run was killed.
        totals: model -> sums over its calls.
    """

    def __init__(self, folder: Path) -> None:
        private_folder(folder)
        self.folder, self.path = folder, folder / LOG
        self.torn: Path | None = None
        self.cut_off = 0
        self.totals: dict[str, Totals] = {}
        self._under_way: dict[bytes, Record] = {}
        self._lock = _locked(folder)
        self._offsets: dict[bytes, int] = {}
        self._waiting: list[asyncio.Future[None]] = []
        self._syncing: asyncio.Task[None] | None = None
        self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
        try:
            os.fchmod(self._file, 0o600)
            self._recover()
            self._count_cut_off()
            sync_folder(folder)
        except BaseException:
            self._release()
            raise

    def __len__(self) -> int:
        return len(self._offsets)

    def find(self, key: CallKey) -> Record | None:
        """The record of a completed call; None if there is none."""
        offset = self._offsets.get(key.digest())
        if offset is None:
            return None
        line, size = b"", 2**12
        while not line.endswith(b"\n"):
            text, end, _ = os.pread(self._file, size, offset).partition(b"\n")
            line = text + end
            size *= 4
        return Record.parse(line)

    async def append(self, record: Record) -> None:
        """Writes a line and returns when it is on disk.

        Raises:
            LogError: the disk is full, or fails.
        """
        self.write(record)
        synced: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(synced)
        if self._syncing is None or self._syncing.done():
            self._syncing = asyncio.create_task(self._sync())
        await synced

    def write(self, record: Record) -> None:
        """Writes a line that nothing depends on; it is synced with the next one.

        Raises:
            LogError: the disk is full, or fails.
        """
        line = record.line()
        offset = self._end
        try:
            written = os.write(self._file, line)
            if written < len(line):
                os.ftruncate(self._file, offset)  # no line may follow half a line
                raise OSError(f"only {written} of {len(line)} bytes could be written")
        except OSError as error:
            raise LogError(f"{self.path}: a call could not be kept: {error}") from error
        self._end += written
        self._note(record, offset)

    def records(self) -> Iterator[Record]:
        """All lines, in the order of writing."""
        with self.path.open("rb") as file:
            for line in file:
                yield Record.parse(line)

    def close(self) -> None:
        try:
            os.fsync(self._file)
        finally:
            self._release()

    def _release(self) -> None:
        os.close(self._file)
        os.close(self._lock)

    def _note(self, record: Record, offset: int) -> None:
        totals = self.totals.setdefault(record.key.model, Totals())
        digest, made = record.key.digest(), record.completion
        # Every further record of a call ends its attempt that is under way.
        sent = self._under_way.pop(digest, None)
        if made is not None:
            self._offsets[digest] = offset
            totals.calls += 1
            totals.tokens_in += made.tokens_in
            totals.tokens_out += made.tokens_out
            totals.cost += made.cost
            totals.impossible += "impossible_usage" in record.flags
            if "usage_estimated" not in record.flags:
                least = totals.least_in
                totals.least_in = made.tokens_in if least is None else min(least, made.tokens_in)
            elif sent is not None:  # tokens that the endpoint did not count: at most the limit
                totals.lost_in += max(0, sent.charged_in - made.tokens_in)
                totals.lost_out += max(0, (sent.charged_out or 0) - made.tokens_out)
                totals.unlimited += sent.charged_out is None
        elif record.kind == "sent":
            self._under_way[digest] = record
        elif record.kind == "lost":
            totals.lost += 1
            totals.lost_in += record.charged_in
            totals.lost_out += record.charged_out or 0
            totals.unlimited += record.charged_out is None

    async def _sync(self) -> None:
        while self._waiting:
            waiting, self._waiting = self._waiting, []
            failure: BaseException | None = None
            try:
                await asyncio.to_thread(os.fsync, self._file)
            except OSError as error:
                failure = LogError(f"{self.path}: a call could not be kept: {error}")
            except BaseException as error:  # the waiting calls have to be released in any case
                failure = error
            for synced in waiting:
                if not synced.done():
                    synced.set_exception(failure) if failure else synced.set_result(None)

    def _recover(self) -> None:
        """Indexes the log, and moves a torn last line to a file of its own.

        Raises:
            LogError: another line is damaged; nothing was changed.
        """
        self._end = 0
        damaged: tuple[int, RecordError] | None = None
        with self.path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if damaged:
                    raise self._refusal(*damaged, "more lines follow")
                try:
                    record = Record.parse(line)
                except RecordError as error:
                    damaged = number, error
                    continue
                if not line.endswith(b"\n"):  # complete, only the line break is missing
                    os.write(self._file, b"\n")
                    os.fsync(self._file)
                    line += b"\n"
                    self._note(record, self._end)
                    self._end += len(line)
                    break
                self._note(record, self._end)
                self._end += len(line)
        if damaged:
            if not isinstance(damaged[1], TornError):
                raise self._refusal(*damaged, "it is whole, so that no kill tore it")
            self._set_aside()

    def _refusal(self, number: int, error: RecordError, why: str) -> LogError:
        return LogError(
            f"{self.path}: line {number} is damaged ({error}), and {why}: nothing was changed. "
            "Mend that line, or take it out by hand; its call is then made again"
        )

    def _set_aside(self) -> None:
        """Moves the bytes after the last complete line to a file of their own."""
        tail = os.pread(self._file, os.fstat(self._file).st_size - self._end, self._end)
        number = 1
        while (path := self.folder / f"log.torn-{number}").exists():
            number += 1
        aside = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            os.write(aside, tail)
            os.fsync(aside)
        finally:
            os.close(aside)
        os.ftruncate(self._file, self._end)
        os.fsync(self._file)
        self.torn = path

    def _count_cut_off(self) -> None:
        """Records the calls that a kill cut off as lost: they may be charged."""
        for sent in list(self._under_way.values()):
            self.write(Record(sent.key, None, (), sent.charged_in, sent.charged_out, "lost"))
            self.cut_off += 1
        if self.cut_off:
            os.fsync(self._file)


def _locked(folder: Path) -> int:
    """The descriptor of a lock, which the system releases however this process ends."""
    lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        holder = os.pread(lock, 100, 0).decode(errors="replace").strip()
        os.close(lock)
        raise LogError(
            f"{folder} is being collected into by another process{f' ({holder})' * bool(holder)}: "
            "wait for it, or give another out="
        ) from None
    try:
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"process {os.getpid()}".encode(), 0)
    except BaseException:
        os.close(lock)
        raise
    return lock
