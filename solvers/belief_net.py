"""A network on the exact belief, trained by Q-learning in the environment; one for all prices.

The routing problem as a belief MDP (Kaelbling et al., 1998): the state is the posterior over score
vectors with the stage, and what returning an answer earns there is its posterior mean. So only the
value of going on is unknown. Going on with action ``a`` is worth ``g_a = E[V(next)]`` after its
toll, and whatever the price,

    E_b[score of the answer then in hand]  <=  g_a  <=  E_b[best score still within reach].

The network gives the place of ``g_a`` between the two. It is trained off-policy (DQN: Mnih et al.,
2015) on episodes that go on at random for as long as they can. The price does not change what is
seen, only what it costs: every transition is a sample at every price, and gets a new one in every
batch.
"""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from envs import STAY, Episodes, History, Replay, RoutingPOMDP
from solvers.solver import Actions, Log, Solver, Training

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class BeliefNet(Solver):
    """Price-conditioned deep Q-learning on the belief.

    Attributes:
        hidden: width of the two hidden layers.
        episodes: played for training.
        steps: of gradient descent.
        batch: transitions a step.
        learning_rate: of Adam, falling to zero along a cosine.
        target_rate: share of the network that its slow copy, which gives the targets, takes over
            in each step.
        price_range: trained prices; null for the smallest and largest that are asked for.
        device: "auto" for CUDA where it is there, or a torch device.
        seed: of episodes, initial weights and batches.
        log: told ``step``, ``loss`` and ``mean_target`` while training.
    """

    hidden: int = 128
    episodes: int = 20_000
    steps: int = 4000
    batch: int = 512
    learning_rate: float = 5e-3
    target_rate: float = 0.02
    price_range: tuple[float, float] | None = None
    device: str = "auto"
    seed: int = 0
    log: Log | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        for key in ("hidden", "episodes", "steps", "batch"):
            if getattr(self, key) < 1:
                raise ValueError(f"solver.{key} is {getattr(self, key)}: expected at least 1")
        for key in ("learning_rate", "target_rate"):
            if not 0 < getattr(self, key) <= 1:
                raise ValueError(f"solver.{key} is {getattr(self, key)}: expected in (0, 1]")
        if self.price_range is not None:
            low, high = self.price_range
            if not 0 <= low <= high < math.inf:
                raise ValueError(
                    f"solver.price_range is {list(self.price_range)}: expected 0 <= low <= high"
                )

    def with_training(self, training: Training) -> BeliefNet:
        return replace(self, log=training.log)

    def solve(self, problem: RoutingPOMDP, train: Replay | None = None) -> BeliefNetPolicy:
        return self.solve_frontier(problem, [problem.price], train)[0]

    def solve_frontier(
        self, problem: RoutingPOMDP, prices: Sequence[float], train: Replay | None = None
    ) -> list[BeliefNetPolicy]:
        """One policy a price; all share one network, trained once."""
        low, high = self.price_range or (min(prices), max(prices))
        outside = [price for price in prices if not low <= price <= high]
        if outside:
            warnings.warn(
                f"price {outside[0]:g} lies outside the trained range [{low:g}, {high:g}]: the "
                "network extrapolates",
                stacklevel=2,
            )
        device = torch.device(
            ("cuda" if torch.cuda.is_available() else "cpu")
            if self.device == "auto"
            else self.device
        )
        network = self._train(_BeliefMDP(problem, device), low, high, device)
        # Decisions in double precision: rounding then never depends on the batch.
        network = network.double().eval()
        return [BeliefNetPolicy(problem.at(price), network) for price in prices]

    def _train(self, mdp: _BeliefMDP, low: float, high: float, device: torch.device) -> _Network:
        rng = np.random.default_rng(self.seed)
        rows, actions, following = mdp.explore(self.episodes, rng)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            network = _Network(mdp.n_features, self.hidden, mdp.n_actions).to(device)
        if not len(rows):
            return network  # two models, one decision: the bounds say everything
        slow = copy.deepcopy(network)
        optimiser = torch.optim.Adam(network.parameters(), lr=self.learning_rate)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, self.steps)
        for step in range(1, self.steps + 1):
            pick = rng.integers(len(rows), size=self.batch)
            price = torch.as_tensor(_draw_prices(low, high, self.batch, rng), device=device)
            with torch.no_grad():
                target = mdp.values(slow, following[pick], price).max(dim=1).values
            going = mdp.going_on(network, rows[pick], price)
            loss = nn.functional.mse_loss(going.gather(1, actions[pick, None])[:, 0], target)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            with torch.no_grad():
                for ours, theirs in zip(slow.parameters(), network.parameters(), strict=True):
                    ours.lerp_(theirs, self.target_rate)
            if self.log and step % max(1, self.steps // 50) == 0:
                self.log({"step": step, "loss": loss.item(), "mean_target": target.mean().item()})
        return network


@dataclass(frozen=True, eq=False)
class BeliefNetPolicy:
    """Greedy in the network's values.

    Attributes:
        problem: at the policy's price.
        network: shared by the policies of all prices.
    """

    problem: RoutingPOMDP
    network: _Network

    def act(self, history: History) -> Actions:
        codes, inverse = np.unique(self.problem.encode(history), return_inverse=True)
        device = next(self.network.parameters()).device
        mdp = _BeliefMDP(self.problem, device, torch.float64)
        rows = mdp.rows(codes)
        price = torch.full((len(codes),), self.problem.price, dtype=torch.float64, device=device)
        with torch.no_grad():
            values = mdp.values(self.network, rows, price).cpu().numpy()
        return np.round(values, 9).argmax(axis=1)[inverse]


class _Network(nn.Module):
    """Features of a belief and a price -> a logit for each action."""

    def __init__(self, n_features: int, hidden: int, n_actions: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(n_features + 2, hidden),
            nn.ReLU(),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Linear(hidden, n_actions),
        )

    def forward(self, features: Tensor, price: Tensor) -> Tensor:
        priced = torch.stack([torch.log10(price + 1e-3) / 2, price / (1 + price)], dim=1)
        logits: Tensor = self.layers(torch.cat([features, priced], dim=1))
        return logits


class _BeliefMDP:
    """The belief MDP over the histories met so far, each a row of a few tables.

    Attributes:
        n_features: of a row: belief, posterior means, stage, whether the answer is verified.
        n_actions: of the rules.
    """

    def __init__(
        self, problem: RoutingPOMDP, device: torch.device, dtype: torch.dtype = torch.float32
    ) -> None:
        self._problem, self._device, self._dtype = problem, device, dtype
        self.n_actions = problem.rules.n_actions
        self.n_features = len(problem.prior) + 2 * problem.n_models + 2
        self._toll = _tolls(problem)

    def explore(self, episodes: int, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Plays episodes that never stop while they can go on, and fills the tables.

        Returns:
            Row, action and next row of every transition.
        """
        problem, rules = self._problem, self._problem.rules
        played = Episodes(problem.sample(episodes, rng), rules)
        before, taken, after = [], [], []
        while True:
            history = played.history
            onward = _onward(problem, history)
            # An episode that can only end is ended: nothing is to be learnt from that.
            ends = np.logical_not(onward.any(axis=1))
            legal = rules.masks[history.stage + 1, history.last_verified.astype(np.int64)]
            draw = rng.random(onward.shape) * np.where(ends[:, None], legal, onward)
            action = draw.argmax(axis=1)
            goes = np.flatnonzero(onward.any(axis=1))
            if not len(goes):
                break
            codes = problem.encode(history)
            played.step(action)
            before.append(codes[goes])
            taken.append(action[goes])
            after.append(problem.encode(played.history))
        empty = np.zeros(0, dtype=np.int64)
        codes, places = np.unique(np.concatenate([empty, *before, *after]), return_inverse=True)
        rows = self.rows(codes)[torch.as_tensor(places, device=self._device)]
        half = len(rows) // 2
        actions = torch.as_tensor(np.concatenate([empty, *taken]), device=self._device)
        return rows[:half], actions, rows[half:]

    def rows(self, codes: IntArray) -> Tensor:
        """Fills the tables with the histories of distinct codes; returns their rows."""
        problem = self._problem
        history, belief = problem.decode(codes), problem.belief(codes)
        mean = belief @ problem.score
        stage = np.eye(problem.n_models + 1)[history.stage + 1]
        verified = history.last_verified
        features = np.concatenate([belief, mean, stage, verified[:, None]], axis=1)
        low, high = _bounds(problem, history, belief, mean)
        legal = problem.rules.masks[history.stage + 1, verified.astype(np.int64)]

        def table(array: NDArray[np.generic]) -> Tensor:
            dtype = torch.bool if array.dtype == bool else self._dtype
            return torch.as_tensor(array, dtype=dtype, device=self._device)

        self._features, self._low, self._high = table(features), table(low), table(high)
        self._legal, self._tolls = table(legal), table(self._toll[history.stage + 1])
        return torch.arange(len(codes), device=self._device)

    def going_on(self, network: _Network, rows: Tensor, price: Tensor) -> Tensor:
        """``g_a``, ``(m, n_actions)``: what each action leads to is worth, before its toll."""
        share = torch.sigmoid(network(self._features[rows], price.to(self._dtype)))
        low = self._low[rows]
        return low + share * (self._high[rows] - low)

    def values(self, network: _Network, rows: Tensor, price: Tensor) -> Tensor:
        """Q-values ``(m, n_actions)``, -inf where an action is illegal."""
        toll = price.to(self._dtype)[:, None] * self._tolls[rows]
        worth = self.going_on(network, rows, price) - toll
        return worth.masked_fill(~self._legal[rows], -math.inf)


def _tolls(problem: RoutingPOMDP) -> FloatArray:
    """``(N + 1, n_actions)``: what actions cost at price 1, by ``stage + 1``."""
    rules, last = problem.rules, problem.n_models - 1
    call = problem.costs.call / problem.costs.unit
    verify = problem.costs.verify / problem.costs.unit
    toll = np.zeros((problem.n_models + 1, rules.n_actions))
    for stage in range(-1, last):
        for rungs in range(1, 1 + rules.reach(stage)):
            target = stage + rungs
            forced = 0.0 if rules.verify or target == last else verify[target]
            toll[stage + 1, rungs] = call[target] + forced
        if rules.verify and stage >= 0:
            toll[stage + 1, rules.verify_action] = verify[stage]
    return toll


def _target(problem: RoutingPOMDP, history: History) -> IntArray:
    """``(n, n_actions)``: the last called model after each action."""
    rungs = np.arange(problem.rules.n_actions)
    rungs[problem.rules.verify_action] *= not problem.rules.verify
    return np.minimum(history.stage[:, None] + rungs, problem.n_models - 1)


def _onward(problem: RoutingPOMDP, history: History) -> NDArray[np.bool_]:
    """``(n, n_actions)``: the legal actions after which a decision follows."""
    legal = problem.rules.masks[history.stage + 1, history.last_verified.astype(np.int64)]
    onward: NDArray[np.bool_] = legal & (_target(problem, history) < problem.n_models - 1)
    onward[:, STAY] = False
    return onward


def _bounds(
    problem: RoutingPOMDP, history: History, belief: FloatArray, mean: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Bounds ``(n, n_actions)`` on what each action leads to; equal where that is the end."""
    target, best = _target(problem, history), problem.rules.answer == "best"
    hand = np.where(history.called, mean, -np.inf).max(axis=1, keepdims=True)
    low = np.take_along_axis(mean, np.maximum(target, 0), axis=1)
    low = np.maximum(low, hand) if best else low
    # Within reach of model i: the best of i and all later ones; of all models, if any paid-for
    # answer may be returned.
    reach = np.maximum.accumulate(problem.score[:, ::-1], axis=1)[:, ::-1]
    reach = np.repeat(reach[:, :1], problem.n_models, axis=1) if best else reach
    high = np.take_along_axis(belief @ reach, np.maximum(target, 0), axis=1)
    ends = target == problem.n_models - 1
    ends[:, STAY] = True
    return low, np.where(ends, low, np.maximum(high, low))


def _draw_prices(low: float, high: float, n: int, rng: np.random.Generator) -> FloatArray:
    """Prices spread evenly over the logarithm of the range; a few are its lower end, which may
    be 0."""
    floor = max(low, min(1e-3, high))
    if floor <= 0:
        return np.full(n, low)
    price = np.exp(rng.uniform(math.log(floor), math.log(max(high, floor)), size=n))
    price[rng.random(n) < 0.05] = low
    return price
