"""A network on the exact belief, trained by Q-learning; one for all prices and cost ratios.

In the belief MDP (`solvers.learned.belief_mdp`) only the value of going on is unknown, and it lies
between two bounds: the network gives its place between them. It is trained off-policy (DQN: Mnih et
al., 2015) on episodes that go on at random for as long as they can, against a slow copy of itself.
What comes next is not drawn but averaged over the symbols, whose probabilities the belief gives:
targets have no noise. Prices and costs do not change what is seen, only what it takes from the
return: every transition is a sample at all of them, and gets new action costs in every batch.
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
        episodes: played to find the histories that it is trained on.
        steps: of gradient descent.
        batch: transitions a step.
        learning_rate: of Adam, falling to zero along a cosine.
        target_rate: share of the network that its slow copy, which gives the targets, takes over
            in each step.
        price_range: trained prices; null for the smallest and largest that are asked for.
        cost_ratios: trained cost ratios, smallest and largest; null for the problem's costs alone.
        patience: judgements on validation queries without a better one after which training ends,
            and the best network is kept; null to train to the end, and keep the last.
        device: "auto" for CUDA where it is there, or a torch device.
        seed: of episodes, initial weights and batches.
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
        """One policy a price; all share one network, trained once.

        Raises:
            TrainingError: a loss that is no number.
            CheckpointError: the run's folder holds a training of something else.
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
        moves = _Moves.of(mdp, self.episodes, np.random.default_rng(self.seed))
        if not len(moves):
            return network  # two models, one decision: the bounds say everything
        slow = copy.deepcopy(network)
        optimiser = torch.optim.Adam(network.parameters(), lr=self.learning_rate)
        loop = Loop(
            {"network": network, "slow": slow},
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
            pick = moves.draw(self.batch, rng)
            action_costs = mdp.tensor(terms.draw(self.batch, rng))
            with torch.no_grad():
                target = moves.target(slow, pick, action_costs)
            loop.descend(
                nn.functional.mse_loss(moves.going_on(network, pick, action_costs), target)
            )
            with torch.no_grad():
                for ours, theirs in zip(slow.parameters(), network.parameters(), strict=True):
                    ours.lerp_(theirs, self.target_rate)
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
    """Q-values: each action's value, placed between its bounds, less its cost."""

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
        """``g_a``, ``(n, n_actions)``: what each action leads to is worth, before its cost."""
        share = torch.sigmoid(self.layers(inputs(positions, action_costs, paid)))
        return positions.low + share * (positions.high - positions.low)

    def forward(self, positions: Positions, action_costs: Tensor, paid: Tensor) -> Tensor:
        worth = self.going_on(positions, action_costs, paid) - paid
        return worth.masked_fill(~positions.legal, -math.inf)


@dataclass(frozen=True, eq=False)
class _Moves:
    """What random episodes that never stop were seen to do: ``M`` distinct (history, action).

    Attributes:
        mdp: of the problem.
        here: the histories, ``(M,)``.
        action: ``(M,)``.
        often: ``(M,)`` the cumulated share of the moves that each was.
        after: the histories that can follow any of them.
        following: ``(M, K)`` their rows, by the symbol that is seen.
        chance: ``(M, K)`` how likely each is.
    """

    mdp: BeliefMDP
    here: Positions
    action: Tensor
    often: FloatArray
    after: Positions
    following: IntArray
    chance: FloatArray

    @classmethod
    def of(cls, mdp: BeliefMDP, episodes: int, rng: np.random.Generator) -> _Moves:
        problem = mdp.problem
        moved, counts = np.unique(_explored(problem, episodes, rng), axis=0, return_counts=True)
        codes, action = moved.T
        after, chance = _outcomes(problem, codes, action)
        distinct, following = np.unique(after, return_inverse=True)
        return cls(
            mdp,
            mdp.positions(codes),
            torch.as_tensor(action, device=mdp.device),
            counts.cumsum() / max(1, counts.sum()),
            mdp.positions(distinct),
            following.reshape(after.shape),
            chance,
        )

    def __len__(self) -> int:
        return len(self.action)

    def draw(self, n: int, rng: np.random.Generator) -> IntArray:
        """Rows of ``n`` moves, as often as they were made."""
        return np.searchsorted(self.often, rng.random(n), side="right")

    def going_on(self, network: _Network, rows: IntArray, action_costs: Tensor) -> Tensor:
        """What a network says that the moves lead to, ``(n,)``."""
        pick = torch.as_tensor(rows, device=self.mdp.device)
        here = self.here.take(pick)
        worth = network.going_on(here, action_costs, self.mdp.paid(here, action_costs))
        return worth.gather(1, self.action[pick, None])[:, 0]

    def target(self, network: _Network, rows: IntArray, action_costs: Tensor) -> Tensor:
        """``Σ_o P(o) max_a Q``: the same by what may come next, ``(n,)``."""
        move, symbol = np.nonzero(self.chance[rows])
        after = torch.as_tensor(self.following[rows[move], symbol], device=self.mdp.device)
        of = torch.as_tensor(move, device=self.mdp.device)
        found, charged = self.after.take(after), action_costs[of]
        best = network(found, charged, self.mdp.paid(found, charged)).max(dim=1).values
        weighted = best * self.mdp.tensor(self.chance[rows[move], symbol])
        return torch.zeros(len(rows), dtype=best.dtype, device=best.device).index_add_(
            0, of, weighted
        )


def _explored(problem: RoutingPOMDP, episodes: int, rng: np.random.Generator) -> IntArray:
    """Plays episodes that go on while they can: history code and action of each such move."""
    rules, played = problem.rules, Episodes(problem.sample(episodes, rng), problem.rules)
    moves = [np.zeros((0, 2), dtype=np.int64)]
    while True:
        history = played.history
        going = onward(problem, history)
        # An episode that can only end is ended: nothing is to be learnt from that.
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
    """The histories that can follow a move, ``(M, K)`` by the symbol seen, and their chances;
    where nothing is seen the first of them is certain."""
    stage, symbols = problem.decode(codes).stage, np.arange(1, 1 + problem.n_symbols)
    verifies = action == problem.rules.verify_action
    target = np.where(verifies, stage, stage + action)
    components = problem.components
    seen = components.factor[target, 1 : 1 + problem.n_symbols]  # (n, K, M)
    chance = np.einsum("nm,nkm->nk", components.posterior(problem.digits_of(codes)), seen)
    digit = np.tile(symbols, (len(codes), 1))
    if problem.rules.verify:
        digit[verifies] -= problem.unverified
        digit[~verifies] = problem.unverified
        chance[~verifies] = symbols == 1
    return codes[:, None] + problem.weights[target][:, None] * digit, chance
