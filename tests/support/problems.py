"""Random routing problems, policies and replays for the tests to try their claims on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from hypothesis import strategies as st

from routing_pomdp.envs import Costs, Episodes, RoutingData, RoutingPOMDP, Rules
from routing_pomdp.solvers import TablePolicy


def every_rules(n_models: int) -> list[Rules]:
    """Every combination of the options, 16 in all."""
    options = product((False, True), (False, True), (False, True), ("last", "best"))
    return [Rules(n_models, *chosen) for chosen in options]


def covering_rules(n_models: int) -> list[Rules]:
    """Six of them, in which any two options are on and off in all four ways."""
    return every_rules(n_models)[::3]


def name_of(rules: Rules) -> str:
    """An id for a parametrised test."""
    on = [name for name in ("skip", "free_start", "verify") if getattr(rules, name)]
    return "+".join([*on, rules.answer])


def score_vectors(values: np.ndarray) -> np.ndarray:
    """Every combination of the models' level values ``(N, L)``: ``(L ** N, N)``."""
    return np.array(list(product(*values)))


def random_problem(
    rules: Rules,
    rng: np.random.Generator,
    symbols: int = 3,
    levels: int = 2,
    price: float = 0.3,
    sparse: bool = False,
    classes: int = 0,
    vary: bool = False,
) -> RoutingPOMDP:
    """A problem with random probabilities, level values and costs; a ``sparse`` one holds many
    score vectors and symbols for impossible; one with ``classes`` has states of a class and a score
    vector; where costs ``vary`` they depend on the state."""
    n = rules.n_models
    score = score_vectors(np.sort(rng.random((n, levels)), axis=1))
    member = None
    if classes:
        vectors = np.array(list(product(range(levels), repeat=n)))
        share, level = rng.dirichlet(np.ones(classes)), rng.dirichlet(np.ones(levels), (classes, n))
        symbol = rng.dirichlet(np.ones(symbols), (n - 1, classes, levels))
        if sparse:
            share, level, symbol = (_thinned(rows, rng) for rows in (share, level, symbol))
        prior = np.concatenate(
            [share[z] * level[z, np.arange(n), vectors].prod(axis=1) for z in range(classes)]
        )
        likelihood = np.stack(
            [np.concatenate([table[z, vectors[:, m]] for z in range(classes)])
             for m, table in enumerate(symbol)]
        )  # fmt: skip
        score, member = np.tile(score, (classes, 1)), np.repeat(np.arange(classes), len(vectors))
    else:
        prior = rng.dirichlet(np.ones(len(score)))
        likelihood = rng.dirichlet(np.ones(symbols), size=(n - 1, len(score)))
        if sparse:
            prior = _thinned(prior, rng)
            likelihood = _thinned(likelihood, rng)
    call = np.sort(rng.random(n)) + 1e-3
    costs = Costs(call, call * rng.uniform(0, 1.5, n))
    if vary:
        costs = varied(costs, prior, rng, None if member is None else (member, levels))
    return RoutingPOMDP(score, prior, likelihood, costs, price, rules, member=member)


def varied(
    costs: Costs,
    prior: np.ndarray,
    rng: np.random.Generator,
    classes: tuple[np.ndarray, int] | None = None,
) -> Costs:
    """Costs that depend on the state and have the same means under the ``prior``; with the
    ``classes`` of states, and the number of levels, on the class and the model's own level."""
    n, states = len(costs.call), len(prior)
    factor = rng.uniform(0, 2, (2, states, n))
    if classes is not None:
        member, levels = classes
        vectors = np.array(list(product(range(levels), repeat=n)))
        own = np.tile(vectors, (states // len(vectors), 1))
        table = rng.uniform(0, 2, (2, int(member.max()) + 1, levels, n))
        factor = table[:, member[:, None], own, np.arange(n)]
    factor = factor / (prior @ factor)[:, None]
    return Costs(costs.call, costs.verify, costs.call * factor[0], costs.verify * factor[1])


def _thinned(probability: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    kept = probability * (rng.random(probability.shape) < 0.6)
    kept[..., 0] += 1e-3  # at least one is left
    return kept / kept.sum(-1, keepdims=True)


@st.composite
def problems(draw: st.DrawFn, rules: Rules | None = None, max_models: int = 4) -> RoutingPOMDP:
    """Problems of 2 … ``max_models`` models; given ``rules`` keep their options alone."""
    n = draw(st.integers(2, max_models))
    chosen = draw(st.sampled_from(every_rules(n))) if rules is None else replace(rules, n_models=n)
    return random_problem(
        chosen,
        np.random.default_rng(draw(st.integers(0, 2**32))),
        symbols=draw(st.integers(1, 3)),
        levels=draw(st.integers(2, 3)),
        price=draw(st.sampled_from((0.0, 0.1, 0.3, 1.0)) | st.floats(0, 2)),
        sparse=draw(st.booleans()),
        classes=draw(st.integers(0, 2)),
        vary=draw(st.booleans()),
    )


def random_policy(problem: RoutingPOMDP, rng: np.random.Generator) -> TablePolicy:
    """A legal action drawn for every history code."""
    history = problem.decode(np.arange(problem.n_histories))
    legal = problem.rules.masks[history.stage + 1, history.last_verified.astype(int)]
    draw = np.where(legal, rng.random(legal.shape), -1)
    return TablePolicy(problem, draw.argmax(axis=1).astype(np.int8))


def random_data(n: int, n_models: int, rng: np.random.Generator, signals: int = 1) -> RoutingData:
    """``n`` queries on which every call and every verification has a cost of its own, with
    signals spread over [0, 1)."""
    shape = (n, n_models)
    dearer = np.arange(1, n_models + 1)
    return RoutingData(
        score=rng.random(shape),
        call_cost=rng.random(shape) * dearer,
        verify_cost=rng.random(shape) * dearer / 2,
        signal=rng.random((*shape, signals)),
    )


def toy_data() -> RoutingData:
    """One query of three models, with numbers to reckon with by hand."""
    return RoutingData(
        score=np.array([[0.25, 0.5, 1.0]]),
        call_cost=np.array([[1.0, 10.0, 100.0]]),
        verify_cost=np.array([[0.5, 5.0, 50.0]]),
        signal=np.array([[[-2.0], [0.75], [9.0]]]),
    )


def steps(
    data: RoutingData, policy: TablePolicy, rows: slice = slice(None)
) -> Iterator[tuple[Episodes, np.ndarray]]:
    """Plays a policy: the episodes before each step and the actions then taken."""
    episodes = Episodes(data, policy.problem.rules, rows)
    while len(episodes):
        action = policy.act(episodes.history)
        yield episodes, action
        episodes.step(action)


@dataclass(frozen=True)
class Bands:
    """An observation model by hand: the first number of a signal in [0, 1), cut into ``K`` bands
    of equal width; ``Z_i(k | y_i)`` is the share of band ``k`` with one pseudo-count a band."""

    n_symbols: int
    likelihood: np.ndarray | None = None
    n_signals: int = 1

    def fit(self, signal: np.ndarray, level: np.ndarray, score_vectors: np.ndarray) -> Bands:
        n_vectors, n_models = score_vectors.shape
        likelihood = np.empty((n_models - 1, n_vectors, self.n_symbols))
        for model in range(n_models - 1):
            symbol = self.symbols(model, signal[:, model])
            for vector, levels in enumerate(score_vectors):
                alike = symbol[level[:, model] == levels[model]]
                counts = np.bincount(alike, minlength=self.n_symbols) + 1
                likelihood[model, vector] = counts / counts.sum()
        return replace(self, likelihood=likelihood, n_signals=signal.shape[2])

    def symbols(self, model: int, signal: np.ndarray) -> np.ndarray:
        return (signal[:, 0] * self.n_symbols).astype(np.int64)

    @property
    def representative(self) -> np.ndarray:
        assert self.likelihood is not None
        middle = (np.arange(self.n_symbols) + 0.5) / self.n_symbols
        return np.tile(middle[None, :, None], (len(self.likelihood), 1, self.n_signals))


def with_bands(problem: RoutingPOMDP, signals: int = 1) -> RoutingPOMDP:
    """The same problem seen through raw signals in [0, 1) instead of symbols."""
    bands = Bands(problem.n_symbols, problem.likelihood, signals)
    return replace(problem, observation=bands)
