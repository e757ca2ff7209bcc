"""A cascade on the margin between the small model's two likeliest answers (arXiv 2405.02134)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from routing_pomdp.envs import RoutingData, RoutingPOMDP
from routing_pomdp.envs.arrays import FloatArray
from routing_pomdp.envs.settings.ranges import Range
from routing_pomdp.envs.signals import between
from routing_pomdp.solvers.cascades.threshold import (
    ThresholdPolicy,
    chains,
    escalates,
    needs_signal,
    require_one_signal,
)
from routing_pomdp.solvers.solver import Policy, Solver


@dataclass(frozen=True)
class Margin(Solver):
    """One threshold on the answer's probability, the same for every model of the chain.

    Ramírez, Birch & Titov ("Optimising Calls to Large Language Models with Uncertainty-Based
    Two-Tier Selection") call the large model where the margin between the small model's two
    likeliest answers is small; training fits one threshold. Here the signal replaces the margin: of
    two possible answers, the likelier one's probability ``p`` has the margin ``2p − 1``. The rule
    is therefore theirs if the verifier is the answer's own probability or its logarithm. With more
    models, every model has the same threshold, and the chain is the one with the best training
    return among those that the rules allow. Whether missing signals escalate is chosen too, once
    for all models; where training has none, they do what pays on average.

    Attributes:
        thresholds: the largest number of thresholds tried, evenly spaced quantiles of the training
            signals.
    """

    thresholds: Annotated[int, Range(1, 1_000_000)] = 256

    def solve(self, problem: RoutingPOMDP, train: RoutingData) -> Policy:
        """The chain and threshold with the best return on ``train``.

        Raises:
            ValueError: a signal has several components.
        """
        require_one_signal(train, "margin")
        signals = train.signal[:, :-1, 0]
        known = ~np.isnan(signals)
        values = np.unique(signals[known])
        inner = between(values[:-1], values[1:])
        if len(inner) > self.thresholds:
            inner = inner[np.linspace(0, len(inner) - 1, self.thresholds).round().astype(int)]
        cuts = np.concatenate([[-np.inf], inner, [np.inf]])
        silent = cuts == np.inf
        if not known.all():
            cuts, silent = np.tile(cuts, 2), np.concatenate([silent, ~silent])
        best = -np.inf, ThresholdPolicy.of(problem, (0,), [])
        for chain in chains(problem.rules):
            worth = _returns(problem, train, chain, cuts, silent)
            at = int(worth.argmax())
            if worth[at] > best[0]:
                goes_on = silent[at]
                if known.all() and np.isfinite(cuts[at]):
                    goes_on = worth[-1] > worth[0]
                policy = ThresholdPolicy.of(problem, chain, cuts[at], silent=goes_on)
                best = float(worth[at]), policy
        return best[1]


def _returns(
    problem: RoutingPOMDP,
    train: RoutingData,
    chain: tuple[int, ...],
    cuts: FloatArray,
    silent: NDArray[np.bool_],
) -> FloatArray:
    """Mean training return of a chain, ``(T,)``, for each common threshold and each choice of
    whether missing signals escalate."""
    rate, bought = problem.price / problem.costs.unit, problem.rules.verify
    last = chain[-1]
    worth = train.score[:, last] - rate * train.call_cost[:, last]
    if problem.rules.verified_at_once[last]:
        worth = worth - rate * train.verify_cost[:, last]
    worth = np.broadcast_to(worth, (len(cuts), len(train)))
    pays = (needs_signal(cuts, -np.inf, silent) | (not bought))[:, None]
    for model in reversed(chain[:-1]):
        signal = train.signal[:, model, 0]
        climbs = escalates(signal, cuts[:, None], -np.inf, silent[:, None])
        worth = np.where(climbs, worth, train.score[:, model])
        worth = worth - rate * (train.call_cost[:, model] + pays * train.verify_cost[:, model])
    return worth.mean(axis=1)
