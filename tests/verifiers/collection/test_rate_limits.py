"""Quotas and overload: the real client and endpoint against simulated servers in virtual time."""

import asyncio
import json

import openai
import pytest

from routing_pomdp.verifiers.collection import CallError, EndpointRefusedError, ModelSpec
from routing_pomdp.verifiers.collection import endpoint as endpoints
from routing_pomdp.verifiers.collection.budget import Budget
from routing_pomdp.verifiers.collection.call_log import CallLog
from routing_pomdp.verifiers.collection.client import Ledger, ModelClient
from routing_pomdp.verifiers.collection.limiter import PRIORITY, Limiter
from routing_pomdp.verifiers.collection.refusals import message
from routing_pomdp.verifiers.collection.transport import http_package
from tests.support.collecting import run, specs
from tests.support.loopback import Loopback
from tests.support.virtual_time import run as in_virtual_time

HTTP = http_package(openai)
BODY = json.dumps({"choices": [{"message": {"content": "7"}, "finish_reason": "stop"}]})


class Quota:
    """So many requests in every window; the others get a 429, with such headers."""

    def __init__(self, requests, window, seconds, headers=lambda left: {}):
        self.requests, self.window, self.seconds, self.headers = requests, window, seconds, headers
        self.begun, self.left, self.refused = 0.0, requests, 0

    async def post(self, *_, **__):
        now = asyncio.get_running_loop().time()
        if now >= self.begun + self.window:
            self.begun, self.left = now - now % self.window, self.requests
        if not self.left:
            self.refused += 1
            headers = self.headers(self.begun + self.window - now)
            request = HTTP.Request("POST", "http://x")
            response = HTTP.Response(429, headers=headers, request=request)
            said = {"message": "60 queries per minute are allowed: see the billing page"}
            raise openai.RateLimitError("429", response=response, body=said)
        self.left -= 1
        await asyncio.sleep(self.seconds)
        return BODY


def collected(folder, server, calls, monkeypatch):
    """So many calls with the default settings: failures, and seconds that they took."""
    monkeypatch.setattr(endpoints, "_FIRST", 0.5)
    log = CallLog(folder)

    async def main():
        ledger = Ledger(log, Budget(None, None))
        spec = ModelSpec("small", "http://127.0.0.1:9/v1", "small")
        endpoint = endpoints.Endpoint(spec, Limiter(spec.concurrency, ledger.pause))
        endpoint._client.post = server.post
        client = ModelClient(spec, endpoint, ledger)

        async def call(place):
            PRIORITY.set(place)
            await client.bound(f"q{place}", "answer").complete([{"role": "user", "content": "?"}])

        done = await asyncio.gather(*map(call, range(calls)), return_exceptions=True)
        return [each for each in done if each is not None]

    try:
        return in_virtual_time(main())
    finally:
        log.close()


def test_a_quota_of_a_minute_is_waited_out_without_a_word_from_the_server(tmp_path, monkeypatch):
    server = Quota(60, 60.0, 1.0)
    failed, took = collected(tmp_path, server, 200, monkeypatch)
    assert failed == []
    assert took < 4.5 * 60
    assert server.refused < 100  # those who wait do not ask in the meantime


def test_three_requests_a_minute_starve_nobody(tmp_path, monkeypatch):
    """The smallest tier of some providers."""
    server = Quota(3, 60.0, 2.0, lambda left: {"x-ratelimit-reset-requests": f"{left:.3f}s"})
    failed, took = collected(tmp_path, server, 30, monkeypatch)
    assert failed == []
    assert took < 10.5 * 60


def test_the_word_billing_is_no_lack_of_money(tmp_path):
    error = {"message": "60 queries per minute. See the billing page for more credit and payment."}
    with Loopback(refuse={"large": (429, error | {"code": "rate_limit_exceeded"})}) as server:
        done = run(tmp_path, specs(server.url, attempts=2), 2)
        assert done.stopped is None
        assert "given up after 2 attempts, the last: status 429: 60 queries" in (
            done.outcome.calls.first
        )
        server.refuse.clear()
        assert not run(tmp_path, specs(server.url), 2).outcome.incomplete


def test_a_wait_that_is_too_long_ends_the_collection_and_says_so(tmp_path):
    with Loopback(script=["", "rate_limit"], retry_after="7200") as server:
        done = run(tmp_path, specs(server.url, concurrency=1), 3)
        assert isinstance(done.stopped, EndpointRefusedError)
        assert "status 429: slow down; it asks to wait 7,200 s, and max_wait is 600 s" in str(
            done.stopped
        )
        assert server.seen.requests == 2
        server.retry_after = "0.2"
        server.script[:] = ["rate_limit"]
        assert not run(tmp_path, specs(server.url, max_wait=0.2), 3).outcome.incomplete


@pytest.mark.parametrize(("requested", "final"), [("36278", True), ("546", False)])
def test_a_request_above_the_quota_costs_only_its_query(requested, final):
    said = f"Request too large on tokens per min (TPM): Limit 30000, Requested {requested}."
    response = HTTP.Response(429, request=HTTP.Request("POST", "http://x"))
    error = openai.RateLimitError("429", response=response, body={"message": said})

    async def refused():
        endpoint = endpoints.Endpoint(specs("http://127.0.0.1:9/v1")[0], Limiter(1))
        return endpoint._refusal(error)

    if final:
        with pytest.raises(CallError, match="Requested 36278"):
            asyncio.run(refused())
    else:
        assert asyncio.run(refused()) == 0


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"message": "m", "type": "t"}, "m"),
        ({"detail": [{"loc": ["x"], "msg": "field required"}]}, "field required"),
        ([{"error": {"code": 429, "message": "m"}}], "m"),
        ({"error": "m"}, "m"),
        ({"object": "error", "message": "m"}, "m"),
        ({"weird": 1}, "{'weird': 1}"),
        ("plain", "plain"),
        ("<html>\n<head><title>Just a\nmoment</title>", "a web page titled 'Just a moment'"),
        (None, ""),
    ],
)
def test_errors_are_read_in_the_shapes_of_several_servers(body, said):
    assert message(body) == said
