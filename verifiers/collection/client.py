"""`ModelClient`: calls a model; each call is looked up in the log, budgeted, sent and recorded."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import astuple, dataclass, field, replace
from typing import Any

from routing_pomdp.envs.files.secrets import MASK, Secrets, without_secrets
from routing_pomdp.verifiers.collection.budget import Amount, Budget, amount
from routing_pomdp.verifiers.collection.call_log import CallLog
from routing_pomdp.verifiers.collection.endpoint import Endpoint
from routing_pomdp.verifiers.collection.models import ModelSpec
from routing_pomdp.verifiers.collection.records import CallKey, Record
from routing_pomdp.verifiers.collection.requests import most_of, request_of
from routing_pomdp.verifiers.collection.responses import Reply, failed, shortfall
from routing_pomdp.verifiers.collection.stops import (
    AttemptError,
    CallError,
    EndpointRefusedError,
    StoppedError,
)
from routing_pomdp.verifiers.live import Completion, Message, Token

# After so many failed calls in a row the endpoint counts as dead.
_DEAD = 20
# How often a model is called if its completions are empty; each call is recorded and paid for. The
# last one is kept: a resumed run does not call again.
_ASKED_IF_EMPTY = 3
# The most tokens that an endpoint puts before a prompt: a chat template, its own system prompt.
_HIDDEN = 4096


@dataclass
class Ledger:
    """State that the clients of one collection share.

    Attributes:
        log: of all calls.
        budget: of all calls.
        secrets: that no completion, file or message may hold.
        stopped: why no more calls are made; None while they are.
        made: calls of this run.
        retried: attempts of this run that did not succeed.
        found: calls found in the log.
        flags: flag -> how many of these calls have it.
    """

    log: CallLog
    budget: Budget
    secrets: Secrets = field(default_factory=Secrets)
    stopped: StoppedError | None = None
    made: int = 0
    retried: int = 0
    found: int = 0
    flags: Counter[str] = field(default_factory=Counter)
    _stopping: asyncio.Event = field(default_factory=asyncio.Event)

    def stop(self, reason: StoppedError) -> None:
        self.stopped = self.stopped or type(reason)(self.secrets.text(str(reason)))
        self._stopping.set()

    async def pause(self, seconds: float) -> None:
        """Sleeps, or returns as soon as the collection is stopped."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)


class ModelClient:
    """One model. Calls are made through `bound`, which states their query and purpose."""

    def __init__(self, spec: ModelSpec, endpoint: Endpoint, ledger: Ledger) -> None:
        self.spec, self.endpoint, self._ledger = spec, endpoint, ledger
        self._failed_in_a_row = 0
        # The endpoint's own tokens before a prompt are bounded by the shortest prompt it counted.
        # Before the first call there is no such bound: under a budget that call is sent alone.
        totals = ledger.log.totals.get(spec.name)
        self._hidden = totals.least_in if totals else None
        self._trial, self._tried = asyncio.Lock(), not ledger.budget.limited

    def bound(self, query: str, purpose: str) -> BoundClient:
        return BoundClient(self, query, purpose)

    async def call(
        self,
        key: CallKey,
        request: dict[str, Any],
        messages: Sequence[Message],
        wants_logprobs: bool,
    ) -> Completion:
        """One completion, from the log if it is there.

        Raises:
            CallError: the call failed.
            StoppedError: no more calls are made.
        """
        ledger = self._ledger
        found = ledger.log.find(key)
        # Logs of earlier versions hold failed completions.
        if found and found.completion and not failed(found.completion.finish_reason):
            ledger.found += 1
            ledger.flags.update(found.flags)
            return self._priced(found.completion)
        async with self._alone_at_first(), self.endpoint.slots:
            try:
                for again in range(_ASKED_IF_EMPTY):
                    ledger.retried += bool(again)
                    record = await self._made(key, request, messages, wants_logprobs)
                    if not record.completion or shortfall(record.completion) != "empty":
                        break
            except StoppedError as stop:
                ledger.stop(stop)
                raise
            except CallError as failure:
                self._failed_in_a_row += 1
                if self._failed_in_a_row < _DEAD:
                    raise
                dead = EndpointRefusedError(f"{_DEAD} calls in a row failed; {failure}")
                ledger.stop(dead)
                raise dead from None
        self._failed_in_a_row = 0
        ledger.made += 1
        ledger.flags.update(record.flags)
        assert record.completion is not None
        return record.completion

    @contextlib.asynccontextmanager
    async def _alone_at_first(self) -> AsyncIterator[None]:
        """Holds back other calls until a model's first one under a budget has returned, which shows
        how the endpoint counts tokens."""
        if self._tried:
            yield
            return
        async with self._trial:
            if not self._tried:
                yield
                return
        yield

    async def _made(
        self,
        key: CallKey,
        request: dict[str, Any],
        messages: Sequence[Message],
        wants_logprobs: bool,
    ) -> Record:
        """The record of a call, after as many attempts as it needs; it is in the log."""
        attempts = self.spec.attempts
        for attempt in range(attempts):
            try:
                return await self._attempt(key, request, messages, wants_logprobs)
            except AttemptError as failure:
                self._ledger.retried += 1
                if attempt + 1 == attempts:
                    raise self.endpoint.given_up(failure) from None
                pause = self.endpoint.pause(attempt, failure.asked)
            async with self.endpoint.slots.paused():
                await self._ledger.pause(pause)
        raise AssertionError("unreachable: attempts is at least 1")

    async def _attempt(
        self,
        key: CallKey,
        request: dict[str, Any],
        messages: Sequence[Message],
        wants_logprobs: bool,
    ) -> Record:
        """One attempt, recorded before it is sent.

        It counts at the most that it can cost until the actual cost is known.
        """
        ledger, price = self._ledger, self.spec.price
        if ledger.stopped:
            raise ledger.stopped
        most = most_of(request, self.spec.max_tokens_field, self._hidden or 0)
        allowed_in = most.tokens_in + (_HIDDEN if self._hidden is None else 0)
        reserved = amount(most.tokens_in, most.tokens_out or 0, price)
        await ledger.budget.reserve(reserved)
        spent, lost = Amount(), reserved
        try:
            await ledger.log.append(
                Record(key, None, (), most.tokens_in, most.tokens_out, kind="sent")
            )
            if ledger.stopped:
                lost = Amount()
                ledger.log.write(Record(key, None, kind="free"))
                raise ledger.stopped
            try:
                started = time.perf_counter()
                reply = await self.endpoint.attempt(request, messages)
                milliseconds = (time.perf_counter() - started) * 1e3
            except (AttemptError, CallError, StoppedError) as failure:
                if failure.lost:
                    await ledger.log.append(
                        Record(key, None, (), most.tokens_in, most.tokens_out, kind="lost")
                    )
                else:
                    lost = Amount()
                    ledger.log.write(Record(key, None, kind="free"))
                raise
            spent = amount(reply.tokens_in, reply.tokens_out, price)
            # Tokens that the endpoint did not count: at most the limit.
            lost = (reserved - spent).positive() if reply.estimated else Amount()
            impossible = self._impossible(reply, allowed_in, most.tokens_out)
            record = self._record(key, reply, milliseconds, wants_logprobs, bool(impossible))
            await ledger.log.append(record)
        finally:
            ledger.budget.settle(reserved, spent, lost)
        if impossible:
            ledger.stop(EndpointRefusedError(impossible))
        self._learn(reply)
        return record

    def _impossible(self, reply: Reply, allowed_in: int, allowed_out: int | None) -> str:
        """The error message if the endpoint's count exceeds the request's limit, else ""."""
        for what, found, allowed in (
            ("of the prompt", reply.tokens_in, allowed_in),
            ("generated", reply.tokens_out, allowed_out),
        ):
            if allowed is not None and found > allowed and not reply.estimated:
                return (
                    f"model {self.spec.name!r} at {self.spec.shown_url} counted {found:,} tokens "
                    f"{what} where the request allows at most {allowed:,}: it does not keep to "
                    "requests, so no limit holds. Nothing more is sent"
                )
        return ""

    def _learn(self, reply: Reply) -> None:
        self._tried = True
        if not reply.estimated:
            least = reply.tokens_in if self._hidden is None else self._hidden
            self._hidden = min(least, reply.tokens_in)

    def _record(
        self,
        key: CallKey,
        reply: Reply,
        milliseconds: float,
        wants_logprobs: bool,
        impossible: bool,
    ) -> Record:
        secrets = self._ledger.secrets
        made = Completion(
            text=secrets.text(reply.text),
            tokens_in=reply.tokens_in,
            tokens_out=reply.tokens_out,
            cost=0.0,
            latency_ms=round(milliseconds, 3),
            tokens=_without_secrets(reply.tokens, secrets),
            finish_reason=secrets.text(reply.finish_reason),
        )
        flags = ["usage_estimated"] * reply.estimated
        flags += ["no_logprobs"] * (wants_logprobs and reply.tokens is None)
        flags += ["impossible_usage"] * impossible
        flags += ["secret_repeated"] * (reply.redacted or made.tokens != reply.tokens)
        return Record(key, self._priced(made), tuple(flags))

    def _priced(self, completion: Completion) -> Completion:
        """The completion at the current price: a corrected price table corrects the whole log."""
        tokens = completion.tokens_in, completion.tokens_out
        return replace(completion, cost=amount(*tokens, self.spec.price).usd)


def _without_secrets(
    tokens: tuple[Token, ...] | None, secrets: Secrets
) -> tuple[Token, ...] | None:
    """Tokens with secrets masked, also those that span several tokens."""
    if tokens is None:
        return None
    within = secrets.pieces([token.text for token in tokens])
    return tuple(
        Token(MASK, token.logprob)
        if hidden
        else Token(
            secrets.text(token.text),
            token.logprob,
            {secrets.text(text): value for text, value in token.top.items()},
        )
        for token, hidden in zip(tokens, within, strict=True)
    )


@dataclass
class Meter:
    """Usage of one `BoundClient`; the latency of a request is that of its slowest sample."""

    calls: int = 0
    cost: float = 0.0
    tokens_in: int = 0
    tokens_out: int = 0
    latency_ms: float = 0.0

    @classmethod
    def total(cls, meters: Iterable[Meter]) -> Meter:
        each = [astuple(meter) for meter in meters]
        return cls(*map(sum, zip(*each, strict=True)))


class BoundClient:
    """A model's client for one query and purpose; a `verifiers.live.Client`.

    Attributes:
        meter: its usage.
        failure: the error of a failed call. A verifier that catches it has not got all responses
            that it asked for.
    """

    def __init__(self, client: ModelClient, query: str, purpose: str) -> None:
        self._client, self._query, self._purpose = client, query, purpose
        self._samples: Counter[str] = Counter()
        self.meter = Meter()
        self.failure: CallError | StoppedError | None = None

    @property
    def model(self) -> str:
        return self._client.spec.name

    async def complete(
        self,
        messages: Sequence[Message],
        *,
        samples: int = 1,
        temperature: float = 0.0,
        max_tokens: int = 256,
        top_logprobs: int | None = None,
    ) -> list[Completion]:
        """Independent completions, one request for each sample.

        Raises:
            CallError: one of them failed.
            StoppedError: no more calls are made.
            ValueError: an argument is not allowed.
        """
        if samples < 1 or max_tokens < 1 or temperature < 0:
            raise ValueError(
                f"complete() got samples {samples}, max_tokens {max_tokens}, temperature "
                f"{temperature}: expected at least 1, 1 and 0"
            )
        request = request_of(self._client.spec, messages, temperature, max_tokens, top_logprobs)
        # A different API key does not make a different request.
        plain = json.dumps(without_secrets(request), sort_keys=True)
        mark = hashlib.sha256(plain.encode()).hexdigest()[:32]
        first = self._samples[mark]
        # Counted before the first await, so that concurrent equal requests are different samples.
        self._samples[mark] += samples
        keys = [
            CallKey(self._query, self.model, self._purpose, first + i, mark) for i in range(samples)
        ]
        calls = [
            self._client.call(key, request, messages, top_logprobs is not None) for key in keys
        ]
        # All are awaited, even if one fails: calls under way are paid for.
        done = await asyncio.gather(*calls, return_exceptions=True)
        made = [completion for completion in done if isinstance(completion, Completion)]
        self.meter.calls += len(made)
        self.meter.cost += sum(completion.cost for completion in made)
        self.meter.tokens_in += sum(completion.tokens_in for completion in made)
        self.meter.tokens_out += sum(completion.tokens_out for completion in made)
        self.meter.latency_ms += max((completion.latency_ms for completion in made), default=0.0)
        for failure in done:
            if isinstance(failure, BaseException):
                if isinstance(failure, CallError | StoppedError):
                    self.failure = failure
                raise failure
        return made
