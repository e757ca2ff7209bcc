"""Which model of the queries a problem is fitted with: conf/model.

`Joint` holds one distribution of score vectors, in which signals are independent given scores.
`LatentClasses` adds a hidden class of each query. How many classes, and how closely each keeps to
the class-free tables, is decided by cross-validation: by what the exact policies of the candidates
get on training queries that they were not fitted to. `Joint` is one of the candidates, so that
little data leads back to it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from envs import Costs, Observation, Replay, RoutingPOMDP, Rules
from envs.class_model import Basis, Settings
from evaluation.evaluate import evaluate, returns
from solvers.by_symbol import BySymbol
from solvers.exact import Exact

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

_log = logging.getLogger(__name__)

_QUIET = 3.0  # seconds before a progress bar shows
_MOST_WORK = 2**27  # histories solved in a cross-validation: some ten seconds

Criterion = Literal["return", "likelihood"]
_HeldOut = Callable[[RoutingPOMDP, Replay], FloatArray]


@dataclass(frozen=True, eq=False)
class Data:
    """What a model is fitted to.

    Attributes:
        replay: training queries.
        observation: unfitted.
        costs: fitted mean costs.
        rules: the decisions on offer.
        prices: of the frontier.
        levels: of scores, see `RoutingPOMDP.fit`.
        pre: unfitted, of the pre-query signal where the rules buy one.
    """

    replay: Replay
    observation: Observation
    costs: Costs
    rules: Rules
    prices: Sequence[float]
    levels: int | None = None
    pre: Observation | None = None

    def take(self, rows: IntArray) -> Data:
        """The queries of some rows."""
        return replace(self, replay=self.replay.take(rows))

    def joint(self, prior_strength: float) -> RoutingPOMDP:
        """The class-free problem."""
        return RoutingPOMDP.fit(
            self.replay,
            deepcopy(self.observation),
            self.costs,
            self.rules,
            levels=self.levels,
            prior_strength=prior_strength,
            pre=deepcopy(self.pre),
        )


class Model(Protocol):
    """Fits the problem that solvers plan in."""

    def fit(self, data: Data) -> RoutingPOMDP: ...


@dataclass(frozen=True)
class Joint:
    """One distribution of score vectors, signals independent given scores, constant costs.

    Attributes:
        prior_strength: how many queries independent scores count as.
    """

    prior_strength: float = 4.0

    def __post_init__(self) -> None:
        _check_positive(self, "prior_strength")

    def fit(self, data: Data) -> RoutingPOMDP:
        return data.joint(self.prior_strength)


@dataclass(frozen=True)
class LatentClasses:
    """Query classes, on which scores, signals and costs depend.

    Attributes:
        classes: numbers of classes to choose from; 1 is `Joint`.
        symbol_strength: to choose from: how many queries the class-free shares of symbols count
            as, in each class and at each level of the score.
        level_strength: the same for the shares of score levels in each class.
        cost_strength: the same for mean costs.
        prior_strength: of `Joint`.
        criterion: what candidates are compared by: mean "return" over prices of their exact
            policies, or "likelihood", both of queries that they were not fitted to.
        margin: standard errors that a candidate must be ahead of `Joint` by.
        folds: of the cross-validation.
        starts: of the final EM.
        seed: of folds and starts.
    """

    classes: Sequence[int] = (1, 2, 3, 4, 6, 8)
    symbol_strength: Sequence[float] = (4.0, 16.0, 64.0)
    level_strength: float = 4.0
    cost_strength: float = 8.0
    prior_strength: float = 4.0
    criterion: Criterion = "return"
    margin: float = 1.0
    folds: int = 5
    starts: int = 3
    seed: int = 0

    def __post_init__(self) -> None:
        _check_positive(self, "level_strength", "cost_strength", "prior_strength")
        if not self.classes or min(self.classes) < 1:
            raise ValueError(f"model.classes is {list(self.classes)}: expected numbers >= 1")
        if not self.symbol_strength or not min(self.symbol_strength) > 0:
            raise ValueError(
                f"model.symbol_strength is {list(self.symbol_strength)}: expected numbers > 0"
            )
        if self.criterion not in get_args(Criterion):
            raise ValueError(
                f"model.criterion is {self.criterion!r}: expected one of {get_args(Criterion)}"
            )
        if self.folds < 2:
            raise ValueError(f"model.folds is {self.folds}: expected at least 2")
        if self.starts < 1:
            raise ValueError(f"model.starts is {self.starts}: expected at least 1")
        if not self.margin >= 0:
            raise ValueError(f"model.margin is {self.margin}: expected a number >= 0")

    def fit(self, data: Data) -> RoutingPOMDP:
        chosen = self.choose(data)
        problem = data.joint(self.prior_strength)
        if chosen is None:
            return problem
        return Basis.of(problem, data.replay, data.levels).fit(chosen, self.starts, self.seed)

    def choose(self, data: Data) -> Settings | None:
        """The best candidate by cross-validation; None for `Joint`.

        First the number of classes, at the middle strength; then the strength.
        """
        first, others = self._candidates(len(data.replay))
        if len(first) + len(others) < 2:
            return first[0]
        held_out = self._criterion(data, len(first))
        got = self._held_out(data, first, held_out)
        best, ahead = self._best(got, got[0])
        chosen = first[best]
        if chosen is not None and others:
            again = [replace(chosen, symbol_strength=strength) for strength in others]
            more = np.concatenate([got[[best]], self._held_out(data, again, held_out)])
            best, ahead = self._best(more, got[0])
            chosen = [chosen, *again][best]
        _log.info("model: %s, ahead of %s by %s", _named(chosen), _named(first[0]), ahead)
        return chosen

    def _best(self, got: FloatArray, base: FloatArray) -> tuple[int, str]:
        """Which of the candidates ``(c, n)`` is the farthest ahead of the first one, less the
        margin; and by how much, in words."""
        ahead = got - base
        mean, error = ahead.mean(axis=1), ahead.std(axis=1) / np.sqrt(ahead.shape[1])
        best = int((mean - self.margin * error).argmax())
        return best, f"{mean[best]:.2g} ± {error[best]:.1g}"

    def _criterion(self, data: Data, candidates: int) -> _HeldOut:
        # Beyond what the exact solver takes on there are no exact policies to compare.
        n_histories = (data.observation.n_symbols + 1 + data.rules.verify) ** (
            data.rules.n_models - 1
        )
        if self.criterion == "likelihood" or n_histories > Exact().max_histories:
            return log_likelihood
        prices = _MOST_WORK // (n_histories * self.folds * candidates)
        return _ReturnOf(data.prices, int(np.clip(prices, 3, 9)))

    def _held_out(
        self, data: Data, candidates: Sequence[Settings | None], held_out: _HeldOut
    ) -> FloatArray:
        """``(c, n)`` what each candidate gets on each query that it was not fitted to."""
        n = len(data.replay)
        folds = min(self.folds, n)
        fold = np.random.default_rng(self.seed).permutation(n) % folds
        got = np.empty((len(candidates), n))
        total = folds * len(candidates)
        with tqdm(total=total, desc="fitting the model", delay=_QUIET, leave=False) as bar:
            for part in range(folds):
                rows = np.flatnonzero(fold == part)
                fitted_on = data.take(np.flatnonzero(fold != part))
                for i, problem in enumerate(self._fitted(fitted_on, candidates)):
                    got[i, rows] = held_out(problem, data.replay.take(rows))
                    bar.update()
        return got

    def _candidates(self, n: int) -> tuple[list[Settings | None], list[float]]:
        """Numbers of classes at the middle strength, `Joint` first where it is one of them; and
        the other strengths. There are never more classes than queries."""
        strengths = sorted(self.symbol_strength)
        middle = strengths.pop(len(strengths) // 2)
        found = [
            Settings(classes, self.level_strength, middle, self.cost_strength)
            for classes in self.classes
            if 1 < classes <= n
        ]
        if n < 2 or not found:
            return [None], []
        return ([None] if 1 in self.classes else []) + found, strengths

    def _fitted(self, data: Data, candidates: Sequence[Settings | None]) -> Iterator[RoutingPOMDP]:
        joint = data.joint(self.prior_strength)
        basis = Basis.of(joint, data.replay, data.levels)
        for one in candidates:
            yield joint if one is None else basis.fit(one, starts=1, seed=self.seed)


def _named(settings: Settings | None) -> str:
    if settings is None:
        return "no classes"
    return f"{settings.classes} classes of strength {settings.symbol_strength:g}"


class _ReturnOf:
    """Mean return over some prices of the exact policies of a problem."""

    def __init__(self, prices: Sequence[float], most: int) -> None:
        above = sorted(price for price in prices if price > 0) or [0.0]
        some = np.linspace(0, len(above) - 1, min(most, len(above))).round().astype(int)
        self._prices = [above[i] for i in some]

    def __call__(self, problem: RoutingPOMDP, replay: Replay) -> FloatArray:
        """``(n,)`` on the queries of ``replay``."""
        policies = BySymbol(Exact()).solve_frontier(problem, self._prices, replay)
        got = []
        for policy, price in zip(policies, self._prices, strict=True):
            got.append(returns(evaluate(policy, replay), problem.at(price)))
        return np.mean(got, axis=0)


def log_likelihood(problem: RoutingPOMDP, replay: Replay) -> FloatArray:
    """``(n,)`` of the scores and signals of queries; a score counts as the nearest that the problem
    has, its level's mean."""
    vectors, of_state = np.unique(problem.score, axis=0, return_inverse=True)
    nearest = np.abs(replay.score[:, None] - vectors[None]).sum(axis=2).argmin(axis=1)
    symbol = [problem.symbols(m, replay.signal[:, m]) for m in range(problem.n_models - 1)]
    found = np.empty(len(replay))
    for vector in np.unique(nearest):
        rows, states = nearest == vector, np.flatnonzero(of_state.ravel() == vector)
        joint = np.tile(problem.prior[states], (int(rows.sum()), 1))
        for likelihood, seen in zip(problem.likelihood, symbol, strict=True):
            joint *= likelihood[states][:, seen[rows]].T
        found[rows] = np.log(np.maximum(joint.sum(axis=1), np.finfo(float).tiny))
    return found


def _check_positive(model: Joint | LatentClasses, *names: str) -> None:
    for name in names:
        if not 0 < getattr(model, name) < np.inf:
            raise ValueError(f"model.{name} is {getattr(model, name)}: expected a number > 0")
