"""The httpx client under the official one: time-outs, certificates, redirects, bounded bodies."""

from __future__ import annotations

import functools
import ssl
import sys
import urllib.request
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from routing_pomdp.verifiers.collection.models import ConfigError

# The most bytes of an unpacked body. Ten thousand tokens with twenty alternatives are 20 MB.
_LARGEST = 64 * 2**20
# Seconds that a connection may be idle. Many servers close theirs after five, and a request that is
# sent at that moment is lost.
_IDLE = 2.0
# Seconds within which a connection must be established.
_CONNECT = 15.0
_REDIRECTS = 10


class TransportError(Exception):
    """A response cannot be used.

    Attributes:
        final: whether further requests would get the same response.
    """

    def __init__(self, reason: str, final: bool) -> None:
        super().__init__(reason)
        self.final = final


def http_client(openai: Any, timeout: float) -> Any:
    """An HTTP client for the official one.

    It follows redirects within the endpoint that keep the request, or fetch its result (303). Other
    redirects would send keys elsewhere or lose the body: they raise `TransportError`, as does a
    body that is too large.

    Args:
        openai: the package.
        timeout: seconds that a request may take.

    Raises:
        ConfigError: a proxy in the environment cannot be used.
    """
    http = http_package(openai)

    class Client(openai.DefaultAsyncHttpxClient):
        async def send(self, request: Any, **options: Any) -> Any:
            options |= {"stream": True, "follow_redirects": False}
            for _ in range(_REDIRECTS):
                response = await super().send(request, **options)
                try:
                    if not response.has_redirect_location:
                        return await _whole(http, response)
                    request = _followed(request, response)
                finally:
                    await response.aclose()
            raise TransportError(f"more than {_REDIRECTS} redirects", final=True)

    certificates = _certificates()
    try:
        return Client(
            # Without a connection nothing is paid for, so that is noticed first.
            timeout=http.Timeout(timeout, connect=min(_CONNECT, timeout / 2)),
            # How many requests are under way is the limiter's concern.
            limits=http.Limits(max_connections=None, keepalive_expiry=_IDLE),
            verify=certificates,
        )
    except Exception as error:  # of many kinds: no such scheme, no package for SOCKS, no URL
        found = sorted(urllib.request.getproxies().items())
        shown = ", ".join(f"{name}_proxy={_bare(url)}" for name, url in found if name != "no")
        raise ConfigError(
            f"the proxy settings of the environment cannot be used ({shown}; no_proxy too is read):"
            f" {type(error).__name__}: {error}. Expected http://HOST:PORT, or unset them"
        ) from None


def http_package(openai: Any) -> Any:
    """The package of the httpx family that the official client uses."""
    return sys.modules[openai.DefaultAsyncHttpxClient.__mro__[1].__module__.partition(".")[0]]


async def _whole(http: Any, response: Any) -> Any:
    """The response with its complete body, unpacked."""
    body = bytearray()
    async for part in response.aiter_bytes():
        body += part
        if len(body) > _LARGEST:
            raise TransportError(f"the response has more than {_LARGEST:,} bytes", final=False)
    headers = [
        (name, value)
        for name, value in response.headers.multi_items()
        if name not in ("content-encoding", "content-length", "transfer-encoding")
    ]
    return http.Response(
        response.status_code,
        headers=headers,
        content=bytes(body),
        request=response.request,
        extensions=response.extensions,
    )


def _followed(request: Any, response: Any) -> Any:
    """The request to which a redirect leads.

    Raises:
        TransportError: the redirect must not be followed.
    """
    target, status = response.next_request, response.status_code
    if target is None:
        raise TransportError(f"status {status}: it redirects to no address", final=True)
    here, there = (
        (url.scheme, url.host, url.port or {"http": 80, "https": 443}.get(url.scheme))
        for url in (request.url, target.url)
    )
    if here == there and status in (303, 307, 308):
        return target
    raise TransportError(
        f"status {status}: it redirects to {_bare(str(target.url))}: put the address that it "
        "redirects to into base_url",
        final=True,
    )


def _bare(url: str) -> str:
    """A URL without user, password and query."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


@functools.cache
def _certificates() -> ssl.SSLContext:
    """The TLS context, cached because loading it takes longer than a request."""
    context = ssl.create_default_context()
    if not context.cert_store_stats()["x509_ca"] and not ssl.get_default_verify_paths().capath:
        try:  # a system without certificates, such as a small container
            import certifi
        except ImportError:
            return context
        context.load_verify_locations(certifi.where())
    return context
