"""The price at which a policy spends a given mean cost."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from routing_pomdp.envs import Episodes, RoutingData, RoutingPOMDP
from routing_pomdp.solvers.solver import Policy


class Spending(NamedTuple):
    """A policy and its mean cost per query."""

    cost: float
    policy: Policy


def neighbours(
    policy_at: Callable[[float], Policy], problem: RoutingPOMDP, train: RoutingData, budget: float
) -> tuple[Spending, Spending]:
    """The two policies whose training costs are closest to a budget, by bisection of the price.

    Args:
        policy_at: gives the policy at a price.
        problem: the mean cost of its most expensive model is the unit of the budget.
        train: the queries on which costs are measured.
        budget: a mean cost per query, as a share of the most expensive model's.

    Returns:
        The most expensive policy within the budget and the cheapest one above it. Both are the same
        policy where the most expensive one is within the budget.

    Raises:
        ValueError: the cheapest model costs more than the budget.
    """
    unit = problem.costs.unit
    spend, cheapest = budget * unit, float(train.call_cost.mean(axis=0).min())
    if spend < cheapest:
        raise ValueError(
            f"solver.budget is {budget}: the cheapest model already costs "
            f"{cheapest / unit:.3g} of the most expensive: raise the budget"
        )

    def at(price: float) -> Spending:
        policy = policy_at(price)
        return Spending(mean_cost(policy, train), policy)

    beyond = at(0.0)
    if beyond.cost <= spend:
        return beyond, beyond
    low, high = 0.0, 1e6
    within = at(high)
    for _ in range(40):
        price = float(np.sqrt(low * high)) if low else high / 16
        found = at(price)
        if found.cost > spend:
            low, beyond = price, found
        else:
            high, within = price, found
    return within, beyond


def mean_cost(policy: Policy, data: RoutingData) -> float:
    """A policy's mean cost per query."""
    episodes, paid = Episodes(data, policy.problem.rules), 0.0
    while len(episodes):
        paid += float(episodes.step(policy.act(episodes.history))[1].sum())
    return paid / len(data)
