"""Benchmarks of the learners: time to train, to load and to decide."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from routing_pomdp.envs import CostModel, Episodes, History, RoutingData, RoutingPOMDP, Rules
from routing_pomdp.envs.profiles import load_profile, simulate
from routing_pomdp.evaluation.evaluate import model_value
from routing_pomdp.scripts.benchmark.pomdp import EVERYTHING, LADDER, PROFILES, timed
from routing_pomdp.solvers import Exact, Policy, Training
from routing_pomdp.solvers.learned.belief_dqn import BeliefDQN
from routing_pomdp.solvers.learned.belief_fqi import BeliefFQI
from routing_pomdp.solvers.learned.checkpoint import Restored
from routing_pomdp.verifiers import Histogram, LoggedSignal, make_routing_data

# As in conf/evaluation/default.yaml.
SMALL_PRICES = (0, 0.003, 0.01, 0.02, 0.04, 0.07, 0.1, 0.15, 0.2, 0.3)
PRICES = (*SMALL_PRICES, 0.4, 0.6, 0.8, 1.2, 2, 4, 8, 16, 32)
NEAR = 0.01  # mean regret over these prices at which training has converged


def learners() -> Iterator[tuple[str, ...]]:
    """All benchmarks of the learners."""
    return chain(training(), deciding())


def logged(name: str, **rules: Any) -> tuple[RoutingPOMDP, RoutingData]:
    """300 simulated queries of a shipped profile, and the problem fitted on them."""
    log = simulate(load_profile(name), 300, seed=0)
    verifier, cost_model = LoggedSignal(), CostModel(ratio=LADDER)
    costs = cost_model.fit(log, verifier.cost(log))
    train = make_routing_data(log, verifier, cost_model, costs)
    rules_of = Rules(len(log.models), **(rules or EVERYTHING))
    return RoutingPOMDP.fit(train, Histogram(), costs, rules_of), train


def regrets(policies: Sequence[Policy]) -> np.ndarray:
    """The model regret of each policy."""
    problems = [policy.problem for policy in policies]
    best = Exact().solve_frontier(problems[0], [problem.price for problem in problems])
    return np.array([b.value - model_value(p) for b, p in zip(best, policies, strict=True)])


def training() -> Iterator[tuple[str, ...]]:
    """Seconds of the shortest DQN training that comes near exact, and of FQI for a frontier."""
    for name in PROFILES:
        problem, _ = logged(name)
        for steps in (125, 250, 500, 1000, 2000):
            policies, seconds = timed(BeliefDQN(steps=steps).solve_frontier, problem, PRICES)
            found = regrets(policies)
            if found.mean() <= NEAR:
                break
        yield (
            f"belief_dqn, {name}: within {NEAR} of exact ({steps} steps)",
            f"{seconds:.1f} s",
            "≤ 60 s",
            f"mean regret {found.mean():.4f}, worst price {found.max():.4f}",
        )
    problem, train = logged("mmlu")
    _, seconds = timed(BeliefFQI().solve_frontier, problem, PRICES, train)
    yield "belief_fqi, mmlu: a whole frontier", f"{seconds:.1f} s", "≤ 30 s"


def deciding() -> Iterator[tuple[str, ...]]:
    """Time to decide a large batch, and one query from a checkpoint as in a live router."""
    problem, train = logged("mmlu")
    histories = some_histories(problem, 10**5)
    one = histories.take(np.array([0]))
    for name, solver in (
        ("belief_dqn", BeliefDQN(steps=50)),
        ("belief_fqi", BeliefFQI(pretraining=10, steps=10)),
    ):
        with tempfile.TemporaryDirectory() as folder:
            saving = solver.with_training(Training(folder=Path(folder)))
            (policy,) = saving.solve_frontier(problem, [0.1], train)
            _, first = timed(policy.act, histories)
            _, again = timed(policy.act, histories, repeat=5)
            path = str(Path(folder) / "policy.pt")

            def cold(path: str = path) -> None:
                Restored(path).solve_frontier(problem, [0.1], train)[0].act(one)

            _, loading = timed(cold, repeat=5)
            _, warm = timed(partial(many, policy, one), repeat=5)
        what = f"{name}: decide a batch of 10^5 histories"
        yield f"{what}, all new", f"{first * 1e3:.0f} ms", "≤ 100 ms"
        yield f"{what}, again", f"{again * 1e3:.0f} ms", "≤ 100 ms"
        yield (
            f"{name}: load a checkpoint and decide one query",
            f"{loading * 1e3:.1f} ms",
            "≤ 50 ms",
        )
        yield f"{name}: decide one query, warm", f"{warm / MANY * 1e3:.3f} ms", "≤ 0.2 ms"


MANY = 1000


def many(policy: Policy, history: History) -> None:
    for _ in range(MANY):
        policy.act(history)


def some_histories(problem: RoutingPOMDP, n: int) -> History:
    """``n`` histories before a decision, from random episodes."""
    rng = np.random.default_rng(0)
    episodes = Episodes(problem.sample(n, rng), problem.rules)
    rules, found = problem.rules, [episodes.history]
    while len(episodes):
        history = episodes.history
        legal = rules.legal(history)
        episodes.step((rng.random(legal.shape) * legal).argmax(axis=1))
        found.append(episodes.history)
    fields = ("query", "stage", "called", "verified", "signal")
    every = History(*(np.concatenate([getattr(part, f) for part in found]) for f in fields))
    return every.take(rng.permutation(len(every))[:n])
