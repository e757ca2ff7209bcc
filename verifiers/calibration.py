"""From signals to a calibrated confidence: what is learned on training queries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from envs.checks import check_settings
from envs.ranges import Folds, Positive, Seed
from verifiers.scale import LogitScale

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

Kind = Literal["logistic", "isotonic"]


@dataclass(frozen=True)
class Calibrator:
    """Learns the probability that an answer is right from its ``D`` signals.

    Each signal is put on the logit scale (`LogitScale`) and standardised; "logistic" is a ridge
    regression of the log-odds on them (for one signal Platt's scaling), "isotonic" a monotone
    function of its result. A graded score counts as so much of a right answer.

    Attributes:
        kind: "logistic", or "isotonic" where there are many hundred queries.
        penalty: of the squared coefficients, in queries.
        folds: of the confidences without a query's own label.
        seed: of the folds.

    Raises:
        ValueError: a value out of its range, with the key.
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
            signal: ``(n, D)``, finite.
            score: ``(n,)`` in [0, 1].

        Returns:
            The calibration, and what each query is predicted without its own fold, ``(n,)``: what
            is learned from confidences (bins, thresholds) has to be learned from those.
        """
        n = len(score)
        held_out = np.full(n, (score.sum() + 0.5) / (n + 1))
        fold = self.fold(score)
        if n > 1:
            for k in range(fold.max() + 1):
                rest = fold != k
                held_out[~rest] = self._fit(signal[rest], score[rest])(signal[~rest])
        return self._fit(signal, score), held_out

    def fold(self, score: FloatArray) -> IntArray:
        """The fold of each query, ``(n,)``, each with its share of right answers.

        Random folds differ in that share, and a query whose fold has more right answers would be
        predicted from fewer: where signals say nothing, that alone would look like knowledge.
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
        centre, spread = z.mean(axis=0), z.std(axis=0)
        spread = np.where(spread > 0, spread, 1.0)
        coefficient, intercept = _logistic((z - centre) / spread, score, self.penalty)
        linear = Calibration(scales, coefficient / spread,
                             intercept - float(coefficient @ (centre / spread)))  # fmt: skip
        if self.kind == "logistic":
            return linear
        from sklearn.isotonic import IsotonicRegression

        steps = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip")
        return Calibration(
            linear.scales,
            linear.coefficient,
            linear.intercept,
            steps.fit(linear(signal), score),
            len(score),
        )


@dataclass(frozen=True, eq=False)
class Calibration:
    """A fitted calibration.

    Attributes:
        scales: of the ``D`` signals.
        coefficient: ``(D,)`` of their logits.
        intercept: of the log-odds.
        steps: scikit-learn's isotonic regression on top, if any.
        queries: that the steps were fitted to.
    """

    scales: list[LogitScale]
    coefficient: FloatArray
    intercept: float
    steps: Any = None
    queries: int = 0

    def __call__(self, signal: FloatArray) -> FloatArray:
        """Confidences ``(n,)`` in (0, 1) of signals ``(n, D)``."""
        z = np.column_stack([scale(c) for scale, c in zip(self.scales, signal.T, strict=True)])
        confidence = expit(z @ self.coefficient + self.intercept)
        if self.steps is None:
            return confidence
        # A step of right answers alone proves nothing: half a wrong one is added to all.
        edge = 0.5 / (self.queries + 1)
        return np.clip(self.steps.predict(confidence), edge, 1 - edge)


def _logistic(x: FloatArray, score: FloatArray, penalty: float) -> tuple[FloatArray, float]:
    """Coefficients and intercept of the greatest penalised likelihood, by Newton's method.

    One more query at the mean, half right and half wrong, keeps anything from being certain.
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
