"""POMCP (Silver & Veness, NeurIPS 2010) through pomdp-py, on the fitted model.

Planning happens at the histories that are asked for, once each: a log is replayed in the time that
its distinct histories need. Before each plan the particles are drawn afresh from the exact
posterior, which a finite routing problem affords: the set is never depleted, however rare the
history. The draw and the search are seeded by the history, so that a decision depends on no other.

The search is informed, which plain POMCP is not (its averages over exploring actions take millions
of simulations to settle in a cascade that verifies and skips). Returning an answer earns its
posterior mean instead of a sampled score. A new node is worth the middle between the fast informed
bound and the best plan that looks at nothing: no rollout, no noise. Each action starts with its
upper bound as its value, for a few visits (POMCP's "preferred actions"); one whose upper bound lies
below another's lower one is left out. In the end the best action is told from a backup of all the
beliefs that were reached. `pomcp_model` is the problem as pomdp-py sees it.
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
        simulations: a plan.
        particles: in the belief of a plan, spread evenly over the exact posterior.
        max_depth: decisions that a simulation looks ahead; null for the whole episode. What would
            follow counts for nothing in the mean.
        exploration: the constant of UCB1, in score.
        prior_visits: how many visits the bound counts for; 0 leaves new actions without a value.
        rollout: what a new node is worth at first.
        tree: pomdp-py's "pomcp", or its "pouct", whose nodes keep no particles. Both plan from the
            exact posterior.
        decide: by the "mean" of an action's simulations, as POMCP does, or by a "backup" of what
            they reached, which is free of what exploring cost them.
        reuse: whether a plan goes on from the part of the tree that the plan before has grown
            there, if that plan led there.
        seed: of the particles and the search.
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
        """A policy that plans when it is asked.

        Raises:
            ValueError: fewer simulations than actions, so that some would never be tried.
        """
        if self.simulations < problem.rules.n_actions:
            raise ValueError(
                f"solver.simulations is {self.simulations}: expected at least one for each of the "
                f"{problem.rules.n_actions} actions"
            )
        return POMCPPolicy(problem, self, PlanningModel(problem, self.prior_visits, self.rollout))


@dataclass(frozen=True, eq=False)
class POMCPPolicy:
    """Plans at each new history and remembers the action.

    Attributes:
        problem: that it plans in.
        solver: how it plans.
        model: the problem as pomdp-py sees it.
        planned: history code -> action, for the histories asked for so far.
        searched: those that bounds did not decide, so that a search was run.
        grown: history code -> tree to go on from, where trees are reused.
    """

    problem: RoutingPOMDP
    solver: POMCP
    model: PlanningModel
    planned: dict[int, int] = field(default_factory=dict)
    searched: set[int] = field(default_factory=set)
    grown: dict[int, Any] = field(default_factory=dict)

    @property
    def plans(self) -> int:
        """How many histories were decided on."""
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
        # The tree takes one action more than `max_depth`. An episode calls and verifies each model
        # once at most, so 2N reaches its end.
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
        """The part of the tree that the plan before grew for this history; None if none did.

        That plan is made now if it was not: what is decided must not depend on what was asked.
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
            return None  # a forced start is no decision
        if before not in self.planned:
            self.planned[before] = self._plan(before)
        return self.grown.pop(code, None)

    def _keep(self, code: int, edge: Edge, tree: Any) -> None:
        """Keeps what the tree has grown below the chosen action, for the histories it leads to."""
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
    """``n`` draws whose counts are within one of ``n · probability`` (systematic resampling)."""
    points = (np.arange(n) + rng.random()) / n
    drawn = np.searchsorted(probability.cumsum(), points, side="right")
    return np.minimum(drawn, len(probability) - 1)


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """pomdp-py draws from Python's global generator: seeds it, and gives it back as it was."""
    before = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(before)
