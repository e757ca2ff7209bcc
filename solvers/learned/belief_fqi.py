"""Fitted Q with one network for all decision points, prices and cost ratios, learned from the log.

Every model is logged on every training query, so what an action returned is known there, given what
is decided afterwards: backward induction over the decision points of `solvers.decision_points`,
with no exploration. One network (an ensemble of ``K`` members) regresses these returns at all
decision points and random action costs at once, and its own greedy decisions are what later returns
rest on (fitted Q-iteration: Ernst et al., JMLR 2005; Riedmiller, ECML 2005).

The values start at those of `Static`, which no signal changes, and the network learns what signals
add to them. Two things keep it from learning a small log by heart. It is trained first on queries
simulated from the log under bootstrap doubt (`solvers.learned.simulated`), then a little on the
log, for as long as that helps on the validation queries. And no member decides for the queries that
it learns from: member ``k`` never sees fold ``k`` of the log, and alone decides there, since a
maximum over predictions of one's own promises too much.

Where an episode may start with any model, the start is not left to the network: nothing was seen
there, and what the policy returns from each start is tried out on simulated queries
(`solvers.learned.fitted_values.choose_start`), which are kept with a checkpoint for other prices.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from routing_pomdp.envs import History, RoutingData, RoutingPOMDP
from routing_pomdp.envs.arrays import FloatArray
from routing_pomdp.solvers.action_costs import action_costs_of
from routing_pomdp.solvers.decision_points import DecisionPoints
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
class BeliefFQI(FitSettings, FrontierSolver):
    """See the module. Where any paid-for answer may be returned, it is the best by the fitted
    problem's belief, as in the environment. Further settings are those of `FitSettings`.

    Attributes:
        hidden: features of each member.
    """

    hidden: Width = 32

    def solve_frontier(
        self, problem: RoutingPOMDP, prices: Sequence[float], train: RoutingData
    ) -> list[ValuePolicy]:
        """One policy a price; all share one network, trained once.

        Raises:
            ValueError: fewer training queries than members, or a validation split that is empty.
            TrainingError: the loss is no finite number.
        """
        check_queries("belief_fqi", self, train)
        seen, mean = NormalScores.of(train), train.score.mean(axis=0)
        device, points = device_of(self.device), DecisionPoints.of(problem.rules)
        builder = TargetBuilder(points, device, seen)
        means = torch.as_tensor(mean, dtype=torch.float32, device=device)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            network = ValueNet(self.members, seen.width, self.hidden, points).to(device)

        def loss_of(batch: Batch, returns: Returns) -> Tensor:
            values = network(batch.x * builder.verified, batch.action_costs)
            values = values + builder.open_loop(means, batch.action_costs)
            return builder.loss(values, batch.action_costs, returns, batch.rows, batch.fold)

        def policies_of(network: ValueNet) -> list[ValuePolicy]:
            return _policies(problem, prices, network, seen, mean)

        kept = torch.as_tensor(mean)
        saved = fit(
            "belief_fqi",
            network,
            loss_of,
            policies_of,
            self,
            problem,
            prices,
            train,
            seen,
            mean=kept,
        )
        return self.restored(problem, prices, saved)

    @classmethod
    def restored(
        cls, problem: RoutingPOMDP, prices: Sequence[float], saved: Mapping[str, Any]
    ) -> list[ValuePolicy]:
        """One policy a price, from a checkpoint's content."""
        settings, points = saved["about"]["settings"], DecisionPoints.of(problem.rules)
        seen = NormalScores.restored(saved)
        with torch.random.fork_rng(devices=[]):  # for numbers that are replaced at once
            network = ValueNet(settings["members"], seen.width, settings["hidden"], points)
        network.double().load_state_dict(saved["network"])
        return ready(_policies(problem, prices, network, seen, saved["mean"].numpy()), saved)


@dataclass(frozen=True, eq=False)
class ValuePolicy:
    """The action of the largest value.

    Attributes:
        problem: at the policy's price.
        points: of its rules.
        seen: scales the signals.
        values: net of action costs, at the policy's.
        start: the action where nothing was called yet; None to go by the values there, too.
    """

    problem: RoutingPOMDP
    points: DecisionPoints
    seen: NormalScores
    values: FrozenValues
    start: int | None = None

    def act(self, history: History) -> Actions:
        point, x = self.points.index(history), self.seen(history.signal, history.verified)
        action = np.empty(len(point), dtype=np.int64)
        for at, rows in grouped(point):
            if at == 0 and self.start is not None:
                action[rows] = self.start
            else:
                action[rows] = choose(self.values(at, x[rows]), self.points.legal[at])
        return action


def _policies(
    problem: RoutingPOMDP,
    prices: Sequence[float],
    network: ValueNet,
    seen: NormalScores,
    mean: FloatArray,
) -> list[ValuePolicy]:
    """One policy a price from a network in double precision."""
    points = DecisionPoints.of(problem.rules)
    builder = TargetBuilder(points, torch.device("cpu"))
    policies = []
    for price in prices:
        action_costs = action_costs_of(problem.at(price))
        told = torch.as_tensor(action_costs)[None]
        start = (
            builder.open_loop(torch.as_tensor(mean), told)[:, 0, 0]
            - builder.action_costs(told)[:, 0]
        )
        values = network.frozen(action_costs)
        values = replace(values, constant=values.constant + start.numpy())
        policies.append(ValuePolicy(problem.at(price), points, seen, values))
    return policies
