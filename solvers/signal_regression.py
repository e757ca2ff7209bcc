"""Regression on signals of any scale, with cross-validated predictions."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from routing_pomdp.envs.arrays import FloatArray
from routing_pomdp.envs.signals import SignalRange


@dataclass(frozen=True)
class SignalRegression:
    """Ridge regression on piecewise linear functions of each signal's rank.

    Each signal that is missing in training has an indicator of missing values. The functions of a
    missing signal's rank take their mean over the training signals.

    Attributes:
        knots: number of knots of the piecewise linear functions, ends included.
        folds: number of folds of the cross-validated predictions.
        seed: seed of the folds.
    """

    knots: int = 4
    folds: int = 5
    seed: int = 0

    def fit(self, signal: FloatArray, targets: FloatArray) -> tuple[FittedRegression, FloatArray]:
        """A fitted regression and its cross-validated predictions.

        Args:
            signal: ``(n, D)``, any scale, see `envs.signals`; ``D = 0`` predicts means.
            targets: ``(n, T)``.

        Returns:
            The regression, and ``(n, T)`` the prediction for each query from the other folds.
        """
        from sklearn.model_selection import KFold

        n = len(signal)
        quantiles = min(n - -(-n // self.folds), 100)  # no more than training queries of a fold
        guess = np.empty(targets.shape)
        for rest, fold in KFold(self.folds, shuffle=True, random_state=self.seed).split(signal):
            fitted = self._fit(signal[rest], targets[rest], quantiles)
            guess[fold] = fitted.predict(signal[fold])
        return self._fit(signal, targets, quantiles), guess

    def _fit(self, signal: FloatArray, targets: FloatArray, quantiles: int) -> FittedRegression:
        from sklearn.dummy import DummyRegressor
        from sklearn.linear_model import RidgeCV

        if not signal.shape[1]:
            # scikit-learn needs at least one feature, even to predict the mean.
            return FittedRegression(None, DummyRegressor().fit(np.zeros((len(signal), 1)), targets))
        basis = RankBasis.fit(signal, quantiles, self.knots)
        ridge = RidgeCV(np.logspace(-2, 3, 11), alpha_per_target=True)
        return FittedRegression(basis, ridge.fit(basis(signal), targets))


@dataclass(frozen=True, eq=False)
class FittedRegression:
    """A fitted regression on signals.

    Attributes:
        basis: features of the signals; None where there are no signals.
        model: a regressor of scikit-learn.
    """

    basis: RankBasis | None
    model: Any

    def predict(self, signal: FloatArray) -> FloatArray:
        """``(n, T)`` from ``(n, D)``."""
        x = np.zeros((len(signal), 1)) if self.basis is None else self.basis(signal)
        found: FloatArray = self.model.predict(x)
        return found.reshape(len(signal), -1)


@dataclass(frozen=True, eq=False)
class RankBasis:
    """Piecewise linear functions of each signal's rank, and indicators of missing signals.

    Attributes:
        range: makes signals finite.
        ranks: scikit-learn's quantile transformer.
        splines: scikit-learn's spline transformer, applied to the ranks.
        mean: ``(D · B,)`` means of the functions over the training signals that are not missing.
        ever: ``(D,)`` which signals are ever missing in training.
    """

    range: SignalRange
    ranks: Any
    splines: Any
    mean: FloatArray
    ever: NDArray[np.bool_]

    @classmethod
    def fit(cls, signal: FloatArray, quantiles: int, knots: int) -> RankBasis:
        """From training signals ``(n, D)``.

        Args:
            signal: see `envs.signals`.
            quantiles: number of quantiles between which ranks are interpolated.
            knots: number of knots of the functions.
        """
        from sklearn.preprocessing import QuantileTransformer, SplineTransformer

        bounds, absent = SignalRange.fit(signal), np.isnan(signal)
        # A column in which every signal is missing has no ranks: any number will do.
        finite = np.where(absent.all(axis=0), 0.0, bounds.finite(signal))
        ranks = QuantileTransformer(n_quantiles=quantiles, subsample=None).fit(finite)
        grid = np.tile(np.linspace(0, 1, knots)[:, None], signal.shape[1])
        splines = SplineTransformer(degree=1, knots=grid, include_bias=False)
        splines.fit(np.zeros((2, signal.shape[1])))
        basis = cls(bounds, ranks, splines, np.zeros(0), absent.sum(axis=0) > 0)
        values, there = basis._values(signal)
        mean = (values * there).sum(axis=0) / np.maximum(there.sum(axis=0), 1)
        return replace(basis, mean=mean)

    def __call__(self, signal: FloatArray) -> FloatArray:
        """``(n, D · B + E)`` features of signals ``(n, D)``, ``E`` of which were ever missing in
        training."""
        values, there = self._values(signal)
        marks = np.isnan(signal[:, self.ever])
        return np.column_stack([np.where(there, values, self.mean), marks])

    def _values(self, signal: FloatArray) -> tuple[FloatArray, NDArray[np.bool_]]:
        """The functions ``(n, D · B)``, and a mask of those whose signal is not missing."""
        absent = np.isnan(signal)
        finite = np.where(absent, self.range.low, self.range.finite(signal))
        values: FloatArray = self.splines.transform(self.ranks.transform(finite))
        return values, ~np.repeat(absent, values.shape[1] // signal.shape[1], axis=1)
