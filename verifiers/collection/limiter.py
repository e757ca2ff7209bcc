"""`Limiter`: limits the concurrent requests to an endpoint, adapted to its responses."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextvars import ContextVar
from typing import Self

# The index of the query that a call is for. Calls of earlier queries go first, so that a slow
# endpoint finishes the first answers before it begins others.
PRIORITY: ContextVar[int] = ContextVar("priority", default=0)

# Slots of a new endpoint, unless the user allows fewer.
_START = 4
# A response that takes so many times as long as the quickest of its size was queued: perhaps, and
# surely.
_PERHAPS, _SURELY = 1.5, 2.0
# Shares of the timeout: from the first on queueing matters, from the second on it is too long.
_SLOW, _LATE = 1 / 8, 1 / 2
# The least number of slots that are added in a round.
_SLOWEST = 1 / 4
# Failures within a round that are no accident, if there are at least four times as many slots.
_STRIKES = 2.0
# Seconds by which a timer may fire early.
_EARLY = 1e-3


class Limiter:
    """Slots for requests: additive increase, multiplicative decrease (Chiu and Jain, 1989).

    Every response adds a slot until one is slow because it was queued (slow start); then every
    round of responses adds one. A timeout, a refusal for overload or a response that was queued for
    too long halves the slots, once for all requests that were under way at that time. A single
    failure among many slots counts as an accident. After timeouts, slots are added more slowly. An
    ``async with`` block holds one slot.

    Args:
        most: the most slots.
        sleep: waits while nothing may be sent. A sleep that ends early means that no more requests
            are made; all waiting calls are then admitted.

    Attributes:
        limit: slots; its integer part is given out.
        under_way: slots taken.
    """

    def __init__(
        self, most: int, sleep: Callable[[float], Awaitable[object]] = asyncio.sleep
    ) -> None:
        self.most, self.limit = most, float(min(_START, most))
        self.under_way = 0
        self._sleep = sleep
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._arrivals = itertools.count()
        self._slow_start = True
        self._quickest: dict[tuple[str, int], float] = {}
        # Slots added in a round, and the number of slots that was last too many.
        self._pace, self._too_many = 1.0, float("inf")
        self._strikes = 0.0
        # The time when the slots were last cut, and the time until which nothing may be sent.
        self._cut = self._resume = float("-inf")
        self._timer: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (PRIORITY.get(), next(self._arrivals), granted))
        self._admit()
        try:
            await granted
        except asyncio.CancelledError:
            if granted.done() and not granted.cancelled():
                self._release()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        self._release()

    @contextlib.asynccontextmanager
    async def paused(self) -> AsyncIterator[None]:
        """A pause of a call. If the endpoint asked for it, the slot is released: afterwards slots
        are given out by priority, and not to all refused calls at once."""
        if not self.held():
            yield
            return
        self._release()
        try:
            yield
            await self.__aenter__()
        except BaseException:
            self.under_way += 1  # the end of the block releases it
            raise

    def succeeded(self, model: str, size: int, seconds: float, patience: float) -> None:
        """Notes a response.

        Args:
            model: its model.
            size: its tokens; responses of similar size are compared.
            seconds: that it took.
            patience: the timeout in seconds.
        """
        kind = model, size.bit_length()
        quickest = self._quickest[kind] = min(seconds, self._quickest.get(kind, seconds))
        if seconds > _SURELY * quickest and seconds > _LATE * patience:
            self.overloaded(seconds)
            return
        if seconds > (_SLOW if seconds > _PERHAPS * quickest else _LATE) * patience:
            self._slow_start = False
        self._strikes = max(0.0, self._strikes - 1 / self.limit)
        # Only responses under full use of the current slots are evidence for more of them.
        if self.under_way >= int(self.limit) and self._now() - seconds >= self._cut:
            more = 1.0 if self._slow_start else self._pace / self.limit
            self.limit = min(self.most, self.limit + more)
            if self.limit >= min(self.most, self._too_many + 1):
                self._pace = 1.0
            self._admit()

    def overloaded(self, seconds: float, lost: bool = False) -> None:
        """Notes a request that failed because of overload.

        Args:
            seconds: since it was sent.
            lost: whether it may have been answered although the response was lost.
        """
        if self._now() - seconds < self._cut:
            return
        self._slow_start = False
        self._strikes += 1
        if self._strikes >= min(_STRIKES, self.limit / 4):
            self._strikes, self._cut, self._too_many = 0.0, self._now(), self.limit
            if lost:
                self._pace = max(_SLOWEST, self._pace / 2)
            self.limit = max(1.0, min(self.limit - 1, max(2.0, self.limit / 2)))

    def hold(self, seconds: float) -> None:
        """Lets no request be sent for some time."""
        self._resume = max(self._resume, self._now() + seconds)

    def held(self) -> float:
        """Seconds for which nothing will be sent."""
        return max(0.0, self._resume - self._now())

    def _release(self) -> None:
        self.under_way -= 1
        self._admit()

    def _admit(self) -> None:
        if self._now() < self._resume:
            if self._timer is None and self._waiting:
                self._timer = asyncio.ensure_future(self._hold_out())
            return
        while self._waiting and self.under_way < int(self.limit):
            granted = heapq.heappop(self._waiting)[2]
            if not granted.done():
                self.under_way += 1
                granted.set_result(None)

    async def _hold_out(self) -> None:
        while (until := self._resume) > self._now():
            await self._sleep(until - self._now())
            if self._now() < until - _EARLY:
                self._resume = self._now()
        self._timer = None
        self._admit()

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()
