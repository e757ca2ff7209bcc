"""`Budget`: a hard limit on spend; the most that a call can cost is reserved before it is sent."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from routing_pomdp.verifiers.collection.models import ConfigError, Price
from routing_pomdp.verifiers.collection.stops import BudgetExhaustedError


@dataclass(frozen=True)
class Amount:
    """An amount of USD and tokens."""

    usd: float = 0.0
    tokens: int = 0

    def __add__(self, other: Amount) -> Amount:
        return Amount(self.usd + other.usd, self.tokens + other.tokens)

    def __sub__(self, other: Amount) -> Amount:
        return Amount(self.usd - other.usd, self.tokens - other.tokens)

    def positive(self) -> Amount:
        return Amount(max(self.usd, 0.0), max(self.tokens, 0))


def amount(tokens_in: int, tokens_out: int, price: Price | None) -> Amount:
    return Amount(price.of(tokens_in, tokens_out) if price else 0.0, tokens_in + tokens_out)


class Budget:
    """The budget of a collection over all its runs.

    Args:
        usd: the limit; None for no limit.
        tokens: the limit on prompts and completions together; None for no limit.

    Raises:
        ConfigError: a limit is below 0.

    Attributes:
        spent: cost of the completed calls.
        lost: what may have been charged in addition: for calls whose responses were lost or cut
            off by a kill, or whose tokens the endpoint did not count. It counts toward the limit.
        reserved: the most that the calls under way can cost.
    """

    def __init__(self, usd: float | None = None, tokens: int | None = None) -> None:
        for key, limit in (("usd", usd), ("tokens", tokens)):
            if limit is not None and not limit >= 0:
                raise ConfigError(f"budget.{key} is {limit!r}: expected a number >= 0, or null")
        self.usd, self.tokens = usd, tokens
        self.spent, self.lost, self.reserved = Amount(), Amount(), Amount()
        self.exhausted = False
        self._under_way = 0
        self._freed: list[asyncio.Future[None]] = []

    @property
    def limited(self) -> bool:
        return self.usd is not None or self.tokens is not None

    async def reserve(self, most: Amount) -> None:
        """Reserves an amount; waits while calls under way may still free enough.

        Raises:
            BudgetExhaustedError: it does not fit, and no call is under way.
        """
        while not self._fits(most):
            if not self._under_way:
                self.exhausted = True
                raise BudgetExhaustedError(
                    f"the budget does not allow another call, which may take {most.tokens:,} "
                    f"tokens: spent {self.shown()}"
                )
            freed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._freed.append(freed)
            await freed
        self.reserved += most
        self._under_way += 1

    def settle(self, most: Amount, spent: Amount = Amount(), lost: Amount = Amount()) -> None:
        """Replaces a reservation by the amounts that were spent and lost."""
        self.reserved -= most
        self._under_way -= 1
        self.spent += spent
        self.lost += lost
        freed, self._freed = self._freed, []
        for future in freed:
            if not future.done():
                future.set_result(None)

    def _fits(self, most: Amount) -> bool:
        total = self.spent + self.lost + self.reserved + most
        # Sums of prices are rounded.
        usd = self.usd is None or total.usd <= self.usd * (1 + 1e-12)
        return usd and (self.tokens is None or total.tokens <= self.tokens)

    def shown(self) -> str:
        """The spend as a text, such as "$1.2000 of $2.0000, 31,000 tokens"."""
        usd = f"${self.spent.usd:.4f}"
        if self.usd is not None:
            usd += f" of ${self.usd:.4f}"
        tokens = f"{self.spent.tokens:,}"
        if self.tokens is not None:
            tokens += f" of {self.tokens:,}"
        lost = f", perhaps ${self.lost.usd:.4f} more in {self.lost.tokens:,} tokens that were lost"
        return f"{usd}, {tokens} tokens" + (lost if self.lost.tokens else "")
