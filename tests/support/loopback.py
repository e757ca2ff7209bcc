"""An OpenAI-compatible chat server on loopback that adds numbers, and fails as it is told.

Real HTTP/1.1 over sockets. Models named small, medium and large answer "What is 3 + 4?" rightly in
a growing share of the questions, and judge an answer that they are shown better than by chance.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import json
import math
import random
import re
import socket
import struct
import threading
from collections import Counter
from dataclasses import dataclass, field

SKILL = {"small": 0.55, "medium": 0.75, "large": 0.95}

# After these the client holds a whole completion; after the others it does not.
DELIVERED = ("", "no_logprobs", "no_usage")
# Of these the server has made a completion, and it gets lost: a provider would charge for it.
LOST = ("hang", "malformed", "truncated", "truncated_stream", "reset_after")


@dataclass
class Seen:
    """What the server itself counted."""

    requests: int = 0
    delivered: int = 0
    lost: int = 0
    tokens: int = 0  # of all completions made, the lost ones too
    charged: Counter = field(default_factory=Counter)  # (model, "in" or "out") -> the same tokens
    concurrent: int = 0
    most_concurrent: int = 0
    faults: Counter = field(default_factory=Counter)
    # Of whole completions: how often each (model, messages, sample or not) was delivered.
    bodies: Counter = field(default_factory=Counter)
    authorizations: set = field(default_factory=set)
    paths: Counter = field(default_factory=Counter)
    times: list = field(default_factory=list)
    heads: list = field(default_factory=list)


class Loopback:
    """The server, in a thread of its own while the ``with`` block runs.

    Args:
        faults: kind -> its probability, a request.
        script: kinds for the first requests, in order; "" for none. A kind may also be a function
            of the connection and the request, which does all itself.
        retry_after: the header of a 429.
        latency: seconds before an answer.
        hang: seconds that a hanging request hangs.
        refuse: model -> (status, error object) that all its requests get.
        limit: characters of a prompt above which the context is too long.
        host, tls: where it listens, and its certificate.
        seed: of the faults and verdicts.
        shape: (completion, request, head) -> the completion that is sent, and charged as it counts.
    """

    def __init__(
        self,
        faults=None,
        script=(),
        retry_after="0.01",
        latency=0.0,
        hang=5.0,
        refuse=None,
        limit=10**9,
        seed=0,
        port=0,
        shape=None,
        host="127.0.0.1",
        tls=None,
    ):
        self.host, self.tls = host, tls
        self.faults, self.script = dict(faults or {}), list(script)
        self.retry_after, self.latency, self.hang = retry_after, latency, hang
        self.refuse, self.limit, self.port = dict(refuse or {}), limit, port
        self.seen = Seen()
        self.random = random.Random(seed)
        self.shape = shape or (lambda completion, request, head: completion)
        self.record = True
        self._ready = threading.Event()

    @property
    def url(self):
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.tls else 'http'}://{host}:{self.port}/v1"

    def __enter__(self):
        self._thread = threading.Thread(target=lambda: asyncio.run(self.serve()), daemon=True)
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *_):
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    async def serve(self, announce=None):
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        server = await self._loop.create_server(
            lambda: _Connection(self), self.host, self.port, backlog=1024, ssl=self.tls
        )
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        if announce:
            announce(self.url)
        await self._stop.wait()
        server.close()

    def fault(self):
        if self.script:
            return self.script.pop(0)
        drawn = self.random.random()
        for kind, probability in self.faults.items():
            drawn -= probability
            if drawn < 0:
                return kind
        return ""


class _Connection(asyncio.Protocol):
    def __init__(self, server):
        self.server, self.received = server, b""
        self.tasks = set()

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.received += data
        if self.received[:1] == b"\x16":  # a TLS handshake
            self.transport.write(_head(400, 0))
            self.transport.close()
        while (end := self.received.find(b"\r\n\r\n")) >= 0:
            head = self.received[:end].decode("latin-1")
            found = re.search(r"content-length: *(\d+)", head, re.IGNORECASE)
            size = int(found[1]) if found else 0
            if len(self.received) < end + 4 + size:
                return
            body = self.received[end + 4 : end + 4 + size]
            self.received = self.received[end + 4 + size :]
            task = asyncio.ensure_future(self.answer(head, body))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)

    def connection_lost(self, error):
        for task in self.tasks:
            task.cancel()

    async def answer(self, head, body):
        server, seen = self.server, self.server.seen
        _, path, _ = head.split("\r\n", 1)[0].split(" ")
        if path.endswith("/stats"):
            shown = {"requests": seen.requests, "delivered": seen.delivered, "lost": seen.lost}
            shown |= {"most_concurrent": seen.most_concurrent, "tokens": seen.tokens}
            return self.reply(200, shown)
        seen.requests += 1
        seen.concurrent += 1
        seen.most_concurrent = max(seen.most_concurrent, seen.concurrent)
        try:
            if server.record:
                seen.heads.append(head)
                seen.times.append(server._loop.time())
                seen.paths[path] += 1
                if found := re.search(r"authorization: *(.*)", head, re.IGNORECASE):
                    seen.authorizations.add(found[1].strip())
            fault = server.fault()
            seen.faults[fault] += 1
            if server.latency:
                await asyncio.sleep(server.latency)
            await self.respond(json.loads(body), body, fault, head)
        finally:
            seen.concurrent -= 1

    async def respond(self, request, body, fault, head):
        server, seen = self.server, self.server.seen
        if callable(fault):
            return fault(self, request)
        if refusal := server.refuse.get(request["model"]):
            status, error = refusal
            # As careless servers do, it repeats the key that it was given.
            return self.reply(status, {"error": error | {"headers": head}})
        if fault == "rate_limit":
            after = server.retry_after
            after = after() if callable(after) else after
            return self.reply(429, {"error": {"message": "slow down"}}, f"Retry-After: {after}\r\n")
        if fault == "error":
            return self.reply(500, {"error": {"message": "out of order"}})
        if fault == "unavailable":
            return self.reply(503, {"error": {"message": "loading model"}})
        if fault == "reset":
            return self.reset()
        if sum(len(str(message["content"])) for message in request["messages"]) > server.limit:
            error = {
                "message": "This model's maximum context length is 10 tokens.",
                "code": "context_length_exceeded",
            }
            return self.reply(400, {"error": error})
        completion = server.shape(complete(request, server.random, fault), request, head)
        counted = completion["usage"]
        for kind, name in zip(("in", "out"), _USAGE, strict=True):
            seen.tokens += counted[name]
            seen.charged[request["model"], kind] += counted[name]
        if fault == "no_usage":
            del completion["usage"]
        if fault in LOST:
            seen.lost += 1
        if fault == "hang":
            await asyncio.sleep(server.hang)
            return self.transport.abort()
        if fault == "reset_after":
            return self.reset()
        if fault == "no_choices":
            seen.lost += 1
            return self.reply(200, completion | {"choices": []})
        if fault == "error_in_body":
            seen.lost += 1
            return self.reply(200, {"error": {"message": "upstream failed", "code": 502}})
        text = json.dumps(completion).encode()
        if fault == "malformed":
            return self.write(200, text[: len(text) // 2] + b"}}", "")
        if fault == "truncated":
            self.transport.write(_head(200, len(text)) + text[: len(text) // 2])
            return self.transport.close()
        if fault == "truncated_stream":
            start = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
            start += b"Transfer-Encoding: chunked\r\n\r\n"
            self.transport.write(start + b"%x\r\n" % (len(text) // 2) + text[: len(text) // 2])
            return self.transport.close()
        seen.delivered += 1
        if server.record:
            seen.bodies[hashlib.md5(body).hexdigest()] += 1
        return self.write(200, text, "")

    def reset(self):
        sock = self.transport.get_extra_info("socket")
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()

    def reply(self, status, content, headers=""):
        self.write(status, json.dumps(content).encode(), headers)

    def write(self, status, content, headers):
        self.transport.write(_head(status, len(content), headers) + content)


_USAGE = ("prompt_tokens", "completion_tokens")


def _head(status, size, headers=""):
    return (
        f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\n"
        f"Content-Length: {size}\r\n{headers}\r\n"
    ).encode()


def tokens_of(request):
    """(prompt, completion) tokens: words of the prompt, and what `say` makes."""
    words = sum(len(str(message["content"]).split()) for message in request["messages"])
    return words, min(3, request.get("max_tokens", 3))


def complete(request, rng, fault=""):
    text, sure = say(request, rng)
    prompt, made = tokens_of(request)
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": text},
        "finish_reason": "stop",
        "logprobs": None,
    }
    if request.get("logprobs") and fault != "no_logprobs":
        k = request.get("top_logprobs") or 0
        top = [(text.split()[-1], sure), ("No" if "Yes" in text else "Yes", 1 - sure)]
        entries = [{"token": token, "logprob": math.log(max(p, 1e-9))} for token, p in top]
        choice["logprobs"] = {"content": [entries[0] | {"top_logprobs": entries[:k]}]}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 0,
        "model": request["model"],
        "choices": [choice],
        "usage": {
            "prompt_tokens": prompt,
            "completion_tokens": made,
            "total_tokens": prompt + made,
        },
    }


def say(request, rng):
    """The text, and how sure of it."""
    content = "\n".join(str(message["content"]) for message in request["messages"])
    sums = re.findall(r"(\d+) \+ (\d+)", content)
    if not sums:
        return "I do not know", 0.5
    a, b = map(int, sums[-1])
    if re.search(r"verdict|yes or no|\byes\b", content, re.IGNORECASE):
        shown = int(re.findall(r"\d+", content)[-1])
        right = shown == a + b
        yes = rng.random() < (0.85 if right else 0.2)
        if re.search(r"verdict", content, re.IGNORECASE):
            return f"Verdict: {'correct' if yes else 'incorrect'}", 0.8
        return ("Yes" if yes else "No"), (0.85 if right else 0.6)
    # One difficulty a question, so that a more expensive model fails on fewer of the same ones.
    difficulty = int(hashlib.md5(f"{a}+{b}".encode()).hexdigest()[:8], 16) / 16**8
    right = difficulty < SKILL.get(request["model"], 0.5)
    return f"Answer: {a + b + (not right)}", (0.9 if right else 0.6)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--latency", type=float, default=0.0)
    parser.add_argument("--faults", type=json.loads, default={})
    arguments = parser.parse_args()
    server = Loopback(faults=arguments.faults, latency=arguments.latency, port=arguments.port)
    server.record = False  # its own memory stays flat too
    asyncio.run(server.serve(announce=lambda url: print(url, flush=True)))


if __name__ == "__main__":
    main()
