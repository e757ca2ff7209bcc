"""`Calibrator`: learns a calibrated confidence from signals on training queries."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from routing_pomdp.envs.arrays import FloatArray, IntArray
from routing_pomdp.envs.settings.checks import check_settings
from routing_pomdp.envs.settings.ranges import Folds, Positive, Seed
from routing_pomdp.verifiers.observation.scale import LogitScale

Kind = Literal["logistic", "isotonic"]


@dataclass(frozen=True)
class Calibrator:
    """Learns the probability that an answer is right from its ``D`` signals.

    Each signal is transformed to the logit scale (`LogitScale`) and standardised. "logistic" is
    logistic regression with a ridge penalty on them (for one signal Platt scaling), "isotonic" a
    monotone function of its result. A graded score is a fractional label.

    Some of several signals may be missing. A missing signal is imputed by its mean, and has a
    coefficient of its own if it was missing in training. If all are missing, so is the confidence.

    Attributes:
        kind: "logistic", or "isotonic" for many hundred queries.
        penalty: of the squared coefficients, in queries.
        folds: of the held-out confidences.
        seed: of the folds.

    Raises:
        ValueError: a value is out of its range.
    """

    kind: Kind = "logistic"
    penalty: Positive = 1.0
    folds: Folds = 5
    seed: Seed = 0

    def __post_init__(self) -> None:
        check_settings(self, "calibrator")

    def fit(self, signal: FloatArray, score: FloatArray) -> tuple[Calibration, FloatArray]:
        """Learns from training queries.

        Args:
            signal: ``(n, D)``, see `envs.signals`.
            score: ``(n,)`` in [0, 1].

        Returns:
            The calibration, and held-out confidences ``(n,)``, each predicted without the query's
            own fold, NaN without any signal. Bins and thresholds of confidences have to be learned
            from the held-out ones.
        """
        present = ~np.isnan(signal).all(axis=1)
        if not present.all():
            held_out = np.full(len(score), np.nan)
            calibration, held_out[present] = self.fit(signal[present], score[present])
            return calibration, held_out
        n = len(score)
        held_out = np.full(n, (score.sum() + 0.5) / (n + 1))
        fold = self.fold(score)
        if n == 0:
            constant = Calibration([LogitScale("real")] * signal.shape[1],
                                   np.zeros(signal.shape[1]), 0.0)  # fmt: skip
            return constant, held_out
        if n > 1:
            for k in range(fold.max() + 1):
                rest = fold != k
                held_out[~rest] = self._fit(signal[rest], score[rest])(signal[~rest])
        return self._fit(signal, score), held_out

    def fold(self, score: FloatArray) -> IntArray:
        """The fold of each query, ``(n,)``, stratified by score.

        In random folds, a query whose fold has more right answers is predicted from fewer, which
        would bias the held-out confidences of uninformative signals.
        """
        n = len(score)
        shuffled = np.random.default_rng(self.seed).permutation(n)
        order = shuffled[np.argsort(score[shuffled], kind="stable")]
        fold = np.empty(n, dtype=np.int64)
        fold[order] = np.arange(n) % min(self.folds, n)
        return fold

    def _fit(self, signal: FloatArray, score: FloatArray) -> Calibration:
        scales = [LogitScale.fit(column) for column in signal.T]
        z = np.column_stack([scale(c) for scale, c in zip(scales, signal.T, strict=True)])
        silent = np.isnan(z)
        centre, spread = _moments(z, silent)
        x = np.where(silent, 0.0, (z - centre) / spread)
        ever = np.flatnonzero(silent.any(axis=0))
        found, intercept = _logistic(np.column_stack([x, silent[:, ever]]), score, self.penalty)
        coefficient, absent = found[: z.shape[1]], np.zeros(z.shape[1])
        absent[ever] = found[z.shape[1] :]
        linear = Calibration(
            scales,
            coefficient / spread,
            intercept - float(coefficient @ (centre / spread)),
            centre=centre,
            absent=absent,
        )
        if self.kind == "logistic":
            return linear
        from sklearn.isotonic import IsotonicRegression

        steps = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip")
        return replace(linear, steps=steps.fit(linear(signal), score), queries=len(score))


@dataclass(frozen=True, eq=False)
class Calibration:
    """A fitted calibration.

    Attributes:
        scales: of the ``D`` signals.
        coefficient: ``(D,)`` of their logits.
        intercept: of the log-odds.
        steps: scikit-learn's isotonic regression on the result, if any.
        queries: how many the isotonic regression was fitted to.
        centre: ``(D,)`` mean logits, by which missing signals are imputed; None for 0.
        absent: ``(D,)`` coefficients of missing signals in the log-odds; None for 0.
    """

    scales: list[LogitScale]
    coefficient: FloatArray
    intercept: float
    steps: Any = None
    queries: int = 0
    centre: FloatArray | None = None
    absent: FloatArray | None = None

    def __call__(self, signal: FloatArray) -> FloatArray:
        """Confidences ``(n,)`` in (0, 1) of signals ``(n, D)``; NaN where all are missing."""
        z = np.column_stack([scale(c) for scale, c in zip(self.scales, signal.T, strict=True)])
        silent = np.isnan(z)
        z = np.where(silent, 0.0 if self.centre is None else self.centre, z)
        log_odds = z @ self.coefficient + self.intercept
        if self.absent is not None and silent.any():
            log_odds += silent @ self.absent
        confidence = expit(log_odds)
        if self.steps is not None and len(confidence):
            # Steps with only right or only wrong answers are kept away from 1 and 0.
            edge = 0.5 / (self.queries + 1)
            confidence = np.clip(self.steps.predict(confidence), edge, 1 - edge)
        return np.where(silent.all(axis=1), np.nan, confidence)


def _moments(z: FloatArray, silent: NDArray[np.bool_]) -> tuple[FloatArray, FloatArray]:
    """Mean and standard deviation ``(D,)`` of the logits that are present; 0 and 1 if none is."""
    count = np.maximum((~silent).sum(axis=0), 1)
    centre = np.where(silent, 0.0, z).sum(axis=0) / count
    spread = np.sqrt((np.where(silent, 0.0, z - centre) ** 2).sum(axis=0) / count)
    return centre, np.where(spread > 0, spread, 1.0)


def _logistic(x: FloatArray, score: FloatArray, penalty: float) -> tuple[FloatArray, float]:
    """Coefficients and intercept of the maximum penalised likelihood, by Newton's method.

    A pseudo-query at the mean, half right and half wrong, keeps the intercept finite.
    """
    design = np.column_stack([x, np.ones(len(x))])
    design = np.concatenate([design, np.eye(1, design.shape[1], design.shape[1] - 1)])
    target = np.append(score, 0.5)
    ridge = np.append(np.full(x.shape[1], penalty), 0.0)
    found = np.zeros(design.shape[1])

    def loss(parameters: FloatArray) -> float:
        logits = design @ parameters
        return float((np.logaddexp(0, logits) - target * logits).sum() + ridge @ parameters**2 / 2)

    for _ in range(100):
        confidence = expit(design @ found)
        slope = design.T @ (confidence - target) + ridge * found
        if np.abs(slope).max() < 1e-10 * len(design):
            break
        curvature = (design.T * (confidence * (1 - confidence))) @ design + np.diag(ridge + 1e-9)
        step, size = np.linalg.solve(curvature, slope), 1.0
        while loss(found - size * step) > loss(found) and size > 1e-6:
            size /= 2
        found = found - size * step
    return found[:-1], float(found[-1])
