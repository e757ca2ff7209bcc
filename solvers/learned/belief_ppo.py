"""Proximal policy optimisation on the exact belief; one network for all prices and cost ratios.

PPO (Schulman et al., 2017) in the belief MDP (`solvers.learned.belief_mdp`), laid out as in
CleanRL. Thousands of episodes are played at once, each at action costs of its own, and to its end.
Because the model is known, what an episode earns is the posterior mean of the returned answer's
score rather than a score drawn from it (Rao-Blackwell): the same mean, less noise. Actions that the
bounds of the belief MDP rule out, the best they can lead to being worth less than the least of
another, are masked with the illegal ones: none of them is ever optimal, and without them the
returns of an episode's choices differ by one score at most, at any price.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from routing_pomdp.envs import Episodes, RoutingData, RoutingPOMDP
from routing_pomdp.envs.settings.ranges import Count, NotNegative, PositiveShare, Seed
from routing_pomdp.solvers.learned.belief_mdp import (
    BeliefMDP,
    BeliefPolicy,
    Positions,
    inputs,
    within,
)
from routing_pomdp.solvers.learned.belief_training import TrainingRun, restored, warn_if_unjudged
from routing_pomdp.solvers.learned.training import Loop
from routing_pomdp.solvers.settings import CostRatios, Device, PriceRange, Width
from routing_pomdp.solvers.solver import Solver, Training

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

_NEVER = -1e9  # the logit of an action that is masked
_MOST_CELLS = 2**24  # of a table of all histories' positions, 64 MB


@dataclass(frozen=True)
class BeliefPPO(Solver):
    """PPO on the belief, conditioned on price and cost ratio.

    Attributes:
        hidden: width of the two hidden layers, of the policy as of the value.
        updates: of the policy, each on new episodes.
        episodes: played for an update.
        epochs: times that an update goes over its episodes.
        minibatches: gradient steps in each epoch.
        learning_rate: of Adam, falling to zero linearly.
        clip: how far the probability of an action may move in an update, as a share.
        gae_lambda: of the generalised advantage estimate (Schulman et al., 2016); 1, returns less
            the value, suits short episodes.
        entropy: weight of the policy's entropy, falling to zero linearly.
        value_weight: of the value's loss.
        max_gradient: the norm to which gradients are shortened.
        price_range: trained prices; null for the smallest and largest that are asked for.
        cost_ratios: trained cost ratios, smallest and largest; null for the problem's costs alone.
        patience: judgements on validation queries without a better one after which training ends,
            and the best network is kept; null to train to the end, and keep the last.
        device: "auto" for CUDA where it is there, or a torch device.
        seed: of episodes, initial weights and batches.
        training: see `with_training`.
    """

    hidden: Width = 64
    updates: Count = 100
    episodes: Count = 2048
    epochs: Count = 4
    minibatches: Count = 4
    learning_rate: PositiveShare = 3e-3
    clip: PositiveShare = 0.2
    gae_lambda: PositiveShare = 1.0
    entropy: NotNegative = 0.03
    value_weight: NotNegative = 0.5
    max_gradient: PositiveShare = 0.5
    price_range: PriceRange | None = None
    cost_ratios: CostRatios | None = None
    patience: Count | None = None
    device: Device = "auto"
    seed: Seed = 0
    training: Training = field(default_factory=Training, repr=False, compare=False)

    def with_training(self, training: Training) -> BeliefPPO:
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
        run = TrainingRun.of("belief_ppo", self, problem, prices)
        warn_if_unjudged(self.training, self.patience)
        return run.finish(self._trained(run.mdp(), run))

    @classmethod
    def restored(
        cls, problem: RoutingPOMDP, prices: Sequence[float], saved: Mapping[str, Any]
    ) -> list[BeliefPolicy]:
        return restored(_Network, problem, prices, saved)

    def _trained(self, mdp: BeliefMDP, run: TrainingRun) -> _Network:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            network = _Network(mdp, self.hidden).to(mdp.device)
        optimiser = torch.optim.Adam(network.parameters(), lr=self.learning_rate, eps=1e-5)
        steps = self.updates * self.epochs * self.minibatches
        loop = Loop(
            {"network": network},
            optimiser,
            steps=self.updates,
            seed=self.seed,
            about=run.about,
            training=run.training,
            schedule=torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.0, steps),
            clip=self.max_gradient,
            patience=self.patience,
        )
        arena = _Arena(mdp)
        for step in loop:
            rng = loop.rng(step)
            action_costs = run.terms.draw(self.episodes, rng)
            played = arena.play(network, action_costs, self.gae_lambda, rng)
            entropy_weight = self.entropy * (1 - step / self.updates)
            for _ in range(self.epochs):
                order = torch.as_tensor(rng.permutation(len(played)), device=mdp.device)
                for rows in order.chunk(self.minibatches):
                    loss, entropy = self._loss(network, played.take(rows), entropy_weight)
                    loop.descend(loss)
            if loop.due(step):
                judged = run.judge(loop, network, self.patience)
                loop.log(mean_return=played.mean_return, entropy=entropy.item(), **judged)
        loop.finish()
        return network

    def _loss(self, network: _Network, batch: _Played, weight: float) -> tuple[Tensor, Tensor]:
        """The clipped objective with the value's loss and the entropy bonus; the entropy."""
        seen = batch.positions, batch.action_costs, batch.paid
        log_policy = torch.log_softmax(network(*seen), dim=1)
        log_chance = log_policy.gather(1, batch.action[:, None])[:, 0]
        advantage = batch.advantage
        advantage = (advantage - advantage.mean()) / (advantage.std(correction=0) + 1e-8)
        ratio = (log_chance - batch.log_chance).exp()
        clipped = ratio.clamp(1 - self.clip, 1 + self.clip)
        gain = torch.minimum(ratio * advantage, clipped * advantage).mean()
        entropy = -(log_policy.exp() * log_policy).sum(dim=1).mean()
        value_loss = nn.functional.mse_loss(network.value(*seen), batch.returned)
        return self.value_weight * value_loss - gain - weight * entropy, entropy


class _Network(nn.Module):
    """Policy and value, apart."""

    def __init__(self, mdp: BeliefMDP, hidden: int) -> None:
        super().__init__()
        self.policy = _layers(mdp.n_inputs, hidden, mdp.n_actions, scale=0.01)
        self.worth = _layers(mdp.n_inputs, hidden, 1, scale=1.0)

    def forward(self, positions: Positions, action_costs: Tensor, paid: Tensor) -> Tensor:
        """Logits ``(n, n_actions)``."""
        _, high, sure = within(positions, paid)
        logits: Tensor = self.policy(inputs(positions, action_costs, paid))
        return logits.masked_fill(~positions.legal | (high < sure), _NEVER)

    def value(self, positions: Positions, action_costs: Tensor, paid: Tensor) -> Tensor:
        """What is still to be got, ``(n,)``: its place between what is certain and possible."""
        _, high, sure = within(positions, paid)
        share = torch.sigmoid(self.worth(inputs(positions, action_costs, paid)))
        possible = high.masked_fill(~positions.legal, _NEVER).max(dim=1, keepdim=True).values
        return (sure + share * (possible - sure))[:, 0]


def _layers(n_inputs: int, hidden: int, n_outputs: int, scale: float) -> nn.Sequential:
    """Two hidden layers; orthogonal weights, the last ones scaled, as PPO likes them."""
    widths = (n_inputs, hidden, hidden, n_outputs)
    linear = [nn.Linear(*pair) for pair in pairwise(widths)]
    for layer, gain in zip(linear, (2**0.5, 2**0.5, scale), strict=True):
        nn.init.orthogonal_(layer.weight, gain)
        nn.init.zeros_(layer.bias)
    return nn.Sequential(linear[0], nn.Tanh(), linear[1], nn.Tanh(), linear[2])


@dataclass(frozen=True, eq=False)
class _Played:
    """``M`` decisions of finished episodes.

    Attributes:
        positions: where they were taken.
        action_costs: ``(M, 2N)``.
        paid: ``(M, n_actions)`` what each action takes from the return.
        action: ``(M,)`` taken.
        log_chance: ``(M,)`` of the action under the policy that played.
        advantage: ``(M,)``.
        returned: ``(M,)`` what the value should have been.
        mean_return: of the episodes, from their first decision on.
    """

    positions: Positions
    action_costs: Tensor
    paid: Tensor
    action: Tensor
    log_chance: Tensor
    advantage: Tensor
    returned: Tensor
    mean_return: float

    def __len__(self) -> int:
        return len(self.action)

    def take(self, rows: Tensor) -> _Played:
        return _Played(
            self.positions.take(rows),
            self.action_costs[rows],
            self.paid[rows],
            self.action[rows],
            self.log_chance[rows],
            self.advantage[rows],
            self.returned[rows],
            self.mean_return,
        )


class _Arena:
    """Plays episodes against the model.

    Args:
        mdp: whose problem is played.
    """

    def __init__(self, mdp: BeliefMDP) -> None:
        # Signals that are the symbols themselves need not be binned again.
        self._mdp, self._problem = mdp, replace(mdp.problem, observation=None)
        self._table: Positions | None = None
        if self._problem.n_histories * mdp.n_features <= _MOST_CELLS:
            self._table = mdp.positions(np.arange(self._problem.n_histories))

    def _positions(self, codes: IntArray) -> Positions:
        device = self._mdp.device
        if self._table is not None:
            return self._table.take(torch.as_tensor(codes, device=device))
        distinct, inverse = np.unique(codes, return_inverse=True)
        return self._mdp.positions(distinct).take(torch.as_tensor(inverse, device=device))

    def play(
        self,
        network: _Network,
        action_costs: FloatArray,
        gae_lambda: float,
        rng: np.random.Generator,
    ) -> _Played:
        """One episode for each row of action costs ``(n, 2N)``, from first decision to end."""
        mdp, problem, n = self._mdp, self._problem, len(action_costs)
        episodes = Episodes(problem.sample(n, rng), problem.rules)
        every = mdp.tensor(action_costs)
        steps: list[_Step] = []
        while len(episodes):
            history = episodes.history
            who = torch.as_tensor(history.query, device=mdp.device)
            positions, owed = self._positions(problem.encode(history)), every[who]
            paid = mdp.paid(positions, owed)
            with torch.no_grad():
                log_policy = torch.log_softmax(network(positions, owed, paid), dim=1)
                value = network.value(positions, owed, paid)
            noise = mdp.tensor(rng.gumbel(size=log_policy.shape))
            action = (log_policy + noise).argmax(dim=1)  # a draw from the policy
            ended, _ = episodes.step(action.cpu().numpy())
            over = torch.zeros(n, dtype=torch.bool, device=mdp.device)
            over[torch.as_tensor(ended.query, device=mdp.device)] = True
            mine = action[:, None]
            earned = torch.where(over[who], positions.low.gather(1, mine)[:, 0], 0.0)
            reward = earned - paid.gather(1, mine)[:, 0]
            log_chance = log_policy.gather(1, mine)[:, 0]
            steps.append(_Step(who, positions, owed, paid, action, log_chance, value, reward))
        return _with_advantages(steps, n, gae_lambda)


@dataclass(frozen=True, eq=False)
class _Step:
    """One decision in each of the episodes ``who``."""

    who: Tensor
    positions: Positions
    action_costs: Tensor
    paid: Tensor
    action: Tensor
    log_chance: Tensor
    value: Tensor
    reward: Tensor


def _with_advantages(steps: Sequence[_Step], n: int, gae_lambda: float) -> _Played:
    """The decisions of ``n`` episodes with their generalised advantages, discount 1."""
    next_value = torch.zeros(n, dtype=steps[0].value.dtype, device=steps[0].value.device)
    carried, total = torch.zeros_like(next_value), torch.zeros_like(next_value)
    advantages: list[Tensor] = []
    for step in reversed(steps):
        surprise = step.reward + next_value[step.who] - step.value
        advantages.insert(0, surprise + gae_lambda * carried[step.who])
        carried[step.who], next_value[step.who] = advantages[0], step.value
        total[step.who] += step.reward
    advantage = torch.cat(advantages)
    return _Played(
        Positions.joined([step.positions for step in steps]),
        torch.cat([step.action_costs for step in steps]),
        torch.cat([step.paid for step in steps]),
        torch.cat([step.action for step in steps]),
        torch.cat([step.log_chance for step in steps]),
        advantage,
        advantage + torch.cat([step.value for step in steps]),
        total.mean().item(),
    )
