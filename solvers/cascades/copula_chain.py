"""A probabilistic model of the confidences along a chain (Zellinger & Thomson, arXiv 2501.09345).

The model has three layers (§3 of the paper). Raw confidences are transformed and calibrated by
logistic regression. Each calibrated confidence has a mixed distribution: point masses at its
smallest and largest value, and a mixture of two beta densities in between. Gumbel copulas join
neighbours along the chain into a Markov chain. Here the chain is discretised on a grid of each
confidence's quantiles, so that expectations are sums.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import beta, kendalltau

from routing_pomdp.envs.arrays import FloatArray

_LEAST = 1e-12  # keeps the logarithm of a confidence of exactly 0 or 1 finite


def stretched(signal: FloatArray, two_sided: bool) -> FloatArray:
    """The paper's logarithmic transforms of a confidence ``p``, which spread values near 1.

    Args:
        signal: confidences in [0, 1], or their logarithms if none is above 0; none missing.
        two_sided: for self-verification, whose values near 0 are spread too: ``log 1/(1 − p)`` from
            a half up and ``log 2 − log 1/p`` below; otherwise ``log 1/(1 − p)`` throughout.

    Raises:
        ValueError: the signals are neither.
    """
    if (signal > 0).any() and not _within(signal):
        raise ValueError(
            "solver=rational_tuning needs confidences in [0, 1] or log-probabilities, found "
            f"signals from {signal.min():g} to {signal.max():g}: choose another verifier"
        )
    logged = not _within(signal)
    p = np.exp(signal) if logged else signal
    # From log p, 1 - p is computed without loss of digits.
    rest = np.maximum(-np.expm1(signal) if logged else 1 - p, _LEAST)
    up = -np.log(rest)
    if not two_sided:
        return up
    down = np.log(2) + np.log(np.maximum(p, _LEAST))
    return np.where(p >= 0.5, up, down)


def _within(signal: FloatArray) -> bool:
    return bool(((signal >= 0) & (signal <= 1)).all())


@dataclass(frozen=True)
class Calibration:
    """``P(right) = 1/(1 + exp(−(slope · x + offset)))`` of a stretched confidence ``x``."""

    slope: float
    offset: float

    @classmethod
    def fit(cls, x: FloatArray, score: FloatArray) -> Calibration:
        """Mildly regularised logistic regression; graded scores weight a right and a wrong answer.

        It is constant where all scores are 0, all are 1, or ``x`` does not vary; half a wrong and
        half a right answer are then added.
        """
        from sklearn.linear_model import LogisticRegression

        right = (score.sum() + 0.5) / (len(score) + 1)
        base = float(np.log(right / (1 - right)))
        if np.ptp(x) == 0 or score.max() == 0 or score.min() == 1:
            return cls(0.0, base)
        centre, spread = x.mean(), x.std()
        model = LogisticRegression(C=100.0).fit(
            np.tile((x - centre) / spread, 2)[:, None],
            np.repeat([1, 0], len(x)),
            np.concatenate([score, 1 - score]),
        )
        slope = float(model.coef_[0, 0]) / spread
        return cls(slope, float(model.intercept_[0]) - slope * centre)

    def __call__(self, x: FloatArray) -> FloatArray:
        return 1 / (1 + np.exp(-(self.slope * x + self.offset)))


@dataclass(frozen=True, eq=False)
class Marginal:
    """Point masses at both ends of [low, high] and a mixture of two beta densities between.

    Attributes:
        low: smallest value.
        high: largest value.
        at_low: probability of the smallest value.
        at_high: probability of the largest value.
        weight: weight of the first beta density in the mixture.
        shapes: ``(2, 2)`` parameters of the two densities on [0, 1].
    """

    low: float
    high: float
    at_low: float
    at_high: float
    weight: float
    shapes: FloatArray

    @classmethod
    def fit(cls, values: FloatArray, rounds: int = 30) -> Marginal:
        """Fits point masses by counts and the mixture by expectation–maximisation with moments.

        An end with a single value is not a point mass.
        """
        low, high = float(values.min()), float(values.max())
        if low == high:
            return cls(low, high, 1.0, 0.0, 1.0, np.ones((2, 2)))
        counts = [int((values == end).sum()) for end in (low, high)]
        at_low, at_high = (count / len(values) if count > 1 else 0.0 for count in counts)
        kept = ((values != low) | (at_low == 0)) & ((values != high) | (at_high == 0))
        x = np.clip((values[kept] - low) / (high - low), 1e-4, 1 - 1e-4)
        if len(x) < 2 or np.ptp(x) == 0:
            return cls(low, high, at_low, at_high, 1.0, np.ones((2, 2)))
        # Start from the lower and the upper half.
        first = (x > np.median(x)).astype(np.float64) * 0.8 + 0.1
        for _ in range(rounds):
            shapes = np.stack([_moments(x, first), _moments(x, 1 - first)])
            weight = float(first.mean())
            density = beta.pdf(x[:, None], *shapes.T) * [weight, 1 - weight]
            # A density that shrinks onto equal values must keep some weight on the others.
            first = np.clip(density[:, 0] / density.sum(axis=1), 1e-6, 1 - 1e-6)
        return cls(low, high, at_low, at_high, weight, shapes)

    def cdf(self, value: FloatArray) -> FloatArray:
        """``P(confidence <= value)``."""
        between = 1 - self.at_low - self.at_high
        x = np.clip((value - self.low) / max(self.high - self.low, 1e-300), 0, 1)
        parts = beta.cdf(np.asarray(x)[..., None], *self.shapes.T)
        inside = parts @ [self.weight, 1 - self.weight]
        below = np.where(value >= self.low, self.at_low + between * inside, 0.0)
        return np.where(value >= self.high, 1.0, below)


def _moments(x: FloatArray, weight: FloatArray) -> FloatArray:
    """Parameters of a beta density by weighted moments, clipped so that it stays bounded."""
    mean = np.average(x, weights=weight)
    variance = max(np.average((x - mean) ** 2, weights=weight), 1e-6)
    strength = max(mean * (1 - mean) / variance - 1, 0.1)
    return np.clip([mean * strength, (1 - mean) * strength], 0.05, 1e4)


def gumbel(u: FloatArray, v: FloatArray, theta: float) -> FloatArray:
    """The Gumbel copula ``exp(−((−ln u)^θ + (−ln v)^θ)^(1/θ))``, ``θ >= 1``; 1 is independence."""
    a, b = -np.log(np.maximum(u, 1e-300)), -np.log(np.maximum(v, 1e-300))
    # The larger one is factored out so that no power overflows.
    most = np.maximum(np.maximum(a, b), 1e-300)
    value = np.exp(-most * ((a / most) ** theta + (b / most) ** theta) ** (1 / theta))
    return np.where((u <= 0) | (v <= 0), 0.0, value)


def gumbel_theta(first: FloatArray, second: FloatArray) -> float:
    """The copula's parameter from Kendall's tau, ``1/(1 − τ)``; 1 where τ is not positive."""
    tau = float(kendalltau(first, second).statistic)
    return 1 / (1 - min(tau, 0.99)) if tau > 0 else 1.0


@dataclass(frozen=True, eq=False)
class CopulaChain:
    """The joint model of ``k`` calibrated confidences on grids.

    Attributes:
        grid: for each confidence, ``(G + 1,)`` ascending edges of its cells.
        first: ``(G,)`` probabilities of the first confidence's cells.
        step: for each neighbouring pair, ``(G, G')`` transition probabilities.
    """

    grid: list[FloatArray]
    first: FloatArray
    step: list[FloatArray]

    @classmethod
    def fit(cls, confidence: FloatArray, cells: int = 40) -> CopulaChain:
        """Fits the model to calibrated confidences ``(n, k)`` of training queries, ``k >= 1``."""
        grids, below = [], []
        for column in confidence.T:
            marginal = Marginal.fit(column)
            grids.append(_grid(column, cells))
            below.append(np.concatenate([[0.0], marginal.cdf(grids[-1][1:])]))
        steps = []
        for i in range(confidence.shape[1] - 1):
            theta = gumbel_theta(confidence[:, i], confidence[:, i + 1])
            joint = gumbel(below[i][:, None], below[i + 1][None, :], theta)
            mass = np.maximum(np.diff(np.diff(joint, axis=0), axis=1), 0)
            total = mass.sum(axis=1, keepdims=True)
            independent = np.broadcast_to(np.diff(below[i + 1]), mass.shape)
            steps.append(np.where(total > 1e-12, mass / np.maximum(total, 1e-12), independent))
        return cls(grids, np.diff(below[0]), steps)

    def value(self, i: int) -> FloatArray:
        """``(G,)`` the midpoint of each cell of confidence ``i``."""
        return (self.grid[i][1:] + self.grid[i][:-1]) / 2

    def worth(
        self, cut: FloatArray, last: FloatArray, call: FloatArray, verify: FloatArray
    ) -> float:
        """Expected return of a cascade that escalates below its cuts.

        A cell divided by a cut counts in part, so that the value is continuous in the cuts.

        Args:
            cut: ``(k,)`` cuts on calibrated confidence.
            last: ``(G,)`` expected score of the last model, by cell of the last confidence.
            call: ``(k + 1,)`` action cost of each call.
            verify: ``(k,)`` action cost of each verification.
        """
        reached, total = self.first, 0.0
        for i, grid in enumerate(self.grid):
            total -= float(reached.sum() * (call[i] + verify[i]))
            below = np.clip((cut[i] - grid[:-1]) / np.diff(grid), 0, 1)
            total += float(reached @ ((1 - below) * self.value(i)))
            reached = reached * below
            if i < len(self.step):
                reached = reached @ self.step[i]
        return total + float(reached @ (last - call[-1]))


def _grid(values: FloatArray, cells: int) -> FloatArray:
    """Cell edges at quantiles, with a narrow cell at each end for a possible point mass."""
    low, high = values.min(), values.max()
    narrow = max(1e-3 * (high - low), 1e-9)
    inner = np.quantile(values, np.linspace(0, 1, cells - 1)[1:-1])
    inner = inner[(inner > low + narrow) & (inner < high - narrow)]
    edges = [low - narrow, low, *np.unique(inner), high - narrow, high]
    return np.unique(edges if high > low else [low - narrow, low])
