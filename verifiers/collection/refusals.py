"""Interpretation of endpoints' error responses and connection failures."""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Iterator
from typing import Any

from routing_pomdp.verifiers.collection.transport import TransportError

SEE_ADDRESS = "check base_url: most such addresses end in /v1"
_PASSWORD = "the proxy wants a user and password: http://USER:PASSWORD@HOST:PORT"
_WHAT_TO_DO = {
    401: "check the key in {variable}",
    403: "the key in {variable} may not use this model",
    404: "check base_url and model: the endpoint knows no such address or model (most addresses "
    "end in /v1)",
    405: SEE_ADDRESS,
    407: _PASSWORD,
}
_PAGE = re.compile(r"\s*<(!doctype|html|head|body)", re.IGNORECASE)
_TOO_LONG = re.compile(
    r"context.?(length|window|size)|too (long|many tokens)|maximum.{0,20}(token|length)"
    r"|exceed\w*.{0,40}(context|token)|content.?(filter|policy|management)",
    re.IGNORECASE,
)


def what_to_do(status: int, body: Any, other: str) -> str:
    """Advice on a refusal; ``{variable}`` stands for the key's environment variable.

    Args:
        status: of the response.
        body: of the response.
        other: the advice if the request's content was refused.
    """
    return _WHAT_TO_DO.get(status, other if isinstance(body, dict | list) else SEE_ADDRESS)


def is_page(text: str) -> bool:
    """Whether a body is a web page."""
    return _PAGE.match(text) is not None


def is_too_long(text: str) -> bool:
    """Whether an error message refuses the prompt, for its length or its content."""
    return _TOO_LONG.search(text) is not None


def message(body: Any) -> str:
    """The message in an error's body, in any of the formats of servers."""
    if isinstance(body, list):
        return next(filter(None, map(message, body)), "")
    if isinstance(body, dict):
        found = (body[name] for name in ("error", "message", "detail", "msg") if body.get(name))
        return next(filter(None, map(message, found)), "") or str(body)
    text = str(body or "")
    if is_page(text):
        title = re.search(r"<title[^>]*>(.*?)</title>", text, re.IGNORECASE | re.DOTALL)
        text = "a web page" + (f" titled {' '.join(title[1].split())!r}" if title else "")
    return text


def means_money(status: int, body: Any) -> bool:
    """Whether an account has no money left. The message is no evidence: many rate-limit errors name
    a billing page."""
    if isinstance(body, list):
        return any(means_money(status, each) for each in body)
    if not isinstance(body, dict):
        return status == 402
    names = (body.get("code"), body.get("type"))
    return status == 402 or "insufficient_quota" in names or means_money(0, body.get("error"))


def asks_too_much(text: str) -> bool:
    """Whether by an error message a single request exceeds a minute's quota of tokens."""
    found = re.search(r"limit:? (\d+).{0,40}requested:? (\d+)", text, re.IGNORECASE)
    return found is not None and int(found[2]) > int(found[1])


def never_reached(error: BaseException, answered: bool) -> str:
    """Advice if a connection can never succeed; "" if it may.

    Args:
        error: of the attempt.
        answered: whether the endpoint has answered before.
    """
    for cause in _causes(error):
        if isinstance(cause, TransportError) and cause.final:
            return "see base_url"
        if isinstance(cause, ssl.SSLCertVerificationError):
            return (
                "the certificate is not trusted: for a server of your own, name its authority's "
                "certificate file in the environment variable SSL_CERT_FILE"
            )
        if type(cause).__name__ == "ProxyError" and "407" in str(cause):
            return _PASSWORD
        if answered:
            continue
        if isinstance(cause, ssl.SSLError):
            return "no TLS there: is it an http:// address, or another port?"
        if isinstance(cause, socket.gaierror) and cause.errno != socket.EAI_AGAIN:
            return "no host of that name is known: check base_url"
    return ""


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An error and its causes."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__
