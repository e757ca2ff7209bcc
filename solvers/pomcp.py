"""POMCP (Silver & Veness, NeurIPS 2010) through pomdp-py, on the fitted model.

Planning happens at the histories that are asked for, once each: a log is replayed in the time that
its distinct histories need. Before each plan the particles are drawn afresh from the exact
posterior, which a finite routing problem affords: the set is never depleted, however rare the
history. The draw and the search are seeded by the history, so that a decision depends on no other.

The search is informed, which plain POMCP is not (its averages over exploring actions take millions
of simulations to settle in a cascade that verifies and skips). Returning an answer earns its
posterior mean instead of a sampled score. A new node is worth the middle between an upper bound and
what its best action earns at worst: no rollout, no noise. Each action starts with an upper bound as
its value, for a few visits (POMCP's "preferred actions"); one whose bound lies below what another
action earns at worst is left out.

How pomdp-py is made to fit: it has no terminal states, so the step that ends an episode counts for
more steps than its tree is deep, which stops the simulation there; states, actions and observations
are made once and compared by identity, which is what makes its tree fast.
"""

from __future__ import annotations

import random
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pomdp_py
from numpy.typing import NDArray

from envs import STAY, History, Replay, RoutingPOMDP
from solvers.solver import Actions, Solver


@dataclass(frozen=True)
class POMCP(Solver):
    """Monte-Carlo tree search with a particle belief.

    Attributes:
        simulations: a plan.
        particles: in the belief of a plan, spread evenly over the exact posterior.
        max_depth: decisions that a simulation looks ahead; null for the whole episode. What would
            follow counts for nothing, so that a short one stays too often.
        exploration: the constant of UCB1, in score.
        prior_visits: how many visits the bound counts for; 0 leaves new actions without a value.
        seed: of the particles and the search.
    """

    simulations: int = 3000
    particles: int = 1000
    max_depth: int | None = None
    exploration: float = 0.1
    prior_visits: int = 10
    seed: int = 0

    def __post_init__(self) -> None:
        for key in ("simulations", "particles"):
            if getattr(self, key) < 1:
                raise ValueError(f"solver.{key} is {getattr(self, key)}: expected at least 1")
        if self.max_depth is not None and self.max_depth < 1:
            raise ValueError(f"solver.max_depth is {self.max_depth}: expected null or at least 1")
        if self.prior_visits < 0:
            raise ValueError(f"solver.prior_visits is {self.prior_visits}: expected at least 0")
        if self.seed < 0:
            raise ValueError(f"solver.seed is {self.seed}: expected at least 0")
        if not 0 <= self.exploration < np.inf:
            raise ValueError(f"solver.exploration is {self.exploration}: expected a number >= 0")

    def solve(self, problem: RoutingPOMDP, train: Replay | None = None) -> POMCPPolicy:
        """A policy that plans when it is asked.

        Raises:
            ValueError: fewer simulations than actions, so that some would never be tried.
        """
        if self.simulations < problem.rules.n_actions:
            raise ValueError(
                f"solver.simulations is {self.simulations}: expected at least one for each of the "
                f"{problem.rules.n_actions} actions"
            )
        return POMCPPolicy(problem, self, _Model(problem, self.prior_visits))


@dataclass(frozen=True, eq=False)
class POMCPPolicy:
    """Plans at each new history and remembers the action.

    Attributes:
        problem: that it plans in.
        solver: how it plans.
        model: the problem as pomdp-py sees it.
        planned: history code -> action, for the histories asked for so far.
        searched: those that bounds did not decide, so that a search was run.
    """

    problem: RoutingPOMDP
    solver: POMCP
    model: _Model
    planned: dict[int, int] = field(default_factory=dict)
    searched: set[int] = field(default_factory=set)

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
        root = self.model.root(code)
        if len(root.edges) == 1:
            return next(iter(root.edges)).index
        self.searched.add(code)
        draw = np.random.default_rng([self.solver.seed, code])
        posterior = self.problem.belief(np.array([code]))[0]
        vectors = _systematic(posterior, self.solver.particles, draw)
        depth = self.solver.max_depth
        search = _Informed(self.model.settle)
        planner = pomdp_py.POMCP(
            # The tree takes one action more than `max_depth`. An episode calls and verifies each
            # model once at most, so 2N reaches its end.
            max_depth=2 * self.problem.n_models if depth is None else depth - 1,
            discount_factor=1.0,
            num_sims=self.solver.simulations,
            exploration_const=self.solver.exploration,
            rollout_policy=search,
            action_prior=_Preferred(),
        )
        belief = _Posterior([root.state(vector) for vector in vectors.tolist()])
        agent = pomdp_py.Agent(belief, policy_model=search, blackbox_model=self.model)
        with _seeded(int(draw.integers(2**63))):
            chosen: _Action = planner.plan(agent)
        return chosen.index


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


# -- the model as pomdp-py sees it -----------------------------------------------------------


class _State(pomdp_py.State):
    """A place and a hidden score vector."""

    __hash__ = object.__hash__
    __eq__ = object.__eq__

    def __init__(self, place: _Place, vector: int) -> None:
        self.place, self.vector = place, vector

    def __deepcopy__(self, memo: Any) -> _State:
        return self  # states never change


class _Action(pomdp_py.Action):
    __hash__ = object.__hash__
    __eq__ = object.__eq__

    def __init__(self, index: int) -> None:
        self.index = index


class _Observation(pomdp_py.Observation):
    __hash__ = object.__hash__
    __eq__ = object.__eq__


class _Posterior(pomdp_py.Particles):
    def __deepcopy__(self, memo: Any) -> _Posterior:
        return self  # the root's copy of the belief is only read: copying it costs a plan's tenth


@dataclass(eq=False)
class _Edge:
    """What an action leads to: the end, one place, or one place for each symbol.

    Attributes:
        reward: the same for every score vector. Returning an answer earns its posterior mean at
            that place: the expectation of what a sampled score would earn, without its noise.
        after: the places that can follow, made when they are first reached; none at the end.
        model: whose symbol tells the places apart, if there are several.
    """

    reward: float
    after: list[_Place | None]
    model: int | None = None


@dataclass(eq=False)
class _Place:
    """An observed history inside the search.

    Attributes:
        called: the models called so far, in order.
        verified: whether the last answer was.
        joint: ``(S,)`` P(history, y) up to a constant.
        edges: where the legal actions lead.
        preferred: each action with its first visits and value.
        worth: its value before anything is tried from it.
    """

    called: tuple[int, ...]
    verified: bool
    joint: NDArray[np.float64]
    edges: dict[_Action, _Edge] = field(default_factory=dict)
    preferred: list[tuple[_Action, int, float]] = field(default_factory=list)
    worth: float = -np.inf
    states: dict[int, _State] = field(default_factory=dict)

    @property
    def stage(self) -> int:
        return self.called[-1] if self.called else -1

    def state(self, vector: int) -> _State:
        state = self.states.get(vector)
        if state is None:
            state = self.states[vector] = _State(self, vector)
        return state


class _Model(pomdp_py.BlackboxModel):
    """The generative model, grown where a search goes."""

    def __init__(self, problem: RoutingPOMDP, prior_visits: int) -> None:
        self._problem, self._prior_visits = problem, prior_visits
        self._actions = [_Action(index) for index in range(problem.rules.n_actions)]
        self._observations = [_Observation() for _ in range(problem.n_symbols)]
        self._end = _State(_Place((), False, problem.prior), 0)
        # Ends a simulation with the value of a whole rollout.
        self.settle = _Action(-1)
        self._onward = _clairvoyant(problem)
        self._likelihood = problem.likelihood.transpose(0, 2, 1)
        self._cumulative = problem.likelihood.cumsum(axis=2)[:, :, :-1].tolist()

    def root(self, code: int) -> _Place:
        """The place of a history code."""
        history = self._problem.decode(np.array([code]))
        called = tuple(np.flatnonzero(history.called[0]).tolist())
        belief = self._problem.belief(np.array([code]))[0]
        return self._explored(_Place(called, bool(history.last_verified[0]), belief))

    def sample(self, state: _State, action: _Action) -> tuple[_State, _Observation, float, int]:
        place = state.place
        if action is self.settle:
            return self._end, self._observations[0], place.worth, 1_000_000
        edge = place.edges[action]
        if not edge.after:
            # More steps than any tree is deep: the simulation stops without another node.
            return self._end, self._observations[0], edge.reward, 1_000_000
        symbol = 0
        if edge.model is not None:
            symbol = bisect_right(self._cumulative[edge.model][state.vector], random.random())
        following = edge.after[symbol]
        if following is None:
            following = edge.after[symbol] = self._following(place, edge, action, symbol)
        return following.state(state.vector), self._observations[symbol], edge.reward, 1

    def _following(self, place: _Place, edge: _Edge, action: _Action, symbol: int) -> _Place:
        called, joint = place.called, place.joint
        if action.index != self._problem.rules.verify_action:
            called = (*called, place.stage + action.index)
        if edge.model is not None:
            joint = joint * self._likelihood[edge.model, symbol]
        return self._explored(_Place(called, edge.model is not None, joint))

    def _explored(self, place: _Place) -> _Place:
        """Adds what the legal actions lead to, leaving out those that cannot be the best."""
        rules = self._problem.rules
        bounds = {}
        for index in np.flatnonzero(rules.masks[place.stage + 1, int(place.verified)]).tolist():
            edge = self._edge(place, index)
            low = high = edge.reward
            if edge.after:
                called = place.called
                if index != rules.verify_action:
                    called = (*called, place.stage + index)
                low += self._answer(place.joint, called)  # at worst it is returned next
                high += self._ceiling(place.joint, called, edge.model is not None)
            bounds[self._actions[index]] = edge, low, high
        # What is certainly worse would ruin the averages by its visits, at high prices above all.
        floor = max(low for _, low, _ in bounds.values())
        place.worth = (floor + max(high for _, _, high in bounds.values())) / 2
        for action, (edge, _, high) in bounds.items():
            if high >= floor - 1e-9:
                place.edges[action] = edge
                place.preferred.append((action, self._prior_visits, high))
        return place

    def _edge(self, place: _Place, action: int) -> _Edge:
        problem, rules = self._problem, self._problem.rules
        if action == STAY:
            return _Edge(self._answer(place.joint, place.called), [])
        if action == rules.verify_action:
            paid = float(problem.verify_price[place.stage])
            return _Edge(-paid, [None] * problem.n_symbols, place.stage)
        target = place.stage + action
        paid = float(problem.call_price[target])
        if target == problem.n_models - 1:
            return _Edge(self._answer(place.joint, (*place.called, target)) - paid, [])
        if rules.verify:
            return _Edge(-paid, [None])
        paid += float(problem.verify_price[target])
        return _Edge(-paid, [None] * problem.n_symbols, target)

    def _ceiling(
        self, joint: NDArray[np.float64], called: tuple[int, ...], verified: bool
    ) -> float:
        """The fast informed bound (Hauskrecht, 2000): an upper bound of the value once ``called``
        are called. The next action is chosen on the next symbol, all scores are known after."""
        problem, stage = self._problem, called[-1]
        returned = [stage] if problem.rules.answer == "last" else list(called)
        options = np.concatenate([problem.score[:, returned], self._onward[stage]], axis=1)
        mass = joint.sum()
        seen = float(((self._likelihood[stage] * joint) @ options).max(axis=1).sum() / mass)
        if verified:
            return seen
        blind = float((joint @ options).max() / mass)
        return max(blind, seen - float(problem.verify_price[stage]))

    def _answer(self, joint: NDArray[np.float64], called: tuple[int, ...]) -> float:
        """Posterior mean of the returned answer."""
        returned = called[-1:] if self._problem.rules.answer == "last" else called
        mean = joint @ self._problem.score[:, returned] / joint.sum()
        return float(mean.max())


def _clairvoyant(problem: RoutingPOMDP) -> list[NDArray[np.float64]]:
    """What a router that knows the scores gets if it climbs (QMDP: Littman et al., 1995).

    Returns:
        For each stage but the last ``(S, reach)``: its return if it climbs by so many rungs now.
    """
    rules, n = problem.rules, problem.n_models
    value = problem.score.copy()
    if rules.answer == "best":
        value = np.maximum.accumulate(value, axis=1)
    toll = problem.call_price.copy()
    if not rules.verify:
        toll[:-1] += problem.verify_price[:-1]
    onward = []
    for stage in range(n - 2, -1, -1):
        later = slice(stage + 1, stage + 1 + rules.reach(stage))
        onward.append(value[:, later] - toll[later])
        value[:, stage] = np.maximum(value[:, stage], onward[-1].max(axis=1))
    return onward[::-1]


class _Informed(pomdp_py.RolloutPolicy):
    """Legal actions in the tree, and a settled value beyond it."""

    def __init__(self, settle: _Action) -> None:
        self._settle = settle

    def get_all_actions(self, state: _State, history: Any = None) -> list[_Action]:
        return list(state.place.edges)

    def rollout(self, state: _State, history: Any) -> _Action:
        return self._settle


class _Preferred(pomdp_py.ActionPrior):
    def get_preferred_actions(
        self, state: _State, history: Any
    ) -> list[tuple[_Action, int, float]]:
        return state.place.preferred
