"""POMCP (Silver & Veness, NeurIPS 2010) through pomdp-py, on the fitted model.

Planning happens at the histories that are asked for, once each: a log is replayed in the time that
its distinct histories need. Before each plan the particles are drawn afresh from the exact
posterior, which a finite routing problem affords: the set is never depleted, however rare the
history. The draw and the search are seeded by the history, so that a decision depends on no other.

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

_MOST_PLACES = 50_000  # some 100 MB


@dataclass(frozen=True)
class POMCP(Solver):
    """Monte-Carlo tree search with a particle belief.

    Attributes:
        simulations: a plan.
        particles: in the belief of a plan, spread evenly over the exact posterior.
        max_depth: decisions that a simulation looks ahead; null for the whole episode.
        exploration: the constant of UCB1, in score. Returns differ by about 1, the span of scores.
        seed: of the particles and the search.
    """

    simulations: int = 1000
    particles: int = 1000
    max_depth: int | None = None
    exploration: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        for key in ("simulations", "particles"):
            if getattr(self, key) < 1:
                raise ValueError(f"solver.{key} is {getattr(self, key)}: expected at least 1")
        if self.max_depth is not None and self.max_depth < 1:
            raise ValueError(f"solver.max_depth is {self.max_depth}: expected null or at least 1")
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
        return POMCPPolicy(problem, self, _Model(problem))


@dataclass(frozen=True, eq=False)
class POMCPPolicy:
    """Plans at each new history and remembers the action.

    Attributes:
        problem: that it plans in.
        solver: how it plans.
        model: the problem as pomdp-py sees it.
        planned: history code -> action, for the histories asked for so far.
    """

    problem: RoutingPOMDP
    solver: POMCP
    model: _Model
    planned: dict[int, int] = field(default_factory=dict)

    @property
    def plans(self) -> int:
        """How many histories were planned for."""
        return len(self.planned)

    def act(self, history: History) -> Actions:
        codes, inverse = np.unique(self.problem.encode(history), return_inverse=True)
        for code in codes.tolist():
            if code not in self.planned:
                self.planned[code] = self._plan(code)
        return np.array([self.planned[code] for code in codes.tolist()], dtype=np.int64)[inverse]

    def _plan(self, code: int) -> int:
        root = self.model.place(code)
        if len(root.actions) == 1:
            return root.actions[0].index
        draw = np.random.default_rng([self.solver.seed, code])
        posterior = self.problem.belief(np.array([code]))[0]
        vectors = _systematic(posterior, self.solver.particles, draw)
        depth = self.solver.max_depth
        planner = pomdp_py.POMCP(
            # The tree takes one action more than `max_depth`. An episode calls and verifies each
            # model once at most, so 2N reaches its end.
            max_depth=2 * self.problem.n_models if depth is None else depth - 1,
            discount_factor=1.0,
            num_sims=self.solver.simulations,
            exploration_const=self.solver.exploration,
            rollout_policy=_Stop(),
        )
        belief = _Posterior([root.state(vector) for vector in vectors.tolist()])
        agent = pomdp_py.Agent(belief, policy_model=_Stop(), blackbox_model=self.model)
        with _seeded(int(draw.integers(2**63))):
            chosen: _Action = planner.plan(agent)
        self.model.trim()
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
        reward: of each score vector if the episode ends here; else the same number for all.
        after: the codes that can follow, none if the episode ends.
        cumulative: of each score vector, the symbols' cumulative probabilities without the last.
    """

    reward: list[float] | float
    after: list[int]
    cumulative: list[list[float]] | None = None


class _Place:
    """An observed history inside the search: its legal actions and where they lead."""

    def __init__(self, actions: list[_Action], edges: dict[_Action, _Edge]) -> None:
        self.actions, self.edges = actions, edges
        self._states: dict[int, _State] = {}

    def state(self, vector: int) -> _State:
        state = self._states.get(vector)
        if state is None:
            state = self._states[vector] = _State(self, vector)
        return state


class _Model(pomdp_py.BlackboxModel):
    """The generative model, made lazily for the histories that a search visits."""

    def __init__(self, problem: RoutingPOMDP) -> None:
        self._problem = problem
        self._actions = [_Action(index) for index in range(problem.rules.n_actions)]
        self._observations = [_Observation() for _ in range(problem.n_symbols + 1)]
        self._end = _State(_Place([self._actions[STAY]], {}), 0)
        self._cumulative = problem.likelihood.cumsum(axis=2)[:, :, :-1].tolist()
        self._places: dict[int, _Place] = {}

    def sample(self, state: _State, action: _Action) -> tuple[_State, _Observation, float, int]:
        edge = state.place.edges[action]
        if not edge.after:
            # More steps than any tree is deep: the simulation stops without another node.
            return self._end, self._observations[-1], edge.reward[state.vector], 1_000_000  # type: ignore[index]
        symbol = 0
        if edge.cumulative is not None:
            symbol = bisect_right(edge.cumulative[state.vector], random.random())
        following = self.place(edge.after[symbol]).state(state.vector)
        return following, self._observations[symbol], edge.reward, 1  # type: ignore[return-value]

    def trim(self) -> None:
        """Forgets the places visited once they are too many to keep."""
        if len(self._places) > _MOST_PLACES:
            self._places.clear()

    def place(self, code: int) -> _Place:
        place = self._places.get(code)
        if place is None:
            place = self._places[code] = self._explore(code)
        return place

    def _explore(self, code: int) -> _Place:
        problem, rules = self._problem, self._problem.rules
        history = problem.decode(np.array([code]))
        stage = int(history.stage[0])
        legal = np.flatnonzero(rules.masks[stage + 1, int(history.last_verified[0])]).tolist()
        edges = {self._actions[action]: self._edge(code, history, action) for action in legal}
        # No score makes up for an action that costs more than scores can differ: it is worse than
        # the cheapest one whatever follows. Left in, its visits would ruin the averages.
        toll = {action: -np.max(edge.reward) * bool(edge.after) for action, edge in edges.items()}
        limit = min(toll.values()) + np.ptp(problem.score)
        edges = {action: edge for action, edge in edges.items() if toll[action] <= limit}
        return _Place(list(edges), edges)

    def _edge(self, code: int, history: History, action: int) -> _Edge:
        problem, rules = self._problem, self._problem.rules
        stage = int(history.stage[0])
        if action == STAY:
            answer = int(problem.best_answer(history)[0])
            return _Edge(problem.score[:, answer].tolist(), [])
        if action == rules.verify_action:
            return self._verified(code, stage, problem.unverified, 0.0)
        target = stage + action
        paid = float(problem.call_price[target])
        if target == problem.n_models - 1:
            ended = history.copy()
            ended.called[0, target] = True
            ended.stage[0] = target
            answer = int(problem.best_answer(ended)[0])
            return _Edge((problem.score[:, answer] - paid).tolist(), [])
        if rules.verify:
            return _Edge(-paid, [code + int(problem.weights[target]) * problem.unverified])
        return self._verified(code, target, 0, paid)

    def _verified(self, code: int, model: int, digit: int, paid: float) -> _Edge:
        """Verification of ``model``, whose digit was ``digit``."""
        problem, weight = self._problem, int(self._problem.weights[model])
        after = [code + weight * (1 + k - digit) for k in range(problem.n_symbols)]
        reward = -paid - float(problem.verify_price[model])
        return _Edge(reward, after, self._cumulative[model])


class _Stop(pomdp_py.RolloutPolicy):
    """Legal actions, and rollouts that return the last answer: a bound from below, unlike random
    ones, so that a new node is not judged by what nobody would do next."""

    def get_all_actions(self, state: _State, history: Any = None) -> list[_Action]:
        return state.place.actions

    def rollout(self, state: _State, history: Any) -> _Action:
        return state.place.actions[0]
