"""`Replay`: everything that can happen to a router on a set of queries, ready to be stepped."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from envs.rollouts import Rollouts

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Replay:
    """Scores, costs and signals of every model on ``n`` queries: hidden until they are paid for.

    `Rollouts` become a `Replay` once a cost model and a verifier are chosen; a `RoutingPOMDP`
    samples one. Environments and evaluation step through it; solvers train on it.

    Attributes:
        score: ``(n, N)`` in [0, 1].
        call_cost: ``(n, N)`` cost of the answers.
        verify_cost: ``(n, N)`` cost of verifying them, in the same unit.
        signal: ``(n, N, D)`` the verifier's signals; the last model's are never used.
        rollouts: the log that it was made from, if any: prompts and answers for those who need
            them.
    """

    score: FloatArray
    call_cost: FloatArray
    verify_cost: FloatArray
    signal: FloatArray
    rollouts: Rollouts | None = None

    def __len__(self) -> int:
        return len(self.score)

    @property
    def n_models(self) -> int:
        return self.score.shape[1]

    @property
    def n_signals(self) -> int:
        return self.signal.shape[2]
