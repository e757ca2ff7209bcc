"""`Agreement`: whether models agree."""

from __future__ import annotations

from dataclasses import dataclass

from envs.ranges import Text
from verifiers.canonical import Kind, canonical
from verifiers.live import Case, LiveVerifier, Signal


@dataclass(frozen=True)
class Agreement(LiveVerifier):
    """The share of the answers already paid for that this one equals; it needs no call.

    The first answer has none to be compared with: its signal is 0.5 and says nothing. A text
    without an answer in it agrees with nothing. What was paid for before is what the log was
    collected with: a router that skips models has fewer answers to compare than a log of all of
    them, and its signal is then another one.

    Notes: ``compared``, with how many.

    Attributes:
        name: of the signal.
        kind: what answers are compared as, see `Kind`.

    Raises:
        ValueError: another kind.
    """

    name: Text = "agreement"
    kind: Kind = "auto"

    async def verify(self, case: Case) -> Signal:
        *earlier, own = (canonical(a.text, case.query, self.kind) for a in case.answers)
        same = sum(own != "" and own == other for other in earlier)
        return Signal(same / len(earlier) if earlier else 0.5, {"compared": float(len(earlier))})
