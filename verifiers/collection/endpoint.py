"""`Endpoint`: requests to one model through the official `openai` client."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl, urlsplit, urlunsplit

from routing_pomdp.envs.files.secrets import Secrets
from routing_pomdp.verifiers.collection.limiter import Limiter
from routing_pomdp.verifiers.collection.models import ConfigError, ModelSpec
from routing_pomdp.verifiers.collection.refusals import (
    SEE_ADDRESS,
    asks_too_much,
    is_page,
    is_too_long,
    means_money,
    message,
    never_reached,
    what_to_do,
)
from routing_pomdp.verifiers.collection.requests import hint
from routing_pomdp.verifiers.collection.responses import MalformedResponseError, Reply, parse
from routing_pomdp.verifiers.collection.stops import AttemptError, CallError, EndpointRefusedError
from routing_pomdp.verifiers.collection.transport import TransportError, http_client
from routing_pomdp.verifiers.collection.waits import asked_to_wait
from routing_pomdp.verifiers.live import Message

# Seconds: the first pause is at least _FIRST, and each later one at least twice as long, up to
# _LONGEST. The seven pauses of eight attempts outlast a quota that is renewed every minute.
_FIRST, _LONGEST = 0.5, 30.0

# Besides 5xx. 424: a model server failed behind a gateway; 498: Groq lacks capacity.
_ALWAYS_RETRIED = (408, 409, 424, 425, 429, 498)
# For these, fewer concurrent requests may help.
_OVERLOADED = (429, 498, 503, 504, 529)
# A gateway got no response in time; the endpoint may have generated it.
_LOST_ON_THE_WAY = (408, 502, 504, 520, 524)


class Endpoint:
    """Sends one model's requests.

    Args:
        spec: the model.
        slots: of the requests under way; shared by the models of one endpoint.
        seed: of the pauses between attempts.

    Raises:
        ConfigError: the package `openai` or the key is missing.

    Attributes:
        slots: one is held during a call.
    """

    def __init__(self, spec: ModelSpec, slots: Limiter, seed: int = 0) -> None:
        try:
            import openai
        except ImportError as error:
            raise ConfigError(
                "collecting needs the package openai: pip install -e '.[collect]'"
            ) from error
        self.spec, self.slots = spec, slots
        self._openai = openai
        self._random = random.Random(f"{seed}:{spec.name}")
        self._answered = False
        address, query = _address(spec.base_url)
        key = spec.key()
        self._secrets = Secrets(spec.secrets())
        headers = spec.filled("headers")
        for text in (key or "", *headers.values()):
            if not (text.isascii() and text.isprintable()):
                raise ConfigError(
                    f"{self._named()}: the key or a header holds a line break or a character that "
                    "no header can have (it is not shown): check the environment variable"
                )
        # Some servers read an empty Authorization header before the one that has the key.
        bare = {} if key or headers == spec.headers else {"Authorization": openai.Omit()}
        self._options: Any = {"headers": bare | headers}
        client = http_client(openai, spec.timeout)
        self._client = openai.AsyncOpenAI(
            base_url=address,
            # Given even if none is needed: otherwise the client would send OPENAI_API_KEY, which
            # belongs to another endpoint.
            api_key=key or "none",
            max_retries=0,
            timeout=client.timeout,
            default_query=query | spec.filled("query"),
            http_client=client,
        )

    async def attempt(self, request: Mapping[str, Any], messages: Sequence[Message]) -> Reply:
        """Sends a request once.

        Args:
            request: the body.
            messages: of the body.

        Raises:
            AttemptError: another attempt may succeed.
            CallError: this request can never succeed.
            EndpointRefusedError: no request can succeed.
        """
        clock = asyncio.get_running_loop().time
        started = clock()
        try:
            async with asyncio.timeout(self.spec.timeout):
                body = await self._client.post(
                    "/chat/completions", body=request, cast_to=str, options=self._options
                )
            self._expect_no_page(body)
            reply = parse(body, messages, self._secrets.plain)
        except self._openai.APIStatusError as error:
            if error.status_code in _OVERLOADED:
                self.slots.overloaded(clock() - started)
            asked = self._refusal(error)
            lost = error.status_code in _LOST_ON_THE_WAY
            reason = f"status {error.status_code}: {self._message(error)}"
            raise AttemptError(reason, asked, lost) from None
        except (TimeoutError, self._openai.APITimeoutError) as error:
            sent = _was_sent(error)
            if sent:
                self.slots.overloaded(clock() - started, lost=True)
            what = "response" if sent else "connection"
            reason = f"no {what} in {clock() - started:.3g} s (see timeout, concurrency)"
            raise AttemptError(reason, lost=sent) from None
        except (self._openai.APIError, TransportError, OSError) as error:
            raise self._broken(error) from None
        except MalformedResponseError as error:
            raise AttemptError(self.redacted(str(error)), lost=True) from None
        self._answered = True
        seconds = clock() - started
        self.slots.succeeded(self.spec.name, reply.tokens_out, seconds, self.spec.timeout)
        return reply

    def pause(self, attempt: int, asked: float | None) -> float:
        """Seconds before the next attempt: jittered exponential backoff, and at least what the
        endpoint asked for. In the latter case all requests to it wait."""
        least = min(_LONGEST, _FIRST * 2**attempt)
        seconds = self._random.uniform(least, 1.5 * least)
        if asked is not None:
            # Jitter, so that requests with the same wait do not return all at once.
            seconds = max(seconds, asked + self._random.uniform(0, min(_FIRST, asked)))
            self.slots.hold(seconds)
        return seconds

    def given_up(self, failure: AttemptError) -> CallError:
        return CallError(
            f"{self._named()}: given up after {self.spec.attempts} attempts, the last: {failure}"
        )

    async def close(self) -> None:
        await self._client.close()

    def redacted(self, text: str) -> str:
        """A text with keys masked, which servers may repeat in their errors."""
        return self._secrets.text(text)

    def _refusal(self, error: Any) -> float | None:
        """Seconds that a refused request is asked to wait; None if the endpoint names none.

        Raises:
            CallError: waiting does not help this request.
            EndpointRefusedError: waiting helps no request, or takes longer than allowed.
        """
        status, reason = error.status_code, self._message(error)
        if means_money(status, error.body):
            raise self._stop(status, reason, "the account has no money left")
        if status == 429 and asks_too_much(reason):
            raise CallError(f"{self._named()}: status {status}: {reason}") from None
        if status in _ALWAYS_RETRIED or status >= 500:
            limited = status == 429
            asked = asked_to_wait(error.response.headers, str(error.body), limited)
            if asked is not None and asked > self.spec.max_wait:
                raise EndpointRefusedError(
                    f"{self._named()}: status {status}: {reason}; it asks to wait {asked:,.0f} s, "
                    f"and max_wait is {self.spec.max_wait:g} s: give the same command again then, "
                    "or raise max_wait",
                    lost=status in _LOST_ON_THE_WAY,
                )
            return 0.0 if asked is None and limited else asked
        if status in (400, 413, 422) and is_too_long(str(error.body) + reason):
            raise CallError(f"{self._named()}: status {status}: {reason}") from None
        raise self._stop(status, reason, what_to_do(status, error.body, hint(self.spec, reason)))

    def _expect_no_page(self, body: str) -> None:
        """Raises an error for a response that is a web page.

        Raises:
            EndpointRefusedError: the endpoint has given no completion before.
            AttemptError: it has.
        """
        if not is_page(body):
            return
        page = self.redacted(message(body))[:300]
        if self._answered:
            raise AttemptError(f"the response is {page}, expected JSON", lost=True)
        raise EndpointRefusedError(f"{self._named()} gave {page}, expected JSON; {SEE_ADDRESS}")

    def _broken(self, error: Exception) -> Exception:
        """The error to raise for a failed connection or an unreadable response."""
        cause = error.__cause__
        reason = self.redacted(
            f"{error} ({type(cause).__name__}: {cause})" if cause else str(error)
        )
        what = never_reached(error, self._answered)
        if what:
            return EndpointRefusedError(f"{self._named()} cannot be reached: {reason}; {what}")
        return AttemptError(reason, lost=_was_sent(error))

    def _stop(self, status: int, reason: str, what: str) -> EndpointRefusedError:
        variable = self.spec.api_key_env or "api_key_env, which names no variable"
        return EndpointRefusedError(
            f"{self._named()} refused: status {status}: {reason}; {what.format(variable=variable)}"
        )

    def _named(self) -> str:
        return f"model {self.spec.name!r} at {self.spec.shown_url}"

    def _message(self, error: Any) -> str:
        return self.redacted(message(error.body) or str(error.message))[:300]


def _was_sent(error: BaseException) -> bool:
    """Whether a request may have reached the endpoint; without a connection nothing is charged."""
    unsent = ("ConnectError", "ConnectTimeout", "PoolTimeout", "ProxyError")
    return type(error.__cause__ or error).__name__ not in unsent


def _address(url: str) -> tuple[str, dict[str, str]]:
    """The base address without ``/chat/completions``, and its query."""
    parts = urlsplit(url)
    path = parts.path.rstrip("/").removesuffix("/chat/completions")
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    return urlunsplit((parts.scheme, parts.netloc, path, "", "")), query
