"""`ModelClient`: a model whose every call is looked up in the log, budgeted, sent and recorded."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, field, replace
from typing import Any

from verifiers.collection.budget import Amount, Budget, amount
from verifiers.collection.call_log import CallKey, CallLog, Record
from verifiers.collection.endpoint import Endpoint
from verifiers.collection.models import ModelSpec
from verifiers.collection.responses import Reply, failed, most_tokens, shortfall
from verifiers.collection.stops import AttemptError, CallError, EndpointRefusedError, StoppedError
from verifiers.live import Completion, Message

# So many calls in a row that failed for good, and the endpoint is taken for dead.
_DEAD = 20
# So often is a model asked that ends by itself and says nothing; each time is in the log and paid
# for. The last one stays as it is: a run that goes on does not ask again.
_ASKED_IF_EMPTY = 3


@dataclass
class Ledger:
    """What the clients of one collection share.

    Attributes:
        log: of all calls.
        budget: of all calls.
        stopped: why no more are made; None while they are.
        made: calls of this run.
        retried: attempts of this run that did not succeed.
        found: calls that the log had.
        flags: how many of either had which flag.
    """

    log: CallLog
    budget: Budget
    stopped: StoppedError | None = None
    made: int = 0
    retried: int = 0
    found: int = 0
    flags: Counter[str] = field(default_factory=Counter)
    _stopping: asyncio.Event = field(default_factory=asyncio.Event)

    def stop(self, reason: StoppedError) -> None:
        self.stopped = self.stopped or reason
        self._stopping.set()

    async def pause(self, seconds: float) -> None:
        """Sleeps, unless no more calls are made."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)


class ModelClient:
    """One model. Calls are made through `bound`, which says what for."""

    def __init__(self, spec: ModelSpec, endpoint: Endpoint, ledger: Ledger) -> None:
        self.spec, self.endpoint, self._ledger = spec, endpoint, ledger
        self._excess = 1.0
        self._failed_in_a_row = 0

    def bound(self, query: str, purpose: str) -> BoundClient:
        return BoundClient(self, query, purpose)

    async def call(
        self,
        key: CallKey,
        request: dict[str, Any],
        messages: Sequence[Message],
        max_tokens: int,
        wants_logprobs: bool,
    ) -> Completion:
        """One completion, from the log if it is there.

        Raises:
            CallError: this call did not come about.
            StoppedError: no more calls are made.
        """
        ledger = self._ledger
        found = ledger.log.find(key)
        # Logs from before a failure was told from an answer hold some.
        if found and found.completion and not failed(found.completion.finish_reason):
            ledger.found += 1
            ledger.flags.update(found.flags)
            return self._priced(found.completion)
        async with self.endpoint.slots:
            try:
                for again in range(_ASKED_IF_EMPTY):
                    ledger.retried += bool(again)
                    record = await self._made(key, request, messages, max_tokens, wants_logprobs)
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

    async def _made(
        self,
        key: CallKey,
        request: dict[str, Any],
        messages: Sequence[Message],
        max_tokens: int,
        wants_logprobs: bool,
    ) -> Record:
        """The call, after as many attempts as it needs; in the log once it is returned."""
        ledger, price, attempts = self._ledger, self.spec.price, self.spec.attempts
        bounds = most_tokens(messages), max_tokens
        for attempt in range(attempts):
            if ledger.stopped:
                raise ledger.stopped
            most_in, most_out = (round(bound * self._excess) for bound in bounds)
            most = amount(most_in, most_out, price)
            await ledger.budget.reserve(most)
            spent = lost = Amount()
            try:
                started = time.perf_counter()
                reply = await self.endpoint.attempt(request, messages)
                milliseconds = (time.perf_counter() - started) * 1e3
                spent = amount(reply.tokens_in, reply.tokens_out, price)
                self._learn(reply, *bounds)
                record = self._record(key, reply, milliseconds, wants_logprobs)
                await ledger.log.append(record)
                return record
            except AttemptError as failure:
                ledger.retried += 1
                if failure.lost:
                    lost = most
                    await ledger.log.append(Record(key, None, (), most_in, most_out))
                if attempt + 1 == attempts:
                    raise self.endpoint.given_up(failure) from None
                pause = self.endpoint.pause(attempt, failure.asked)
            finally:
                ledger.budget.settle(most, spent, lost)
            async with self.endpoint.slots.paused():
                await ledger.pause(pause)
        raise AssertionError("unreachable: attempts is at least 1")

    def _record(
        self, key: CallKey, reply: Reply, milliseconds: float, wants_logprobs: bool
    ) -> Record:
        made = Completion(
            text=self.endpoint.redacted(reply.text),
            tokens_in=reply.tokens_in,
            tokens_out=reply.tokens_out,
            cost=0.0,
            latency_ms=round(milliseconds, 3),
            tokens=reply.tokens,
            finish_reason=reply.finish_reason,
        )
        flags = ["usage_estimated"] * reply.estimated
        flags += ["no_logprobs"] * (wants_logprobs and reply.tokens is None)
        return Record(key, self._priced(made), tuple(flags))

    def _priced(self, completion: Completion) -> Completion:
        """At today's price, so that a corrected price table corrects all that was collected."""
        tokens = completion.tokens_in, completion.tokens_out
        return replace(completion, cost=amount(*tokens, self.spec.price).usd)

    def _learn(self, reply: Reply, most_in: int, most_out: int) -> None:
        """An endpoint that counts more tokens than it should be able to is expected to go on so."""
        self._excess = max(self._excess, reply.tokens_in / most_in, reply.tokens_out / most_out)


@dataclass
class Meter:
    """What was asked through one `BoundClient`; a request's samples count as sent at once."""

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
        meter: what was asked through it.
        failure: what kept a call from coming about; a verifier that goes on nevertheless has not
            seen all that it asked for.
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
        """Independent completions, one request a sample.

        Raises:
            CallError: one of them did not come about.
            StoppedError: no more calls are made.
            ValueError: an argument that is not allowed.
        """
        if samples < 1 or max_tokens < 1 or temperature < 0:
            raise ValueError(
                f"complete() got samples {samples}, max_tokens {max_tokens}, temperature "
                f"{temperature}: expected at least 1, 1 and 0"
            )
        request = self._request(messages, temperature, max_tokens, top_logprobs)
        mark = hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()[:32]
        first = self._samples[mark]
        # Counted before anything is awaited, so that equal requests at once are different samples.
        self._samples[mark] += samples
        keys = [
            CallKey(self._query, self.model, self._purpose, first + i, mark) for i in range(samples)
        ]
        calls = [
            self._client.call(key, request, messages, max_tokens, top_logprobs is not None)
            for key in keys
        ]
        # All of them end, also where one fails: what is under way is paid for.
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

    def _request(
        self,
        messages: Sequence[Message],
        temperature: float,
        max_tokens: int,
        top_logprobs: int | None,
    ) -> dict[str, Any]:
        spec = self._client.spec
        request: dict[str, Any] = {
            "model": spec.model,
            "messages": [dict(message) for message in messages],
            "temperature": float(temperature),
            spec.max_tokens_field: max_tokens,
        }
        if top_logprobs is not None:
            request["logprobs"] = True
            if top_logprobs:
                request["top_logprobs"] = top_logprobs
        request |= spec.extra_body
        return {name: value for name, value in request.items() if name not in spec.omit}
