"""Values that a verifier's signal may take, and their conversion to finite numbers.

A **raw signal**, in `Rollouts`, `RoutingData` and `History`, is a number, -∞ (the log of
probability 0, the lowest signal), +∞ (the highest), or NaN. NaN of a *verified* answer is a
**missing** signal: the verifier gave none, which is an observation of its own. NaN of an answer
that was not verified carries no information; the mask ``verified`` tells the two apart.

Code that compares signals (bins, thresholds, ranks) takes raw ones. Code that computes with them or
feeds them to a network takes the finite numbers of `SignalRange` and a separate mask of missing
ones. The likelihood of a missing signal is estimated by counting, with half a query added: if
training had none, a missing signal is still possible and carries no information.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

import numpy as np

from routing_pomdp.envs.arrays import BoolArray, FloatArray

HALF = 0.5  # the pseudo-count added where missing signals are counted


@dataclass(frozen=True, eq=False)
class SignalRange:
    """Turns raw signals into finite ones: -∞ into ``low``, +∞ into ``high``.

    Both lie beyond every finite signal that the range was fitted to. Signals further out are
    clipped, so the order is kept.

    Attributes:
        low: ``(D,)``.
        high: ``(D,)``.
    """

    low: FloatArray
    high: FloatArray

    @classmethod
    def fit(cls, signal: FloatArray) -> Self:
        """The range of signals ``(..., D)``: each end lies one spread beyond the finite ones."""
        columns = _rows(signal)
        finite = np.isfinite(columns)
        some = finite.any(axis=0)
        low = np.where(some, np.where(finite, columns, np.inf).min(axis=0, initial=np.inf), 0.0)
        high = np.where(some, np.where(finite, columns, -np.inf).max(axis=0, initial=-np.inf), 0.0)
        spread = np.where(high > low, high - low, 1.0)
        # A spread that is tiny relative to the numbers would be lost in rounding.
        beyond = np.maximum(spread, 1e-6 * np.maximum(abs(low), abs(high)))
        return cls(low - beyond, high + beyond)

    def finite(self, signal: FloatArray) -> FloatArray:
        """Signals ``(..., D)`` clipped to the range; missing ones stay NaN."""
        return np.clip(signal, self.low, self.high)


@dataclass(frozen=True, eq=False)
class ShownSignals:
    """An invertible encoding of raw signals as finite numbers, for observations.

    An infinite signal is encoded as the end of its range, a missing one as 0 with a mark. If the
    signals that it was fitted to have missing ones, ``D`` marks follow the ``D`` numbers of an
    answer, 1 for missing.

    Attributes:
        range: of the signals.
        infinite: whether some signals are infinite.
        marked: whether some signals are missing.
    """

    range: SignalRange
    infinite: bool
    marked: bool

    @classmethod
    def fit(cls, signal: FloatArray) -> Self:
        """The encoding for signals ``(..., D)``."""
        infinite, marked = bool(np.isinf(signal).any()), bool(np.isnan(signal).any())
        return cls(SignalRange.fit(signal), infinite, marked)

    @property
    def n_signals(self) -> int:
        """``D``."""
        return len(self.range.low)

    @property
    def width(self) -> int:
        """How many numbers encode one answer's signals: ``D`` or ``2D``."""
        return self.n_signals * (1 + self.marked)

    def bounds(self, signal: FloatArray) -> tuple[FloatArray, FloatArray]:
        """The smallest and largest numbers ``(width,)`` in the encoding of ``signal``, and 0, which
        stands for answers that were not verified."""
        shown = _rows(self.show(signal))
        return shown.min(axis=0, initial=0.0), shown.max(axis=0, initial=0.0)

    def show(self, signal: FloatArray) -> FloatArray:
        """The encoding ``(..., width)`` of raw signals ``(..., D)``."""
        if not (self.infinite or self.marked):
            return signal
        shown = np.where(signal == -np.inf, self.range.low, signal)
        shown = np.where(signal == np.inf, self.range.high, shown)
        if not self.marked:
            return shown
        silent = np.isnan(signal)
        return np.concatenate([np.where(silent, 0.0, shown), silent], axis=-1)

    def raw(self, shown: FloatArray) -> FloatArray:
        """The inverse of `show`; NaN stays NaN."""
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
    """``(..., D)`` reshaped to ``(m, D)``, where ``m`` may be 0."""
    return signal.reshape(math.prod(signal.shape[:-1]), signal.shape[-1])


def between(low: FloatArray, high: FloatArray) -> FloatArray:
    """Finite cuts ``c`` with ``low < c <= high``, the midpoint if both are finite.

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
    """The mean of ``value (n,)`` over the queries where ``among`` is true, shrunk toward the mean
    of all by a pseudo-count of half a query."""
    total = float(value[among].sum()) + HALF * float(value.mean())
    return total / (int(among.sum()) + HALF)
