"""A progress bar with spend, rate and time left."""

from __future__ import annotations

import time
from typing import Self

from tqdm import tqdm

from verifiers.collection.client import Ledger


class Bar:
    """Counts answers; nothing is shown where it is off.

    Args:
        total: answers at most.
        ledger: whose spend is shown.
        shown: whether there is a bar at all.
    """

    def __init__(self, total: int, ledger: Ledger, shown: bool) -> None:
        self._ledger, self._started = ledger, time.monotonic()
        # None: off where standard error is no terminal, but for one line at the end.
        self._bar = tqdm(
            total=total, unit="answer", disable=not shown, dynamic_ncols=True, mininterval=0.5
        )
        self._next = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._show()
        self._bar.close()

    def step(self) -> None:
        now = time.monotonic()
        if now >= self._next:
            self._next = now + 0.5
            self._show()
        self._bar.update()

    def _show(self) -> None:
        ledger = self._ledger
        rate = ledger.made / max(time.monotonic() - self._started, 1e-9)
        self._bar.set_postfix_str(
            f"{ledger.budget.shown()}, {rate:.1f} calls/s, {ledger.retried} retried", refresh=False
        )
