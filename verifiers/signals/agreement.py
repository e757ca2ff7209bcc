"""`Agreement`: whether models agree."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from routing_pomdp.envs import Rollouts
from routing_pomdp.envs.arrays import FloatArray
from routing_pomdp.envs.settings.ranges import Text
from routing_pomdp.verifiers.answers.canonical import Kind, canonical
from routing_pomdp.verifiers.live import Case, LiveVerifier, Query, Signal


@dataclass(frozen=True)
class Agreement(LiveVerifier):
    """The share of the answers already paid for that this one equals; it needs no call.

    The first answer has none to be compared with: its signal is 0.5 and says nothing. A text
    without an answer in it agrees with nothing.

    Of a log with an ``answer`` column it is computed from the answers, and every episode sees it
    for the answers that it bought, whatever it skipped and wherever it began, as live. What is
    learned or merged before an episode takes all cheaper models' answers for bought. A log without
    the column has the signal as it was collected. (A log does not keep a question's choices: there
    "auto" is "text".)

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

    def signal(self, rollouts: Rollouts) -> FloatArray:
        """``(n, N)`` where all cheaper models of the log were called before; else as logged."""
        if rollouts.answer is None:
            return super().signal(rollouts)
        called = ~np.isnan(rollouts.score)
        agrees = self.compared(rollouts)[0]
        before = np.tril(np.ones((rollouts.n_models, rollouts.n_models), dtype=bool), -1)
        earlier = before & called[:, None, :]
        count = earlier.sum(axis=2)
        share = np.where(earlier, agrees, 0.0).sum(axis=2) / np.maximum(count, 1)
        return np.where(called, np.where(count > 0, share, 0.5), np.nan)

    def cost(self, rollouts: Rollouts) -> FloatArray | None:
        """None where it is computed: it needs no call."""
        return None if rollouts.answer is not None else super().cost(rollouts)

    def compared(self, rollouts: Rollouts) -> Mapping[int, FloatArray]:
        """1 where two answers are the same, 0 elsewhere."""
        if rollouts.answer is None:
            return {}
        forms = np.array(
            [
                [
                    "" if text is None else canonical(text, Query(str(query_id), ""), self.kind)
                    for text in row
                ]
                for query_id, row in zip(rollouts.query_id, rollouts.answer, strict=True)
            ],
            dtype=object,
        )
        same = (forms[:, :, None] == forms[:, None, :]) & (forms != "")[:, :, None]
        return {0: same.astype(np.float64)}
