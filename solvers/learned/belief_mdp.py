"""The belief MDP of a routing problem (Kaelbling et al., 1998), as networks see it.

Its state is the exact posterior over hidden states with what was called. What returning an answer
earns there is a posterior mean, so that only the value of going on is unknown; and whatever the
action costs (price and costs, `solvers.action_costs`), what action ``a`` leads to is worth, before
its cost,

    E_b[score of the answer then in hand]  <=  g_a  <=  E_b[best score still within reach].

Learners on the belief are told these bounds, and none of them can do worse than they allow.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from routing_pomdp.envs import STAY, History, RoutingPOMDP
from routing_pomdp.solvers.action_costs import (
    action_cost_features,
    action_cost_matrix,
    action_costs_of,
)
from routing_pomdp.solvers.solver import Actions

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

_MOST_REMEMBERED = 2**24  # histories whose decisions are kept, a byte each


@dataclass(frozen=True, eq=False)
class Positions:
    """``n`` histories as a network sees them.

    Attributes:
        features: ``(n, F)`` belief over the components, posterior means, stage, whether the answer
            is verified; under the answer rule ``best`` also what was called and the mean of the
            best of it.
        low: ``(n, n_actions)`` lower bounds on what each action leads to, before its cost.
        high: ``(n, n_actions)`` upper bounds; the same where the action ends the episode.
        legal: ``(n, n_actions)``.
        point: ``(n,)`` the stage + 1.
        dear: ``(n, 2N)`` what each call and verification is expected to cost here, relative to its
            mean.
    """

    features: Tensor
    low: Tensor
    high: Tensor
    legal: Tensor
    point: Tensor
    dear: Tensor

    def __len__(self) -> int:
        return len(self.point)

    def take(self, rows: Tensor) -> Positions:
        return Positions(*(getattr(self, field.name)[rows] for field in fields(self)))

    @classmethod
    def joined(cls, parts: Sequence[Positions]) -> Positions:
        names = [field.name for field in fields(cls)]
        return cls(*(torch.cat([getattr(part, name) for part in parts]) for name in names))


class BeliefMDP:
    """Makes `Positions` of history codes.

    Args:
        problem: any; its price and costs are not looked at.
        device: of the tensors.
        dtype: of the tensors.

    Attributes:
        n_features: ``F``.
        n_actions: of the rules.
        n_inputs: of a network, see `inputs`.
    """

    def __init__(
        self, problem: RoutingPOMDP, device: torch.device, dtype: torch.dtype = torch.float32
    ) -> None:
        self.problem, self.device, self.dtype = problem, device, dtype
        self._best = problem.rules.answer == "best"
        self.n_actions = problem.rules.n_actions
        self.n_features = len(problem.components.weight) + 2 * problem.n_models + 2
        self.n_features += self._best * (problem.n_models + 1)
        self.n_inputs = self.n_features + 4 * problem.n_models + 2 * self.n_actions
        self._pays = self.tensor(action_cost_matrix(problem.rules))

    def tensor(self, array: FloatArray) -> Tensor:
        return torch.as_tensor(array, dtype=self.dtype, device=self.device)

    def positions(self, codes: IntArray) -> Positions:
        """The positions of history codes ``(n,)``."""
        problem = self.problem
        history, belief = problem.decode(codes), problem.belief(codes)
        mean = problem.expected_scores(codes)
        posterior = problem.components.posterior(problem.digits_of(codes))
        point, verified = history.stage + 1, history.last_verified
        stage = np.eye(problem.n_models + 1)[point]
        features = [posterior, mean, stage, verified[:, None]]
        if self._best:
            # Of a model that was called but not verified the belief says nothing.
            hand = np.where(history.called, mean, 0.0).max(axis=1)
            features += [history.called, hand[:, None]]
        low, high = _bounds(problem, history, belief, mean)
        legal = problem.rules.masks[point, verified.astype(np.int64)]
        return Positions(
            self.tensor(np.concatenate(features, axis=1)),
            self.tensor(low),
            self.tensor(high),
            torch.as_tensor(legal, device=self.device),
            torch.as_tensor(point, device=self.device),
            self.tensor(_relative_costs(problem, posterior)),
        )

    def paid(self, positions: Positions, action_costs: Tensor) -> Tensor:
        """What each action takes from the return, ``(n, n_actions)``, at costs ``(n, 2N)``."""
        return (self._pays[positions.point] * (action_costs * positions.dear)[:, None]).sum(dim=-1)


def within(positions: Positions, paid: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Bounds ``(n, n_actions)`` on Q-values after costs, and what the best action gets at least,
    ``(n, 1)``."""
    low, high = positions.low - paid, positions.high - paid
    return low, high, low.masked_fill(~positions.legal, -math.inf).max(dim=1, keepdim=True).values


def inputs(positions: Positions, action_costs: Tensor, paid: Tensor) -> Tensor:
    """What networks see, ``(n, n_inputs)``: features, costs, and how far each action's bounds lie
    from what is certain."""
    low, high, sure = within(positions, paid)
    # Beyond one score either way an action is as good as taken, or as ruled out.
    bounds = torch.cat([low - sure, high - sure], dim=1).clamp(-1, 1)
    expected = action_cost_features(action_costs * positions.dear)
    return torch.cat([positions.features, expected, 3 * bounds], dim=1)


class Scores(Protocol):
    """A network that says how good each action is."""

    def __call__(self, positions: Positions, action_costs: Tensor, paid: Tensor) -> Tensor:
        """``(n, n_actions)``, the best action's the largest, -inf for illegal ones; given costs
        ``(n, 2N)`` and what each action pays of them ``(n, n_actions)``."""


class BeliefPolicy:
    """Takes the action that a network gives the highest score.

    A history is decided once, in double precision: rounding then never depends on the batch.

    Args:
        problem: at the policy's price.
        network: `Scores` in double precision; policies of all prices share one.
        device: of the network.

    Attributes:
        problem: as above.
        network: as above.
    """

    def __init__(self, problem: RoutingPOMDP, network: nn.Module, device: torch.device) -> None:
        self.problem, self.network = problem, network
        self._mdp = BeliefMDP(problem, device, torch.float64)
        self._action_costs = self._mdp.tensor(action_costs_of(problem))
        self._decided: NDArray[np.int8] | None = None
        if problem.n_histories <= _MOST_REMEMBERED:
            self._decided = np.full(problem.n_histories, -1, dtype=np.int8)

    def act(self, history: History) -> Actions:
        codes = self.problem.encode(history)
        if self._decided is None:
            distinct, inverse = np.unique(codes, return_inverse=True)
            return self._decide(distinct)[inverse]
        actions = self._decided[codes]
        if len(actions) and actions.min() < 0:
            new = np.unique(codes[actions < 0])
            self._decided[new] = self._decide(new)
            actions = self._decided[codes]
        return actions.astype(np.int64)

    def _decide(self, codes: IntArray) -> Actions:
        found = self._mdp.positions(codes)
        action_costs = self._action_costs.expand(len(codes), -1)
        with torch.no_grad():
            scores = self.network(found, action_costs, self._mdp.paid(found, action_costs))
        chosen: Actions = np.round(scores.cpu().numpy(), 9).argmax(axis=1)
        return chosen


def onward(problem: RoutingPOMDP, history: History) -> NDArray[np.bool_]:
    """``(n, n_actions)``: the legal actions after which a decision follows."""
    legal = problem.rules.masks[history.stage + 1, history.last_verified.astype(np.int64)]
    going: NDArray[np.bool_] = legal & (_target(problem, history) < problem.n_models - 1)
    going[:, STAY] = False
    return going


def _relative_costs(problem: RoutingPOMDP, posterior: FloatArray) -> FloatArray:
    """``(n, 2N)`` expected costs of calls and verifications over their means; 1 for what is
    free."""
    costs = problem.costs
    mean = np.concatenate([costs.call, costs.verify])
    expected = np.concatenate(problem.components.paid(posterior), axis=1)
    return np.where(mean > 0, expected / np.where(mean > 0, mean, 1.0), 1.0)


def _target(problem: RoutingPOMDP, history: History) -> IntArray:
    """``(n, n_actions)``: the last called model after each action."""
    rungs = np.arange(problem.rules.n_actions)
    rungs[problem.rules.verify_action] *= not problem.rules.verify
    return np.minimum(history.stage[:, None] + rungs, problem.n_models - 1)


def _bounds(
    problem: RoutingPOMDP, history: History, belief: FloatArray, mean: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Bounds ``(n, n_actions)`` on what each action leads to; equal where that is the end."""
    n_models, target = problem.n_models, np.maximum(_target(problem, history), 0)
    low = np.take_along_axis(mean, target, axis=1)
    # Models from the target on are within reach; those called before it under the rule "best".
    reach = np.maximum.accumulate(problem.score[:, ::-1], axis=1)[:, ::-1]
    if problem.rules.answer == "last":
        high = np.take_along_axis(belief @ reach, target, axis=1)
    else:
        hand = np.where(history.called, mean, -np.inf).max(axis=1, keepdims=True)
        low = np.maximum(low, hand)
        high = np.empty_like(low)
        called = history.called[:, :-1] @ (1 << np.arange(n_models - 1))
        for chosen in np.unique(called):
            rows = called == chosen
            kept = problem.score[:, history.called[rows.argmax()]].max(axis=1, initial=-np.inf)
            best = belief[rows] @ np.maximum(reach, kept[:, None])
            high[rows] = np.take_along_axis(best, target[rows], axis=1)
    ends = target == n_models - 1
    ends[:, STAY] = True
    return low, np.where(ends, low, np.maximum(high, low))
