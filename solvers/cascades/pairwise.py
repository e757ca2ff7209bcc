"""The pairwise envelope: the best cascade of two models at every price (arXiv 2605.06350)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import combinations

from routing_pomdp.envs import RoutingData, RoutingPOMDP, Rules
from routing_pomdp.solvers.cascades.threshold import best_chain, best_cut, require_one_signal
from routing_pomdp.solvers.solver import Policy, Solver


@dataclass(frozen=True)
class PairwiseEnvelope(Solver):
    """The single model or two-model threshold cascade with the best training return at the price.

    Fixed cascades of more models lose to this envelope on real logs (arXiv 2605.06350), so it is
    the baseline of longer cascades. Whatever the rules, it may start at any model, skip models and
    verify only where its threshold needs the signal.
    """

    def solve(self, problem: RoutingPOMDP, train: RoutingData) -> Policy:
        """The best of all models and pairs on ``train``.

        Raises:
            ValueError: a signal has several components.
        """
        require_one_signal(train, "pairwise_envelope")
        n = problem.n_models
        own = replace(problem, rules=Rules(n, skip=True, free_start=True, verify=True))
        singles = [(model,) for model in range(n)]
        return best_chain(own, train, [*singles, *combinations(range(n), 2)], best_cut)
