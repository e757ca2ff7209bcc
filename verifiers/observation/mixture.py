"""`GaussianMixture`: observation likelihoods by mixtures of Gaussians on the logit scale."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from scipy.special import logsumexp, ndtr

from routing_pomdp.envs.arrays import FloatArray
from routing_pomdp.envs.settings.ranges import Count, NotNegative, Range
from routing_pomdp.verifiers.observation.density import DensityObservation

# Standard deviations below this, in logits, are ties, not shapes.
_NARROWEST = 0.05


@dataclass(eq=False)
class GaussianMixture(DensityObservation):
    """A Gaussian mixture for every score, fitted by EM started at the signal's quantiles.

    Attributes:
        components: Gaussians in each mixture.
        iterations: the most iterations.
        tolerance: EM stops when the mean log-likelihood gains less.
        strength: of the prior, in queries for each component, which keeps components from
            collapsing: variances shrink toward the pooled one divided by ``components²`` (Fraley &
            Raftery 2007), shares toward equality.
    """

    components: Annotated[int, Range(1, 1000)] = 2
    iterations: Count = 200
    tolerance: NotNegative = 1e-6
    strength: NotNegative = 1.0

    def _fit(self, z: FloatArray, weight: FloatArray) -> Mixtures:
        n_groups, c = len(weight), self.components
        pooled = max(float(z.var()), _NARROWEST**2)
        start = np.quantile(z, (np.arange(c) + 0.5) / c)
        share = np.full((n_groups, c), 1 / c)
        mean = np.tile(start, (n_groups, 1))
        variance = np.full((n_groups, c), pooled)
        total, before = weight.sum(axis=1), np.full(n_groups, -np.inf)
        for _ in range(self.iterations):
            log_joint = _log_terms(z, share, mean, variance)  # (G, c, n)
            log_density = logsumexp(log_joint, axis=1)
            fit = (weight * log_density).sum(axis=1) / total
            # Each mixture stops on its own, so that its fit does not depend on the others.
            going = (fit - before >= self.tolerance)[:, None]
            if not going.any():
                break
            before = np.where(going[:, 0], fit, np.inf)
            due = np.exp(log_joint - log_density[:, None]) * weight[:, None]
            mass = due.sum(axis=2)
            # A component without queries keeps its mean.
            held = np.maximum(mass, 1e-12)
            centre = np.where(mass > 1e-12, (due @ z) / held, mean)
            square = (due * (z - centre[..., None]) ** 2).sum(axis=2)
            spread = (square + self.strength * pooled / c**2) / (held + self.strength)
            even = (mass + self.strength) / (total + c * self.strength)[:, None]
            share, mean = np.where(going, even, share), np.where(going, centre, mean)
            variance = np.where(going, np.maximum(spread, _NARROWEST**2), variance)
        return Mixtures(share, mean, np.sqrt(variance))


@dataclass(frozen=True, eq=False)
class Mixtures:
    """Mixtures of Gaussians.

    Attributes:
        share: ``(G, c)``, rows sum to one.
        mean: ``(G, c)``.
        spread: ``(G, c)`` standard deviations.
    """

    share: FloatArray
    mean: FloatArray
    spread: FloatArray

    def pdf(self, z: FloatArray) -> FloatArray:
        """Densities ``(G, m)`` at logits ``(m,)``."""
        return np.exp(_log_terms(z, self.share, self.mean, self.spread**2)).sum(axis=1)

    def cdf(self, z: FloatArray) -> FloatArray:
        """Distribution functions ``(G, m)`` at logits ``(m,)``."""
        away = (z - self.mean[..., None]) / self.spread[..., None]
        return (self.share[..., None] * ndtr(away)).sum(axis=1)


def _log_terms(
    z: FloatArray, share: FloatArray, mean: FloatArray, variance: FloatArray
) -> FloatArray:
    """``(G, c, m)`` log of each component's share of the density."""
    away = (z - mean[..., None]) ** 2 / variance[..., None]
    return np.log(share / np.sqrt(2 * np.pi * variance))[..., None] - 0.5 * away
