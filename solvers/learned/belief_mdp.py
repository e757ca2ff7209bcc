"""The belief MDP of a routing problem (Kaelbling et al., 1998), encoded for networks.

Its state is the exact posterior over hidden states and the set of called models. The reward of
returning an answer is a posterior mean, so only the value of going on is unknown. For any action
costs (`solvers.action_costs`), the value ``g_a`` of action ``a`` before its cost has the bounds

    E_b[score of the answer after a]  <=  g_a  <=  E_b[best score that can still be reached].

Learners on the belief take these bounds as inputs and keep their values within them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from routing_pomdp.envs import STAY, History, RoutingPOMDP
from routing_pomdp.envs.arrays import FloatArray, IntArray
from routing_pomdp.solvers.action_costs import (
    action_cost_features,
    action_cost_matrix,
    action_costs_of,
)
from routing_pomdp.solvers.solver import Actions

_MOST_CACHED = 2**24  # histories whose decisions are kept, a byte each


@dataclass(frozen=True, eq=False)
class Positions:
    """Network inputs of ``n`` histories.

    Attributes:
        features: ``(n, F)`` belief over the components, posterior means, stage, whether the answer
            is verified; under the answer rule ``best`` also which models were called and the
            largest posterior mean among them.
        low: ``(n, n_actions)`` lower bounds on the value of each action before its cost.
        high: ``(n, n_actions)`` upper bounds; equal to ``low`` where the action ends the episode.
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
    relative_cost: Tensor

    def __len__(self) -> int:
        return len(self.point)

    def take(self, rows: Tensor) -> Positions:
        return Positions(*(getattr(self, field.name)[rows] for field in fields(self)))


class BeliefMDP:
    """Encodes history codes as `Positions`.

    Args:
        problem: the routing problem, at any price.
        device: device of the tensors.
        dtype: type of the tensors.

    Attributes:
        n_features: ``F``.
        n_actions: number of actions.
        n_inputs: number of network inputs, see `inputs`.
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
            # The belief does not show that a model was called but not verified.
            hand = np.where(history.called, mean, 0.0).max(axis=1)
            features += [history.called, hand[:, None]]
        low, high = _bounds(problem, history, belief, mean)
        legal = problem.rules.legal(history)
        return Positions(
            self.tensor(np.concatenate(features, axis=1)),
            self.tensor(low),
            self.tensor(high),
            torch.as_tensor(legal, device=self.device),
            torch.as_tensor(point, device=self.device),
            self.tensor(_relative_costs(problem, posterior)),
        )

    def paid(self, positions: Positions, action_costs: Tensor) -> Tensor:
        """The expected cost of each action, ``(n, n_actions)``, at action costs ``(n, 2N)``."""
        expected = action_costs * positions.relative_cost
        return (self._pays[positions.point] * expected[:, None]).sum(dim=-1)


def within(positions: Positions, paid: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Lower and upper bounds ``(n, n_actions)`` on Q-values, and the largest lower bound of a legal
    action, ``(n, 1)``."""
    low, high = positions.low - paid, positions.high - paid
    return low, high, low.masked_fill(~positions.legal, -math.inf).max(dim=1, keepdim=True).values


def inputs(positions: Positions, action_costs: Tensor, paid: Tensor) -> Tensor:
    """Network inputs ``(n, n_inputs)``: features, action costs, and the bounds on each Q-value
    relative to the largest lower bound."""
    low, high, sure = within(positions, paid)
    # A difference of one score or more decides: larger ones carry no more information.
    bounds = torch.cat([low - sure, high - sure], dim=1).clamp(-1, 1)
    expected = action_cost_features(action_costs * positions.relative_cost)
    return torch.cat([positions.features, expected, 3 * bounds], dim=1)


class Scores(Protocol):
    """A network that scores actions."""

    def __call__(self, positions: Positions, action_costs: Tensor, paid: Tensor) -> Tensor:
        """Scores ``(n, n_actions)``, largest for the best action and -inf for illegal ones, given
        action costs ``(n, 2N)`` and the cost of each action ``(n, n_actions)``."""


class BeliefPolicy:
    """Chooses the action with the highest score of a network.

    Each history is decided once, in double precision, so that rounding does not depend on the
    batch.

    Args:
        problem: at the policy's price.
        network: `Scores` in double precision, shared by the policies of all prices.
        device: device of the network.

    Attributes:
        problem: as above.
        network: as above.
    """

    def __init__(self, problem: RoutingPOMDP, network: nn.Module, device: torch.device) -> None:
        self.problem, self.network = problem, network
        self._mdp = BeliefMDP(problem, device, torch.float64)
        self._action_costs = self._mdp.tensor(action_costs_of(problem))
        self._decided: NDArray[np.int8] | None = None
        if problem.n_histories <= _MOST_CACHED:
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
    rules = problem.rules
    going = rules.legal(history) & (rules.targets(history.stage) < problem.n_models - 1)
    going[:, STAY] = False
    return going


def _relative_costs(problem: RoutingPOMDP, posterior: FloatArray) -> FloatArray:
    """``(n, 2N)`` expected costs of calls and verifications divided by their means; 1 where the
    mean is 0."""
    costs = problem.costs
    mean = np.concatenate([costs.call, costs.verify])
    expected = np.concatenate(problem.components.paid(posterior), axis=1)
    return np.where(mean > 0, expected / np.where(mean > 0, mean, 1.0), 1.0)


def _bounds(
    problem: RoutingPOMDP, history: History, belief: FloatArray, mean: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Bounds ``(n, n_actions)`` on what each action leads to; equal where that is the end."""
    n_models, target = problem.n_models, np.maximum(problem.rules.targets(history.stage), 0)
    low = np.take_along_axis(mean, target, axis=1)
    # Models from the target on can be reached; under the rule "best" also those called before.
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
