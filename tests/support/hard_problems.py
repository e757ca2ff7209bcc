"""Problems that leave much to a search, and the histories at which it is asked."""

from __future__ import annotations

import numpy as np

from routing_pomdp.envs import Costs, RoutingPOMDP, Rules
from routing_pomdp.envs.model.decision_graph import DecisionGraph
from tests.support.problems import score_vectors

EVERYTHING = Rules(3, skip=True, free_start=True, verify=True)


def hard_problem(rules: Rules, seed: int = 0, symbols: int = 4) -> RoutingPOMDP:
    """A random problem in which verifiers are cheap and models differ enough in cost for bounds to
    leave much to the search."""
    n, rng = rules.n_models, np.random.default_rng(seed)
    score = score_vectors(np.tile([0.0, 1.0], (n, 1)))
    call = 3.0 ** np.arange(n)
    return RoutingPOMDP(
        score=score,
        prior=rng.dirichlet(np.ones(len(score))),
        likelihood=rng.dirichlet(np.ones(symbols), size=(n - 1, len(score))),
        costs=Costs(call, call / 10),
        price=0.1,
        rules=rules,
    )


def asked(problem: RoutingPOMDP) -> np.ndarray:
    """The codes of all histories at which a decision is asked for."""
    codes = np.arange(problem.n_histories)
    if not problem.rules.free_start:
        codes = codes[problem.digits_of(codes)[:, 0] > 0]
    return codes[DecisionGraph.of(problem).reaches(problem.decode(codes))]
