"""How many requests an endpoint gets at once, against simulated servers in virtual time."""

import asyncio
import contextlib
import random
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing_pomdp.verifiers.collection.limiter import PRIORITY, Limiter
from tests.support.virtual_time import run


@dataclass
class Server:
    """So many slots in order of arrival, each request of which takes its time.

    Clients give up after ``timeout``; the server answers nevertheless, to nobody.
    """

    slots: int
    seconds: float
    timeout: float = 120.0
    timeouts: int = 0
    most: int = 0
    answers: list = field(default_factory=list)

    def __post_init__(self):
        self.free_at = [0.0] * self.slots

    async def answer(self, limiter, name="small"):
        now = asyncio.get_running_loop().time()
        self.most = max(self.most, limiter.under_way)
        slot = min(range(self.slots), key=self.free_at.__getitem__)
        self.free_at[slot] = done = max(now, self.free_at[slot]) + self.seconds
        await asyncio.sleep(min(done - now, self.timeout))
        if done - now > self.timeout:
            self.timeouts += 1
            limiter.overloaded(self.timeout, lost=True)
            return False
        self.answers.append((done, PRIORITY.get()))
        limiter.succeeded(name, 8, done - now, self.timeout)
        return True

    async def serve(self, calls, most=16):
        """All calls, each tried until it succeeds."""
        limiter = Limiter(most)

        async def call(place):
            PRIORITY.set(place)
            while True:
                async with limiter:
                    if await self.answer(limiter):
                        return

        await asyncio.gather(*map(call, range(calls)))
        assert limiter.under_way == 0
        return limiter


def test_a_slow_server_with_two_slots_gets_what_it_bears():
    """The same with sixteen at once: all slots time out again and again."""
    server = Server(slots=2, seconds=20.0)
    _, took = run(server.serve(60))
    assert server.timeouts == 0
    assert server.answers[0][0] == 20.0
    assert took == pytest.approx(60 * 20 / 2, rel=0.1)  # and both slots are always busy


def test_a_server_slower_than_half_the_timeout_is_seldom_asked_too_much():
    """What is too much is tried again more rarely: a timeout costs a paid answer."""
    server = Server(slots=2, seconds=80.0)
    _, took = run(server.serve(200))
    assert server.timeouts <= 40
    assert took <= 1.25 * 200 * 80 / 2


def test_answers_of_many_lengths_are_no_sign_of_a_queue():
    """A reasoning model's answers take between a fiftieth and two thirds of the timeout."""

    async def main():
        limiter = Limiter(32)

        async def call(i):
            async with limiter:
                tokens = 50 + 37 * i % 1900
                await asyncio.sleep(tokens / 25)
                limiter.succeeded("thinker", tokens, tokens / 25, 120.0)

        await asyncio.gather(*map(call, range(2000)))
        return limiter.limit

    assert run(main())[0] == 32


def test_a_fast_server_gets_all_that_is_allowed_within_a_few_rounds():
    server = Server(slots=1000, seconds=1.0)
    limiter, took = run(server.serve(1000, most=64))
    assert server.most == limiter.limit == 64
    assert took <= 1000 / 64 + 6


def test_slots_fall_by_half_once_a_round_and_rise_again():
    async def main():
        limiter = Limiter(16)
        clock = asyncio.get_running_loop()
        limiter.limit = 16.0
        await asyncio.sleep(10)
        limiter.overloaded(5.0)
        assert limiter.limit == 16  # one of many: an accident
        for _ in range(15):
            limiter.overloaded(5.0, lost=True)  # all of them were under way
        assert limiter.limit == 8
        await asyncio.sleep(1)
        for _ in range(5):
            limiter.overloaded(2.0)  # sent before the cut
        limiter.succeeded("a", 8, 2.0, 120.0)
        assert limiter.limit == 8
        await asyncio.sleep(1)
        for _ in range(3):
            limiter.overloaded(0.5, lost=True)
        assert limiter.limit == 4
        limits = []
        for _ in range(100):
            limiter.under_way = int(limiter.limit)
            await asyncio.sleep(1)
            for _ in range(int(limiter.limit)):
                limiter.succeeded("a", 8, 0.9, 120.0)
            limits.append(limiter.limit)
        # Two cuts: a slot for every four rounds, and one a round beyond what was too much.
        assert limits[3] == pytest.approx(5, abs=0.2)
        assert limits == sorted(limits)
        assert limits.index(16) < 40
        assert limits[-1] == 16
        assert clock.time() == 112

    run(main())


@pytest.mark.parametrize("lost", [True, False])
def test_a_hundredth_of_accidents_does_not_slow_a_fast_server(lost):
    rng, limits = random.Random(0), []

    async def main():
        limiter = Limiter(32)

        async def call(i):
            async with limiter:
                await asyncio.sleep(1)
                if rng.random() < 0.01:
                    limiter.overloaded(1.0, lost)
                else:
                    limiter.succeeded("a", 8, 1.0, 120.0)
                limits.append(limiter.limit)

        await asyncio.gather(*map(call, range(5000)))

    run(main())
    assert sum(limits) / len(limits) > 20


def test_earlier_queries_go_first():
    """Depth first: a verification of the first answer comes before the thirtieth answer."""
    server = Server(slots=1, seconds=1.0)

    async def main():
        limiter = Limiter(1)

        async def query(place):
            PRIORITY.set(place)
            for _ in range(3):
                async with limiter:
                    await server.answer(limiter)

        await asyncio.gather(*map(query, range(10)))

    run(main())
    finished = [place for _, place in server.answers]
    assert finished[:5].count(0) == 3
    assert finished.index(9) > 20


def test_while_a_server_wants_quiet_nothing_is_sent():
    async def main():
        limiter, sent = Limiter(8), []

        async def call(i):
            async with limiter:
                sent.append(asyncio.get_running_loop().time())
                if i == 0:
                    limiter.hold(30)
                    async with limiter.paused():
                        await asyncio.sleep(30)
                    sent.append(asyncio.get_running_loop().time())

        await call(0)
        sent.clear()
        await asyncio.gather(*map(call, range(5)))
        return sent

    sent, _ = run(main())
    # The first call stops all others; they go on once the time is over.
    assert sent == [30.0] + [60.0] * 5


def test_what_stops_a_collection_ends_the_wait_as_well():
    async def main():
        stopping = asyncio.Event()

        async def sleep(seconds):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stopping.wait(), seconds)

        limiter = Limiter(1, sleep)
        limiter.hold(300)
        waiting = [asyncio.ensure_future(limiter.__aenter__()) for _ in range(3)]
        await asyncio.sleep(5)
        assert not any(each.done() for each in waiting)
        stopping.set()
        for each in waiting:
            await each
            await limiter.__aexit__()
        assert limiter.under_way == 0

    assert run(main())[1] == 5


@given(
    st.integers(1, 6),
    st.integers(0, 40),
    st.lists(
        st.tuples(
            st.integers(0, 9), st.sampled_from(["ok", "late", "fail", "cancel", "late cancel"])
        )
    ),
)
def test_slots_are_never_lost_nor_given_twice(most, hold, calls):
    async def main():
        limiter = Limiter(most)

        async def call(place, end):
            PRIORITY.set(place)
            async with limiter:
                assert 0 < limiter.under_way <= most
                await asyncio.sleep(place)
                if "late" in end:
                    limiter.overloaded(1.0)
                    limiter.hold(hold)
                    async with limiter.paused():
                        await asyncio.sleep(3)
                elif end == "fail":
                    raise ValueError
                limiter.succeeded(end, 8, place, 10.0)

        tasks = [asyncio.ensure_future(call(*each)) for each in calls]
        await asyncio.sleep(2)
        for task, (_, end) in zip(tasks, calls, strict=True):
            if "cancel" in end:
                task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert limiter.under_way == 0
        assert 1 <= limiter.limit <= most
        async with limiter:
            assert limiter.under_way == 1

    run(main())
