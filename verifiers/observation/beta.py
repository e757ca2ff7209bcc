"""`Beta`: observation likelihoods by beta distributions of the confidence."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import betainc, betaincc, betaln, digamma, expit, log_expit, polygamma

from routing_pomdp.envs.arrays import FloatArray
from routing_pomdp.envs.settings.ranges import Positive
from routing_pomdp.verifiers.observation.density import DensityObservation

# Bounds of both shapes: beyond them a density is a spike that one more query would move.
_SHAPES = (1e-3, 1e4)


@dataclass(eq=False)
class Beta(DensityObservation):
    """The confidence, the inverse logit of the signal, is beta distributed given the score.

    The shapes maximise the posterior density under a conjugate prior worth ``strength`` queries of
    uniform confidence.

    Attributes:
        strength: of the prior, > 0.
    """

    strength: Positive = 1.0

    def _fit(self, z: FloatArray, weight: FloatArray) -> Betas:
        total = weight.sum(axis=1) + self.strength
        # E[log u] = E[log(1 - u)] = -1 for a uniform confidence u.
        upper = (weight @ log_expit(z) - self.strength) / total
        lower = (weight @ log_expit(-z) - self.strength) / total
        return Betas(*fit_beta(upper, lower))


@dataclass(frozen=True, eq=False)
class Betas:
    """Beta distributions as densities of logits.

    Attributes:
        a: ``(G,)``.
        b: ``(G,)``.
    """

    a: FloatArray
    b: FloatArray

    def pdf(self, z: FloatArray) -> FloatArray:
        """``(G, m)``: ``p^a (1 - p)^b / B(a, b)`` at ``p = expit(z)``, as ``dp = p (1 - p) dz``."""
        a, b = self.a[:, None], self.b[:, None]
        return np.exp(a * log_expit(z) + b * log_expit(-z) - betaln(a, b))

    def cdf(self, z: FloatArray) -> FloatArray:
        """``(G, m)``."""
        a, b = self.a[:, None], self.b[:, None]
        # Each side is computed from the end where its argument is exact: near 1, from 1 - p.
        return np.where(z < 0, betainc(a, b, expit(z)), betaincc(b, a, expit(-z)))


def fit_beta(upper: FloatArray, lower: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Maximum-likelihood shapes ``(G,)`` from the means of ``log p`` and ``log(1 - p)``.

    Newton's method on the logarithms of the shapes; steps are halved while the (concave) likelihood
    decreases.
    """
    a, b = np.ones_like(upper), np.ones_like(lower)

    def likelihood(a: FloatArray, b: FloatArray) -> FloatArray:
        return a * upper + b * lower - betaln(a, b)

    for _ in range(100):
        both = digamma(a + b)
        slope_a, slope_b = upper - digamma(a) + both, lower - digamma(b) + both
        if np.all(np.maximum(abs(a * slope_a), abs(b * slope_b)) < 1e-10):
            break
        mixed = polygamma(1, a + b)
        # Hessian of the negative likelihood, positive definite in (a, b).
        aa, bb, ab = polygamma(1, a) - mixed, polygamma(1, b) - mixed, -mixed
        determinant = aa * bb - ab**2
        step_a = (bb * slope_a - ab * slope_b) / determinant
        step_b = (aa * slope_b - ab * slope_a) / determinant
        before, size = likelihood(a, b), np.ones_like(a)
        for _ in range(40):
            # Steps on the logarithm keep shapes positive; they are limited to a factor of e.
            new_a = np.clip(a * np.exp(np.clip(size * step_a / a, -1, 1)), *_SHAPES)
            new_b = np.clip(b * np.exp(np.clip(size * step_b / b, -1, 1)), *_SHAPES)
            worse = likelihood(new_a, new_b) < before
            if not worse.any():
                break
            size = np.where(worse, size / 2, size)
        a, b = new_a, new_b
    return a, b
