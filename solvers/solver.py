"""The interfaces of this package: a `Solver` finds a `Policy`, a `Policy` chooses actions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from routing_pomdp.envs import History, RoutingData, RoutingPOMDP
from routing_pomdp.envs.settings.checks import check_settings

Actions = NDArray[np.int64]

Log = Callable[[Mapping[str, float]], None]
"""A function that records one row of a training curve, with its ``step``."""


@dataclass(frozen=True, eq=False)
class Training:
    """The parts of a run that a training solver can use, beside the training queries.

    Attributes:
        log: records the training curve; None for no record.
        validation: queries for early stopping and model selection; None if there are none.
        folder: where checkpoints are written, and read after an interruption; None for no
            checkpoints.
        source: models and verifier of the queries, which checkpoints record.
    """

    log: Log | None = None
    validation: RoutingData | None = None
    folder: Path | None = None
    source: Mapping[str, Any] = field(default_factory=dict)


class Policy(Protocol):
    """Maps histories to actions.

    Attributes:
        problem: the problem whose rules the policy follows. These may differ from those of the
            problem solved: the static baselines start at any model and never verify.
    """

    @property
    def problem(self) -> RoutingPOMDP: ...

    def act(self, history: History) -> Actions:
        """Legal actions ``(n,)`` for ``n`` histories. The same history and seed give the same
        action, whatever else is in the batch."""


@runtime_checkable
class HasBelief(Protocol):
    """A policy with a belief, whose calibration every run reports."""

    def belief(self, history: History) -> NDArray[np.float64]:
        """``(n, N)`` expected score of each model, called or not, after each of ``n`` histories;
        for scores of 0 and 1, the probability that its answer is right."""


class QueryPolicy(ABC):
    """A policy that needs the texts of the queries, beside the history.

    Attributes:
        problem: see `Policy`.
    """

    problem: RoutingPOMDP

    @abstractmethod
    def for_queries(self, data: RoutingData) -> Policy:
        """The policy for the queries of ``data``; ``history.query`` holds their row numbers.

        It may read every prompt, and an answer once its model was called.
        """


class OraclePolicy(QueryPolicy):
    """A policy that reads the hidden scores. Only the oracle may."""


class SolverError(ValueError):
    """Raised where a solver or a policy returns something invalid."""


class Solver(ABC):
    """Finds a policy for a problem. Hyperparameters are dataclass fields of the subclass;
    `envs.settings.checks` checks their types and ranges."""

    def __post_init__(self) -> None:
        check_settings(self, "solver")

    def with_training(self, training: Training) -> Solver:
        """This solver with the run's log, validation queries and folder; most do not use them."""
        return self

    @abstractmethod
    def solve(self, problem: RoutingPOMDP, train: RoutingData) -> Policy | QueryPolicy:
        """The policy for ``problem`` at its price.

        Args:
            problem: fitted on ``train``.
            train: the training queries.
        """

    def solve_frontier(
        self, problem: RoutingPOMDP, prices: Sequence[float], train: RoutingData
    ) -> Sequence[Policy | QueryPolicy]:
        """One policy per price; overridden where prices can share work."""
        return [self.solve(problem.at(price), train) for price in prices]


def solved(
    solver: Solver, problem: RoutingPOMDP, prices: Sequence[float], train: RoutingData
) -> Sequence[Policy | QueryPolicy]:
    """A solver's policies, one per price.

    Raises:
        SolverError: the solver returned something else.
    """
    found = solver.solve_frontier(problem, prices, train)
    name = f"solver {type(solver).__name__}"
    if not isinstance(found, Sequence):
        raise SolverError(f"{name} returned {_kind(found)} from solve_frontier: expected {_LIST}")
    for policy in found:
        if not isinstance(policy, QueryPolicy) and not _is_policy(policy):
            raise SolverError(f"{name} returned {_kind(policy)}: expected {_POLICY}")
    if len(found) != len(prices):
        raise SolverError(f"{name} returned {len(found)} policies for {len(prices)} prices")
    return found


def for_queries(policy: Policy | QueryPolicy, data: RoutingData) -> Policy:
    """The policy for the queries of ``data``.

    Raises:
        SolverError: ``for_queries`` returned something else.
    """
    if not isinstance(policy, QueryPolicy):
        return policy
    found = policy.for_queries(data)
    if not _is_policy(found):
        name = f"{type(policy).__name__}.for_queries"
        raise SolverError(f"{name} returned {_kind(found)}: expected an object with act")
    return found


def decided(policy: Policy, history: History) -> Actions:
    """A policy's actions ``(n,)``; whether they are legal is not checked.

    Raises:
        SolverError: the actions are not integers, or not one per history.
    """
    found = policy.act(history)
    action = np.asarray(found)
    if action.shape != (len(history),) or action.dtype.kind not in "iu":
        what = _kind(found)
        if isinstance(found, np.ndarray):
            what = f"{found.dtype} of shape {found.shape}"
        raise SolverError(
            f"{type(policy).__name__}.act returned {what}: expected an array of "
            f"{len(history)} integers, one action per history"
        )
    return action


_POLICY = (
    "a policy, an object with problem and act(history), or a QueryPolicy (does solve end in a "
    "return?)"
)
_LIST = "a list of policies, one per price"


def _is_policy(found: Any) -> bool:
    return callable(getattr(found, "act", None)) and hasattr(found, "problem")


def _kind(found: Any) -> str:
    return "None" if found is None else f"a {type(found).__name__}"


class FrontierSolver(Solver):
    """A solver that shares work between prices: it defines `solve_frontier` instead of `solve`."""

    def solve(self, problem: RoutingPOMDP, train: RoutingData) -> Policy | QueryPolicy:
        return self.solve_frontier(problem, [problem.price], train)[0]

    @abstractmethod
    def solve_frontier(
        self, problem: RoutingPOMDP, prices: Sequence[float], train: RoutingData
    ) -> Sequence[Policy | QueryPolicy]: ...


@dataclass(frozen=True, eq=False)
class TablePolicy:
    """A policy as a table over history codes.

    Attributes:
        problem: the problem that it solves.
        actions: ``(n_histories,)`` the action at each history code.
        value: its expected return inside the model; NaN if unknown.
    """

    problem: RoutingPOMDP
    actions: NDArray[np.int8]
    value: float = float("nan")

    def act(self, history: History) -> Actions:
        return self.actions[self.problem.encode(history)].astype(np.int64)
