"""Cost models that count tokens, milliseconds, or both instead of the logged costs.

Each computes the cost of every answer and signal from its logged resource use (`Used`). A signal
with no logged use, such as the answer's own log-probability, is free in every unit. A signal that
was paid for needs the columns that the cost model counts; where the log lacks them,
`CostModel.verifier` gives its cost as a share of the answer's.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from routing_pomdp.envs.arrays import FloatArray
from routing_pomdp.envs.costs.cost_model import CostModel, Costs
from routing_pomdp.envs.costs.price_table import Price, PriceTable, price_of, read_prices
from routing_pomdp.envs.logs.rollouts import Rollouts
from routing_pomdp.envs.settings.ranges import Range, Text

_COLUMNS = {
    "cost": "cost",
    "latency": "latency_ms",
    "tokens_in": "tokens_in",
    "tokens_out": "tokens_out",
}
_OF_SIGNALS = {
    "cost": "signal_costs",
    "latency": "signal_latency",
    "tokens_in": "signal_tokens_in",
    "tokens_out": "signal_tokens_out",
}


@dataclass(frozen=True, eq=False)
class Used:
    """Logged resource use of the answers, or of one verifier's signals.

    Attributes:
        rollouts: the log.
        signal: the signal's name; None for the answers.
        amounts: those of "cost", "latency", "tokens_in" and "tokens_out" that are logged, each
            ``(n, N)``.
        due: ``(n, N)`` where an answer was given, or a signal emitted.
    """

    rollouts: Rollouts
    signal: str | None
    amounts: Mapping[str, FloatArray]
    due: NDArray[np.bool_]

    @classmethod
    def by_answers(cls, rollouts: Rollouts) -> Used:
        found = {name: getattr(rollouts, name) for name in _COLUMNS}
        logged = {name: array for name, array in found.items() if array is not None}
        return cls(rollouts, None, logged, ~np.isnan(rollouts.score))

    @classmethod
    def by_signal(cls, rollouts: Rollouts, signal: str) -> Used:
        found = {name: getattr(rollouts, held).get(signal) for name, held in _OF_SIGNALS.items()}
        logged = {name: array for name, array in found.items() if array is not None}
        return cls(rollouts, signal, logged, ~np.isnan(rollouts.signals[signal]))

    @property
    def anything(self) -> bool:
        """Whether anything was paid, in any unit."""
        return any(np.nansum(amount) > 0 for amount in self.amounts.values())

    def amount(self, name: str) -> FloatArray:
        """One column, ``(n, N)``, NaN where nothing was due and nothing is logged.

        Raises:
            ValueError: the log lacks the column, or has a gap in it.
        """
        column = _COLUMNS[name]
        if self.signal is not None:
            prefix = "signal" if name == "cost" else "verify"
            column = f"{prefix}_{self.signal}_{column}"
        found = self.amounts.get(name)
        if found is None:
            raise ValueError(f"the log has no column {column!r}")
        bad = np.argwhere(self.due & ~((found >= 0) & (found < np.inf)))
        if len(bad):
            row, model = bad[0]
            raise ValueError(
                f"{column} of {self.rollouts.models[model]!r} on query "
                f"{str(self.rollouts.query_id[row])[:80]!r} is {found[row, model]:g}: expected a "
                "finite number >= 0"
            )
        return found


class _SignalCosts(Mapping[str, FloatArray]):
    """Costs of signals; looking up one whose cost is not known raises an error."""

    def __init__(self, costs: Mapping[str, FloatArray], refused: Mapping[str, str]) -> None:
        self._costs, self._refused = costs, refused

    def __getitem__(self, name: str) -> FloatArray:
        if name in self._refused:
            raise ValueError(self._refused[name])
        return self._costs[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._costs)

    def __len__(self) -> int:
        return len(self._costs)


@dataclass(frozen=True)
class Objective(CostModel, ABC):
    """A cost model computed from logged resource use; subclasses define the formula and unit."""

    ratio: None = field(default=None, init=False, repr=False)

    @abstractmethod
    def charge(self, used: Used) -> FloatArray:
        """Costs of answers or signals, ``(n, N)``.

        Raises:
            ValueError: the log lacks a column that the formula needs.
        """

    def priced(self, rollouts: Rollouts) -> Rollouts:
        """See `CostModel`. A signal that was paid for but lacks the columns raises an error only
        when its cost is looked up."""
        costs, refused = {}, {}
        for name in rollouts.signals:
            used = Used.by_signal(rollouts, name)
            if not used.anything:
                continue
            try:
                costs[name] = self.charge(used)
            except ValueError as error:
                refused[name] = (
                    f"costs={self.label}: {error}; signal {name!r} was paid for: log it, or set "
                    "costs.verifier to a share of the answer's cost (0 where that covers it)"
                )
        try:
            cost = self.charge(Used.by_answers(rollouts))
        except ValueError as error:
            raise ValueError(f"costs={self.label}: {error}") from error
        return replace(rollouts, cost=cost, signal_costs=_SignalCosts(costs, refused))

    def fit(self, rollouts: Rollouts, verification: FloatArray | None = None) -> Costs:
        """See `CostModel`.

        Raises:
            ValueError: the log lacks a column, or the last model is not more expensive than the
                first: in this unit the models may have another order.
        """
        costs = self._means(rollouts, verification)
        names, (first, last) = rollouts.models, costs.call[[0, -1]]
        if last > first:
            return costs
        order = [names[i] for i in np.argsort(costs.call, kind="stable")]
        remedy = f"order them by rollouts.models=[{','.join(order)}]"
        if np.ptp(costs.call) == 0:
            remedy = "choose models that differ in it"
        raise ValueError(
            f"costs={self.label}: the last model {names[-1]!r} costs {last:g} {self.unit_name} a "
            f"query on average and the first {names[0]!r} {first:g}: expected models by cost, "
            f"{remedy}"
        )


@dataclass(frozen=True)
class LatencyCosts(Objective):
    """Latency in milliseconds; calls and verifications run one after the other.

    Attributes:
        verifier: "logged", or the time of a verification as a share of the same model's answer.
    """

    @property
    def label(self) -> str:
        return "latency"

    @property
    def unit_name(self) -> str:
        return "ms"

    def charge(self, used: Used) -> FloatArray:
        return used.amount("latency")


@dataclass(frozen=True)
class _Money(Objective):
    """Base of the cost models in USD: token counts × a price table.

    Attributes:
        judges: signal -> the model in the price table that emits it; a signal that is not listed is
            charged at the price of the model that answered.
        table_: the prices.
    """

    judges: Mapping[Text, Text] = field(default_factory=dict, kw_only=True)
    table_: Mapping[str, Price | None] = field(default_factory=dict, init=False, repr=False)

    @property
    def unit_name(self) -> str:
        return "USD"

    @property
    @abstractmethod
    def _source(self) -> PriceTable | str | None: ...

    def __post_init__(self) -> None:
        super().__post_init__()
        source = self._source
        if isinstance(source, str):
            table = read_prices(source)
        else:
            table = {
                str(name): price_of(price, f"costs.prices.{name}")
                for name, price in (source or {}).items()
            }
        object.__setattr__(self, "table_", table)

    def priced(self, rollouts: Rollouts) -> Rollouts:
        for name in self.judges:
            if name not in rollouts.signals:
                raise ValueError(
                    f"costs.judges names {name!r}: the log has the signals "
                    f"{sorted(rollouts.signals)}"
                )
        return super().priced(rollouts)

    def _tokens_charged(self, used: Used) -> FloatArray:
        tokens_in, tokens_out = used.amount("tokens_in"), used.amount("tokens_out")
        paid_by = list(used.rollouts.models)
        if used.signal is not None and used.signal in self.judges:
            paid_by = [self.judges[used.signal]] * len(paid_by)
        total = np.empty(tokens_in.shape)
        for i, name in enumerate(paid_by):
            total[:, i] = self._price(name).of(tokens_in[:, i], tokens_out[:, i])
        return total

    def _price(self, model: str) -> Price:
        price = self.table_.get(model)
        if price is None:
            where = self._source if isinstance(self._source, str) else "costs.prices"
            raise ValueError(
                f"no price for model {model!r} in {where}, which has one for "
                f"{[name for name, price in self.table_.items() if price is not None]}"
            )
        return price


@dataclass(frozen=True)
class TokenCosts(_Money):
    """Logged token counts × a price table.

    Attributes:
        prices: `PriceTable`, or the path of a YAML file with one.
        verifier: "logged", or the cost of a verification as a share of the same model's answer.
        judges: as `_Money`.

    Raises:
        ValueError: a table that cannot be read.
    """

    prices: Text | PriceTable = field(kw_only=True)

    @property
    def label(self) -> str:
        return "tokens"

    @property
    def _source(self) -> PriceTable | str | None:
        return self.prices

    def charge(self, used: Used) -> FloatArray:
        return self._tokens_charged(used)


@dataclass(frozen=True)
class MixedCosts(_Money):
    """Money plus the price of waiting.

    Attributes:
        per_second: USD a second.
        prices: as `TokenCosts`; None for the log's own costs, which have to be in USD.
        verifier: "logged", or the cost of a verification as a share of the same model's answer.
        judges: as `_Money`.

    Raises:
        ValueError: a table that cannot be read.
    """

    per_second: Annotated[float, Range(0, 1e9)] = field(kw_only=True)
    prices: Text | PriceTable | None = field(default=None, kw_only=True)

    @property
    def label(self) -> str:
        return "mixed"

    @property
    def _source(self) -> PriceTable | str | None:
        return self.prices

    def charge(self, used: Used) -> FloatArray:
        if self.prices is not None:
            money = self._tokens_charged(used)
        elif used.signal is not None and "cost" not in used.amounts:
            money = np.zeros(used.due.shape)  # as with logged costs
        else:
            money = used.amount("cost")
        if self.per_second == 0:
            return money
        return money + self.per_second / 1000 * used.amount("latency")
