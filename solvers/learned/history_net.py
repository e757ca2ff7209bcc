"""A network that sees raw signals, learns its own belief, and what to do with it.

Two heads of one network, both ensembles of ``K`` members:

- the **belief** says of every model how likely its answer is right, from the signals seen so far:
  several at once, those not seen left out. It is taught by the logarithmic score at every decision
  point of every query, which rewards honest probabilities alone, and can be inspected and checked
  for calibration (`HistoryNetPolicy.belief`, `solvers.belief_calibration`).
- the **values** start where that belief would lead whoever gets no further signal (`open_loop`);
  what further signals add to actions that leave something to decide is learned by fitted Q as in
  `solvers.learned.belief_fqi`, from the belief, the decision point and the action costs. Values
  teach the belief nothing.

It is trained as `belief_fqi` is: on simulated queries first, then a little on the log, where no
member is taught the fold that it decides for, and starts where trials on simulated queries say.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from routing_pomdp.envs import STAY, History, RoutingData, RoutingPOMDP
from routing_pomdp.envs.arrays import FloatArray
from routing_pomdp.envs.settings.ranges import Positive
from routing_pomdp.solvers.action_costs import action_costs_of
from routing_pomdp.solvers.belief_calibration import Beliefs, belief_figures
from routing_pomdp.solvers.decision_points import DecisionPoints, open_loop
from routing_pomdp.solvers.learned.checkpoint import plain_settings
from routing_pomdp.solvers.learned.fitted_values import (
    Batch,
    FitSettings,
    TargetBuilder,
    check_queries,
    choose,
    fit,
    grouped,
    ready,
)
from routing_pomdp.solvers.learned.returns import Returns
from routing_pomdp.solvers.learned.training import device_of
from routing_pomdp.solvers.learned.value_net import FrozenValues, NormalScores, ValueNet
from routing_pomdp.solvers.settings import Width
from routing_pomdp.solvers.solver import Actions, FrontierSolver


@dataclass(frozen=True)
class HistoryNet(FitSettings, FrontierSolver):
    """See the module; further settings are those of `FitSettings`.

    Attributes:
        hidden: features of each member of the values.
        belief_hidden: features of each member of the belief.
        belief_weight: of the logarithmic score beside the values' squared error.
    """

    hidden: Width = 16
    belief_hidden: Width = 16
    belief_weight: Positive = 1.0

    def solve_frontier(
        self, problem: RoutingPOMDP, prices: Sequence[float], train: RoutingData
    ) -> list[HistoryNetPolicy]:
        """One policy a price; all share one network, trained once.

        Raises:
            ValueError: fewer training queries than members, or a validation split that is empty.
            TrainingError: the loss is no finite number.
        """
        check_queries("history_net", self, train)
        seen, device = NormalScores.of(train), device_of(self.device)
        points = DecisionPoints.of(problem.rules)
        builder = TargetBuilder(points, device, seen)
        right = (train.score.sum(axis=0) + 0.5) / (len(train) + 1)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            network = _network(plain_settings(self), seen.width, points)
        network.log_odds.copy_(torch.as_tensor(np.log(right / (1 - right))))
        network.to(device)

        def loss_of(batch: Batch, returns: Returns) -> Tensor:
            log_odds = network.belief(batch.x * builder.verified)
            surprise = nn.functional.binary_cross_entropy_with_logits(
                log_odds, batch.score.expand_as(log_odds), reduction="none"
            )
            if batch.fold is not None:
                taught = torch.arange(self.members, device=device)[:, None] != batch.fold
                share = self.members / (self.members - 1)
                surprise = surprise * taught[:, None, :, None] * share
            believed = log_odds.detach()
            values = network.values(believed, batch.action_costs)
            values = values + builder.open_loop(torch.sigmoid(believed), batch.action_costs)
            error = builder.loss(values, batch.action_costs, returns, batch.rows, batch.fold)
            return error + self.belief_weight * surprise.mean()

        def policies_of(network: HistoryNetwork) -> list[HistoryNetPolicy]:
            return _policies(problem, prices, network, seen)

        def report(
            policies: Sequence[HistoryNetPolicy], validation: RoutingData
        ) -> dict[str, float]:
            return belief_figures(Beliefs.of(policies[0], problem.rules, validation))

        saved = fit(
            "history_net", network, loss_of, policies_of, self, problem, prices, train, seen, report
        )
        return self.restored(problem, prices, saved)

    @classmethod
    def restored(
        cls, problem: RoutingPOMDP, prices: Sequence[float], saved: Mapping[str, Any]
    ) -> list[HistoryNetPolicy]:
        """One policy a price, from a checkpoint's content."""
        points = DecisionPoints.of(problem.rules)
        seen = NormalScores.restored(saved)
        with torch.random.fork_rng(devices=[]):  # for numbers that are replaced at once
            network = _network(saved["about"]["settings"], seen.width, points).double()
        network.load_state_dict(saved["network"])
        return ready(_policies(problem, prices, network, seen), saved)


class HistoryNetwork(nn.Module):
    """Both heads.

    Args:
        members: ``K``.
        width: of what is seen, as `NormalScores` has it.
        belief_hidden: features of each member of the belief.
        hidden: features of each member of the values.
        points: ``P`` of them.

    Attributes:
        log_odds: ``(N,)`` of every model's answer before anything was seen: where the belief
            starts.
    """

    log_odds: Tensor
    code: Tensor
    goes_on: Tensor

    def __init__(
        self, members: int, width: int, belief_hidden: int, hidden: int, points: DecisionPoints
    ) -> None:
        super().__init__()
        n = points.rules.n_models
        self.register_buffer("log_odds", torch.zeros(n))
        code = torch.as_tensor(points.code, dtype=torch.get_default_dtype())
        self.register_buffer("code", code, persistent=False)
        # What an ending is worth is what is believed of the answer, where that is the last one's.
        known = (points.following < 0) & (points.rules.answer == "last")
        self.register_buffer("goes_on", torch.as_tensor(~known), persistent=False)
        scale = min(1.0, 2 / math.sqrt(width))
        self.encoder = nn.Parameter(torch.randn(members, width, belief_hidden) * scale)
        self.where = nn.Parameter(torch.randn(members, code.shape[1], belief_hidden) * 0.5)
        self.odds = nn.Parameter(torch.zeros(members, belief_hidden, n))
        self.shift = nn.Parameter(torch.zeros(members, 1, n))
        self.worth = ValueNet(members, n, hidden, points)

    def belief(self, x: Tensor) -> Tensor:
        """Log-odds of each model's answer, ``(K, P, B, N)``, from ``x (P, B, width)``."""
        members, n_places, n = len(self.encoder), *x.shape[:2]
        features = torch.matmul(x.flatten(0, 1), self.encoder).unflatten(1, (n_places, n))
        features = torch.relu(features + (self.code @ self.where)[:, :, None])
        found = torch.baddbmm(self.shift, features.flatten(1, 2), self.odds)
        return self.log_odds + found.view(members, n_places, n, -1)

    def values(self, log_odds: Tensor, action_costs: Tensor) -> Tensor:
        """What further signals add, ``(K, P, B, m, n_actions)``."""
        added = self.worth(log_odds - self.log_odds, action_costs)
        return added * self.goes_on[:, None, None]


@dataclass(frozen=True, eq=False)
class HistoryNetPolicy:
    """The action of the largest value.

    Attributes:
        problem: at the policy's price.
        points: of its rules.
        seen: scales the signals.
        odds: every member's log-odds less those of the start, side by side, at each decision point.
        values: what further signals add, less action costs, from all of these.
        log_odds: ``(N,)`` before anything was seen.
        start: the action where nothing was called yet; None to go by the values there, too.
    """

    problem: RoutingPOMDP
    points: DecisionPoints
    seen: NormalScores
    odds: FrozenValues
    values: FrozenValues
    log_odds: FloatArray
    start: int | None = None

    def belief(self, history: History) -> FloatArray:
        """``(n, N)`` how likely every model's answer is right; for graded scores, its score."""
        point, x = self.points.index(history), self.seen(history.signal, history.verified)
        belief = np.empty((len(point), len(self.log_odds)))
        for at, rows in grouped(point):
            belief[rows] = self._believed(self.odds(at, x[rows]))
        return belief

    def act(self, history: History) -> Actions:
        point, x = self.points.index(history), self.seen(history.signal, history.verified)
        action, action_costs = np.empty(len(point), dtype=np.int64), action_costs_of(self.problem)
        for at, rows in grouped(point):
            if at == 0 and self.start is not None:
                action[rows] = self.start
                continue
            odds = self.odds(at, x[rows])
            belief, values = self._believed(odds), self.values(at, odds)
            worth = open_loop(self.points.rules, belief, action_costs)
            for choice in np.flatnonzero(self.points.legal[at]):
                target = self.points.target[at, choice]
                values[:, choice] += belief[:, target] if choice == STAY else worth[target]
            action[rows] = choose(values, self.points.legal[at])
        return action

    def _believed(self, odds: FloatArray) -> FloatArray:
        """``(n, N)`` the members' mean probabilities."""
        n_models = len(self.log_odds)
        members = [
            1 / (1 + np.exp(-self.log_odds - odds[:, begin : begin + n_models]))
            for begin in range(0, odds.shape[1], n_models)
        ]
        belief: FloatArray = sum(members[1:], members[0]) / len(members)
        return belief


def _network(settings: Mapping[str, Any], width: int, points: DecisionPoints) -> HistoryNetwork:
    sizes = settings["members"], width, settings["belief_hidden"], settings["hidden"]
    return HistoryNetwork(*sizes, points)


@torch.no_grad()
def _policies(
    problem: RoutingPOMDP, prices: Sequence[float], network: HistoryNetwork, seen: NormalScores
) -> list[HistoryNetPolicy]:
    """One policy a price from a network in double precision."""
    points = DecisionPoints.of(problem.rules)
    builder = TargetBuilder(points, torch.device("cpu"))
    n_places = len(points)
    # All members side by side: what one tells its own values is a block of a matrix.
    heads = torch.block_diag(*network.odds).expand(n_places, -1, -1)
    odds = FrozenValues(
        network.encoder.permute(1, 0, 2).flatten(1).numpy(),
        (network.code @ network.where).transpose(0, 1).flatten(1).numpy(),
        heads.numpy(),
        network.shift.flatten().expand(n_places, -1).numpy(),
    )
    apart = torch.block_diag(*network.worth.encoder).numpy()
    policies = []
    for price in prices:
        action_costs = action_costs_of(problem.at(price))
        told = torch.as_tensor(action_costs)[None]
        added, goes_on = network.worth.frozen(action_costs), network.goes_on.numpy()
        values = FrozenValues(
            apart,
            added.bias,
            added.heads * goes_on[:, None],
            added.constant * goes_on - builder.action_costs(told)[:, 0].numpy(),
        )
        log_odds = network.log_odds.numpy()
        policies.append(HistoryNetPolicy(problem.at(price), points, seen, odds, values, log_odds))
    return policies
