"""Shared training of the learners on the belief: one network for many prices."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from routing_pomdp.envs import RoutingPOMDP
from routing_pomdp.solvers.action_costs import CostRange, packed, unpacked
from routing_pomdp.solvers.learned.belief_mdp import BeliefMDP, BeliefPolicy
from routing_pomdp.solvers.learned.checkpoint import about, save
from routing_pomdp.solvers.learned.training import Loop, device_of, mean_return
from routing_pomdp.solvers.solver import Training

POLICY = "policy.pt"  # the checkpoint of the trained network

# Settings that do not change the result of a training.
_ELSEWHERE = ("training", "device")

Build = Callable[[BeliefMDP, int], nn.Module]
"""Makes a learner's network for a belief MDP and a number of hidden units."""


@dataclass(frozen=True, eq=False)
class TrainingRun:
    """One training of a network: its problem, prices and costs, and where its results go.

    Attributes:
        problem: the problem to train on.
        prices: the prices of the policies.
        terms: the prices and costs to train for.
        device: the device to train on.
        about: metadata of its checkpoints.
        training: log, validation queries and folder of the run.
    """

    problem: RoutingPOMDP
    prices: Sequence[float]
    terms: CostRange
    device: torch.device
    about: Mapping[str, Any]
    training: Training

    @classmethod
    def of(
        cls, name: str, solver: Any, problem: RoutingPOMDP, prices: Sequence[float]
    ) -> TrainingRun:
        """The training run of a solver, whose fields are its settings.

        Args:
            name: name of the solver's config.
            solver: has ``price_range``, ``cost_ratios``, ``device`` and ``training``.
            problem: the problem to train on.
            prices: the prices of the policies.
        """
        terms = CostRange.of(problem, prices, solver.price_range, solver.cost_ratios)
        settings = {f.name: getattr(solver, f.name) for f in fields(solver)}
        settings = {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in settings.items()
            if key not in _ELSEWHERE
        }
        metadata = about(name, settings, problem, solver.training) | {"terms": packed(terms)}
        return cls(problem, prices, terms, device_of(solver.device), metadata, solver.training)

    def mdp(self) -> BeliefMDP:
        """The belief MDP to train in; with cost ratios, costs are the same on every query."""
        costs = self.problem.costs
        if self.terms.ratios is not None:
            costs = costs.averaged()
        return BeliefMDP(replace(self.problem, costs=costs), self.device)

    def judge(self, loop: Loop, network: nn.Module, patience: int | None) -> dict[str, float]:
        """The mean return on validation queries, for the training curve; empty without such
        queries. With ``patience`` it also decides which network is kept."""
        validation = self.training.validation
        if validation is None or not len(validation):
            return {}
        value = mean_return(self.policies(network), validation)
        if patience is not None:
            loop.judge(value)
        return {"validation_return": value}

    def policies(self, network: nn.Module) -> list[BeliefPolicy]:
        """Policies, one per price, with a double-precision copy of the network."""
        return policies(self.problem, self.prices, network, self.device)

    def finish(self, network: nn.Module) -> list[BeliefPolicy]:
        """Saves the network in the run's folder; returns the policies, with a warning for each
        outside the trained prices and costs."""
        if self.training.folder:
            path = Path(self.training.folder) / POLICY
            save(path, {"about": dict(self.about), "network": network.state_dict()})
        found = self.policies(network)
        for policy in found:
            self.terms.check(policy.problem)
        return found


def policies(
    problem: RoutingPOMDP, prices: Sequence[float], network: nn.Module, device: torch.device
) -> list[BeliefPolicy]:
    exact = copy.deepcopy(network).double().eval()
    return [BeliefPolicy(problem.at(price), exact, device) for price in prices]


def restored(
    build: Build, problem: RoutingPOMDP, prices: Sequence[float], saved: Mapping[str, Any]
) -> list[BeliefPolicy]:
    """Policies of a network saved by `TrainingRun.finish`, with the same warnings."""
    device, metadata = device_of("auto"), saved["about"]
    network = build(BeliefMDP(problem, device), metadata["settings"]["hidden"]).to(device)
    network.load_state_dict(saved["network"])
    found, terms = policies(problem, prices, network, device), unpacked(metadata["terms"])
    for policy in found:
        terms.check(policy.problem)
    return found


def warn_if_unjudged(training: Training, patience: int | None) -> None:
    """Warns if early stopping is set but there are no validation queries."""
    if patience is not None and not (training.validation and len(training.validation)):
        warnings.warn(
            f"solver.patience is {patience}, but there are no validation queries to stop by "
            "(evaluation.validation): training goes to its end, and the last network is kept",
            stacklevel=3,
        )
