"""A cascade on how sure the small model is of its own answer (arXiv 2405.02134)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from envs import Replay, RoutingPOMDP
from envs.ranges import Range
from solvers.solver import Policy, Solver
from solvers.threshold import ThresholdPolicy, chains, require_one_signal

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Margin(Solver):
    """One threshold on the answer's probability, the same for every model of the chain.

    Ramírez, Birch & Titov ("Optimising Calls to Large Language Models with Uncertainty-Based
    Two-Tier Selection") call the large model where the small one's margin between its two likeliest
    answers is small, and need no other training than one threshold. Here the signal stands in for
    the margin (of two possible answers the likelier one's probability ``p`` has the margin
    ``2p − 1``), so this is their rule where the verifier is the answer's own probability or its
    logarithm. With more than two models the rule and its threshold are those of every rung; the
    chain is the best on the training queries of those that the rules allow.

    Attributes:
        thresholds: the most that are tried, evenly spaced quantiles of the training signals.
    """

    thresholds: Annotated[int, Range(1, 1_000_000)] = 256

    def solve(self, problem: RoutingPOMDP, train: Replay) -> Policy:
        """Fits chain and threshold on ``train``.

        Raises:
            ValueError: a signal of more than one number.
        """
        require_one_signal(train, "margin")
        values = np.unique(train.signal[:, :-1, 0])
        inner = (values[1:] + values[:-1]) / 2
        if len(inner) > self.thresholds:
            inner = inner[np.linspace(0, len(inner) - 1, self.thresholds).round().astype(int)]
        cuts = np.concatenate([[-np.inf], inner, [np.inf]])
        best = -np.inf, ThresholdPolicy.of(problem, (0,), [])
        for chain in chains(problem.rules):
            worth = _returns(problem, train, chain, cuts)
            at = int(worth.argmax())
            if worth[at] > best[0]:
                best = float(worth[at]), ThresholdPolicy.of(problem, chain, cuts[at])
        return best[1]


def _returns(
    problem: RoutingPOMDP, train: Replay, chain: tuple[int, ...], cuts: FloatArray
) -> FloatArray:
    """Mean training return of a chain at each common threshold, ``(T,)``."""
    rate, bought = problem.price / problem.costs.unit, problem.rules.verify
    last = chain[-1]
    worth = train.score[:, last] - rate * train.call_cost[:, last]
    if not bought and last < problem.n_models - 1:
        worth = worth - rate * train.verify_cost[:, last]
    worth = np.broadcast_to(worth, (len(cuts), len(train)))
    pays = (np.isfinite(cuts) | (not bought))[:, None]
    for model in reversed(chain[:-1]):
        climbs = train.signal[:, model, 0] < cuts[:, None]
        worth = np.where(climbs, worth, train.score[:, model])
        worth = worth - rate * (train.call_cost[:, model] + pays * train.verify_cost[:, model])
    return worth.mean(axis=1)
