"""`Endpoint`: requests to one model through the official `openai` client."""

from __future__ import annotations

import asyncio
import email.utils
import functools
import random
import re
import ssl
import sys
import urllib.request
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from envs.secrets import Secrets
from verifiers.collection.models import ConfigError, ModelSpec
from verifiers.collection.requests import hint
from verifiers.collection.responses import MalformedResponseError, Reply, parse
from verifiers.collection.stops import AttemptError, CallError, EndpointRefusedError
from verifiers.live import Message

# Seconds: the first pause is up to _FIRST, later ones up to twice as long each, up to _LONGEST.
_FIRST, _LONGEST = 0.5, 30.0
# A server may ask for more patience than anyone has.
_LONGEST_ASKED = 120.0

_ALWAYS_RETRIED = (408, 409, 429)
# A gateway's word for a response that did not come: the endpoint may have made it.
_LOST_ON_THE_WAY = (408, 502, 504, 524)
_TOO_LONG = re.compile(
    r"context.?(length|window|size)|too (long|many tokens)|maximum.{0,20}(token|length)"
    r"|exceed\w*.{0,40}(context|token)|content.?(filter|policy|management)",
    re.IGNORECASE,
)
_NO_MONEY = re.compile(r"insufficient_quota|billing|payment|credit", re.IGNORECASE)

_WHAT_TO_DO = {
    401: "check the key in {variable}",
    402: "the account has no money left",
    403: "the key in {variable} may not use this model",
    404: "check base_url and model: the endpoint knows no such address or model",
}


class Endpoint:
    """One model's requests.

    Args:
        spec: the model.
        slots: bounds the requests under way; shared by the models of one endpoint.
        seed: of the pauses between attempts.

    Raises:
        ConfigError: the package `openai` is missing, or the key.

    Attributes:
        slots: to be held during a call.
    """

    def __init__(self, spec: ModelSpec, slots: asyncio.Semaphore, seed: int = 0) -> None:
        try:
            import openai
        except ImportError as error:
            raise ConfigError(
                "collecting needs the package openai: pip install -e '.[collect]'"
            ) from error
        self.spec, self.slots = spec, slots
        self._openai = openai
        self._random = random.Random(f"{seed}:{spec.name}")
        key = spec.key()
        self._secrets = Secrets(spec.secrets())
        self._client = openai.AsyncOpenAI(
            base_url=spec.base_url,
            # Given even where none is needed: the client would take OPENAI_API_KEY, which is not
            # this endpoint's.
            api_key=key or "none",
            max_retries=0,
            timeout=spec.timeout,
            http_client=_http_client(openai, spec.concurrency),
        )

    async def attempt(self, request: Mapping[str, Any], messages: Sequence[Message]) -> Reply:
        """Sends a request once.

        Args:
            request: the body.
            messages: in it.

        Raises:
            AttemptError: another attempt may succeed.
            CallError: this request can never succeed.
            EndpointRefusedError: no request can.
        """
        try:
            async with asyncio.timeout(self.spec.timeout):
                body = await self._client.post("/chat/completions", body=request, cast_to=str)
            return parse(body, messages, self._secrets.plain)
        except self._openai.APIStatusError as error:
            asked = self._refusal(error)
            lost = error.status_code in _LOST_ON_THE_WAY
            said = f"status {error.status_code}: {self._said(error)}"
            raise AttemptError(said, asked, lost) from None
        except (TimeoutError, self._openai.APITimeoutError) as error:
            reason = f"no response in {self.spec.timeout:g} s"
            raise AttemptError(reason, lost=_was_sent(error)) from None
        except self._openai.APIError as error:
            cause = error.__cause__
            reason = f"{error} ({type(cause).__name__}: {cause})" if cause else str(error)
            raise AttemptError(self.redacted(reason), lost=_was_sent(error)) from None
        except MalformedResponseError as error:
            raise AttemptError(self.redacted(str(error)), lost=True) from None

    def pause(self, attempt: int, asked: float | None) -> float:
        """Seconds before the next attempt: exponential backoff with full jitter, and never less
        than the endpoint asked for."""
        longest = min(_LONGEST, _FIRST * 2**attempt)
        if asked is None:
            return self._random.uniform(0, longest)
        # Those that were all told the same do not come back all at once.
        return min(asked, _LONGEST_ASKED) + self._random.uniform(0, min(_FIRST, asked))

    def given_up(self, failure: AttemptError) -> CallError:
        return CallError(
            f"{self._named()}: given up after {self.spec.attempts} attempts, the last: {failure}"
        )

    async def close(self) -> None:
        await self._client.close()

    def redacted(self, text: str) -> str:
        """A text without the key, which servers may repeat in their errors."""
        return self._secrets.text(text)

    def _refusal(self, error: Any) -> float | None:
        """How long a refused request should wait, if waiting helps.

        Raises:
            CallError: not for this request.
            EndpointRefusedError: not for any.
        """
        status, said = error.status_code, self._said(error)
        if status == 429 and _NO_MONEY.search(str(error.body)):
            raise self._stop(402, said)
        if status in _ALWAYS_RETRIED or status >= 500:
            return retry_after(error.response.headers)
        if status in (400, 413, 422) and _TOO_LONG.search(str(error.body) + said):
            raise CallError(f"{self._named()}: status {status}: {said}") from None
        raise self._stop(status, said)

    def _stop(self, status: int, said: str) -> EndpointRefusedError:
        what = _WHAT_TO_DO.get(status, hint(self.spec, said))
        variable = self.spec.api_key_env or "api_key_env, which names no variable"
        return EndpointRefusedError(
            f"{self._named()} refused: status {status}: {said}; {what.format(variable=variable)}"
        )

    def _named(self) -> str:
        return f"model {self.spec.name!r} at {self.spec.shown_url}"

    def _said(self, error: Any) -> str:
        body = error.body
        said = body.get("message") if isinstance(body, dict) else body
        return self.redacted(str(said or error.message))[:300]


def retry_after(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """Seconds that a response asks to wait: a number, or until a date; None if it does not."""
    for name, scale in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        value = headers.get(name)
        if value is None:
            continue
        try:
            seconds = float(value) * scale
        except ValueError:
            try:
                date = email.utils.parsedate_to_datetime(value)
            except ValueError:
                continue
            if date.tzinfo is None:
                date = date.replace(tzinfo=UTC)
            seconds = (date - (now or datetime.now(UTC))).total_seconds()
        if seconds == seconds:
            return max(0.0, seconds)
    return None


def _was_sent(error: BaseException) -> bool:
    """Whether a request may have reached the endpoint; without a connection nothing is paid."""
    cause = type(error.__cause__).__name__
    return cause not in ("ConnectError", "ConnectTimeout", "PoolTimeout")


@functools.cache
def _certificates() -> ssl.SSLContext:
    """Loaded once: it takes longer than a request."""
    return ssl.create_default_context()


def _http_client(openai: Any, lanes: int) -> Any:
    """An HTTP client in which a request need not look through all connections of a pool.

    The pool of httpx looks at every connection twice a request, which at 64 connections costs as
    much as the rest of it. Here each connection is a pool of its own.
    """
    if urllib.request.getproxies():
        return None  # the client's own knows how to use them
    http = sys.modules[openai.DefaultAsyncHttpxClient.__mro__[1].__module__.partition(".")[0]]
    context = _certificates()
    limits = http.Limits(max_connections=1, max_keepalive_connections=1)

    class Lanes(http.AsyncBaseTransport):  # type: ignore[name-defined]
        def __init__(self) -> None:
            self._free = [http.AsyncHTTPTransport(context, limits=limits) for _ in range(lanes)]

        async def handle_async_request(self, request: Any) -> Any:
            lane = self._free.pop()
            try:
                response = await lane.handle_async_request(request)
                await response.aread()
                return response
            finally:
                self._free.append(lane)

        async def aclose(self) -> None:
            for lane in self._free:
                await lane.aclose()

    return openai.DefaultAsyncHttpxClient(transport=Lanes())
