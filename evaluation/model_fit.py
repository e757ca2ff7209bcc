"""The model of queries that a problem is fitted with: conf/model.

`Joint` has one distribution of score vectors; signals are independent given scores.
`LatentClasses` adds a hidden class to each query, free or on the points of one factor.
Cross-validation chooses the kind, the number of classes and their shrinkage towards the class-free
tables, by the results of each candidate's exact policies on held-out training queries. `Joint` is
one of the candidates, and is chosen if there are few data.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Annotated, Literal

import numpy as np
from tqdm import tqdm

from routing_pomdp.envs import Costs, Observation, RoutingData, RoutingPOMDP, Rules
from routing_pomdp.envs.arrays import FloatArray, IntArray
from routing_pomdp.envs.model.class_model import Basis, Settings
from routing_pomdp.envs.settings.checks import check_settings
from routing_pomdp.envs.settings.ranges import (
    Count,
    Folds,
    Length,
    NotNegative,
    Positive,
    Range,
    Seed,
)
from routing_pomdp.evaluation.model_criteria import AIQ, Judge, Likelihood, Return, some_prices
from routing_pomdp.solvers.exact.backward_induction import Exact

_log = logging.getLogger(__name__)

_TOLERANCE = 1e-4  # of the EM in cross-validation; candidates differ by more
_QUIET = 3.0  # seconds before the progress bar appears
_MOST_WORK = 2**27  # histories solved in a cross-validation, about ten seconds

Criterion = Literal["aiq", "return", "likelihood"]


@dataclass(frozen=True, eq=False)
class Data:
    """The inputs of a model fit.

    Attributes:
        data: training queries.
        observation: unfitted observation model.
        costs: fitted mean costs.
        rules: the legal actions.
        prices: prices of the frontier.
        levels: score levels, see `RoutingPOMDP.fit`.
        pre: unfitted observation model of the pre-query signal; None without one.
    """

    data: RoutingData
    observation: Observation
    costs: Costs
    rules: Rules
    prices: Sequence[float]
    levels: int | None = None
    pre: Observation | None = None

    def take(self, rows: IntArray) -> Data:
        """The inputs with a subset of the queries."""
        return replace(self, data=self.data.take(rows))

    def joint(self, prior_strength: float) -> RoutingPOMDP:
        """The problem without classes."""
        return RoutingPOMDP.fit(
            self.data,
            deepcopy(self.observation),
            self.costs,
            self.rules,
            levels=self.levels,
            prior_strength=prior_strength,
            pre=deepcopy(self.pre),
        )


class Model(ABC):
    """Fits the problem that solvers solve. Settings are dataclass fields of the subclass."""

    def __post_init__(self) -> None:
        check_settings(self, "model")

    @abstractmethod
    def fit(self, data: Data) -> RoutingPOMDP:
        """The problem fitted to training queries."""


@dataclass(frozen=True)
class Joint(Model):
    """One distribution of score vectors, signals independent given scores, constant costs.

    Attributes:
        prior_strength: weight of the prior of independent scores, in queries.
    """

    prior_strength: Positive = 4.0

    def fit(self, data: Data) -> RoutingPOMDP:
        return data.joint(self.prior_strength)


@dataclass(frozen=True)
class LatentClasses(Model):
    """Latent classes of queries, on which scores, signals and costs depend.

    Attributes:
        classes: numbers of classes to choose from; 1 is `Joint`.
        symbol_strength: weights to choose from, in queries, of the class-free shares of symbols in
            each class and at each score level.
        factor_strength: precisions of the slopes of one factor, another kind of candidate.
        factor_points: number of points of the factor.
        level_strength: the same weight for the shares of score levels in each class.
        cost_strength: the same weight for mean costs.
        prior_strength: see `Joint`.
        criterion: criterion on held-out queries: the "aiq" of the exact policies' frontier, the
            mean "return" of these policies over prices, or the "likelihood" of the queries.
        margin: standard errors by which a candidate must be better than `Joint`.
        folds: number of folds of the cross-validation.
        starts: number of starts of the final EM.
        seed: seed of folds and starts.
    """

    classes: Annotated[Sequence[Count], Length(1, 100)] = (1, 2, 3, 4, 6, 8)
    symbol_strength: Annotated[Sequence[Positive], Length(1, 100)] = (4.0, 16.0, 64.0)
    factor_strength: Sequence[Positive] = (1.0, 4.0)
    factor_points: Annotated[int, Range(2, 1000)] = 7
    level_strength: Positive = 4.0
    cost_strength: Positive = 8.0
    prior_strength: Positive = 4.0
    criterion: Criterion = "return"
    margin: NotNegative = 1.0
    folds: Folds = 5
    starts: Count = 3
    seed: Seed = 0

    def fit(self, data: Data) -> RoutingPOMDP:
        problem = data.joint(self.prior_strength)
        chosen = self.choose(data) if problem.has_table else None
        if chosen is None:
            return problem
        return Basis.of(problem, data.data, data.levels).fit(chosen, self.starts, self.seed)

    def choose(self, data: Data) -> Settings | None:
        """The best candidate by cross-validation; None for `Joint`.

        It chooses the number of classes at the middle strength, then the strength.
        """
        first, others = self._candidates(len(data.data))
        if len(first) + len(others) < 2:
            return first[0]
        judge = self._judge(data, len(first))
        got = self._held_out(data, first, judge)
        best, ahead = self._best(judge, got, got[0])
        chosen = first[best]
        if chosen is not None and chosen.factor is None and others:
            again = [replace(chosen, symbol_strength=strength) for strength in others]
            more = np.concatenate([got[[best]], self._held_out(data, again, judge)])
            best, ahead = self._best(judge, more, got[0])
            chosen = [chosen, *again][best]
        _log.info("model: %s, ahead of %s by %s", _named(chosen), _named(first[0]), ahead)
        return chosen

    def _best(self, judge: Judge, got: FloatArray, base: FloatArray) -> tuple[int, str]:
        """The candidate of ``(c, n, q)`` with the largest advantage over the baseline minus the
        margin, and its advantage in words."""
        ahead, error = judge.ahead(got, base)
        best = int((ahead - self.margin * error).argmax())
        return best, f"{ahead[best]:.2g} ± {error[best]:.1g} in {type(judge).__name__}"

    def _judge(self, data: Data, candidates: int) -> Judge:
        # Above the exact solver's limit there are no exact policies to compare.
        n_histories = (data.observation.n_symbols + 1 + data.rules.verify) ** (
            data.rules.n_models - 1
        )
        if self.criterion == "likelihood" or n_histories > Exact().max_histories:
            return Likelihood()
        most = _MOST_WORK // (n_histories * self.folds * candidates)
        prices = some_prices(data.prices, int(np.clip(most, 4, 9)))
        mean = data.data.call_cost.mean(axis=0)
        if self.criterion == "aiq" and mean[0] < mean[-1]:
            return AIQ(prices, data.data, self.seed)
        return Return(prices)

    def _held_out(
        self, data: Data, candidates: Sequence[Settings | None], judge: Judge
    ) -> FloatArray:
        """``(c, n, q)`` cross-validated results of each candidate on each query."""
        n = len(data.data)
        folds = min(self.folds, n)
        fold = np.random.default_rng(self.seed).permutation(n) % folds
        got: list[list[FloatArray]] = [[] for _ in candidates]
        total = folds * len(candidates)
        bar = tqdm(total=total, desc="fitting", delay=_QUIET, leave=False, disable=None)
        with bar:
            for part in range(folds):
                held_out = data.data.take(np.flatnonzero(fold == part))
                fitted_on = data.take(np.flatnonzero(fold != part))
                for i, problem in enumerate(self._fitted(fitted_on, candidates)):
                    got[i].append(judge.held_out(problem, held_out))
                    bar.update()
        order = np.argsort(fold, kind="stable")
        return np.stack([np.concatenate(parts) for parts in got])[:, np.argsort(order)]

    def _candidates(self, n: int) -> tuple[list[Settings | None], list[float]]:
        """Candidates at the middle strength, `Joint` first if it is one, and the other strengths.
        There are never more classes than queries."""
        strengths = sorted(self.symbol_strength)
        middle = strengths.pop(len(strengths) // 2)
        found = [
            Settings(classes, self.level_strength, middle, self.cost_strength)
            for classes in self.classes
            if 1 < classes <= n
        ]
        if n >= self.factor_points:
            found += [
                Settings(
                    self.factor_points,
                    self.level_strength,
                    middle,
                    self.cost_strength,
                    factor=strength,
                )
                for strength in self.factor_strength
            ]
        if n < 2 or not found:
            return [None], []
        return ([None] if 1 in self.classes else []) + found, strengths

    def _fitted(self, data: Data, candidates: Sequence[Settings | None]) -> Iterator[RoutingPOMDP]:
        joint = data.joint(self.prior_strength)
        basis = Basis.of(joint, data.data, data.levels)
        for one in candidates:
            yield joint if one is None else basis.fit(one, 1, self.seed, _TOLERANCE)


def _named(settings: Settings | None) -> str:
    if settings is None:
        return "no classes"
    if settings.factor is not None:
        return f"a factor on {settings.classes} points of strength {settings.factor:g}"
    return f"{settings.classes} classes of strength {settings.symbol_strength:g}"
