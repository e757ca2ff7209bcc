"""Cost models that count something else than the logged costs: tokens, milliseconds, or both.

Each says what answers and signals cost by what the log knows of them (`Used`), and charges that
call by call as logged costs are charged. A signal that took nothing that was logged and that the
log charges nothing for, such as the answer's own probability, is free in every unit. One that was
charged needs what this model counts of it; where that was not logged, `CostModel.verifier` says its
cost as a share of the answer's.
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
    """What the log knows of what its answers, or the signals of one verifier, took.

    Attributes:
        rollouts: the log.
        signal: the signal's name; None for the answers.
        amounts: what there is of "cost", "latency", "tokens_in" and "tokens_out", each ``(n, N)``.
        due: ``(n, N)`` where there was something to pay for.
    """

    rollouts: Rollouts
    signal: str | None
    amounts: Mapping[str, FloatArray]
    due: NDArray[np.bool_]

    @classmethod
    def by_answers(cls, rollouts: Rollouts) -> Used:
        found = {name: getattr(rollouts, name) for name in _COLUMNS}
        there = {name: array for name, array in found.items() if array is not None}
        return cls(rollouts, None, there, ~np.isnan(rollouts.score))

    @classmethod
    def by_signal(cls, rollouts: Rollouts, signal: str) -> Used:
        found = {name: getattr(rollouts, held).get(signal) for name, held in _OF_SIGNALS.items()}
        there = {name: array for name, array in found.items() if array is not None}
        return cls(rollouts, signal, there, ~np.isnan(rollouts.signals[signal]))

    @property
    def anything(self) -> bool:
        """Whether anything was paid, in any unit."""
        return any(np.nansum(amount) > 0 for amount in self.amounts.values())

    def amount(self, name: str) -> FloatArray:
        """``(n, N)`` of one column, NaN where nothing was due and nothing is logged.

        Raises:
            ValueError: the log does not have it, or not of every call.
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
    """What signals cost; one whose cost cannot be said is refused once it is asked for."""

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
    """A cost model that counts what a log knows of calls; a subclass says what, and its unit."""

    ratio: None = field(default=None, init=False, repr=False)

    @abstractmethod
    def charge(self, used: Used) -> FloatArray:
        """What answers or signals cost, ``(n, N)``.

        Raises:
            ValueError: the log does not say.
        """

    def priced(self, rollouts: Rollouts) -> Rollouts:
        """See `CostModel`; a signal that was charged for and whose cost this model cannot tell is
        refused only when it is asked for."""
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
            ValueError: a cost that the log does not tell, or a last model that is not more
                expensive than the first: what models cost in this unit may put them into another
                order.
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
    """The milliseconds that answers and verifications take, one after the other.

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
    """What both money models share: token counts × a price table.

    Attributes:
        judges: signal -> the model, named in the table, whose tokens it takes; without it they are
            charged at the price of the model that answered.
        table_: the prices, read.
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
                f"{[name for name, known in self.table_.items() if known is not None]}"
            )
        return price


@dataclass(frozen=True)
class TokenCosts(_Money):
    """Token counts of the log × a price table: a changed price needs no new log.

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
    """Money, and what a second of waiting is worth.

    Attributes:
        per_second: USD.
        prices: as `TokenCosts`; None for the log's own costs, which are in USD then.
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
