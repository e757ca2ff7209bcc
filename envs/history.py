"""`History`: calls, verifications and signals so far, for a batch of queries."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class History:
    """The information state of ``n`` episodes: all that a policy may look at.

    Attributes:
        query: ``(n,)`` row of each query in its data set, an identity for per-query random draws.
        stage: ``(n,)`` the model called last, -1 before the first call.
        called: ``(n, N)`` which models have answered.
        verified: ``(n, N)`` which of those answers were verified.
        signal: ``(n, N, D)`` the verifier's raw signals (`envs.signals`); NaN where ``verified`` is
            False, and for a missing signal where it is True.
        pre: ``(n, P)`` pre-query signals; None if there are none.
    """

    query: NDArray[np.int64]
    stage: NDArray[np.int64]
    called: NDArray[np.bool_]
    verified: NDArray[np.bool_]
    signal: NDArray[np.float64]
    pre: NDArray[np.float64] | None = None

    def __len__(self) -> int:
        return len(self.query)

    @property
    def n_models(self) -> int:
        return self.called.shape[1]

    @property
    def last_verified(self) -> NDArray[np.bool_]:
        """``(n,)`` whether the last answer was verified; False before the first call."""
        # Stage -1 reads the last model's cell, which is never verified.
        return self.verified[np.arange(len(self)), self.stage]

    @classmethod
    def start(cls, query: NDArray[np.int64], n_models: int, n_signals: int) -> History:
        """One episode for each query, before the first call."""
        n = len(query)
        return cls(
            query=query,
            stage=np.full(n, -1),
            called=np.zeros((n, n_models), dtype=bool),
            verified=np.zeros((n, n_models), dtype=bool),
            signal=np.full((n, n_models, n_signals), np.nan),
        )

    def take(self, rows: NDArray[np.int64]) -> History:
        """The histories of some episodes, by their indices in the batch."""
        return History(
            self.query.take(rows),
            self.stage.take(rows),
            self.called.take(rows, axis=0),
            self.verified.take(rows, axis=0),
            self.signal.take(rows, axis=0),
            None if self.pre is None else self.pre.take(rows, axis=0),
        )

    def copy(self) -> History:
        return History(
            self.query,
            self.stage.copy(),
            self.called.copy(),
            self.verified.copy(),
            self.signal.copy(),
            self.pre,
        )

    def to_array(self) -> NDArray[np.float64]:
        """The observations of `RoutingEnv` if all signals are finite (otherwise see
        `EnvConfig.observed`), ``(n, 1 + 2N + N·D)``: stage, ``called``, ``verified``, then the
        signals with 0 where nothing was verified; then ``P`` pre-query signals, if there are any.
        """
        n = len(self)
        return np.concatenate(
            [
                self.stage[:, None],
                self.called,
                self.verified,
                np.where(self.verified[..., None], self.signal, 0.0).reshape(n, -1),
                *([] if self.pre is None else [self.pre]),
            ],
            axis=1,
            dtype=np.float64,
        )

    @classmethod
    def from_array(cls, array: NDArray[np.float64], n_models: int, n_pre: int = 0) -> History:
        """The inverse of `to_array`, with queries numbered from 0. The ``2N - 1`` action costs that
        an environment may show after the history are ignored.

        Args:
            array: histories.
            n_models: ``N``.
            n_pre: ``P``, how many pre-query signals there are.

        Raises:
            ValueError: the width does not fit ``n_models``.
        """
        n, width = array.shape
        n_signals, rest = divmod(width - 1 - 2 * n_models - n_pre, n_models)
        if rest == n_models - 1:  # 2N - 1 more
            n_signals, rest = n_signals - 1, 0
        if rest or n_signals < 1:
            raise ValueError(
                f"an observation of width {width} is no history of {n_models} models: "
                f"expected 1 + 2·{n_models} + {n_models}·D, or {2 * n_models - 1} more"
            )
        after = 1 + 2 * n_models + n_models * n_signals
        called, verified = (
            array[:, 1 + i * n_models : 1 + (i + 1) * n_models] > 0.5 for i in range(2)
        )
        signal = array[:, 1 + 2 * n_models : after].reshape(n, n_models, n_signals)
        return cls(
            query=np.arange(n),
            stage=array[:, 0].astype(np.int64),
            called=called,
            verified=verified,
            signal=np.where(verified[..., None], signal, np.nan),
            pre=array[:, after : after + n_pre] if n_pre else None,
        )
