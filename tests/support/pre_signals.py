"""Random routing problems that begin with a pre-query signal."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import strategies as st

from routing_pomdp.envs import PreSignal, RoutingData, RoutingPOMDP, Rules
from tests.support.problems import problems, random_data


def with_pre(problem: RoutingPOMDP, likelihood: np.ndarray, cost: float = 0.0) -> RoutingPOMDP:
    """The same problem after a signal with these likelihoods ``(S, P)``."""
    rules = replace(problem.rules, pre_query=True)
    return replace(problem, rules=rules, pre=PreSignal(likelihood, cost))


def random_pre(problem: RoutingPOMDP, rng: np.random.Generator, symbols: int = 3) -> RoutingPOMDP:
    """The same problem after a random signal, some of whose symbols may be impossible."""
    likelihood = rng.dirichlet(np.ones(symbols) / 2, size=len(problem.prior))
    if symbols > 1 and rng.random() < 0.3:
        likelihood[:, -1] = 0
    likelihood = (likelihood + 1e-9) * (likelihood.sum(axis=0) > 0)
    return with_pre(
        problem, likelihood / likelihood.sum(1, keepdims=True), cost=float(rng.random() / 10)
    )


@st.composite
def pre_problems(draw: st.DrawFn, rules: Rules | None = None, max_models: int = 3) -> RoutingPOMDP:
    problem = draw(problems(rules, max_models))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    return random_pre(problem, rng, draw(st.integers(1, 3)))


def pre_data(n: int, n_models: int, rng: np.random.Generator, symbols: int = 3) -> RoutingData:
    """A random replay with symbols for pre-query signals, each with a cost of its own."""
    data = random_data(n, n_models, rng)
    return replace(
        data,
        signal=rng.integers(3, size=data.signal.shape).astype(float),
        pre_signal=rng.integers(symbols, size=(n, 1)).astype(float),
        pre_cost=rng.random(n),
    )
