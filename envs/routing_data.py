"""`RoutingData`: scores, costs and signals of a set of queries, ready to be stepped through."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from routing_pomdp.envs.arrays import FloatArray
from routing_pomdp.envs.logs.rollouts import Rollouts


@dataclass(frozen=True, eq=False)
class RoutingData:
    """Scores, costs and signals of every model on ``n`` queries; a policy sees what it pays for.

    `Rollouts`, a verifier and a cost model make a `RoutingData`; a `RoutingPOMDP` samples one.
    Environments and evaluation step through it; solvers train on it.

    Attributes:
        score: ``(n, N)`` in [0, 1].
        call_cost: ``(n, N)`` cost of the answers.
        verify_cost: ``(n, N)`` cost of verifying them, in the same unit.
        signal: ``(n, N, D)`` the verifier's raw signals (`envs.signals`), NaN for a missing one;
            the last model's are never used.
        rollouts: the log that it was made from, if any, for solvers that read prompts or answers.
        pre_signal: ``(n, P)`` pre-query signals; None if there are none.
        pre_cost: ``(n,)`` cost of the pre-query signals; None if they are free.
        compared: index of a signal component that compares an answer with the earlier ones ->
            ``(n, N, N)``, the agreement of model ``i``'s answer with model ``j``'s. The component
            is the mean over the models called before, 0.5 if none was. ``signal`` holds it for the
            case that all cheaper models were called; learners train on that.
    """

    score: FloatArray
    call_cost: FloatArray
    verify_cost: FloatArray
    signal: FloatArray
    rollouts: Rollouts | None = None
    pre_signal: FloatArray | None = None
    pre_cost: FloatArray | None = None
    compared: Mapping[int, FloatArray] = field(default_factory=dict)

    def seen(
        self, query: NDArray[np.int64], model: NDArray[np.int64], called: NDArray[np.bool_]
    ) -> FloatArray:
        """The signals that verifying answers emits, ``(m, D)``.

        Args:
            query: ``(m,)`` rows.
            model: ``(m,)`` the models whose answers are verified.
            called: ``(m, N)`` which models have answered.
        """
        signal = self.signal[query, model]
        for number, agrees in self.compared.items():
            before = called & (np.arange(self.n_models) < model[:, None])
            count = before.sum(axis=1)
            total = np.where(before, agrees[query, model], 0.0).sum(axis=1)
            signal[:, number] = np.where(count > 0, total / np.maximum(count, 1), 0.5)
        return signal

    def require_pre_signal(self) -> FloatArray:
        """The pre-query signals, ``(n, P)``.

        Raises:
            ValueError: there are none.
        """
        if self.pre_signal is None:
            raise ValueError(
                "the rules buy a pre-query signal, which the data does not have: make it with "
                "one (pre_query=prompt), or rules without"
            )
        return self.pre_signal

    def take(self, rows: NDArray[np.int64] | NDArray[np.bool_]) -> RoutingData:
        """The queries of some rows."""
        return RoutingData(
            self.score[rows],
            self.call_cost[rows],
            self.verify_cost[rows],
            self.signal[rows],
            None if self.rollouts is None else self.rollouts.take(rows),
            None if self.pre_signal is None else self.pre_signal[rows],
            None if self.pre_cost is None else self.pre_cost[rows],
            {number: agrees[rows] for number, agrees in self.compared.items()},
        )

    def __len__(self) -> int:
        return len(self.score)

    @property
    def n_models(self) -> int:
        return self.score.shape[1]

    @property
    def n_signals(self) -> int:
        return self.signal.shape[2]
