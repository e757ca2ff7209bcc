"""AutoMix's threshold routers (arXiv 2310.12963, §3.3), for any number of models.

The paper has two models. With more, the same rule applies at every model of the chain
``M_0, M_1 … M_{N-1}``, which starts at the cheapest model and skips none. ``VERIFY``, where it is
an action, is played wherever a threshold needs the signal; other options of the rules are not used.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from routing_pomdp.envs import RoutingData, RoutingPOMDP
from routing_pomdp.envs.arrays import FloatArray
from routing_pomdp.envs.settings.ranges import Share
from routing_pomdp.envs.signals import shrunk_mean
from routing_pomdp.solvers.cascades.threshold import (
    ThresholdPolicy,
    best_chain,
    best_cut,
    require_one_signal,
    running_gain,
)
from routing_pomdp.solvers.solver import Policy, Solver


@dataclass(frozen=True)
class AutoMixThreshold(Solver):
    """Escalates where the confidence is at most ``t``: AutoMix with thresholding (AutoMix-T).

    One threshold per model, with the best training return at the price.
    """

    def solve(self, problem: RoutingPOMDP, train: RoutingData) -> Policy:
        require_one_signal(train, "automix_threshold")
        return best_chain(problem, train, [tuple(range(problem.n_models))], best_cut)


@dataclass(frozen=True)
class AutoMixDoubleThreshold(Solver):
    """Escalates if the confidence lies between two thresholds (`DoubleThreshold` of the release).

    Answers with the lowest confidence are kept: such queries are too hard for the large model too.
    Two thresholds per model, with the best training return at the price.
    """

    def solve(self, problem: RoutingPOMDP, train: RoutingData) -> Policy:
        require_one_signal(train, "automix_double_threshold")
        return best_chain(problem, train, [tuple(range(problem.n_models))], best_band)


@dataclass(frozen=True)
class SelfConsistency(Solver):
    """Escalates where the confidence is at most a half, whatever the price (`SelfConsistency`).

    A missing confidence is replaced by `silent_confidence`.

    Attributes:
        threshold: threshold on the confidence.
    """

    threshold: Share = 0.5

    def solve(self, problem: RoutingPOMDP, train: RoutingData) -> Policy:
        """The policy with the given threshold.

        Raises:
            ValueError: a signal is not a confidence in [0, 1].
        """
        require_one_signal(train, "self_consistency")
        require_confidence(train, range(problem.n_models - 1), "self_consistency")
        cut = np.nextafter(self.threshold, np.inf)  # so that the threshold itself escalates
        silent = [
            silent_confidence(train, model) <= self.threshold
            for model in range(problem.n_models - 1)
        ]
        return ThresholdPolicy.of(problem, range(problem.n_models), cut, silent=silent)


def require_confidence(train: RoutingData, models: range | list[int], solver: str) -> None:
    """Raise ValueError unless the signals of ``models`` are confidences in [0, 1]."""
    signal = train.signal[:, list(models), 0]
    outside = ~((signal >= 0) & (signal <= 1) | np.isnan(signal))
    if outside.any():
        remedy = "choose a verifier that gives a confidence"
        if not (signal > 0).any():
            remedy = "for log-probabilities set verifier.transform=exp"
        raise ValueError(
            f"solver={solver} needs confidences in [0, 1], found a signal of "
            f"{signal[outside][0]:g}: {remedy}"
        )


def silent_confidence(train: RoutingData, model: int) -> float:
    """The confidence that replaces a missing one: the mean score of the answers of ``model``
    without confidence, shrunk towards that of all answers by half a pseudo-query."""
    return shrunk_mean(train.score[:, model], np.isnan(train.signal[:, model, 0]))


def best_band(gain: FloatArray, signal: FloatArray, action_cost: float) -> tuple[float, float]:
    """The interval of signals with the largest sum of ``gain``; arguments as of `best_cut`.

    Returns:
        ``(floor, cut)`` for the interval ``[floor, cut)``; (-∞, ∞) is everything, (-∞, -∞) nothing.
    """
    total, cuts = running_gain(gain, signal)
    if not len(cuts):  # all signals are equal
        return -np.inf, np.inf if total[-1] > 0 else -np.inf
    # The largest total[j] - total[i] with i < j: Kadane's maximum subarray.
    lowest = np.minimum.accumulate(total[:-1])
    end = int(np.argmax(total[1:] - lowest)) + 1
    begin = int(np.argmin(total[:end]))
    edges = np.concatenate([[-np.inf], cuts, [np.inf]])
    band = float(edges[begin]), float(edges[end])
    whole = band == (-np.inf, np.inf)
    value = total[end] - total[begin] - (0.0 if whole else action_cost)
    options = [(0.0, (-np.inf, -np.inf)), (float(total[-1]), (-np.inf, np.inf)), (value, band)]
    return max(options, key=lambda option: option[0])[1]
