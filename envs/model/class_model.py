"""The routing problem of a latent-class model: hidden states are pairs of a class and a score
vector (DESIGN §1).

It is built from the class-free problem of the same queries, which gives the symbols of signals and
the class-free tables.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from routing_pomdp.envs.arrays import FloatArray, IntArray
from routing_pomdp.envs.costs.cost_model import Costs
from routing_pomdp.envs.model.latent_classes import Cells, ClassTables, Strength, fit_classes
from routing_pomdp.envs.model.latent_factor import fit_factor
from routing_pomdp.envs.model.levels import score_levels
from routing_pomdp.envs.model.pre_signal import PreSignal
from routing_pomdp.envs.model.routing_pomdp import RoutingPOMDP
from routing_pomdp.envs.routing_data import RoutingData

_MOST_NUMBERS = 2**26  # of the likelihoods of all hidden states: half a gigabyte


@dataclass(frozen=True)
class Settings:
    """Settings of the latent-class fit.

    Attributes:
        classes: ``C``.
        level_strength: pseudo-count, in queries, of the class-free shares of score levels in each
            class.
        symbol_strength: the same for the shares of symbols, in each class and at each level.
        cost_strength: the same for a model's mean cost.
        factor: if given, the classes are points of one latent factor, and this is the precision of
            its slopes: see `fit_factor`.
    """

    classes: int = 4
    level_strength: float = 4.0
    symbol_strength: float = 16.0
    cost_strength: float = 8.0
    factor: float | None = None

    @property
    def strength(self) -> Strength:
        return Strength(self.level_strength, self.symbol_strength)


@dataclass(frozen=True, eq=False)
class Basis:
    """Training queries and their class-free problem: the input of every class model.

    Attributes:
        problem: the class-free one, of `RoutingPOMDP.fit`.
        data: the queries that it is fitted to.
        cells: the queries as levels and symbols.
        vectors: ``(Y, N)`` the levels of every score vector.
        values: ``(N, L)`` the score of each level.
    """

    problem: RoutingPOMDP
    data: RoutingData
    cells: Cells
    vectors: IntArray
    values: FloatArray

    @classmethod
    def of(cls, problem: RoutingPOMDP, data: RoutingData, levels: int | None = None) -> Basis:
        """The basis of a problem, with the queries and levels that it was fitted with."""
        level, values = score_levels(data.score, levels)
        n_models, n_levels = values.shape
        vectors = np.stack(
            np.unravel_index(np.arange(n_levels**n_models), (n_levels,) * n_models), 1
        )
        count = np.stack([(level == k).sum(axis=0) for k in range(n_levels)], axis=1) + 0.5
        shares = np.empty((n_models - 1, n_levels, problem.n_symbols))
        for model in range(n_models - 1):
            for k in range(n_levels):
                rows = vectors[:, model] == k
                weight = problem.prior[rows]
                shares[model, k] = weight @ problem.likelihood[model, rows] / weight.sum()
        symbol = [problem.symbols(m, data.signal[:, m]) for m in range(n_models - 1)]
        pre = pre_share = None
        if problem.pre is not None:
            pre = problem.pre.symbols(data.require_pre_signal())
            counts = np.bincount(pre, minlength=problem.pre.n_symbols) + 0.5
            pre_share = np.divide(counts, counts.sum(), dtype=np.float64)
        cells = Cells(
            level,
            np.stack(symbol, axis=1),
            count / count.sum(axis=1, keepdims=True),
            shares,
            pre,
            pre_share,
        )
        return cls(problem, data, cells, vectors, values)

    def fit(
        self, settings: Settings, starts: int = 3, seed: int = 0, tolerance: float = 1e-5
    ) -> RoutingPOMDP:
        """The problem with fitted classes; see `fit_classes` for the other arguments.

        Raises:
            ValueError: the hidden states do not fit into memory.
        """
        problem, n_models = self.problem, self.problem.n_models
        n_states = settings.classes * len(self.vectors)
        if n_states * (n_models - 1) * problem.n_symbols > _MOST_NUMBERS:
            raise ValueError(
                f"{settings.classes} classes and {len(self.vectors):,} score vectors of {n_models} "
                f"models make {n_states:,} hidden states, too many for memory: use fewer "
                "rollouts.models or env.levels, or model=joint"
            )
        if settings.factor is not None:
            tables = fit_factor(self.cells, settings.classes, settings.factor, tolerance)
        else:
            tables = fit_classes(
                self.cells, settings.classes, settings.strength, starts, seed, tolerance
            )
        return self.problem_of(tables, settings.cost_strength)

    def problem_of(self, tables: ClassTables, cost_strength: float) -> RoutingPOMDP:
        """The problem of fitted tables."""
        problem, vectors, models = self.problem, self.vectors, np.arange(self.problem.n_models)
        n_classes = tables.n_classes
        within = tables.level[:, models, vectors].prod(axis=2)  # (C, Y)
        prior = (tables.share[:, None] * within).ravel()
        likelihood = [tables.symbol[:, m, vectors[:, m]] for m in models[:-1]]  # (C, Y, K) each
        member = np.repeat(np.arange(n_classes), len(vectors))
        prior = prior / prior.sum()
        likelihoods = np.stack(likelihood).reshape(len(likelihood), len(prior), -1)
        pre = problem.pre
        if pre is not None:
            pre = PreSignal(tables.pre[member], pre.cost, pre.observation)
        return replace(
            problem,
            score=np.tile(self.values[models, vectors], (n_classes, 1)),
            prior=prior,
            likelihood=likelihoods,
            costs=self._costs(tables, prior, cost_strength),
            pre=pre,
            member=member,
        )

    def _costs(self, tables: ClassTables, prior: FloatArray, strength: float) -> Costs:
        costs, data = self.problem.costs, self.data
        weight = tables.responsibilities(self.cells)
        return replace(
            costs,
            call_in=self._cost_in(weight, data.call_cost, costs.call, prior, strength),
            verify_in=self._cost_in(weight, data.verify_cost, costs.verify, prior, strength),
        )

    def _cost_in(
        self, weight: FloatArray, cost: FloatArray, mean: FloatArray, prior: FloatArray, s: float
    ) -> FloatArray | None:
        """``(S, N)`` mean costs by class and level, shrunk to each model's ``mean`` by ``s``
        pseudo-queries; None if no model's cost varies."""
        if not np.ptp(cost, axis=0).any():
            return None
        level, vectors = self.cells.level, self.vectors
        n_models, n_levels = self.values.shape
        found = np.empty((weight.shape[1], len(vectors), n_models))
        for model in range(n_models):
            at = (level[:, [model]] == np.arange(n_levels)).astype(np.float64)  # (n, L)
            paid = weight.T @ (at * cost[:, [model]]) + s * mean[model]
            table = paid / (weight.T @ at + s)  # (C, L)
            found[:, :, model] = table[:, vectors[:, model]]
        states = found.reshape(-1, n_models)
        # Rescaled, so that shrinkage leaves each model's mean cost unchanged.
        expected = prior @ states
        return states * np.where(expected > 0, mean / np.where(expected > 0, expected, 1.0), 1.0)
