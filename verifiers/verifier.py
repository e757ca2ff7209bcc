"""`Verifier`: what the router sees of an answer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from envs import CostModel, Costs, Replay, Rollouts

FloatArray = NDArray[np.float64]


class Verifier(ABC):
    """Emits a signal for every answer of a log."""

    @abstractmethod
    def signal(self, rollouts: Rollouts) -> FloatArray:
        """The signals, ``(n, N)``, or ``(n, N, D)`` if each is a short vector. NaN where the
        verifier says nothing, which only the last model's answers may be."""

    def cost(self, rollouts: Rollouts) -> FloatArray | None:
        """What emitting each signal cost, ``(n, N)`` in the log's unit; None if it is free."""
        return None


@dataclass(frozen=True)
class LoggedSignal(Verifier):
    """A signal that stands in the log.

    Attributes:
        name: which one; None for the only one.
        transform: "exp" turns log-probabilities into confidences in [0, 1].

    Raises:
        ValueError: an unknown transform.
    """

    name: str | None = None
    transform: Literal["exp"] | None = None

    def __post_init__(self) -> None:
        if self.transform not in (None, "exp"):
            raise ValueError(f"verifier.transform is {self.transform!r}: expected null or 'exp'")

    def signal(self, rollouts: Rollouts) -> FloatArray:
        """As logged or transformed, ``(n, N)``.

        Raises:
            ValueError: a signal above 0 is no log-probability.
        """
        signal = rollouts.signals[self._name(rollouts)]
        if self.transform is None:
            return signal
        if (signal > 0).any():
            raise ValueError(
                f"verifier.transform is 'exp', but {self._name(rollouts)!r} is up to "
                f"{np.nanmax(signal):g}: expected log-probabilities, at most 0"
            )
        return np.exp(signal)

    def cost(self, rollouts: Rollouts) -> FloatArray | None:
        return rollouts.signal_costs.get(self._name(rollouts))

    def _name(self, rollouts: Rollouts) -> str:
        names = sorted(rollouts.signals)
        if self.name is None and len(names) == 1:
            return names[0]
        if self.name is None or self.name not in names:
            raise ValueError(
                f"verifier.name is {self.name!r}, the log has the signals {names}: name one of them"
            )
        return self.name


def checked_signal(verifier: Verifier, rollouts: Rollouts) -> FloatArray:
    """A verifier's signals as ``(n, N, D)``.

    Raises:
        ValueError: a wrong shape, or a signal missing where a decision needs it; the message
            names the verifier.
    """
    name = type(verifier).__name__
    signal = np.asarray(verifier.signal(rollouts), dtype=np.float64)
    if signal.ndim == 2:
        signal = signal[..., None]
    n, n_models = rollouts.score.shape
    if signal.ndim != 3 or signal.shape[:2] != (n, n_models):
        raise ValueError(
            f"verifier {name} returned signals of shape {signal.shape}, expected ({n}, {n_models})"
            f" or ({n}, {n_models}, D)"
        )
    bad = np.argwhere(~np.isfinite(signal[:, :-1]).all(axis=2))
    if len(bad):
        row, model = bad[0]
        raise ValueError(
            f"verifier {name} has no finite signal for {rollouts.models[model]!r} on query "
            f"{rollouts.query_id[row]!r} (found {signal[row, model].tolist()}, {len(bad)} such "
            "in all): every answer that a decision can follow needs one"
        )
    return signal


def make_replay(
    rollouts: Rollouts, verifier: Verifier, cost_model: CostModel, costs: Costs
) -> Replay:
    """A log seen through a verifier and a cost model; ``costs`` are fitted on training queries."""
    call, verify = cost_model.apply(rollouts, verifier.cost(rollouts), costs)
    return Replay(rollouts.score, call, verify, checked_signal(verifier, rollouts), rollouts)
