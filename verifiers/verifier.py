"""`Verifier`: emits a signal for each answer, the observation of the router."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np

from routing_pomdp.envs import CostModel, Costs, Rollouts, RoutingData
from routing_pomdp.envs.arrays import FloatArray
from routing_pomdp.envs.settings.checks import check_settings
from routing_pomdp.envs.settings.ranges import Text


class VerifierError(ValueError):
    """A verifier failed, or returned invalid signals or costs; the message names it."""


class Verifier(ABC):
    """Emits a signal for every answer of a log. Settings are dataclass fields of the subclass, with
    types and ranges that `envs.settings.checks` checks."""

    def __post_init__(self) -> None:
        check_settings(self, "verifier")

    def fit(self, train: Rollouts) -> Self:
        """This verifier, fitted to training queries; by default itself, with nothing to learn.

        A verifier that learns returns another, fitted object. It should predict the signals of
        training queries without their own labels, so that they are as good as those of new queries.
        """
        return self

    @abstractmethod
    def signal(self, rollouts: Rollouts) -> FloatArray:
        """The signals, ``(n, N)``, or ``(n, N, D)`` if each is a short vector: any numbers, ±∞ for
        the lowest and the highest possible one, NaN for a missing one."""

    def cost(self, rollouts: Rollouts) -> FloatArray | None:
        """Cost of emitting each signal, ``(n, N)`` in the unit of ``rollouts.cost``, which the cost
        model chooses (`CostModel.priced`); None if it is free."""
        return None

    def compared(self, rollouts: Rollouts) -> Mapping[int, FloatArray]:
        """Agreement between answers for each signal component that compares an answer with earlier
        ones: see `RoutingData.compared`."""
        return {}

    def parts(self) -> Sequence[Verifier]:
        """The verifiers that it consists of."""
        return ()


@dataclass(frozen=True)
class LoggedSignal(Verifier):
    """A logged signal.

    Attributes:
        name: of the signal; None if the log has only one.
        transform: "exp" turns log-probabilities into confidences in [0, 1].

    Raises:
        ValueError: an unknown transform.
    """

    name: Text | None = None
    transform: Literal["exp"] | None = None

    def signal(self, rollouts: Rollouts) -> FloatArray:
        """The signal, logged or transformed, ``(n, N)``.

        Raises:
            ValueError: with "exp", a signal is above 0 and so no log-probability.
        """
        signal = rollouts.signals[self._name(rollouts)]
        if self.transform is None:
            return signal
        if np.any(signal > 0):
            raise ValueError(
                f"verifier.transform is 'exp', but {self._name(rollouts)!r} is up to "
                f"{np.nanmax(signal):g}: expected log-probabilities, at most 0"
            )
        return np.exp(signal)

    def cost(self, rollouts: Rollouts) -> FloatArray | None:
        return rollouts.signal_costs.get(self._name(rollouts))

    def _name(self, rollouts: Rollouts) -> str:
        names = sorted(rollouts.signals)
        if self.name is None and len(names) == 1:
            return names[0]
        if not names:
            raise ValueError(
                "the log has no signals: call a column of them signal_NAME, name it by "
                "rollouts.signals={COLUMN: null}, or choose verifier=none"
            )
        if self.name is None or self.name not in names:
            raise ValueError(
                f"verifier.name is {self.name!r}, the log has the signals {names}: name one of them"
            )
        return self.name


@dataclass(frozen=True)
class LoggedColumn(Verifier):
    """A logged property of the call as a free signal: long answers may be wrong more often.

    Attributes:
        column: "tokens_in", "tokens_out" or "latency".

    Raises:
        ValueError: another column.
    """

    column: Literal["tokens_in", "tokens_out", "latency"] = "tokens_out"

    def signal(self, rollouts: Rollouts) -> FloatArray:
        """``(n, N)``, as logged.

        Raises:
            ValueError: the log does not have the column.
        """
        return rollouts.require(self.column)


@dataclass(frozen=True)
class NoSignal(Verifier):
    """A free constant signal, for routers that read prompts and for logs without signals."""

    def signal(self, rollouts: Rollouts) -> FloatArray:
        """Zeros ``(n, N)``."""
        return np.zeros(rollouts.score.shape)


def fitted(verifier: Verifier, train: Rollouts) -> Verifier:
    """The verifier, fitted to training queries.

    Raises:
        VerifierError: it failed.
    """
    with naming(verifier):
        return verifier.fit(train)


def emitted(verifier: Verifier, rollouts: Rollouts) -> FloatArray:
    """A verifier's signals as ``(n, N, D)``, NaN for missing ones: see `envs.signals`.

    Raises:
        VerifierError: it failed, or returned no numbers or another shape.
    """
    with naming(verifier):
        signal = np.asarray(verifier.signal(rollouts), dtype=np.float64)
    if signal.ndim == 2:
        signal = signal[..., None]
    name = type(verifier).__name__
    n, n_models = rollouts.score.shape
    if signal.ndim != 3 or signal.shape[:2] != (n, n_models) or not signal.shape[2]:
        raise VerifierError(
            f"verifier {name} returned signals of shape {signal.shape}, expected ({n}, {n_models})"
            f" or ({n}, {n_models}, D)"
        )
    return signal


def paid(verifier: Verifier, rollouts: Rollouts) -> FloatArray | None:
    """Costs of a verifier's signals, ``(n, N)``; None if they are free.

    Raises:
        VerifierError: it failed, or returned another shape or a negative cost.
    """
    with naming(verifier):
        cost = verifier.cost(rollouts)
        if cost is None:
            return None
        cost = np.asarray(cost, dtype=np.float64)
    name = type(verifier).__name__
    if cost.shape != rollouts.score.shape:
        raise VerifierError(
            f"verifier {name} returned costs of shape {cost.shape}, expected {rollouts.score.shape}"
        )
    bad = np.argwhere((cost < 0) | np.isinf(cost))
    if len(bad):
        row, model = bad[0]
        raise VerifierError(
            f"verifier {name} charges {cost[row, model]:g} for {rollouts.models[model]!r} on query "
            f"{str(rollouts.query_id[row])!r}: expected a finite cost >= 0"
        )
    return cost


def charged(verifier: Verifier, rollouts: Rollouts, cost_model: CostModel) -> FloatArray | None:
    """Costs of a verifier's signals in the unit of a cost model, ``(n, N)``; None if they are free,
    or the cost model sets them as a share of the answers' costs.

    Raises:
        VerifierError: as `paid`.
        ValueError: the log lacks a cost.
    """
    if cost_model.verifier != "logged":
        return None
    return paid(verifier, cost_model.priced(rollouts))


@contextmanager
def naming(verifier: Verifier) -> Iterator[None]:
    """Adds the verifier's name to errors of its own code; errors of its parts keep their names."""
    name = type(verifier).__name__
    try:
        yield
    except VerifierError:
        raise
    except ValueError as error:
        raise VerifierError(f"verifier {name}: {error}") from error
    except Exception as error:  # a plug-in may raise anything
        raise VerifierError(f"verifier {name} failed: {type(error).__name__}: {error}") from error


def make_routing_data(
    rollouts: Rollouts, verifier: Verifier, cost_model: CostModel, costs: Costs
) -> RoutingData:
    """Routing data of a log, with a verifier's signals and a cost model's costs.

    Args:
        rollouts: the log.
        verifier: fitted.
        cost_model: of calls and verifications.
        costs: fitted on training queries.
    """
    call, verify = cost_model.apply(rollouts, charged(verifier, rollouts, cost_model), costs)
    signal = emitted(verifier, rollouts)
    with naming(verifier):
        compared = verifier.compared(rollouts)
    return RoutingData(rollouts.score, call, verify, signal, rollouts, compared=compared)
