"""`PreQueryConditioned`: applies any solver to a problem that begins with a pre-query signal.

The signal is observed once, before the first decision. After each of its symbols the rest is a
routing problem with another prior. The policy is therefore one policy per symbol, and its value is
their weighted mean. The inner solver needs no support for such signals.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from routing_pomdp.envs import History, PreSignal, RoutingData, RoutingPOMDP
from routing_pomdp.solvers.solver import (
    Actions,
    FrontierSolver,
    HasBelief,
    Log,
    OraclePolicy,
    Policy,
    QueryPolicy,
    Solver,
    Training,
    decided,
    for_queries,
    solved,
)


@dataclass(frozen=True)
class PreQueryConditioned(FrontierSolver):
    """Solves the conditional problem of each pre-query symbol; an exact solver stays exact.

    For each symbol, the solver gets the training queries with that symbol, or all if there are
    none.

    Attributes:
        solver: the inner solver.
        training: log, validation queries and folder of the run; each symbol has curves and
            checkpoints of its own.
    """

    solver: Solver
    training: Training = field(default_factory=Training, repr=False)

    def with_training(self, training: Training) -> PreQueryConditioned:
        return replace(self, training=training)

    def solve_frontier(
        self, problem: RoutingPOMDP, prices: Sequence[float], train: RoutingData
    ) -> Sequence[Policy | QueryPolicy]:
        if not problem.rules.pre_query:
            return solved(self.solver.with_training(self.training), problem, prices, train)
        assert problem.pre is not None
        found = []
        for symbol in range(problem.pre.n_symbols):
            solver = self.solver.with_training(self._training_of(symbol, problem.pre))
            shown = _showing(train, symbol, problem.pre)
            found.append(solved(solver, problem.given(symbol), prices, shown))
        return [
            _joined(problem.at(price), parts)
            for price, parts in zip(prices, zip(*found, strict=True), strict=True)
        ]

    def _training_of(self, symbol: int, pre: PreSignal) -> Training:
        log, validation, folder = self.training.log, self.training.validation, self.training.folder
        return replace(
            self.training,
            log=None if log is None else partial(_log_of, log, symbol),
            validation=None if validation is None else _showing(validation, symbol, pre),
            folder=None if folder is None else folder / f"symbol-{symbol}",
        )


def _log_of(log: Log, symbol: int, row: Mapping[str, float]) -> None:
    log({k if k == "step" else f"symbol_{symbol}_{k}": value for k, value in row.items()})


def _showing(data: RoutingData, symbol: int, pre: PreSignal) -> RoutingData:
    """The queries with a symbol; all if there are none."""
    rows = pre.symbols(data.require_pre_signal()) == symbol
    return data.take(rows) if rows.any() else data


def _joined(problem: RoutingPOMDP, parts: Sequence[Policy | QueryPolicy]) -> Policy | QueryPolicy:
    """One policy that consists of the policies for each symbol."""
    if isinstance(parts[0], OraclePolicy):
        return parts[0]  # it reads the scores and needs no signal
    # A policy may have rules and a filter of its own. It pays for the signal in any case. If its
    # filter has other score vectors, the signal carries no information about them.
    own = parts[0].problem
    base = own if own.score is problem.score else problem
    rules = replace(own.rules, pre_query=True)
    problem = replace(base, prior=problem.prior, pre=problem.pre, rules=rules)
    if any(isinstance(part, QueryPolicy) for part in parts):
        return _PreQueryConditionedQueries(problem, parts)
    bound = [part for part in parts if not isinstance(part, QueryPolicy)]
    if all(isinstance(part, HasBelief) for part in bound):
        return PreQueryConditionedBelief(problem, bound)
    return PreQueryConditionedPolicy(problem, bound)


@dataclass(frozen=True, eq=False)
class PreQueryConditionedPolicy:
    """A policy for each symbol of the pre-query signal.

    Attributes:
        problem: the problem with the signal.
        parts: one policy per symbol, each for the conditional problem.
    """

    problem: RoutingPOMDP
    parts: Sequence[Policy]

    @property
    def value(self) -> float:
        """Expected return inside the model; NaN if a part does not give its own."""
        values = [getattr(part, "value", float("nan")) for part in self.parts]
        shares = [share for share, _ in self.problem.branches()]
        return float(np.dot(shares, values)) - self.problem.pre_price

    def act(self, history: History) -> Actions:
        action = np.empty(len(history), dtype=np.int64)
        for rows, part, left in self._branches(history):
            action[rows] = decided(part, left)
        return action

    def _branches(self, history: History) -> Iterator[tuple[NDArray[np.int64], Policy, History]]:
        """For each symbol that occurs: its rows, its policy and their histories."""
        symbol = self.problem.pre_symbols(history)
        for k in np.unique(symbol):
            rows = np.flatnonzero(symbol == k)
            yield rows, self.parts[k], replace(history.take(rows), pre=None)


class PreQueryConditionedBelief(PreQueryConditionedPolicy):
    """A `PreQueryConditionedPolicy` whose parts have beliefs."""

    def belief(self, history: History) -> NDArray[np.float64]:
        """See `HasBelief`."""
        belief = np.empty((len(history), history.n_models))
        for rows, part, left in self._branches(history):
            assert isinstance(part, HasBelief)
            belief[rows] = part.belief(left)
        return belief


@dataclass(frozen=True, eq=False)
class _PreQueryConditionedQueries(QueryPolicy):
    problem: RoutingPOMDP
    parts: Sequence[Policy | QueryPolicy]

    def for_queries(self, data: RoutingData) -> Policy:
        return PreQueryConditionedPolicy(
            self.problem, [for_queries(part, data) for part in self.parts]
        )
