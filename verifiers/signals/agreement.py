"""`Agreement`: the agreement of an answer with earlier models' answers."""

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
    """The share of the earlier answers of the episode that equal this one; it needs no call.

    The first answer has the uninformative signal 0.5. A text without an answer agrees with none.

    On a log with an ``answer`` column it is computed from the answers: every episode observes it
    for the answers that it bought, as live, even if it skipped models. Training assumes that all
    cheaper models were called. Without the column, the collected signal is read. (A log has no
    choices of questions, so there "auto" is "text".)

    Notes: ``compared``, the number of earlier answers.

    Attributes:
        name: of the signal.
        kind: how answers are compared, see `Kind`.

    Raises:
        ValueError: an unknown kind.
    """

    name: Text = "agreement"
    kind: Kind = "auto"

    async def verify(self, case: Case) -> Signal:
        *earlier, own = (canonical(a.text, case.query, self.kind) for a in case.answers)
        same = sum(own != "" and own == other for other in earlier)
        return Signal(same / len(earlier) if earlier else 0.5, {"compared": float(len(earlier))})

    def signal(self, rollouts: Rollouts) -> FloatArray:
        """``(n, N)`` for episodes that called all cheaper models; as logged without answers."""
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
        """None if the signal is computed from answers, else as logged."""
        return None if rollouts.answer is not None else super().cost(rollouts)

    def compared(self, rollouts: Rollouts) -> Mapping[int, FloatArray]:
        """Whether two answers are equal, 1 or 0; see `Verifier.compared`."""
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
