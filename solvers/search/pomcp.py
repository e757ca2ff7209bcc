"""POMCP (Silver & Veness, NeurIPS 2010) through pomdp-py, on the fitted model.

The policy plans once for each history that occurs. Each plan draws its particles from the exact
posterior, which a finite routing problem can compute, so rare histories do not deplete them. The
history seeds the draw and the search, so a decision does not depend on any other.

The search uses bounds. Plain POMCP averages over exploring actions, which takes millions of
simulations to converge in a cascade that verifies and skips. Here the reward of returning an answer
is its posterior mean instead of a sampled score. A new node's value is the mean of the fast
informed bound and of the best open-loop plan: there is no rollout and no noise. Each action starts
with its upper bound as its value, for a few visits (POMCP's "preferred actions"); an action whose
upper bound is below another's lower bound is removed. The chosen action is the best one after a
backup of all beliefs that were reached. `pomcp_model` defines the problem for pomdp-py.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pomdp_py
from numpy.typing import NDArray
from pomdp_py.algorithms.po_uct import RootVNode
from pomdp_py.algorithms.pomcp import RootVNodeParticles

from routing_pomdp.envs import History, RoutingData, RoutingPOMDP
from routing_pomdp.envs.settings.ranges import Count, CountOrZero, NotNegative, Seed
from routing_pomdp.solvers.search.pomcp_model import (
    Action,
    Edge,
    PlanningModel,
    Posterior,
    Preferred,
    Rollout,
    TreePolicy,
)
from routing_pomdp.solvers.solver import Actions, Solver

Tree = Literal["pomcp", "pouct"]
Decide = Literal["backup", "mean"]

_ROOTS = {"pomcp": RootVNodeParticles, "pouct": RootVNode}


@dataclass(frozen=True)
class POMCP(Solver):
    """Monte-Carlo tree search with a particle belief.

    Attributes:
        simulations: number of simulations per plan.
        particles: number of particles per plan, a systematic sample of the exact posterior.
        max_depth: number of decisions that a simulation looks ahead; null for the whole episode.
            With "mean", later rewards count as 0.
        exploration: the constant of UCB1, in score.
        prior_visits: number of visits that the upper bound counts for; 0 gives new actions no
            value.
        rollout: the value of a new node, see `Rollout`.
        tree: pomdp-py's "pomcp", or its "pouct", whose nodes keep no particles. Both plan from the
            exact posterior.
        decide: by the "mean" of an action's simulations, as POMCP does, or by a "backup" of the
            beliefs reached, which exploring actions do not bias.
        reuse: whether a plan starts from the subtree that the previous plan built for this history.
        seed: seed of the particles and the search.
    """

    simulations: Count = 1000
    particles: Count = 1000
    max_depth: Count | None = None
    exploration: NotNegative = 0.1
    prior_visits: CountOrZero = 10
    rollout: Rollout = "bounds"
    tree: Tree = "pomcp"
    decide: Decide = "backup"
    reuse: bool = False
    seed: Seed = 0

    def solve(self, problem: RoutingPOMDP, train: RoutingData | None = None) -> POMCPPolicy:
        """A policy that plans at each history when it is asked.

        Raises:
            ValueError: there are fewer simulations than actions.
        """
        if self.simulations < problem.rules.n_actions:
            raise ValueError(
                f"solver.simulations is {self.simulations}: expected at least one for each of the "
                f"{problem.rules.n_actions} actions"
            )
        return POMCPPolicy(problem, self, PlanningModel(problem, self.prior_visits, self.rollout))


@dataclass(frozen=True, eq=False)
class POMCPPolicy:
    """Plans at each new history and stores the action.

    Attributes:
        problem: the problem.
        solver: the settings of the search.
        model: the generative model for pomdp-py.
        planned: history code -> action, for the histories so far.
        searched: history codes that needed a search because the bounds did not decide.
        grown: history code -> subtree to start from, where trees are reused.
    """

    problem: RoutingPOMDP
    solver: POMCP
    model: PlanningModel
    planned: dict[int, int] = field(default_factory=dict)
    searched: set[int] = field(default_factory=set)
    grown: dict[int, Any] = field(default_factory=dict)

    @property
    def plans(self) -> int:
        """The number of histories planned at."""
        return len(self.planned)

    def act(self, history: History) -> Actions:
        codes, inverse = np.unique(self.problem.encode(history), return_inverse=True)
        for code in codes.tolist():
            if code not in self.planned:
                self.planned[code] = self._plan(code)
        return np.array([self.planned[code] for code in codes.tolist()], dtype=np.int64)[inverse]

    def _plan(self, code: int) -> int:
        solver, root = self.solver, self.model.root(code)
        if len(root.edges) == 1:
            return next(iter(root.edges)).index
        self.searched.add(code)
        draw = np.random.default_rng([solver.seed, code])
        posterior = self.problem.belief(np.array([code]))[0]
        vectors = _systematic(posterior, solver.particles, draw)
        search = TreePolicy(self.model.settle, solver.rollout)
        # pomdp-py's tree is one action deeper than its `max_depth`. An episode calls and verifies
        # each model at most once, so 2N reaches its end.
        depth = 2 * self.problem.n_models if solver.max_depth is None else solver.max_depth - 1
        planner = (pomdp_py.POMCP if solver.tree == "pomcp" else pomdp_py.POUCT)(
            max_depth=depth,
            discount_factor=1.0,
            num_sims=solver.simulations,
            exploration_const=solver.exploration,
            rollout_policy=search,
            action_prior=Preferred(),
        )
        belief = Posterior([root.state(vector) for vector in vectors.tolist()])
        agent = pomdp_py.Agent(belief, policy_model=search, blackbox_model=self.model)
        grown = self._grown(code) if solver.reuse else None
        if grown is not None:
            agent.tree = _ROOTS[solver.tree].from_vnode(grown, agent.history)
        with _seeded(int(draw.integers(2**63))):
            chosen: Action = planner.plan(agent)
        if solver.decide == "backup":
            worth = root.backed_up()
            chosen = max(worth, key=lambda action: worth[action])
        if solver.reuse:
            self._keep(code, root.edges[chosen], agent.tree[chosen])
        return chosen.index

    def _grown(self, code: int) -> Any:
        """The subtree that the previous plan of the episode built for this history, or None.

        That plan is made now if it was not made yet, so that actions do not depend on the order of
        calls.
        """
        problem = self.problem
        digits = problem.digits_of(np.array([code]))[0]
        stage = int(np.flatnonzero(digits)[-1]) if digits.any() else -1
        if stage < 0:
            return None
        digit, weight = int(digits[stage]), int(problem.weights[stage])
        bought = problem.rules.verify and digit < problem.unverified
        before = code - weight * (digit - problem.unverified * bought)
        if before == 0 and not problem.rules.free_start:
            return None  # without a free start, the first call is not planned
        if before not in self.planned:
            self.planned[before] = self._plan(before)
        return self.grown.pop(code, None)

    def _keep(self, code: int, edge: Edge, tree: Any) -> None:
        """Stores the subtrees below the chosen action by the histories that they belong to."""
        if not edge.after:
            return
        problem = self.problem
        weight, known = problem.weights[edge.model], problem.digits_of(np.array([code]))[0]
        for symbol, seen in enumerate(self.model.observations[: len(edge.after)]):
            if seen in tree.children:
                digit = 1 + symbol if len(edge.after) > 1 else problem.unverified
                self.grown[code + int(weight * (digit - known[edge.model]))] = tree[seen]


def _systematic(
    probability: NDArray[np.float64], n: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """``n`` draws with counts within one of ``n · probability`` (systematic resampling)."""
    points = (np.arange(n) + rng.random()) / n
    drawn = np.searchsorted(probability.cumsum(), points, side="right")
    return np.minimum(drawn, len(probability) - 1)


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seeds Python's global generator, which pomdp-py uses, and restores its state afterwards."""
    before = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(before)
