"""AutoMix's threshold routers (arXiv 2310.12963, §3.3), for any number of models.

The paper has two models; with more, the same rule holds at every rung of the chain
``M_0, M_1 … M_{N-1}``, which starts at the cheapest model and passes over none. Rules that offer
more than that are not used, but ``VERIFY``: it is bought wherever a threshold needs it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from envs import Replay, RoutingPOMDP
from envs.ranges import Share
from solvers.solver import Policy, Solver
from solvers.threshold import (
    ThresholdPolicy,
    best_chain,
    best_cut,
    require_one_signal,
    running_gain,
)

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class AutoMixThreshold(Solver):
    """Escalate where the confidence is at most ``t``: AutoMix with thresholding (AutoMix-T).

    One threshold a rung, the best of the training queries at the price.
    """

    def solve(self, problem: RoutingPOMDP, train: Replay) -> Policy:
        require_one_signal(train, "automix_threshold")
        return best_chain(problem, train, [tuple(range(problem.n_models))], best_cut)


@dataclass(frozen=True)
class AutoMixDoubleThreshold(Solver):
    """Escalate where the confidence lies between two thresholds (`DoubleThreshold` of the release).

    What the small model is least sure of is hopeless for the large one too, so it is kept. Two
    thresholds a rung, the best of the training queries at the price.
    """

    def solve(self, problem: RoutingPOMDP, train: Replay) -> Policy:
        require_one_signal(train, "automix_double_threshold")
        return best_chain(problem, train, [tuple(range(problem.n_models))], best_band)


@dataclass(frozen=True)
class SelfConsistency(Solver):
    """Escalate where the confidence is at most a half, whatever the price (`SelfConsistency`).

    Attributes:
        threshold: of the confidence.
    """

    threshold: Share = 0.5

    def solve(self, problem: RoutingPOMDP, train: Replay) -> Policy:
        """Fits nothing.

        Raises:
            ValueError: a signal that is no confidence in [0, 1].
        """
        require_one_signal(train, "self_consistency")
        require_confidence(train, range(problem.n_models - 1), "self_consistency")
        cut = np.nextafter(self.threshold, np.inf)  # at most, not below
        return ThresholdPolicy.of(problem, range(problem.n_models), cut)


def require_confidence(train: Replay, models: range | list[int], solver: str) -> None:
    """Raise ValueError unless the signals of ``models`` are confidences in [0, 1]."""
    signal = train.signal[:, list(models), 0]
    outside = ~((signal >= 0) & (signal <= 1))
    if outside.any():
        remedy = "choose a verifier that gives a confidence"
        if not (signal > 0).any():
            remedy = "for log-probabilities set verifier.transform=exp"
        raise ValueError(
            f"solver={solver} needs confidences in [0, 1], found a signal of "
            f"{signal[outside][0]:g}: {remedy}"
        )


def best_band(gain: FloatArray, signal: FloatArray, toll: float) -> tuple[float, float]:
    """The interval of signals with the largest sum of ``gain``; arguments as of `best_cut`.

    Returns:
        ``(floor, cut)``: what lies in ``[floor, cut)``; (-∞, ∞) is everything, (-∞, -∞) nothing.
    """
    total, between = running_gain(gain, signal)
    # The largest total[j] - total[i] with i < j: Kadane's maximum subarray.
    lowest = np.minimum.accumulate(total[:-1])
    end = int(np.argmax(total[1:] - lowest)) + 1
    begin = int(np.argmin(total[:end]))
    edges = np.concatenate([[-np.inf], between, [np.inf]])
    band = float(edges[begin]), float(edges[end])
    whole = band == (-np.inf, np.inf)
    value = total[end] - total[begin] - (0.0 if whole else toll)
    options = [(0.0, (-np.inf, -np.inf)), (float(total[-1]), (-np.inf, np.inf)), (value, band)]
    return max(options, key=lambda option: option[0])[1]
