"""What a signal may be, and what a model may compute with: the one convention of this project.

A **raw signal**, in `Rollouts`, `RoutingData` and `History`, is a number, -∞ (the log of
probability 0: the lowest signal there is), +∞ (the highest), or NaN. NaN of a *verified* answer
says that the verifier said nothing: an observation of its own, a **missing** signal. NaN of an
answer that was not verified says nothing; the mask ``verified`` tells the two apart.

What compares signals (bins, thresholds, ranks) takes raw ones as they are. What computes with them
or shows them to a network takes `SignalRange`: finite numbers, and apart from them a mask of what
is missing. How much a missing signal says is learned like everything else: by counting, with half
a query added, so that one that training never showed is possible and says nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

import numpy as np

from routing_pomdp.envs.arrays import BoolArray, FloatArray

HALF = 0.5  # a query's weight that is added where missing signals are counted


@dataclass(frozen=True, eq=False)
class SignalRange:
    """Turns raw signals into finite ones: -∞ into ``low``, +∞ into ``high``, and back.

    Both lie beyond every finite signal that the range was fitted to; what lies further out is cut
    off there, so the order is kept.

    Attributes:
        low: ``(D,)``.
        high: ``(D,)``.
    """

    low: FloatArray
    high: FloatArray

    @classmethod
    def fit(cls, signal: FloatArray) -> Self:
        """The range of signals ``(..., D)``: each end lies one spread beyond what was seen."""
        columns = _rows(signal)
        finite = np.isfinite(columns)
        some = finite.any(axis=0)
        low = np.where(some, np.where(finite, columns, np.inf).min(axis=0, initial=np.inf), 0.0)
        high = np.where(some, np.where(finite, columns, -np.inf).max(axis=0, initial=-np.inf), 0.0)
        spread = np.where(high > low, high - low, 1.0)
        # A spread too small for the numbers' size would be lost in rounding.
        beyond = np.maximum(spread, 1e-6 * np.maximum(abs(low), abs(high)))
        return cls(low - beyond, high + beyond)

    def finite(self, signal: FloatArray) -> FloatArray:
        """Signals ``(..., D)`` within the range; what is missing stays NaN."""
        return np.clip(signal, self.low, self.high)


@dataclass(frozen=True, eq=False)
class ShownSignals:
    """How an environment shows raw signals: as finite numbers that it can take back.

    An infinite one is shown as the end of its range, a missing one as 0 with a mark: where the
    signals that it was fitted to have missing ones, the ``D`` numbers of an answer are followed by
    ``D`` marks, 1 for missing.

    Attributes:
        range: of the signals.
        infinite: whether some are.
        marked: whether some are missing.
    """

    range: SignalRange
    infinite: bool
    marked: bool

    @classmethod
    def fit(cls, signal: FloatArray) -> Self:
        """For signals ``(..., D)``."""
        infinite, marked = bool(np.isinf(signal).any()), bool(np.isnan(signal).any())
        return cls(SignalRange.fit(signal), infinite, marked)

    @property
    def n_signals(self) -> int:
        """``D``."""
        return len(self.range.low)

    @property
    def width(self) -> int:
        """How many numbers are shown of an answer: ``D`` or ``2D``."""
        return self.n_signals * (1 + self.marked)

    def bounds(self, signal: FloatArray) -> tuple[FloatArray, FloatArray]:
        """The least and the largest numbers ``(width,)`` shown of the signals that it was fitted
        to, with 0, which stands where nothing was seen."""
        shown = _rows(self.show(signal))
        return shown.min(axis=0, initial=0.0), shown.max(axis=0, initial=0.0)

    def show(self, signal: FloatArray) -> FloatArray:
        """``(..., width)`` of raw signals ``(..., D)``."""
        if not (self.infinite or self.marked):
            return signal
        shown = np.where(signal == -np.inf, self.range.low, signal)
        shown = np.where(signal == np.inf, self.range.high, shown)
        if not self.marked:
            return shown
        silent = np.isnan(signal)
        return np.concatenate([np.where(silent, 0.0, shown), silent], axis=-1)

    def raw(self, shown: FloatArray) -> FloatArray:
        """The inverse of `show`; NaN stays what it is."""
        if not (self.infinite or self.marked):
            return shown
        raw = shown[..., : self.n_signals]
        if self.infinite:
            raw = np.where(raw == self.range.low, -np.inf, raw)
            raw = np.where(raw == self.range.high, np.inf, raw)
        if self.marked:
            raw = np.where(shown[..., self.n_signals :] > 0.5, np.nan, raw)
        return raw


def _rows(signal: FloatArray) -> FloatArray:
    """``(m, D)`` of ``(..., D)``, where there may be none."""
    return signal.reshape(math.prod(signal.shape[:-1]), signal.shape[-1])


def between(low: FloatArray, high: FloatArray) -> FloatArray:
    """Finite cuts ``c`` with ``low < c <= high``, the middle where both are finite.

    Args:
        low: signals, maybe -∞.
        high: larger signals, maybe ∞.
    """
    with np.errstate(invalid="ignore"):
        middle = (low + high) / 2
    inner = np.where(np.isinf(low), 0.0, np.nextafter(low, np.inf))
    upper = np.where(np.isinf(high), inner, high)
    return np.where(np.isfinite(middle) & (middle > low), middle, upper)


def shrunk_mean(value: FloatArray, among: BoolArray) -> float:
    """The mean of ``value (n,)`` over the queries ``among`` them, with half a query added that is
    like all: with none among them it is the mean of all."""
    total = float(value[among].sum()) + HALF * float(value.mean())
    return total / (int(among.sum()) + HALF)
