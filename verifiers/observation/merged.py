"""`Merged`: an observation model that calibrates several signals to one confidence."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Self

import numpy as np

from routing_pomdp.envs.arrays import FloatArray, IntArray
from routing_pomdp.envs.model.routing_pomdp import Observation
from routing_pomdp.envs.settings.checks import check_settings
from routing_pomdp.envs.settings.ranges import Folds, Seed
from routing_pomdp.verifiers.observation.calibration import Calibration, Calibrator, Kind


@dataclass(eq=False)
class Merged:
    """Calibrates ``D`` signals to one confidence, to which another observation model is fitted.

    That model is fitted to held-out confidences, because in-sample ones are too good.

    Attributes:
        of: the observation model of the confidence.
        kind: of the calibration, see `Calibrator`.
        folds: of the held-out confidences.
        seed: of the folds.
        calibration_: fitted, of each model.
        representative: fitted, ``(N - 1, K, D)`` a training query's signals for each symbol.
    """

    of: Observation
    kind: Kind = "logistic"
    folds: Folds = 5
    seed: Seed = 0
    calibration_: list[Calibration] = field(init=False, repr=False)
    representative: FloatArray = field(init=False, repr=False)

    def __post_init__(self) -> None:
        check_settings(self, "observation")
        self._calibrator = Calibrator(self.kind, folds=self.folds, seed=self.seed)

    @property
    def n_symbols(self) -> int:
        return self.of.n_symbols

    @property
    def likelihood(self) -> FloatArray:
        """``(N - 1, S, K)``, as fitted."""
        return self.of.likelihood

    def fit(self, signal: FloatArray, level: IntArray, score_vectors: IntArray) -> Self:
        """Calibrates on each model's own level and fits; arguments as `Histogram.fit`."""
        _, n_verified, width = signal.shape
        share = level / score_vectors.max()
        fits = [self._calibrator.fit(signal[:, m], share[:, m]) for m in range(n_verified)]
        self.calibration_ = [calibration for calibration, _ in fits]
        held_out = np.stack([confidence for _, confidence in fits], axis=1)
        self.of.fit(held_out[..., None], level, score_vectors)
        self.representative = np.empty((n_verified, self.n_symbols, width))
        for model in range(n_verified):
            confidence = self.calibration_[model](signal[:, model])
            symbol = self.symbols(model, signal[:, model])
            typical = self.of.representative[model, :, 0]
            for k in range(self.n_symbols):
                # The query with the most typical confidence among those with this symbol, or among
                # all if none has it.
                away = np.nan_to_num(np.abs(confidence - typical[k]), nan=1.0)
                away[symbol != k] += 2.0
                self.representative[model, k] = signal[away.argmin(), model]
                if np.isnan(typical[k]):
                    self.representative[model, k] = np.nan
        return self

    def symbols(self, model: int, signal: FloatArray) -> IntArray:
        """Symbols ``(n,)`` of one model's signals ``(n, D)``."""
        return self.of.symbols(model, self.calibration_[model](signal)[:, None])
