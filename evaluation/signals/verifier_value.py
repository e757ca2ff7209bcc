"""The value of a verifier: the optimal value with it minus that without it, at each price.

Problems are solved inside one fitted model, with the same rules except for verification:

- *without*: there is no signal and no cost of verification;
- *always*: every call that a decision follows includes verification (AutoMix). The value may be
  negative;
- *choice*: verification is an action (DESIGN §1). The value is at least 0 and at least that of
  *always*, since a policy may never or always verify;
- *free*: verification costs nothing. This is the largest value that the signal can have.

Values are net of the cost of verification. A fitted model overfits noise, so a value is reported
with the value of the same fit to shuffled signals (`promised_by_noise`) and with the gain of the
policies on held-out queries (`gained`).
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np

from routing_pomdp.envs import RoutingData, RoutingPOMDP
from routing_pomdp.envs.arrays import FloatArray
from routing_pomdp.envs.model.routing_pomdp import Observation
from routing_pomdp.evaluation.bootstrap import weight_blocks
from routing_pomdp.evaluation.evaluate import evaluate, returns
from routing_pomdp.solvers import Exact, TablePolicy
from routing_pomdp.solvers.exact.backward_induction import Tables, backward_induction

Bought = Literal["choice", "always", "free"]
BOUGHT: tuple[Bought, ...] = get_args(Bought)

# The smallest value that pays: a hundredth of a point.
LEAST = 1e-4
# Bisection steps between two prices to find where a value becomes positive.
_HALVINGS = 8


@dataclass(frozen=True, eq=False)
class Worth:
    """A verifier's value inside the fitted model at ``M`` prices.

    Attributes:
        prices: ``(M,)``, ascending.
        without: ``(M,)`` the exact value without it.
        value: by how it is bought, ``(M,)`` the exact value with it minus ``without``.
        spent: by how it is bought, ``(M,)`` cost of verification per query, in score.
        policies: by how it is bought, and "without": the exact policies, one per price.
        pays: by how it is bought, the price ranges in which ``value`` exceeds a hundredth of a
            point, as far as the given prices show; the last may end at infinity.
    """

    prices: FloatArray
    without: FloatArray
    value: dict[Bought, FloatArray]
    spent: dict[Bought, FloatArray]
    policies: dict[str, list[TablePolicy]]
    pays: dict[Bought, list[tuple[float, float]]]

    def best(self, bought: Bought) -> int:
        """The index of the price with the largest value; of ties the lowest price."""
        value = self.value[bought]
        return int(np.flatnonzero(value >= value.max() - 1e-9)[0])


def worth(problem: RoutingPOMDP, prices: Sequence[float], only: int | None = None) -> Worth:
    """The value of the verifier that a problem was fitted with.

    Args:
        problem: fitted, at any price, with or without `VERIFY` as an action.
        prices: ``λ``, at least one.
        only: the only model whose answers can be verified; None for all.

    Raises:
        ValueError: the problem is too large for the exact solver.
    """
    ascending = sorted(prices)
    blind = _AllPrices.of(without_verifier(problem))
    without = [blind.solve(price) for price in ascending]
    base = np.array([policy.value for policy in without])
    found = Worth(np.array(ascending), base, {}, {}, {"without": without}, {})
    for bought in BOUGHT:
        verified = _AllPrices.of(with_verifier(problem, bought, only))
        policies = [verified.solve(price) for price in ascending]
        value = np.array([policy.value for policy in policies]) - base
        found.value[bought], found.policies[bought] = value, policies
        found.spent[bought] = np.array([verified.spent(policy) for policy in policies])
        found.pays[bought] = paying_ranges(verified, blind, found.prices, value)
    return found


def without_verifier(problem: RoutingPOMDP) -> RoutingPOMDP:
    """The same problem without signals and costs of verification."""
    n, vectors = problem.n_models, len(problem.prior)
    return replace(
        problem,
        likelihood=np.ones((n - 1, vectors, 1)),
        shown=None,
        costs=problem.costs.with_verify(0.0),
        rules=replace(problem.rules, verify=False),
        observation=None,
    )


def with_verifier(problem: RoutingPOMDP, bought: Bought, only: int | None = None) -> RoutingPOMDP:
    """The same problem with verification bought as in ``bought``, of all models or ``only`` one."""
    likelihood, costs = problem.likelihood, problem.costs
    if bought == "free":
        costs = costs.with_verify(0.0)
    if only is not None:
        others = np.arange(problem.n_models) != only
        likelihood = likelihood.copy()
        likelihood[others[:-1]] = np.eye(problem.n_symbols)[0]
        if bought == "always":
            # By choice, an uninformative signal is never bought; "always" would pay for it.
            costs = costs.with_verify(~others)
    return replace(
        problem,
        likelihood=likelihood,
        costs=costs,
        rules=replace(problem.rules, verify=bought == "choice"),
    )


@dataclass(frozen=True, eq=False)
class _AllPrices:
    """A problem with the tables that all prices share."""

    problem: RoutingPOMDP
    tables: Tables

    @classmethod
    def of(cls, problem: RoutingPOMDP) -> _AllPrices:
        most = Exact().max_histories
        if problem.n_histories > most:
            raise ValueError(
                f"the value of a verifier would take {problem.n_histories:,} histories "
                f"({problem.n_models} models, {problem.n_symbols} symbols), more than {most:,}: "
                "use fewer observation.bins or rollouts.models"
            )
        return cls(problem, Tables.of(problem))

    def solve(self, price: float) -> TablePolicy:
        return backward_induction(self.problem.at(price), self.tables)

    def spent(self, policy: TablePolicy) -> float:
        """A policy's expected cost of verification, in score: its value with free verification
        minus its value."""
        free = replace(policy.problem, costs=policy.problem.costs.with_verify(0.0))
        tables = replace(self.tables, verify=None)
        value = backward_induction(free, tables, follow=policy.actions).value
        return value - policy.value


def paying_ranges(
    verified: _AllPrices, blind: _AllPrices, prices: FloatArray, value: FloatArray
) -> list[tuple[float, float]]:
    """The price ranges in which a verifier pays; bisection finds ends between two prices."""

    def pays_at(price: float) -> bool:
        return verified.solve(price).value - blind.solve(price).value > LEAST

    def turn(before: float, after: float, paying: bool) -> float:
        """The end of a range between two prices, where ``paying`` is the state at the second."""
        for _ in range(_HALVINGS):
            middle = (before + after) / 2
            if pays_at(middle) == paying:
                after = middle
            else:
                before = middle
        return after if paying else before

    ranges: list[tuple[float, float]] = []
    before = False
    for i, paying in enumerate((value > LEAST).tolist()):
        if paying != before:
            end = (
                float(prices[i]) if i == 0 else turn(float(prices[i - 1]), float(prices[i]), paying)
            )
            if paying:
                ranges.append((end, float("inf")))
            else:
                ranges[-1] = (ranges[-1][0], end)
        before = paying
    return ranges


# -- value of noise, and gain on held-out queries --------------------------------------------------


def shuffled_problems(
    problem: RoutingPOMDP, train: RoutingData, observation: Observation, shuffles: int, seed: int
) -> list[RoutingPOMDP]:
    """The problem fitted again to signals shuffled between training queries. They carry no
    information, but keep their distribution and their dependence between models."""
    rng, found = np.random.default_rng(seed), []
    for _ in range(shuffles):
        noise = replace(train, signal=train.signal[rng.permutation(len(train))])
        fitted = RoutingPOMDP.fit(
            noise, deepcopy(observation), problem.costs, problem.rules, levels=_levels(problem)
        )
        found.append(fitted)
    return found


def promised_by_noise(
    shuffled: Sequence[RoutingPOMDP], prices: Sequence[float], only: int | None = None
) -> FloatArray:
    """``(M,)`` the mean value by choice of the fits to shuffled signals."""
    if not shuffled:
        return np.full(len(prices), np.nan)
    base = _AllPrices.of(without_verifier(shuffled[0]))
    without = np.array([base.solve(price).value for price in prices])
    fits = [_AllPrices.of(with_verifier(problem, "choice", only)) for problem in shuffled]
    values = [[fit.solve(price).value for price in prices] for fit in fits]
    return np.mean(values, axis=0) - without


@dataclass(frozen=True, eq=False)
class Gain:
    """Mean return of policies with the verifier minus that of policies without it.

    Attributes:
        mean: ``(M,)`` difference of mean returns.
        low: ``(M,)`` lower end of the paired bootstrap interval.
        high: ``(M,)`` upper end.
    """

    mean: FloatArray
    low: FloatArray
    high: FloatArray


def gained(
    with_it: Sequence[TablePolicy],
    without: Sequence[TablePolicy],
    test: RoutingData,
    resamples: int,
    level: float,
    seed: int,
) -> Gain:
    """The gain of policies with the verifier over those without it, on the same queries.

    Args:
        with_it: policies with the verifier, one per price.
        without: policies of `without_verifier`, one per price.
        test: the queries.
        resamples: bootstrap resamples.
        level: coverage of the intervals.
        seed: seed of the bootstrap.
    """
    silent = replace(
        test,
        verify_cost=np.zeros_like(test.verify_cost),
        signal=np.zeros((*test.score.shape, 1)),
    )
    difference = np.stack(
        [
            returns(evaluate(bought, test), bought.problem)
            - returns(evaluate(bare, silent), bare.problem)
            for bought, bare in zip(with_it, without, strict=True)
        ],
        axis=1,
    )
    n = len(difference)
    draws = np.concatenate([w @ difference / n for w in weight_blocks(n, resamples, seed)])
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return Gain(difference.mean(axis=0), low, high)


def _levels(problem: RoutingPOMDP) -> int:
    return round(len(problem.prior) ** (1 / problem.n_models))
