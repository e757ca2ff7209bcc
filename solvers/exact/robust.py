"""Solvers robust to the uncertainty of the fitted model.

The prior over score vectors and every row of the likelihoods have Dirichlet posteriors. Their means
are the fitted distributions, their weights the numbers of training queries. `Bayes` maximises the
expected value over that posterior, `Pessimist` a low quantile (percentile criterion: Delage &
Mannor, Operations Research 2010).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np

from routing_pomdp.envs import RoutingData, RoutingPOMDP
from routing_pomdp.envs.arrays import FloatArray
from routing_pomdp.envs.settings.ranges import CountOrZero, Positive, Range, Seed, Share
from routing_pomdp.solvers.exact.backward_induction import Exact, Tables, backward_induction
from routing_pomdp.solvers.solver import FrontierSolver, TablePolicy


@dataclass(frozen=True)
class Bayes(FrontierSolver):
    """The policy with the best mean value over models drawn from the posterior.

    The mixture of the drawn models is a routing problem whose hidden state is the model and the
    score vector; it is solved exactly.

    Attributes:
        draws: number of models drawn.
        strength: pseudo-counts added to each fitted distribution.
        seed: seed of the draws.
    """

    draws: Annotated[int, Range(1, 100_000)] = 64
    strength: Positive = 2.0
    seed: Seed = 0

    def posterior(self, problem: RoutingPOMDP, train: RoutingData) -> list[RoutingPOMDP]:
        """The drawn models."""
        rng = np.random.default_rng(self.seed)
        return posterior_draws(problem, train, self.draws, self.strength, rng)

    def solve_frontier(
        self, problem: RoutingPOMDP, prices: Sequence[float], train: RoutingData
    ) -> list[TablePolicy]:
        """Exact policies of the mixture.

        Raises:
            ValueError: there are too many histories.
        """
        return Exact().solve_frontier(mixture(self.posterior(problem, train)), prices)


@dataclass(frozen=True)
class Pessimist(Bayes):
    """The policy with the largest low quantile of value over the drawn models.

    The candidates are the optimal policies of the fitted model, of the mixture and of some of the
    drawn models.

    Attributes:
        quantile: the quantile of the value over the drawn models.
        candidates: the number of drawn models whose optimal policies are candidates.
    """

    draws: Annotated[int, Range(1, 100_000)] = 32
    quantile: Share = 0.1
    candidates: CountOrZero = 8

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.candidates > self.draws:
            raise ValueError(
                f"solver.candidates is {self.candidates}: expected 0 … solver.draws={self.draws}"
            )

    def solve_frontier(
        self, problem: RoutingPOMDP, prices: Sequence[float], train: RoutingData
    ) -> list[TablePolicy]:
        """The best candidate for each price, with the quantile as its value.

        Raises:
            ValueError: there are too many histories.
        """
        drawn = self.posterior(problem, train)
        whole = mixture(drawn)
        sources = [problem, whole, *drawn[: self.candidates]]
        offers = [Exact().solve_frontier(source, prices) for source in sources]
        tables = [Tables.of(model) for model in drawn]
        return [
            self._least_bad([offer[i] for offer in offers], [m.at(price) for m in drawn], tables)
            for i, price in enumerate(prices)
        ]

    def _least_bad(
        self,
        policies: Sequence[TablePolicy],
        drawn: Sequence[RoutingPOMDP],
        tables: Sequence[Tables],
    ) -> TablePolicy:
        values = [
            [backward_induction(m, t, p.actions).value for m, t in zip(drawn, tables, strict=True)]
            for p in policies
        ]
        quantiles = np.quantile(values, self.quantile, axis=1)
        best = int(quantiles.argmax())
        return replace(policies[best], value=float(quantiles[best]))


def posterior_draws(
    problem: RoutingPOMDP, train: RoutingData, n: int, strength: float, rng: np.random.Generator
) -> list[RoutingPOMDP]:
    """Models drawn from Dirichlet posteriors whose means are the fitted distributions.

    Equal rows of a likelihood (under the conditioning ``own``, those of one level of the model's
    score) are one distribution, with the training queries of all of them.

    Args:
        problem: fitted on ``train``.
        train: training queries.
        n: number of models to draw.
        strength: pseudo-counts added to each distribution.
        rng: random generator.
    """
    count = _queries_of_states(problem, train)
    prior = _dirichlet(problem.prior * (len(train) + strength), n, rng)
    likelihood = np.empty((n, *problem.likelihood.shape))
    for model, rows in enumerate(problem.likelihood):
        distinct, group = np.unique(rows, axis=0, return_inverse=True)
        weight = np.bincount(group.ravel(), count, minlength=len(distinct)) + strength
        drawn = _dirichlet(distinct * weight[:, None], n, rng)
        likelihood[:, model] = drawn[:, group.ravel()]
    return [replace(problem, prior=p, likelihood=z) for p, z in zip(prior, likelihood, strict=True)]


def _queries_of_states(problem: RoutingPOMDP, train: RoutingData) -> FloatArray:
    """``(S,)`` number of training queries of each hidden state: each query is divided between the
    states of the nearest score vector, in proportion to their posterior given its signals."""
    vectors, of_state = np.unique(problem.score, axis=0, return_inverse=True)
    nearest = np.abs(train.score[:, None] - vectors[None]).sum(axis=2).argmin(axis=1)
    signals = [train.signal[:, model] for model in range(problem.n_models - 1)]
    symbol = [problem.symbols(model, signal) for model, signal in enumerate(signals)]
    count = np.zeros(len(problem.prior))
    for vector in np.unique(nearest):
        rows, states = nearest == vector, np.flatnonzero(of_state.ravel() == vector)
        weight = np.tile(problem.prior[states], (int(rows.sum()), 1))
        for likelihood, seen in zip(problem.likelihood, symbol, strict=True):
            weight *= likelihood[states][:, seen[rows]].T
        mass = weight.sum(axis=1, keepdims=True)
        weight = np.where(mass > 0, weight / np.where(mass > 0, mass, 1.0), 1 / len(states))
        count[states] = weight.sum(axis=0)
    return count


def mixture(models: Sequence[RoutingPOMDP]) -> RoutingPOMDP:
    """The problem in which each query comes from one of several equally likely models."""

    def joined(parts: list[FloatArray | None]) -> FloatArray | None:
        there = [part for part in parts if part is not None]
        return np.concatenate(there) if there else None

    member = None
    if all(model.member is not None for model in models):
        sizes = [0, *(1 + int(model.member.max()) for model in models if model.member is not None)]
        begin = np.cumsum(sizes)
        member = np.concatenate(
            [b + m.member for b, m in zip(begin, models, strict=False) if m.member is not None]
        )
    return replace(
        models[0],
        score=np.concatenate([model.score for model in models]),
        prior=np.concatenate([model.prior for model in models]) / len(models),
        likelihood=np.concatenate([model.likelihood for model in models], axis=1),
        costs=replace(
            models[0].costs,
            call_in=joined([model.costs.call_in for model in models]),
            verify_in=joined([model.costs.verify_in for model in models]),
        ),
        member=member,
    )


def _dirichlet(concentration: FloatArray, n: int, rng: np.random.Generator) -> FloatArray:
    """``n`` draws of Dirichlet distributions over the last axis; a concentration of 0 gives a
    probability of 0."""
    # A tiny concentration may round every gamma of a row to 0: the row is then its mean.
    gamma = rng.standard_gamma(concentration, size=(n, *concentration.shape))
    total = gamma.sum(axis=-1, keepdims=True)
    mean = concentration / concentration.sum(axis=-1, keepdims=True)
    return np.where(total > 0, gamma / np.where(total > 0, total, 1.0), mean)
