"""The pairwise envelope: at every price the best cascade of two models (arXiv 2605.06350)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import combinations

from routing_pomdp.envs import RoutingData, RoutingPOMDP, Rules
from routing_pomdp.solvers.cascades.threshold import best_chain, best_cut, require_one_signal
from routing_pomdp.solvers.solver import Policy, Solver


@dataclass(frozen=True)
class PairwiseEnvelope(Solver):
    """The best single model or two-model threshold cascade of the training queries at the price.

    Fixed cascades of more models lose to this envelope on real logs (arXiv 2605.06350), which makes
    it the baseline of every longer one. It plays by rules of its own: it starts where it likes,
    passes over what lies between, and verifies only where its threshold needs it.
    """

    def solve(self, problem: RoutingPOMDP, train: RoutingData) -> Policy:
        """Fits every pair on ``train``.

        Raises:
            ValueError: a signal of more than one number.
        """
        require_one_signal(train, "pairwise_envelope")
        n = problem.n_models
        own = replace(problem, rules=Rules(n, skip=True, free_start=True, verify=True))
        singles = [(model,) for model in range(n)]
        return best_chain(own, train, [*singles, *combinations(range(n), 2)], best_cut)
