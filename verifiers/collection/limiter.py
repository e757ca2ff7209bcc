"""`Limiter`: how many requests one endpoint gets at once, learned from how it bears them."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextvars import ContextVar
from typing import Self

# The place of the query that a call is for. Earlier queries go first: a slow endpoint then
# finishes the first answers, instead of beginning all of them.
PLACE: ContextVar[int] = ContextVar("place", default=0)

# An endpoint that nobody knows gets this many requests, or fewer where the user allows fewer.
_START = 4
# Responses that take so many times as long as the quickest of their size have waited for others:
# perhaps, and surely.
_PERHAPS, _SURELY = 1.5, 2.0
# Parts of the timeout: from the first on waiting matters, from the second on it is too long.
_SLOW, _LATE = 1 / 8, 1 / 2
# Slots are not added more slowly than this, a round.
_SLOWEST = 1 / 4
# Failures within a round that are no accident, where there are four times as many slots.
_STRIKES = 2.0
# Seconds by which a timer may be early.
_EARLY = 1e-3


class Limiter:
    """Slots for requests: additive increase, multiplicative decrease (Chiu and Jain, 1989).

    Every response adds a slot until one is slow for having waited for others (slow start); then
    every round of responses adds one. A timeout, a refusal for overload or a response that waited
    for too long halves the slots, once for all requests that were under way at that time; a single
    one among many slots is taken for an accident. What made requests time out is tried again more
    rarely. An ``async with`` block holds one slot.

    Args:
        most: slots at most.
        sleep: for the times in which nothing may be sent; a sleep that ends early says that no
            more requests are made, and everybody gets through.

    Attributes:
        limit: slots, of which the whole part is given out.
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
        # Slots added a round, and how many were too many last time.
        self._pace, self._too_many = 1.0, float("inf")
        self._strikes = 0.0
        # When the slots were cut last, and before when nothing may be sent.
        self._cut = self._resume = float("-inf")
        self._timer: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (PLACE.get(), next(self._arrivals), granted))
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
        """A pause of a call. One that the endpoint asked for is taken without a slot: afterwards
        the slots that are left are given out by place, and not to all who were refused at once."""
        if not self.held():
            yield
            return
        self._release()
        try:
            yield
            await self.__aenter__()
        except BaseException:
            self.under_way += 1  # the end of the block gives it back
            raise

    def succeeded(self, model: str, size: int, seconds: float, patience: float) -> None:
        """Notes a response.

        Args:
            model: that gave it.
            size: tokens; responses of a size are compared.
            seconds: that it took.
            patience: seconds after which it would have been given up.
        """
        kind = model, size.bit_length()
        quickest = self._quickest[kind] = min(seconds, self._quickest.get(kind, seconds))
        if seconds > _SURELY * quickest and seconds > _LATE * patience:
            self.overloaded(seconds)
            return
        if seconds > (_SLOW if seconds > _PERHAPS * quickest else _LATE) * patience:
            self._slow_start = False
        self._strikes = max(0.0, self._strikes - 1 / self.limit)
        # Responses say nothing about slots that were not used, or no longer exist.
        if self.under_way >= int(self.limit) and self._now() - seconds >= self._cut:
            more = 1.0 if self._slow_start else self._pace / self.limit
            self.limit = min(self.most, self.limit + more)
            if self.limit >= min(self.most, self._too_many + 1):
                self._pace = 1.0
            self._admit()

    def overloaded(self, seconds: float, lost: bool = False) -> None:
        """Notes a request that the endpoint could not bear.

        Args:
            seconds: since it was sent.
            lost: whether it may have been answered, in vain.
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
        """Lets nobody send for so long."""
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
