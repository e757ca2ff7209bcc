"""Deep Q-learning on the exact belief, with one network for all prices and cost ratios.

In the belief MDP (`solvers.learned.belief_mdp`) only the value of going on is unknown, and it has a
lower and an upper bound; the network gives its position between them. Training is off-policy, with
a target network (DQN: Mnih et al., 2015), on random episodes that go on as long as they can.
Targets average over the next symbol, whose probabilities the belief gives, so they have no sampling
noise. Prices and costs change rewards but not observations. Every transition is therefore valid for
all of them and gets new action costs in every batch.
"""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from routing_pomdp.envs import Episodes, RoutingData, RoutingPOMDP
from routing_pomdp.envs.arrays import FloatArray, IntArray
from routing_pomdp.envs.settings.ranges import Count, PositiveShare, Seed
from routing_pomdp.solvers.action_costs import CostRange, packed, unpacked
from routing_pomdp.solvers.learned.belief_mdp import (
    BeliefMDP,
    BeliefPolicy,
    Positions,
    inputs,
    onward,
)
from routing_pomdp.solvers.learned.checkpoint import about, plain_settings, save
from routing_pomdp.solvers.learned.training import Loop, device_of, mean_return
from routing_pomdp.solvers.settings import CostRatios, Device, PriceRange, Width
from routing_pomdp.solvers.solver import Solver, Training


@dataclass(frozen=True)
class BeliefDQN(Solver):
    """Deep Q-learning on the belief, conditioned on price and cost ratio.

    Attributes:
        hidden: width of the two hidden layers.
        episodes: number of random episodes whose transitions are the training data.
        steps: number of gradient steps.
        batch: transitions per step.
        learning_rate: learning rate of Adam, with cosine decay to zero.
        target_rate: the target network's rate of exponential averaging per step.
        price_range: prices to train for; null for the range of the run's prices.
        cost_ratios: smallest and largest cost ratio to train for; null for the problem's costs
            only.
        patience: early stopping: training ends after so many evaluations on validation queries
            without improvement, and the best network is kept; null to train to the end and keep the
            last network.
        device: "auto" for CUDA if available, or a torch device.
        seed: seed of episodes, initial weights and batches.
        training: see `with_training`.
    """

    hidden: Width = 128
    episodes: Count = 20_000
    steps: Count = 4000
    batch: Count = 256
    learning_rate: PositiveShare = 5e-3
    target_rate: PositiveShare = 0.02
    price_range: PriceRange | None = None
    cost_ratios: CostRatios | None = None
    patience: Count | None = None
    device: Device = "auto"
    seed: Seed = 0
    training: Training = field(default_factory=Training, repr=False, compare=False)

    def with_training(self, training: Training) -> BeliefDQN:
        return replace(self, training=training)

    def solve(self, problem: RoutingPOMDP, train: RoutingData | None = None) -> BeliefPolicy:
        return self.solve_frontier(problem, [problem.price], train)[0]

    def solve_frontier(
        self, problem: RoutingPOMDP, prices: Sequence[float], train: RoutingData | None = None
    ) -> list[BeliefPolicy]:
        """Policies, one per price; all share one network, trained once.

        Raises:
            TrainingError: the loss is not finite.
            CheckpointError: the run's folder holds checkpoints of another training.
        """
        validation = self.training.validation
        if self.patience is not None and not validation:
            warnings.warn(
                f"solver.patience is {self.patience}, but there are no validation queries to stop "
                "by (evaluation.validation): training goes to its end, and the last network is "
                "kept",
                stacklevel=2,
            )
        device = device_of(self.device)
        terms = CostRange.of(problem, prices, self.price_range, self.cost_ratios)
        told = about("belief_dqn", plain_settings(self), problem, self.training)
        told["terms"] = packed(terms)

        def validated(network: _Network) -> float | None:
            """The mean return on the validation queries, if there are any."""
            if not validation:
                return None
            return mean_return(_policies(problem, prices, network, device), validation)

        # A ladder's costs are the same on every query.
        costs = problem.costs if terms.ratios is None else problem.costs.averaged()
        mdp = BeliefMDP(replace(problem, costs=costs), device)
        network = self._trained(mdp, terms, told, validated)
        if self.training.folder:
            path = self.training.folder / "policy.pt"
            save(path, {"about": told, "network": network.state_dict()})
        return _checked(_policies(problem, prices, network, device), terms)

    @classmethod
    def restored(
        cls, problem: RoutingPOMDP, prices: Sequence[float], saved: Mapping[str, Any]
    ) -> list[BeliefPolicy]:
        """One policy a price, from a checkpoint's content."""
        device, told = device_of("auto"), saved["about"]
        network = _Network(BeliefMDP(problem, device), told["settings"]["hidden"]).to(device)
        network.load_state_dict(saved["network"])
        return _checked(_policies(problem, prices, network, device), unpacked(told["terms"]))

    def _trained(
        self,
        mdp: BeliefMDP,
        terms: CostRange,
        told: Mapping[str, Any],
        validated: Callable[[_Network], float | None],
    ) -> _Network:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            network = _Network(mdp, self.hidden).to(mdp.device)
        transitions = _Transitions.of(mdp, self.episodes, np.random.default_rng(self.seed))
        if not len(transitions):
            return network  # no decision follows another: the bounds are exact
        target_network = copy.deepcopy(network)
        optimiser = torch.optim.Adam(network.parameters(), lr=self.learning_rate)
        loop = Loop(
            {"network": network, "slow": target_network},
            optimiser,
            steps=self.steps,
            seed=self.seed,
            about=told,
            training=self.training,
            schedule=torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, self.steps),
            patience=self.patience,
        )
        for step in loop:
            rng = loop.rng(step)
            rows = transitions.draw(self.batch, rng)
            action_costs = mdp.tensor(terms.draw(self.batch, rng))
            with torch.no_grad():
                target = transitions.target(target_network, rows, action_costs)
            loop.descend(
                nn.functional.mse_loss(transitions.going_on(network, rows, action_costs), target)
            )
            with torch.no_grad():
                pairs = zip(target_network.parameters(), network.parameters(), strict=True)
                for averaged, current in pairs:
                    averaged.lerp_(current, self.target_rate)
            if loop.due(step):
                value = validated(network)
                if value is not None and self.patience is not None:
                    loop.judge(value)
                judged = {} if value is None else {"validation_return": value}
                loop.log(mean_target=target.mean().item(), **judged)
        loop.finish()
        return network


def _policies(
    problem: RoutingPOMDP, prices: Sequence[float], network: _Network, device: torch.device
) -> list[BeliefPolicy]:
    """One policy a price, all of a double-precision copy of the network."""
    exact = copy.deepcopy(network).double().eval()
    return [BeliefPolicy(problem.at(price), exact, device) for price in prices]


def _checked(policies: list[BeliefPolicy], terms: CostRange) -> list[BeliefPolicy]:
    """The policies, after a warning for each that lies outside the terms of the training."""
    for policy in policies:
        terms.check(policy.problem)
    return policies


class _Network(nn.Module):
    """Q-values: each action's value, between its bounds, minus its cost."""

    def __init__(self, mdp: BeliefMDP, hidden: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(mdp.n_inputs, hidden),
            nn.ReLU(),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Linear(hidden, mdp.n_actions),
        )

    def going_on(self, positions: Positions, action_costs: Tensor, paid: Tensor) -> Tensor:
        """``(n, n_actions)`` the value ``g_a`` of each action before its cost."""
        share = torch.sigmoid(self.layers(inputs(positions, action_costs, paid)))
        return positions.low + share * (positions.high - positions.low)

    def forward(self, positions: Positions, action_costs: Tensor, paid: Tensor) -> Tensor:
        worth = self.going_on(positions, action_costs, paid) - paid
        return worth.masked_fill(~positions.legal, -math.inf)


@dataclass(frozen=True, eq=False)
class _Transitions:
    """The ``M`` distinct (history, action) pairs of random episodes that never stop early.

    Attributes:
        mdp: the belief MDP.
        here: ``(M,)`` the histories.
        action: ``(M,)``.
        cumulative: ``(M,)`` cumulative relative frequencies.
        after: all histories that can follow.
        following: ``(M, K)`` rows of ``after`` by the observed symbol.
        probability: ``(M, K)`` their probabilities.
    """

    mdp: BeliefMDP
    here: Positions
    action: Tensor
    cumulative: FloatArray
    after: Positions
    following: IntArray
    probability: FloatArray

    @classmethod
    def of(cls, mdp: BeliefMDP, episodes: int, rng: np.random.Generator) -> _Transitions:
        problem = mdp.problem
        pairs, counts = np.unique(_explored(problem, episodes, rng), axis=0, return_counts=True)
        codes, action = pairs.T
        after, probability = _outcomes(problem, codes, action)
        distinct, following = np.unique(after, return_inverse=True)
        return cls(
            mdp,
            mdp.positions(codes),
            torch.as_tensor(action, device=mdp.device),
            counts.cumsum() / max(1, counts.sum()),
            mdp.positions(distinct),
            following.reshape(after.shape),
            probability,
        )

    def __len__(self) -> int:
        return len(self.action)

    def draw(self, n: int, rng: np.random.Generator) -> IntArray:
        """Rows of ``n`` transitions, drawn by their frequency."""
        return np.searchsorted(self.cumulative, rng.random(n), side="right")

    def going_on(self, network: _Network, rows: IntArray, action_costs: Tensor) -> Tensor:
        """A network's values ``g_a`` of the transitions, ``(n,)``."""
        picked = torch.as_tensor(rows, device=self.mdp.device)
        here = self.here.take(picked)
        values = network.going_on(here, action_costs, self.mdp.paid(here, action_costs))
        return values.gather(1, self.action[picked, None])[:, 0]

    def target(self, network: _Network, rows: IntArray, action_costs: Tensor) -> Tensor:
        """Their targets ``Σ_o P(o) max_a Q``, ``(n,)``."""
        row, symbol = np.nonzero(self.probability[rows])
        after = torch.as_tensor(self.following[rows[row], symbol], device=self.mdp.device)
        of = torch.as_tensor(row, device=self.mdp.device)
        found, charged = self.after.take(after), action_costs[of]
        best = network(found, charged, self.mdp.paid(found, charged)).max(dim=1).values
        weighted = best * self.mdp.tensor(self.probability[rows[row], symbol])
        return torch.zeros(len(rows), dtype=best.dtype, device=best.device).index_add_(
            0, of, weighted
        )


def _explored(problem: RoutingPOMDP, episodes: int, rng: np.random.Generator) -> IntArray:
    """History code and action, ``(…, 2)``, of each step of random episodes that go on while they
    can."""
    rules, played = problem.rules, Episodes(problem.sample(episodes, rng), problem.rules)
    moves = [np.zeros((0, 2), dtype=np.int64)]
    while True:
        history = played.history
        going = onward(problem, history)
        # A step that can only end the episode is no training data.
        ends = np.logical_not(going.any(axis=1))
        if ends.all():
            return np.concatenate(moves)
        legal = rules.legal(history)
        action = (rng.random(going.shape) * np.where(ends[:, None], legal, going)).argmax(axis=1)
        moves.append(np.stack([problem.encode(history), action], axis=1)[~ends])
        played.step(action)


def _outcomes(
    problem: RoutingPOMDP, codes: IntArray, action: IntArray
) -> tuple[IntArray, FloatArray]:
    """The histories that can follow each action, ``(M, K)`` by the observed symbol, and their
    probabilities; where no symbol is observed, the first has probability 1."""
    stage, symbols = problem.decode(codes).stage, np.arange(1, 1 + problem.n_symbols)
    verifies = action == problem.rules.verify_action
    target = np.where(verifies, stage, stage + action)
    components = problem.components
    seen = components.factor[target, 1 : 1 + problem.n_symbols]  # (n, K, M)
    probability = np.einsum("nm,nkm->nk", components.posterior(problem.digits_of(codes)), seen)
    digit = np.tile(symbols, (len(codes), 1))
    if problem.rules.verify:
        digit[verifies] -= problem.unverified
        digit[~verifies] = problem.unverified
        probability[~verifies] = symbols == 1
    return codes[:, None] + problem.weights[target][:, None] * digit, probability
