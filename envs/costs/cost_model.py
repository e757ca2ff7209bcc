"""Costs of calls and verifications: logged costs, or a ladder of a given ratio (DESIGN §1).

`envs.costs.objectives` has cost models that count tokens, milliseconds, or both.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Literal, Self

import numpy as np

from routing_pomdp.envs.arrays import FloatArray, IntArray
from routing_pomdp.envs.logs.rollouts import Rollouts
from routing_pomdp.envs.settings.checks import check_settings
from routing_pomdp.envs.settings.ranges import Range


@dataclass(frozen=True, eq=False)
class Costs:
    """Mean costs, the ``c`` and ``v`` of the decision problem.

    Attributes:
        call: ``(N,)`` mean cost of an answer of each model.
        verify: ``(N,)`` mean cost of verifying an answer of each model.
        call_in: ``(S, N)`` expected cost of an answer in each hidden state of the problem; None
            if it is ``call`` in all states.
        verify_in: ``(S, N)`` the same for ``verify``.
    """

    call: FloatArray
    verify: FloatArray
    call_in: FloatArray | None = None
    verify_in: FloatArray | None = None

    @property
    def vary(self) -> bool:
        """Whether costs depend on the hidden state."""
        return self.call_in is not None or self.verify_in is not None

    def in_states(self, state: IntArray) -> tuple[FloatArray, FloatArray]:
        """Costs of calls and of verifications ``(n, N)`` in hidden states ``(n,)``."""
        shape = len(state), len(self.call)
        call = self.call if self.call_in is None else self.call_in[state]
        verify = self.verify if self.verify_in is None else self.verify_in[state]
        return np.broadcast_to(call, shape), np.broadcast_to(verify, shape)

    def with_verify(self, factor: FloatArray | float) -> Self:
        """The same costs with verification costs multiplied by ``factor``; 0 makes it free."""
        verify_in = None if self.verify_in is None else self.verify_in * factor
        return replace(self, verify=self.verify * factor, verify_in=verify_in)

    def averaged(self) -> Self:
        """The mean costs in every state."""
        return replace(self, call_in=None, verify_in=None)

    @property
    def unit(self) -> float:
        """Mean cost of a call of the most expensive model: the unit of the price."""
        return float(self.call[-1])

    @property
    def share(self) -> FloatArray:
        """``(N,)`` cost of a verification as a share of the same model's call; 0 for a model whose
        calls are free."""
        return np.divide(self.verify, self.call, out=np.zeros(len(self.call)), where=self.call > 0)


def ladder(ratio: float | FloatArray, n_models: int) -> FloatArray:
    """``(..., N)`` costs of calls that rise geometrically from 1 to ``ratio`` ``(...)``."""
    return np.asarray(ratio, dtype=np.float64)[..., None] ** (np.arange(n_models) / (n_models - 1))


@dataclass(frozen=True)
class CostModel:
    """Turns a log into costs.

    Attributes:
        ratio: None for the logged costs; otherwise ``r >= 1``, which replaces them by the
            geometric ladder from 1 to ``r`` (``r ** (i / (N - 1))``; for two models 1 and r).
        verifier: "logged", or the cost of a verification as a share of the same model's answer.
            Under a ladder "logged" keeps the log's own ratio of mean verification to mean
            answer cost; a log without verification costs counts as 0.

    Raises:
        ValueError: ``ratio < 1``, or ``verifier`` neither "logged" nor a share >= 0.
    """

    ratio: Annotated[float, Range(1, 1e9)] | None = None
    verifier: Literal["logged"] | Annotated[float, Range(0, 1e9)] = "logged"

    def __post_init__(self) -> None:
        check_settings(self, "costs")

    @property
    def label(self) -> str:
        """The name of the objective in runs and reports."""
        return "logged" if self.ratio is None else f"{self.ratio:g}"

    @property
    def unit_name(self) -> str:
        """The unit of the costs, for axes and tables."""
        return "cost unit of the log" if self.ratio is None else "calls of the cheapest model"

    def priced(self, rollouts: Rollouts) -> Rollouts:
        """The log with its answer and signal costs replaced by what this model counts. Verifiers
        read their costs from it."""
        return rollouts

    def fit(self, rollouts: Rollouts, verification: FloatArray | None = None) -> Costs:
        """Mean costs over a (training) log.

        Args:
            rollouts: complete on its models.
            verification: ``(n, N)`` costs of the verifier's signals on `priced` rollouts, NaN where
                none was emitted (`verifiers.charged`); None for a free verifier.

        Raises:
            ValueError: the log has no costs, or its most expensive model costs nothing (the price
                counts its calls).
        """
        if self.ratio is not None:
            call = ladder(self.ratio, len(rollouts.models))
            return Costs(call, self._share(rollouts, verification) * call)
        costs = self._means(rollouts, verification)
        if costs.unit <= 0:
            raise ValueError(
                f"the last model {rollouts.models[-1]!r} costs nothing in this log, but the "
                "price counts its calls: log its cost, or set costs.ratio"
            )
        return costs

    def apply(
        self, rollouts: Rollouts, verification: FloatArray | None, fitted: Costs
    ) -> tuple[FloatArray, FloatArray]:
        """Costs of each call and of each verification, two ``(n, N)`` arrays. Under a ladder they
        are ``fitted``'s means for every query."""
        if self.ratio is None:
            return self._logged(rollouts, verification)
        shape = rollouts.score.shape
        return np.broadcast_to(fitted.call, shape), np.broadcast_to(fitted.verify, shape)

    def _logged(
        self, rollouts: Rollouts, verification: FloatArray | None
    ) -> tuple[FloatArray, FloatArray]:
        rollouts = self.priced(rollouts)
        if rollouts.cost is None:
            raise ValueError(
                "the log has no answer costs: add a column 'cost' (to a wide table, "
                "MODEL|total_cost for each model), or set costs.ratio "
                "(or costs=tokens, where it has token counts)"
            )
        if self.verifier != "logged":
            return rollouts.cost, float(self.verifier) * rollouts.cost
        if verification is None:
            return rollouts.cost, np.zeros_like(rollouts.cost)
        # A verification that was never made was never charged.
        return rollouts.cost, np.nan_to_num(verification)

    def _means(self, rollouts: Rollouts, verification: FloatArray | None) -> Costs:
        call, verify = self._logged(rollouts, verification)
        return Costs(call.mean(axis=0), verify.mean(axis=0))

    def _share(self, rollouts: Rollouts, verification: FloatArray | None) -> FloatArray | float:
        """Cost of a verification as a share of the same model's answer, under a ladder."""
        if self.verifier != "logged":
            return float(self.verifier)
        if rollouts.cost is None or verification is None:
            return 0.0
        return self._means(rollouts, verification).share
