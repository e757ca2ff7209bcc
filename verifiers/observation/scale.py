"""`LogitScale`: transforms signals of any kind to logits, on which densities are smooth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Self, get_args

import numpy as np
from scipy.special import expit, logit

from routing_pomdp.envs.arrays import FloatArray

Scale = Literal["auto", "logprob", "probability", "real"]

LIMIT = 16.0  # the largest absolute value of logits
# The interquartile range of a standard logistic variable.
_QUARTILES = 2 * np.log(3)


@dataclass(frozen=True)
class LogitScale:
    """Turns a signal into a logit ``z`` in [-16, 16], increasing in the signal.

    - "logprob", a log-probability ``s <= 0``: ``z = s - log(1 - exp(s))``;
    - "probability", ``s`` in [0, 1]: ``z = log(s / (1 - s))``;
    - "real", any number: ``z = (s - median) / w``, with ``w`` such that ``z`` has the interquartile
      range of a standard logistic variable.

    Logits are clipped at ±16: a log-probability of exactly 0, or of -10⁴, is treated as a
    probability ``1.1e-7`` away from 1 or 0.

    Attributes:
        kind: one of these three.
        centre: the median, under "real".
        width: ``w``, under "real".
    """

    kind: Scale
    centre: float = 0.0
    width: float = 1.0

    @classmethod
    def fit(cls, signal: FloatArray, kind: Scale = "auto") -> Self:
        """The scale for training signals ``(n,)``.

        Args:
            signal: see `envs.signals`; missing and infinite ones do not affect centre and width.
            kind: "auto" treats signals that are all <= 0, and not all 0, as log-probabilities,
                signals in [0, 1] as probabilities, and others as real numbers.

        Raises:
            ValueError: the signals are not of the kind.
        """
        signal = signal[~np.isnan(signal)]
        low, high = (float(signal.min()), float(signal.max())) if len(signal) else (-1.0, 1.0)
        if kind == "auto":
            kind = "real" if high > 0 else "logprob"
            if 0 <= low <= high <= 1:
                kind = "probability"
        if kind not in get_args(Scale):
            raise ValueError(f"observation.scale is {kind!r}: expected one of {get_args(Scale)}")
        if kind == "logprob" and high > 0:
            raise ValueError(f"observation.scale is 'logprob', but signals reach {high:g} > 0")
        if kind == "probability" and not 0 <= low <= high <= 1:
            raise ValueError(
                f"observation.scale is 'probability', but signals lie in [{low:g}, {high:g}]"
            )
        if kind != "real":
            return cls(kind)
        signal = signal[np.isfinite(signal)]
        if not len(signal):
            return cls(kind)
        first, centre, third = np.quantile(signal, [0.25, 0.5, 0.75]).tolist()
        # If half of the signals tie, the quartiles give no width.
        spread = third - first or float(signal.std()) * 1.35
        return cls(kind, centre, spread / _QUARTILES if spread > 0 else 1.0)

    def __call__(self, signal: FloatArray) -> FloatArray:
        """Logits of signals of any shape; NaN for missing ones."""
        if self.kind == "real":
            return np.clip((signal - self.centre) / self.width, -LIMIT, LIMIT)
        if self.kind == "probability":
            return logit(np.clip(signal, expit(-LIMIT), expit(LIMIT)))
        # log p = -log(1 + exp(-z)): clipping log p first avoids overflow.
        bounded = np.clip(signal, -np.logaddexp(0, LIMIT), -np.logaddexp(0, -LIMIT))
        return np.clip(bounded - np.log(-np.expm1(bounded)), -LIMIT, LIMIT)

    def inverse(self, z: FloatArray) -> FloatArray:
        """The signals with these logits."""
        if self.kind == "real":
            return self.centre + self.width * z
        return expit(z) if self.kind == "probability" else -np.logaddexp(0, -z)
