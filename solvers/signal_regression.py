"""Regression of anything on signals of any scale, with predictions from other folds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class SignalRegression:
    """Ridge regression on piecewise linear functions of each signal's rank.

    Attributes:
        knots: of the piecewise linear functions, ends included.
        folds: of the predictions from other folds.
        seed: of the folds.
    """

    knots: int = 4
    folds: int = 5
    seed: int = 0

    def fit(self, signal: FloatArray, targets: FloatArray) -> tuple[FittedRegression, FloatArray]:
        """A fitted regression, and what each query is predicted without its own fold.

        Args:
            signal: ``(n, D)``, any scale; ``D = 0`` predicts means.
            targets: ``(n, T)``.

        Returns:
            The regression and ``(n, T)``.
        """
        from sklearn.dummy import DummyRegressor
        from sklearn.linear_model import RidgeCV
        from sklearn.model_selection import KFold, cross_val_predict
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import QuantileTransformer, SplineTransformer

        n, width = signal.shape
        if not width:
            model: Any = DummyRegressor()
        else:
            smallest = n - -(-n // self.folds)  # training queries of a fold
            grid = np.tile(np.linspace(0, 1, self.knots)[:, None], width)
            model = make_pipeline(
                QuantileTransformer(n_quantiles=min(smallest, 100), subsample=None),
                SplineTransformer(degree=1, knots=grid, include_bias=False),
                RidgeCV(np.logspace(-2, 3, 11), alpha_per_target=True),
            )
        folds = KFold(self.folds, shuffle=True, random_state=self.seed)
        guess = cross_val_predict(model, _columns(signal), targets, cv=folds)
        return FittedRegression(model.fit(_columns(signal), targets)), guess.reshape(targets.shape)


@dataclass(frozen=True, eq=False)
class FittedRegression:
    """Predicts from signals.

    Attributes:
        model: scikit-learn's.
    """

    model: Any

    def predict(self, signal: FloatArray) -> FloatArray:
        """``(n, T)`` from ``(n, D)``."""
        found: FloatArray = self.model.predict(_columns(signal))
        return found.reshape(len(signal), -1)


def _columns(signal: FloatArray) -> FloatArray:
    # scikit-learn wants a feature even where the mean alone is asked for.
    return signal if signal.shape[1] else np.zeros((len(signal), 1))
