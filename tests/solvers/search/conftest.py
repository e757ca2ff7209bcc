"""What POMCP asks of pomdp-py."""

import pytest


@pytest.fixture
def searches(monkeypatch):
    """The planners that pomdp-py was asked to run, in order: most decisions need none."""
    import pomdp_py

    ran = []

    class Noted(pomdp_py.POMCP):
        def plan(self, agent):
            chosen = super().plan(agent)
            ran.append(self)
            return chosen

    monkeypatch.setattr("routing_pomdp.solvers.search.pomcp.pomdp_py.POMCP", Noted)
    return ran
