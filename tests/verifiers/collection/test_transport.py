"""Servers as they are: odd bodies, lost connections, redirects, proxies, certificates."""

import gzip
import json
import socket
import ssl
import subprocess
from dataclasses import replace
from urllib.parse import parse_qsl, urlsplit

import pytest

from routing_pomdp.verifiers.collection import ConfigError, EndpointRefusedError, transport
from tests.support.collecting import Votes, lines, run, specs
from tests.support.loopback import Loopback, complete


def sent(connection, status, body, headers="", close=False):
    head = f"HTTP/1.1 {status} X\r\n{headers}"
    if "chunked" not in headers:
        head += f"Content-Length: {len(body)}\r\n"
    connection.transport.write(head.encode() + b"\r\n" + body)
    if close:
        connection.transport.close()


def completion(connection, request):
    connection.server.seen.delivered += 1
    return json.dumps(complete(request, connection.server.random)).encode()


def packed(connection, request):
    sent(connection, 200, gzip.compress(completion(connection, request)), GZIP)


def badly_packed(connection, request):
    sent(connection, 200, b"\x1f\x8b" + b"no gzip at all", GZIP)


def exploding(connection, request):
    sent(connection, 200, gzip.compress(b" " * 300_000), GZIP)


def large(connection, request):
    sent(connection, 200, b" " * 300_000)


def endless(connection, request):
    chunk = b"%x\r\n%s\r\n" % (60_000, b" " * 60_000)
    sent(connection, 200, chunk * 5, "Transfer-Encoding: chunked\r\n")


def chunked(connection, request):
    body = completion(connection, request)
    parts = [body[i : i + 7] for i in range(0, len(body), 7)]
    whole = b"".join(b"%x;x=y\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
    sent(connection, 200, whole, "Transfer-Encoding: chunked\r\n")


def until_closed(connection, request):
    body = b"HTTP/1.1 200 OK\r\n\r\n" + completion(connection, request)
    connection.transport.write(body)
    connection.transport.close()


def without_a_word(connection, request):
    connection.transport.close()


def then_closes(connection, request):
    """As servers do whose idle connections end while the next request is on its way."""
    sent(connection, 200, completion(connection, request), close=True)


def no_http(connection, request):
    connection.transport.write(b"SSH-2.0-OpenSSH_9.6\r\n")
    connection.transport.close()


def a_page_of_a_gateway(connection, request):
    sent(connection, 502, b"<html><head><title>502 Bad\n Gateway</title></head></html>")


def a_page(connection, request):
    sent(connection, 200, b"<!DOCTYPE html><title>Hotel Wi-Fi</title>")


GZIP = "Content-Encoding: gzip\r\n"


@pytest.fixture
def small_bodies(monkeypatch):
    monkeypatch.setattr(transport, "_LARGEST", 200_000)


@pytest.mark.parametrize("kind", [packed, chunked, until_closed, then_closes])
def test_whole_answers_are_read_however_they_come(kind, tmp_path):
    with Loopback({kind: 1.0}) as server:
        done = run(tmp_path, specs(server.url, concurrency=2), 4)
    assert not done.outcome.incomplete
    assert done.ledger.retried == 0
    assert len(lines(tmp_path)) == server.seen.requests == 8


@pytest.mark.parametrize(
    "kind",
    [badly_packed, exploding, large, endless, without_a_word, no_http, a_page_of_a_gateway],
)
def test_a_broken_response_is_tried_again_and_blocks_nothing(kind, tmp_path, small_bodies):
    """One connection alone: it is free again after each of them."""
    with Loopback(script=["", kind, kind, "", kind]) as server:
        done = run(tmp_path, specs(server.url, concurrency=1), 3)
    assert not done.outcome.incomplete
    assert done.ledger.retried == 3
    assert server.seen.requests == 9


def test_a_page_of_a_gateway_is_named_by_its_title(tmp_path):
    with Loopback({a_page_of_a_gateway: 1.0}) as server:
        done = run(tmp_path, specs(server.url, attempts=1), 1)
    assert "status 502: a web page titled '502 Bad Gateway'" in done.outcome.calls.first


def test_an_address_of_web_pages_is_refused_at_once(tmp_path):
    with Loopback({a_page: 1.0}) as server:
        done = run(tmp_path, specs(server.url, concurrency=1), 5)
        assert isinstance(done.stopped, EndpointRefusedError)
        assert "gave a web page titled 'Hotel Wi-Fi', expected JSON; check base_url" in str(
            done.stopped
        )
        assert server.seen.requests == 1
    # Where there were answers, a page is an accident.
    with Loopback(script=["", a_page]) as server:
        assert not run(tmp_path / "b", specs(server.url, concurrency=1), 2).outcome.incomplete


def redirect(status, target):
    return lambda connection, request: sent(
        connection, status, b"", f"Location: {target(connection.server)}\r\n"
    )


@pytest.mark.parametrize("status", [307, 308])
def test_a_redirect_within_the_endpoint_is_followed(status, tmp_path):
    again = redirect(status, lambda server: "/v2/chat/completions")
    with Loopback(script=[again]) as server:
        done = run(tmp_path, specs(server.url, concurrency=1), 1)
    assert not done.outcome.incomplete
    assert done.ledger.retried == 0
    assert server.seen.paths == {"/v1/chat/completions": 2, "/v2/chat/completions": 1}


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_elsewhere_carries_no_key_there(status, tmp_path, monkeypatch):
    monkeypatch.setenv("MY_KEY", "sk-0123")
    with Loopback() as elsewhere:
        there = redirect(status, lambda _: f"http://u:p@127.0.0.1:{elsewhere.port}/v1/x?k=1")
        with Loopback({there: 1.0}) as server:
            models = specs(server.url, headers={"api-key": "$MY_KEY"}, concurrency=1)
            done = run(tmp_path, models, 3)
        assert elsewhere.seen.requests == 0
    assert server.seen.requests == 1
    told = f"status {status}: it redirects to http://127.0.0.1:{elsewhere.port}/v1/x: put"
    assert told in str(done.stopped)


def test_a_redirect_that_would_lose_the_question_is_not_followed(tmp_path):
    there = redirect(301, lambda server: "/v2/chat/completions")
    with Loopback({there: 1.0}) as server:
        done = run(tmp_path, specs(server.url, concurrency=1), 3)
    assert "put the address that it redirects to into base_url" in str(done.stopped)
    assert server.seen.requests == 1


def test_redirects_in_a_circle_end(tmp_path):
    circle = redirect(307, lambda server: "/v1/chat/completions")
    with Loopback({circle: 1.0}) as server:
        done = run(tmp_path, specs(server.url, concurrency=1), 1)
    assert "more than 10 redirects" in str(done.stopped)


def test_ipv6_addresses_are_reached(tmp_path):
    with socket.socket(socket.AF_INET6) as probe:
        try:
            probe.bind(("::1", 0))
        except OSError:
            pytest.skip("no IPv6 here")
    with Loopback(host="::1") as server:
        assert not run(tmp_path, specs(server.url), 2).outcome.incomplete


def test_azures_address_keeps_its_query_and_headers_carry_the_key(tmp_path, monkeypatch):
    monkeypatch.setenv("AZURE_KEY", "azure-0123456789")

    def echoing(connection, request):
        # As careless servers do.
        said = connection.server.seen.heads[-1].split("\r\n")
        said = " ".join(line for line in said if "azure" in line)
        sent(connection, 500, json.dumps({"error": said}).encode())

    with Loopback(script=["", echoing]) as server:
        address = f"{server.url}/deployments/x/chat/completions?api-version=2024-10-21"
        more = {"headers": {"api-key": "$AZURE_KEY", "X-Team": "a ${AZURE_KEY}"}}
        more |= {"query": {"region": "west us", "sig": "$AZURE_KEY"}}
        done = run(tmp_path, specs(address, concurrency=1, attempts=1, **more), 1)
    (path,) = map(urlsplit, server.seen.paths)
    assert path.path == "/v1/deployments/x/chat/completions"
    query = [("api-version", "2024-10-21"), ("region", "west us"), ("sig", "azure-0123456789")]
    assert parse_qsl(path.query) == query
    head = server.seen.heads[0].lower()
    assert "api-key: azure-0123456789" in head
    assert "x-team: a azure-0123456789" in head
    assert "authorization:" not in head  # an empty one would be looked at first
    assert "sig=*** HTTP/1.1 api-key: *** x-team: a ***" in done.outcome.calls.first
    for file in tmp_path.iterdir():
        assert b"azure-0123456789" not in file.read_bytes()


@pytest.mark.parametrize("key", ["schlüssel", "two\nlines"])
def test_a_key_that_no_header_can_hold_is_not_shown(key, tmp_path, monkeypatch):
    monkeypatch.setenv("MY_KEY", key)
    with Loopback() as server, pytest.raises(ConfigError, match="no header can have") as caught:
        run(tmp_path, specs(server.url, api_key_env="MY_KEY"), 1)
    assert key not in str(caught.value)


def test_a_proxy_of_the_environment_is_used_and_bypassed(tmp_path, monkeypatch):
    with Loopback() as proxy:
        monkeypatch.setenv("http_proxy", f"http://u:p@127.0.0.1:{proxy.port}")
        monkeypatch.setenv("no_proxy", "127.0.0.1,localhost")
        done = run(tmp_path / "a", specs("http://models.invalid/v1"), 2)
        assert not done.outcome.incomplete
        assert set(proxy.seen.paths) == {"http://models.invalid/v1/chat/completions"}
        asked = proxy.seen.requests
        with Loopback({packed: 0.5}) as server:
            assert not run(tmp_path / "b", specs(server.url), 2, [Votes()]).outcome.incomplete
        assert proxy.seen.requests == asked


@pytest.mark.parametrize("url", ["socks9://u:pass@127.0.0.1:1", "http://127.0.0.1:port"])
def test_a_proxy_that_cannot_be_used_is_named_without_its_password(url, tmp_path, monkeypatch):
    monkeypatch.setenv("http_proxy", url)
    with pytest.raises(ConfigError, match="proxy settings of the environment") as caught:
        run(tmp_path, specs("http://models.invalid/v1"), 2)
    assert "http_proxy=" in str(caught.value)
    assert "pass" not in str(caught.value).replace("password", "")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """One that nobody vouches for."""
    folder = tmp_path_factory.mktemp("tls")
    key, file = folder / "key.pem", folder / "cert.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    command += ["-nodes", "-days", "2", "-subj", "/CN=x", "-addext", "subjectAltName=IP:127.0.0.1"]
    try:
        subprocess.run([*command, "-keyout", key, "-out", file], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no openssl here")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file, key)
    return file, context


def test_a_certificate_is_checked_and_may_be_ones_own(tmp_path, monkeypatch, certificate):
    file, context = certificate
    transport._certificates.cache_clear()
    with Loopback(tls=context) as server:
        done = run(tmp_path / "a", specs(server.url, concurrency=1), 3)
        assert "the certificate is not trusted" in str(done.stopped)
        assert "SSL_CERT_FILE" in str(done.stopped)
        assert done.ledger.budget.lost.tokens == 0
        monkeypatch.setenv("SSL_CERT_FILE", str(file))
        transport._certificates.cache_clear()
        assert not run(tmp_path / "b", specs(server.url), 3).outcome.incomplete
    transport._certificates.cache_clear()


def test_https_where_there_is_none_and_the_other_way_round(tmp_path, certificate):
    with Loopback() as server:
        url = server.url.replace("http:", "https:")
        done = run(tmp_path / "a", specs(url, concurrency=1), 3)
    assert "no TLS there: is it an http:// address" in str(done.stopped)
    with Loopback(tls=certificate[1]) as server:
        url = server.url.replace("https:", "http:")
        done = run(tmp_path / "b", specs(url, concurrency=1, attempts=2), 1)
    assert done.outcome.incomplete == {0}


def test_a_host_that_does_not_exist_is_named_at_once(tmp_path, monkeypatch):
    def nobody(*_, **__):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", nobody)
    done = run(tmp_path, specs("http://modles.invalid/v1"), 3)
    assert "at http://modles.invalid/v1 cannot be reached" in str(done.stopped)
    assert "check base_url" in str(done.stopped)
    assert done.ledger.budget.lost.tokens == 0


def test_where_no_connection_comes_about_nothing_is_thought_paid(tmp_path):
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        # A full backlog: further connections wait for ever.
        blocking = [socket.socket() for _ in range(4)]
        for each in blocking:
            each.setblocking(False)
            each.connect_ex(full.getsockname())
        url = f"http://127.0.0.1:{full.getsockname()[1]}/v1"
        done = run(tmp_path, specs(url, attempts=2, timeout=0.4), 1)
        for each in blocking:
            each.close()
    assert "no connection in" in done.outcome.calls.first
    assert done.ledger.budget.lost.tokens == 0


def test_a_first_test_needs_one_model_only(tmp_path):
    with Loopback() as server:
        (model,) = specs(server.url, ("small",))
        done = run(tmp_path, [model], 3, [Votes()])
        assert not done.outcome.incomplete
        assert done.table.exists()
        assert "at least 2 models" in done.failed[""]
        made = done.ledger.made
        # The answers and their verification are not paid for again with a second model.
        both = run(tmp_path, [model, replace(model, name="large", model="large")], 3, [Votes()])
    assert made == both.ledger.found == 9
    assert both.ledger.made == 3
    assert both.failed == {}
