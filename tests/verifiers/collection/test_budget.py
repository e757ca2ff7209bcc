"""The budget: never overshot, whatever is under way, and used as far as it goes."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing_pomdp.verifiers.collection import BudgetExhaustedError, ConfigError, Price
from routing_pomdp.verifiers.collection.budget import Amount, Budget, amount


@given(
    limit=st.integers(0, 200),
    calls=st.lists(st.tuples(st.integers(1, 30), st.floats(0, 1), st.booleans()), max_size=40),
    at_once=st.integers(1, 8),
)
def test_no_order_of_calls_overshoots_and_none_that_fits_is_refused(limit, calls, at_once):
    budget = Budget(tokens=limit)
    refused = []

    async def call(most, share, lost, slots):
        async with slots:
            reserved = Amount(0.0, most)
            try:
                await budget.reserve(reserved)
            except BudgetExhaustedError:
                refused.append((most, budget.spent.tokens + budget.lost.tokens))
                return
            await asyncio.sleep(0)
            paid = Amount(0.0, int(most * share))
            budget.settle(reserved, **{"lost" if lost else "spent": paid})
            assert budget.spent.tokens + budget.lost.tokens + budget.reserved.tokens <= limit

    async def all_calls():
        slots = asyncio.Semaphore(at_once)
        await asyncio.gather(*(call(*each, slots) for each in calls))

    asyncio.run(all_calls())
    assert budget.spent.tokens + budget.lost.tokens <= limit
    assert budget.reserved.tokens == 0
    assert all(used + most > limit for most, used in refused)
    assert budget.exhausted == bool(refused)


def test_money_is_counted_at_the_price_of_each_direction():
    assert amount(1000, 10, Price(2.0, 50.0)) == Amount(0.0025, 1010)
    assert amount(1000, 10, None) == Amount(0.0, 1010)


def test_what_was_spent_and_what_may_have_been_is_shown():
    budget = Budget(usd=2.0)
    budget.spent, budget.lost = Amount(0.5, 1200), Amount(0.1, 30)
    assert budget.shown() == (
        "$0.5000 of $2.0000, 1,200 tokens, perhaps $0.1000 more in 30 tokens that were lost"
    )


@pytest.mark.parametrize("limits", [{"usd": -1}, {"tokens": -5}, {"usd": float("nan")}])
def test_a_limit_below_zero_is_refused(limits):
    with pytest.raises(ConfigError, match=r"budget\."):
        Budget(**limits)
