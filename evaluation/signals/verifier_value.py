"""What a verifier is worth to a router: exact values with it minus without it, price by price.

Problems are solved inside one fitted model, under the same rules but for verification:

- *without*: no signal, and no verification to pay;
- *always*: every answer that a decision follows is verified and paid for at once (AutoMix). The
  value may be negative;
- *choice*: verification is an action (DESIGN §1). Whoever never buys is as well off as without, and
  whoever always buys as under *always*: the value is at least 0 and at least that of *always*;
- *free*: verification costs nothing, the most that the signal could be worth.

Values have the cost of verification in them. A fitted model takes some noise for knowledge, so a
value is shown beside what the same fit finds in shuffled signals (`promised_by_noise`), and beside
what the policies get on held-out queries (`gained`).
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

# A hundredth of a point: what is worth less than this does not pay.
LEAST = 1e-4
# Halvings of the distance between two prices in search of where a value turns positive.
_HALVINGS = 8


@dataclass(frozen=True, eq=False)
class Worth:
    """A verifier's value inside the fitted model at ``M`` prices.

    Attributes:
        prices: ``(M,)``, ascending.
        without: ``(M,)`` the exact value without it.
        value: by how it is bought, ``(M,)`` the exact value with it minus ``without``.
        spent: by how it is bought, ``(M,)`` what verification is paid a query, in score.
        policies: by how it is bought, and "without": the exact policies, one a price.
        pays: by how it is bought, the price ranges in which ``value`` exceeds a hundredth of a
            point, to within the spacing of the prices; the last may end at infinity.
    """

    prices: FloatArray
    without: FloatArray
    value: dict[Bought, FloatArray]
    spent: dict[Bought, FloatArray]
    policies: dict[str, list[TablePolicy]]
    pays: dict[Bought, list[tuple[float, float]]]

    def best(self, bought: Bought) -> int:
        """The place of the price at which it is worth most; the lowest such price."""
        value = self.value[bought]
        return int(np.flatnonzero(value >= value.max() - 1e-9)[0])


def worth(problem: RoutingPOMDP, prices: Sequence[float], only: int | None = None) -> Worth:
    """The value of the verifier that a problem was fitted with.

    Args:
        problem: fitted; its price, and whether its rules have `VERIFY`, are not looked at.
        prices: ``λ``, at least one.
        only: the only model whose answers can be verified; None for all.

    Raises:
        ValueError: the problem is too large for the exact solver.
    """
    ascending = sorted(prices)
    blind = _Family.of(without_verifier(problem))
    without = [blind.solve(price) for price in ascending]
    base = np.array([policy.value for policy in without])
    found = Worth(np.array(ascending), base, {}, {}, {"without": without}, {})
    for bought in BOUGHT:
        family = _Family.of(with_verifier(problem, bought, only))
        policies = [family.solve(price) for price in ascending]
        value = np.array([policy.value for policy in policies]) - base
        found.value[bought], found.policies[bought] = value, policies
        found.spent[bought] = np.array([family.spent(policy) for policy in policies])
        found.pays[bought] = paying_ranges(family, blind, found.prices, value)
    return found


def without_verifier(problem: RoutingPOMDP) -> RoutingPOMDP:
    """The same problem with no signal and no verification to pay."""
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
    """The same problem with verification bought so, of one model's answers ``only`` if given."""
    likelihood, costs = problem.likelihood, problem.costs
    if bought == "free":
        costs = costs.with_verify(0.0)
    if only is not None:
        others = np.arange(problem.n_models) != only
        likelihood = likelihood.copy()
        likelihood[others[:-1]] = np.eye(problem.n_symbols)[0]
        if bought == "always":
            # By choice what says nothing is left alone at any cost; this would pay for it.
            costs = costs.with_verify(~others)
    return replace(
        problem,
        likelihood=likelihood,
        costs=costs,
        rules=replace(problem.rules, verify=bought == "choice"),
    )


@dataclass(frozen=True, eq=False)
class _Family:
    """A problem with the tables that its prices share."""

    problem: RoutingPOMDP
    tables: Tables

    @classmethod
    def of(cls, problem: RoutingPOMDP) -> _Family:
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
        """What a policy pays for verification, in score: its value were that free, minus its
        value."""
        free = replace(policy.problem, costs=policy.problem.costs.with_verify(0.0))
        tables = replace(self.tables, verify=None)
        value = backward_induction(free, tables, follow=policy.actions).value
        return value - policy.value


def paying_ranges(
    family: _Family, blind: _Family, prices: FloatArray, value: FloatArray
) -> list[tuple[float, float]]:
    """Where a verifier pays; ends between two prices are found by halving."""

    def pays_at(price: float) -> bool:
        return family.solve(price).value - blind.solve(price).value > LEAST

    def turn(before: float, after: float, paying: bool) -> float:
        """The paying end of the step between two prices, the second of which is ``paying``."""
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


# -- what noise would promise, and what comes of it ------------------------------------------------


def shuffled_problems(
    problem: RoutingPOMDP, train: RoutingData, observation: Observation, shuffles: int, seed: int
) -> list[RoutingPOMDP]:
    """The problem fitted again with the training queries' signals shuffled among them: signals
    that say nothing, and keep their distribution and their likeness across models."""
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
    """``(M,)`` the value by choice that the fits to shuffled signals promise, on average."""
    if not shuffled:
        return np.full(len(prices), np.nan)
    base = _Family.of(without_verifier(shuffled[0]))
    without = np.array([base.solve(price).value for price in prices])
    families = [_Family.of(with_verifier(problem, "choice", only)) for problem in shuffled]
    values = [[family.solve(price).value for price in prices] for family in families]
    return np.mean(values, axis=0) - without


@dataclass(frozen=True, eq=False)
class Gain:
    """What policies with the verifier got on held-out queries, minus those without it.

    Attributes:
        mean: ``(M,)`` difference of mean returns.
        low: ``(M,)`` of the paired bootstrap interval.
        high: ``(M,)``.
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
    """Replays both families of policies, one a price, on the same queries.

    Args:
        with_it: they see the signals of ``test`` and pay for them.
        without: of `without_verifier`; they see and pay nothing.
        test: held-out queries.
        resamples: of the bootstrap.
        level: of its intervals.
        seed: of the bootstrap.
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
