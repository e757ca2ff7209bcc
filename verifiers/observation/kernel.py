"""`KernelDensity`: observation likelihoods by Gaussian kernels on the logit scale."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

from routing_pomdp.envs.arrays import FloatArray
from routing_pomdp.envs.settings.ranges import Positive
from routing_pomdp.verifiers.observation.density import DensityObservation

# Signals that tie must not become a spike: the least bandwidth, in logits.
_NARROWEST = 0.05


@dataclass(eq=False)
class KernelDensity(DensityObservation):
    """A kernel density with one Gaussian kernel for each training query.

    Attributes:
        bandwidth: in logits; None for Silverman's rule of thumb (1986, eq. 3.31) with Kish's
            effective number of queries.
    """

    bandwidth: Positive | None = None

    def _fit(self, z: FloatArray, weight: FloatArray) -> Kernels:
        weight = weight / weight.sum(axis=1, keepdims=True)
        width = silverman(z, weight) if self.bandwidth is None else self.bandwidth
        return Kernels(z, weight, np.broadcast_to(width, len(weight)))


@dataclass(frozen=True, eq=False)
class Kernels:
    """Weighted sums of Gaussian kernels.

    Attributes:
        centre: ``(n,)``.
        weight: ``(G, n)``, rows sum to one.
        width: ``(G,)`` standard deviations.
    """

    centre: FloatArray
    weight: FloatArray
    width: FloatArray

    def pdf(self, z: FloatArray) -> FloatArray:
        """Densities ``(G, m)`` at logits ``(m,)``."""
        away = z[:, None] - self.centre
        return np.stack(
            [
                np.exp(-0.5 * (away / h) ** 2) @ w / (h * np.sqrt(2 * np.pi))
                for h, w in zip(self.width, self.weight, strict=True)
            ]
        )

    def cdf(self, z: FloatArray) -> FloatArray:
        """Distribution functions ``(G, m)`` at logits ``(m,)``."""
        away = z[:, None] - self.centre
        return np.stack([ndtr(away / h) @ w for h, w in zip(self.width, self.weight, strict=True)])


def silverman(z: FloatArray, weight: FloatArray) -> FloatArray:
    """Bandwidths ``(G,)`` of samples ``(n,)`` with weights ``(G, n)`` that sum to one."""
    mean = weight @ z
    spread = np.sqrt(np.maximum(weight @ z**2 - mean**2, 0.0))
    order = np.argsort(z)
    for group, share in enumerate(weight[:, order].cumsum(axis=1)):
        first, third = z[order][np.minimum(np.searchsorted(share, [0.25, 0.75]), len(z) - 1)]
        if third > first:
            spread[group] = min(spread[group], (third - first) / 1.34)
    effective = 1 / (weight**2).sum(axis=1)
    return np.maximum(0.9 * spread * effective**-0.2, _NARROWEST)
