"""The two roles of this package: a `Solver` is data until `solve`, a `Policy` decides."""

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
"""Takes one row of a training curve, with its ``step``."""


@dataclass(frozen=True, eq=False)
class Training:
    """What a run offers a solver that trains, beside the training queries.

    Attributes:
        log: takes the training curve; None where nobody listens.
        validation: queries to stop by and to choose by; None where there are none.
        folder: where checkpoints are kept, and found again after an interruption; None for
            nowhere.
        source: what the queries are of, for checkpoints to name: models, verifier.
    """

    log: Log | None = None
    validation: RoutingData | None = None
    folder: Path | None = None
    source: Mapping[str, Any] = field(default_factory=dict)


class Policy(Protocol):
    """Maps histories to actions.

    Attributes:
        problem: the problem whose rules it plays by. A policy may bring rules of its own: the
            static baselines start where they like and never verify.
    """

    @property
    def problem(self) -> RoutingPOMDP: ...

    def act(self, history: History) -> Actions:
        """Legal actions ``(n,)`` for ``n`` histories; the same history and seed, the same action,
        whatever else is in the batch."""


@runtime_checkable
class HasBelief(Protocol):
    """Says what it believes: a policy that does has its calibration reported by every run."""

    def belief(self, history: History) -> NDArray[np.float64]:
        """``(n, N)`` how likely each model's answer is right, called or not, after each of ``n``
        histories; for graded scores, the score that is expected."""


class QueryPolicy(ABC):
    """A policy that needs more of the queries than a history holds: their texts.

    Attributes:
        problem: as of `Policy`.
    """

    problem: RoutingPOMDP

    @abstractmethod
    def for_queries(self, data: RoutingData) -> Policy:
        """The policy for the queries of ``data``, which ``history.query`` numbers.

        It may read prompts at any time, an answer once its model was called, and nothing else.
        """


class OraclePolicy(QueryPolicy):
    """One that reads the hidden scores, and so is no policy at all. Only the oracle does."""


class SolverError(ValueError):
    """A solver or a policy that returned what none may; the message names it."""


class Solver(ABC):
    """Finds a policy for a problem. Hyperparameters are dataclass fields of the subclass, with
    the types and ranges that `envs.settings.checks` reads."""

    def __post_init__(self) -> None:
        check_settings(self, "solver")

    def with_training(self, training: Training) -> Solver:
        """This solver, making use of what a run offers; most have no use for it."""
        return self

    @abstractmethod
    def solve(self, problem: RoutingPOMDP, train: RoutingData) -> Policy | QueryPolicy:
        """The policy for ``problem`` at its price.

        Args:
            problem: fitted on ``train``.
            train: the training queries, for solvers that learn from them directly.
        """

    def solve_frontier(
        self, problem: RoutingPOMDP, prices: Sequence[float], train: RoutingData
    ) -> Sequence[Policy | QueryPolicy]:
        """One policy a price; overridden where many prices can share work."""
        return [self.solve(problem.at(price), train) for price in prices]


def solved(
    solver: Solver, problem: RoutingPOMDP, prices: Sequence[float], train: RoutingData
) -> Sequence[Policy | QueryPolicy]:
    """A solver's policies, one a price.

    Raises:
        SolverError: it returned something else.
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
    """A policy for the queries of routing data.

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
    """A policy's actions ``(n,)``; whether they are legal is for the rules to say.

    Raises:
        SolverError: they are no integers, or not one a history.
    """
    found = policy.act(history)
    action = np.asarray(found)
    if action.shape != (len(history),) or action.dtype.kind not in "iu":
        what = _kind(found)
        if isinstance(found, np.ndarray):
            what = f"{found.dtype} of shape {found.shape}"
        raise SolverError(
            f"{type(policy).__name__}.act returned {what}: expected an array of "
            f"{len(history)} integers, one action a history"
        )
    return action


_POLICY = (
    "a policy, an object with problem and act(history), or a QueryPolicy (does solve end in a "
    "return?)"
)
_LIST = "a list of policies, one a price"


def _is_policy(found: Any) -> bool:
    return callable(getattr(found, "act", None)) and hasattr(found, "problem")


def _kind(found: Any) -> str:
    return "None" if found is None else f"a {type(found).__name__}"


class FrontierSolver(Solver):
    """A solver that does most of its work once for all prices: it defines `solve_frontier`."""

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
        value: its expected return inside the model, where known.
    """

    problem: RoutingPOMDP
    actions: NDArray[np.int8]
    value: float = float("nan")

    def act(self, history: History) -> Actions:
        return self.actions[self.problem.encode(history)].astype(np.int64)
