"""Criteria by which candidate models are compared on held-out queries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from routing_pomdp.envs import RoutingData, RoutingPOMDP
from routing_pomdp.envs.arrays import FloatArray
from routing_pomdp.evaluation.bootstrap import bootstrap_weights
from routing_pomdp.evaluation.evaluate import Outcome, evaluate, returns
from routing_pomdp.evaluation.frontier import aiq, frontier
from routing_pomdp.solvers.exact.backward_induction import Exact
from routing_pomdp.solvers.pre_query import PreQueryConditioned

_RESAMPLES = 200


class Judge(Protocol):
    """A criterion by which a model is chosen; larger is better."""

    def held_out(self, problem: RoutingPOMDP, data: RoutingData) -> FloatArray:
        """``(n, q)`` results of a fitted problem on held-out queries."""

    def ahead(self, got: FloatArray, base: FloatArray) -> tuple[FloatArray, FloatArray]:
        """The advantage of candidates ``(c, n, q)`` over a baseline ``(n, q)`` and its standard
        error, ``(c,)`` each."""


class Likelihood:
    """Mean log-likelihood of the scores and signals of queries."""

    def held_out(self, problem: RoutingPOMDP, data: RoutingData) -> FloatArray:
        return log_likelihood(problem, data)[:, None]

    def ahead(self, got: FloatArray, base: FloatArray) -> tuple[FloatArray, FloatArray]:
        return _mean_difference(got, base)


@dataclass(frozen=True, eq=False)
class Return:
    """Mean return of the exact policies at some prices."""

    prices: Sequence[float]

    def held_out(self, problem: RoutingPOMDP, data: RoutingData) -> FloatArray:
        outcomes = zip(self.prices, _outcomes(problem, self.prices, data), strict=True)
        got = [returns(outcome, problem.at(price)) for price, outcome in outcomes]
        return np.mean(got, axis=0)[:, None]

    def ahead(self, got: FloatArray, base: FloatArray) -> tuple[FloatArray, FloatArray]:
        return _mean_difference(got, base)


@dataclass(frozen=True, eq=False)
class AIQ:
    """AIQ of the exact policies at some prices, with standard errors by the paired bootstrap.

    Attributes:
        prices: prices of the frontier.
        data: all training queries, in the order of the held-out results.
        seed: seed of the bootstrap.
    """

    prices: Sequence[float]
    data: RoutingData
    seed: int = 0

    def held_out(self, problem: RoutingPOMDP, data: RoutingData) -> FloatArray:
        outcomes = _outcomes(problem, self.prices, data)
        columns = [o.cost for o in outcomes] + [o.score for o in outcomes]
        return np.stack(columns, axis=1)

    def ahead(self, got: FloatArray, base: FloatArray) -> tuple[FloatArray, FloatArray]:
        n = got.shape[1]
        drawn = bootstrap_weights(n, _RESAMPLES, self.seed) / n
        weights = np.concatenate([np.full((1, n), 1 / n), drawn])
        call, score = weights @ self.data.call_cost, weights @ self.data.score[:, :1]
        # A resample in which the most expensive model is the cheaper one has no AIQ.
        rows = call[:, 0] < call[:, -1]
        weights, call, score = weights[rows], call[rows], score[rows]

        def measured(one: FloatArray) -> FloatArray:
            cost, got = np.split(weights @ one, 2, axis=1)
            hull = frontier(np.hstack([call[:, :1], cost]), np.hstack([score, got]))
            return aiq(hull, call[:, 0], call[:, -1])

        difference = np.stack([measured(one) for one in got]) - measured(base)
        return difference[:, 0], difference[:, 1:].std(axis=1)


def some_prices(prices: Sequence[float], most: int) -> list[float]:
    """At most ``most`` of the prices above 0, evenly spaced in rank."""
    above = sorted(price for price in prices if price > 0) or [0.0]
    some = np.linspace(0, len(above) - 1, min(most, len(above))).round().astype(int)
    return [above[i] for i in some]


def log_likelihood(problem: RoutingPOMDP, data: RoutingData) -> FloatArray:
    """``(n,)`` log-likelihood of the scores and signals of queries; scores are rounded to the
    nearest score vector of the problem."""
    vectors, of_state = np.unique(problem.score, axis=0, return_inverse=True)
    nearest = np.abs(data.score[:, None] - vectors[None]).sum(axis=2).argmin(axis=1)
    symbol = [problem.symbols(m, data.signal[:, m]) for m in range(problem.n_models - 1)]
    found = np.empty(len(data))
    for vector in np.unique(nearest):
        rows, states = nearest == vector, np.flatnonzero(of_state.ravel() == vector)
        joint = np.tile(problem.prior[states], (int(rows.sum()), 1))
        for likelihood, seen in zip(problem.likelihood, symbol, strict=True):
            joint *= likelihood[states][:, seen[rows]].T
        found[rows] = np.log(np.maximum(joint.sum(axis=1), np.finfo(float).tiny))
    return found


def _outcomes(problem: RoutingPOMDP, prices: Sequence[float], data: RoutingData) -> list[Outcome]:
    policies = PreQueryConditioned(Exact()).solve_frontier(problem, prices, data)
    return [evaluate(policy, data) for policy in policies]


def _mean_difference(got: FloatArray, base: FloatArray) -> tuple[FloatArray, FloatArray]:
    ahead = (got - base).mean(axis=2)
    return ahead.mean(axis=1), ahead.std(axis=1) / np.sqrt(ahead.shape[1])
