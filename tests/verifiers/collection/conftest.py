"""Pauses and threads of the tests against the loopback server."""

import sys

import pytest

from routing_pomdp.verifiers.collection import endpoint as endpoints


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch):
    monkeypatch.setattr(endpoints, "_FIRST", 0.05)
    # Server and collector are threads here, and hand each other every message.
    interval = sys.getswitchinterval()
    sys.setswitchinterval(2e-4)
    yield
    sys.setswitchinterval(interval)
