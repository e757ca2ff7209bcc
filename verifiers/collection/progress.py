"""A progress bar with spend, rate, calls under way and the time since the last response."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Collection
from typing import Self

from tqdm import tqdm

from routing_pomdp.verifiers.collection.client import Ledger
from routing_pomdp.verifiers.collection.limiter import Limiter

# Seconds between refreshes, and between lines if standard error is no terminal.
_REFRESH, _LINE = 1.0, 60.0
# Seconds without a response after which the bar says so.
_QUIET = 5.0


class Bar:
    """A progress bar that counts answers.

    Args:
        total: the most answers.
        ledger: its spend is shown.
        slots: their calls under way are shown.
        shown: whether the bar is shown.
        clock: returns seconds.
    """

    def __init__(
        self,
        total: int,
        ledger: Ledger,
        slots: Collection[Limiter],
        shown: bool,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ledger, self._slots, self._clock = ledger, slots, clock
        self._started = self._happened = clock()
        self._counts = (0, 0, 0)
        terminal = sys.stderr.isatty()
        self._bar = tqdm(
            total=total,
            unit="answer",
            disable=not shown,
            dynamic_ncols=terminal,
            mininterval=0.5 if terminal else _LINE,
            maxinterval=10.0 if terminal else _LINE,
        )
        self._refresh = _REFRESH if terminal else _LINE
        self._ticking: asyncio.Task[None] | None = None

    def __enter__(self) -> Self:
        if not self._bar.disable:
            self._ticking = asyncio.ensure_future(self._tick())
        return self

    def __exit__(self, *_: object) -> None:
        if self._ticking:
            self._ticking.cancel()
        self._bar.set_postfix_str(self.says(), refresh=False)
        self._bar.close()

    def step(self) -> None:
        self._bar.update()

    def says(self) -> str:
        """The text after the bar."""
        ledger, now = self._ledger, self._clock()
        counts = (ledger.made, ledger.retried, ledger.found)
        if counts != self._counts:
            self._counts, self._happened = counts, now
        rate = ledger.made / max(now - self._started, 1e-9)
        under_way = sum(slots.under_way for slots in self._slots)
        text = f"{ledger.budget.shown()}, {rate:.2g} calls/s, {under_way} under way"
        if ledger.retried:
            text += f", {ledger.retried} retried"
        if (quiet := now - self._happened) >= _QUIET:
            text += f", last response {quiet:.0f} s ago"
        if held := max((slots.held() for slots in self._slots), default=0.0):
            text += f", an endpoint asked to wait: {held:.0f} s left"
        return text

    async def _tick(self) -> None:
        """Refreshes the text also while no response arrives."""
        while True:
            await asyncio.sleep(self._refresh)
            self._bar.set_postfix_str(self.says())
