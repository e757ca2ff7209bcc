"""Cascade routing (Dekoninck, Baader & Vechev, arXiv 2410.10347).

At each decision the quality of every model is estimated from the signals so far. The plan is the
set of models, those already called included, with the largest ``E[max q̂] − λ · cost``. If it adds
no model, the episode ends; otherwise its cheapest new model is called.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Annotated

import numpy as np

from routing_pomdp.envs import STAY, History, RoutingData, RoutingPOMDP, Rules
from routing_pomdp.envs.arrays import FloatArray
from routing_pomdp.envs.settings.ranges import Positive, Range, Seed
from routing_pomdp.solvers.baselines import uniform
from routing_pomdp.solvers.budget import neighbours
from routing_pomdp.solvers.settings import check_count
from routing_pomdp.solvers.signal_regression import FittedRegression, SignalRegression
from routing_pomdp.solvers.solver import Actions, FrontierSolver, Policy

_MOST_SETS = 2**12  # each has regressions of its own
Verified = tuple[int, ...]


@dataclass(frozen=True)
class CascadeRouting(FrontierSolver):
    """Estimates quality by regression on the observed signals and plans over all supersets.

    ``E[max q̂]`` is over the estimates after the plan's signals: the current ones plus Gaussian
    changes, whose covariance is that of cross-validated predictions on the training queries. In
    this environment a plan can only add later models. An answer is verified only if the plan goes
    on. The answer returned is the best one under the fitted model's posterior.

    Attributes:
        budget: a mean cost per query, as a share of the most expensive model's. The price is then
            the one that spends it on the training queries, by mixing two neighbouring policies
            (their §3.3). None uses the price of the run.
        draws: number of quasi-random draws of the Gaussian changes.
        seed: seed of the draws, folds and mixing.
    """

    budget: Positive | None = None
    draws: Annotated[int, Range(1, 1_000_000)] = 64
    seed: Seed = 0

    def solve_frontier(
        self, problem: RoutingPOMDP, prices: Sequence[float], train: RoutingData
    ) -> list[Policy]:
        """Policies, one per price, with the same estimates.

        Raises:
            ValueError: there are fewer than five training queries, or the budget buys no model.
        """
        rules = Rules(problem.n_models, skip=True, free_start=True, verify=True, answer="best")
        own = replace(problem, rules=rules)
        estimates = Estimates.fit(train, self.draws, self.seed)
        if self.budget is not None:
            within, beyond = neighbours(
                lambda price: CascadeRoutingPolicy(own.at(price), estimates),
                own,
                train,
                self.budget,
            )
            room = beyond.cost - within.cost
            share = (self.budget * own.costs.unit - within.cost) / room if room else 0.0
            return [Mixture(own, beyond.policy, within.policy, share, self.seed) for _ in prices]
        return [CascadeRoutingPolicy(own.at(price), estimates) for price in prices]


@dataclass(frozen=True, eq=False)
class Estimates:
    """Estimates of every model's quality, given the signals of each set of verified models.

    Attributes:
        regressions: for each set of verified models, the regression of all ``N`` scores.
        guess: for each set, the ``(n, N)`` cross-validated predictions on the training queries.
        normal: ``(R, N)`` quasi-random normal draws.
    """

    regressions: dict[Verified, FittedRegression]
    guess: dict[Verified, FloatArray]
    normal: FloatArray

    @classmethod
    def fit(cls, train: RoutingData, draws: int, seed: int) -> Estimates:
        from scipy.stats.qmc import MultivariateNormalQMC

        n_models = train.n_models
        regression = SignalRegression(seed=seed)
        if len(train) < regression.folds:
            raise ValueError(
                f"solver=cascade_routing learns from {len(train)} training queries, fewer than its "
                f"{regression.folds} folds: log more"
            )
        check_count("sets of verified answers", 2 ** (n_models - 1), _MOST_SETS, n_models)
        regressions, guess = {}, {}
        for verified in _subsets(range(n_models - 1)):
            seen = _features(train.signal, verified)
            regressions[verified], guess[verified] = regression.fit(seen, train.score)
        normal = MultivariateNormalQMC(np.zeros(n_models), rng=np.random.default_rng(seed))
        size = 1 << max(draws - 1, 0).bit_length()  # quasi-random draws are balanced at powers of 2
        return cls(regressions, guess, normal.random(size)[:draws])

    def quality(self, signal: FloatArray, verified: Verified) -> FloatArray:
        """``(n, N)`` quality estimates from signals ``(n, N, D)``."""
        return self.regressions[verified].predict(_features(signal, verified))

    def best_of(
        self, quality: FloatArray, verified: Verified, later: Verified, models: Sequence[int]
    ) -> FloatArray:
        """``E[max q̂]`` over ``models`` once ``later`` is verified, ``(n,)``.

        Args:
            quality: ``(n, N)`` current estimates.
            verified: the models verified so far.
            later: the models that will be verified.
            models: the models to choose an answer from.
        """
        chosen = list(models)
        if later == verified or len(chosen) == 1:
            return quality[:, chosen].max(axis=1)
        change = (self.guess[later] - self.guess[verified])[:, chosen]
        covariance = np.cov(change, rowvar=False)
        # The symmetric root does not depend on the order of the models; it may be singular.
        values, vectors = np.linalg.eigh(covariance)
        root = vectors * np.sqrt(np.maximum(values, 0)) @ vectors.T
        moved = self.normal[:, chosen] @ root
        return (quality[:, None, chosen] + moved).max(axis=2).mean(axis=1)


@dataclass(frozen=True, eq=False)
class CascadeRoutingPolicy:
    """Follows the best plan, which is computed again after each signal."""

    problem: RoutingPOMDP
    estimates: Estimates

    def act(self, history: History) -> Actions:
        weights = 1 << np.arange(2 * history.n_models)
        key = np.concatenate([history.called, history.verified], axis=1) @ weights
        action = np.full(len(history), STAY)
        for value in np.unique(key):
            rows = np.flatnonzero(key == value)
            called = tuple(np.flatnonzero(history.called[rows[0]]).tolist())
            verified = tuple(np.flatnonzero(history.verified[rows[0]]).tolist())
            action[rows] = self._act(history.signal[rows], called, verified)
        return action

    def _act(self, signal: FloatArray, called: Verified, verified: Verified) -> Actions:
        """Actions ``(m,)`` for histories with the same models called and verified."""
        problem, rules = self.problem, self.problem.rules
        quality = self.estimates.quality(signal, verified)
        stage = called[-1] if called else -1
        unverified = bool(called) and stage not in verified
        first: list[int] = []
        worth: list[FloatArray] = []
        for added in _subsets(range(stage + 1, problem.n_models)):
            if not (called or added):
                continue
            paid = float(problem.call_price[list(added)].sum())
            asked = added[:-1]
            if added and unverified:
                asked = (stage, *asked)
            paid += float(problem.verify_price[list(asked)].sum())
            later = tuple(sorted({*verified, *asked}))
            models = (*called, *added)
            worth.append(self.estimates.best_of(quality, verified, later, models) - paid)
            goes_on = rules.verify_action if unverified else added[0] - stage if added else STAY
            first.append(goes_on if added else STAY)
        return np.array(first)[np.stack(worth).argmax(axis=0)]


@dataclass(frozen=True, eq=False)
class Mixture:
    """A random mixture of two policies, drawn once per query.

    Attributes:
        problem: the problem whose rules both follow.
        first: the policy drawn with probability ``share``.
        second: the other policy.
        share: in [0, 1].
        seed: seed of the draw.
    """

    problem: RoutingPOMDP
    first: Policy
    second: Policy
    share: float
    seed: int

    def act(self, history: History) -> Actions:
        draw = uniform(self.seed, history.query) < self.share
        return np.where(draw, self.first.act(history), self.second.act(history))


def _subsets(models: range) -> Iterator[Verified]:
    for size in range(len(models) + 1):
        yield from combinations(models, size)


def _features(signal: FloatArray, verified: Verified) -> FloatArray:
    return signal[:, list(verified)].reshape(len(signal), -1)
