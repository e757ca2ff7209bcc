"""Benchmarks of the POMDP solvers: alpha vectors, bounds, POMCP, and their memory."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from joblib import Parallel, delayed

from routing_pomdp.envs import CostModel, Costs, RoutingPOMDP, Rules
from routing_pomdp.envs.model.finite_pomdp import FinitePOMDP
from routing_pomdp.envs.model.routing_pomdp import Observation
from routing_pomdp.envs.profiles import load_profile, simulate
from routing_pomdp.evaluation.evaluate import evaluate, model_value
from routing_pomdp.scripts.benchmark import naive_pomdp
from routing_pomdp.solvers import Exact
from routing_pomdp.solvers.exact.alpha_vectors import AlphaVectorIteration
from routing_pomdp.solvers.exact.bounds import FIB, QMDP, Bounds
from routing_pomdp.solvers.exact.point_based import PointBased
from routing_pomdp.solvers.exact.value_iteration import value_iteration
from routing_pomdp.solvers.search.pomcp import POMCP
from routing_pomdp.verifiers import Histogram, LoggedSignal, make_routing_data

EVERYTHING: dict[str, Any] = {"skip": True, "free_start": True, "verify": True}
PROFILES = ("gsm8k", "medmcqa", "mmlu", "triviaqa", "truthfulqa")
LADDER = 50.0


def timed(call: Callable[..., Any], *arguments: Any, repeat: int = 1) -> tuple[Any, float]:
    """The result of a call and the time of the fastest of several, in seconds."""
    best = float("inf")
    for _ in range(repeat):
        started = time.perf_counter()
        result = call(*arguments)
        best = min(best, time.perf_counter() - started)
    return result, best


def fitted(
    name: str, bins: int = 8, observation: Observation | None = None, **rules: Any
) -> RoutingPOMDP:
    """A problem fitted on 300 simulated queries of a shipped profile, at a cost ratio of 50."""
    log = simulate(load_profile(name), 300, seed=0)
    verifier, cost_model = LoggedSignal(), CostModel(ratio=LADDER)
    costs = cost_model.fit(log, verifier.cost(log))
    train = make_routing_data(log, verifier, cost_model, costs)
    return RoutingPOMDP.fit(
        train, observation or Histogram(bins=bins), costs, Rules(len(log.models), **rules)
    )


def own(
    n_models: int, symbols: int, levels: int = 2, price: float = 0.3, **rules: Any
) -> RoutingPOMDP:
    """A problem of any size in which a signal depends only on its own model's score."""
    grid = np.linspace(0, 1, levels)
    level = np.array(list(product(range(levels), repeat=n_models)))
    skill, difficulty = np.linspace(0.4, 0.8, n_models), np.linspace(-0.4, 0.4, 9)
    target = np.clip(skill + difficulty[:, None], 0, 1)[..., None]
    fit = np.exp(-4 * (grid - target) ** 2)
    fit /= fit.sum(axis=-1, keepdims=True)
    prior = np.prod(fit[:, np.arange(n_models), level], axis=2).sum(axis=0)
    point = (np.arange(symbols) + 0.5) / symbols
    seen = np.exp(-6 * (point - (0.3 + 0.4 * grid)[:, None]) ** 2)
    seen /= seen.sum(axis=1, keepdims=True)
    call = np.geomspace(1, LADDER, n_models)
    return RoutingPOMDP(
        grid[level],
        prior / prior.sum(),
        np.stack([seen[level[:, model]] for model in range(n_models - 1)]),
        Costs(call, 0.3 * call),
        price,
        Rules(n_models, **rules),
    )


def unsure(n_models: int, symbols: int) -> RoutingPOMDP:
    """A problem in which signals depend on every score, so that bounds decide little."""
    rng = np.random.default_rng(0)
    score = np.array(list(product((0.0, 1.0), repeat=n_models)))
    call = np.power(1.5, np.arange(n_models, dtype=np.float64))
    return RoutingPOMDP(
        score,
        rng.dirichlet(np.ones(len(score))),
        rng.dirichlet(np.full(symbols, 0.5), size=(n_models - 1, len(score))),
        Costs(call, call / 20),
        0.05,
        Rules(n_models),
    )


def tiger() -> FinitePOMDP:
    """The tiger problem of Kaelbling, Littman & Cassandra (1998), listening at 85%."""
    half = np.full((2, 2), 0.5)
    return FinitePOMDP(
        transition=np.stack([np.eye(2), half, half]),
        observation=np.stack([np.array([[0.85, 0.15], [0.15, 0.85]]), half, half]),
        reward=np.array([[-1.0, -1.0], [-100.0, 10.0], [10.0, -100.0]]),
        discount=0.95,
        start=np.array([0.5, 0.5]),
        states=("left", "right"),
        actions=("listen", "open-left", "open-right"),
        observations=("left", "right"),
    )


def solvers() -> dict[str, Any]:
    """The solvers to compare, by name; those that plan online come last."""
    return {
        "exact": Exact(),
        "alpha_vectors": AlphaVectorIteration(),
        "point_based": PointBased(),
        "qmdp": QMDP(),
        "fib": FIB(),
        "pomcp": POMCP(),
    }


def peak(solver: str, problem: str) -> str:
    """Memory to solve and evaluate 200 queries, in MiB without the problem itself, or why the
    solver refuses it.

    It is the growth of the peak resident memory of a fresh process, which includes allocations of
    HiGHS and pomdp-py; an earlier peak would hide it.
    """
    code = (
        "from routing_pomdp.scripts.benchmark import pomdp as b; "
        f"print(b.grown(b.solvers()[{solver!r}], b.{problem}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return done.stdout.strip()


def grown(solver: Any, problem: RoutingPOMDP) -> str:
    """The growth of this process's peak memory; see `peak`."""
    data = problem.sample(200, np.random.default_rng(0))
    if (reset := Path("/proc/self/clear_refs")).exists():
        reset.write_text("5")  # resets the peak, which was that of importing
    before = _peak()
    try:
        evaluate(solver.solve(problem), data)
    except ValueError as error:
        return f"refuses: {str(error).split(',')[0]}"
    return f"{_peak() - before:.1f} MiB"


def _peak() -> float:
    """The peak of resident memory, in MiB."""
    status = Path("/proc/self/status")
    if status.exists():
        # Not getrusage: on Linux its peak starts from that of the process that started this one.
        line = next(row for row in status.read_text().splitlines() if row.startswith("VmHWM"))
        return int(line.split()[1]) / 2**10
    import resource

    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def alpha() -> Iterator[tuple[str, ...]]:
    """Exact and point-based alpha vectors."""
    found, seconds = timed(value_iteration, tiger(), repeat=3)
    yield (
        "tiger, infinite horizon, to 1e-9",
        f"{seconds:.2f} s",
        "≤ 1.5 s",
        f"value {found.value.value(np.array([0.5, 0.5])):.10f}, 19.3713683744 published",
    )
    for n, target in ((3, "≤ 20 ms"), (4, "≤ 10 s"), (5, "≤ 10 s")):
        model = own(n, 8)
        solver = AlphaVectorIteration("statistic")
        policy, seconds = timed(solver.solve, model, repeat=3)
        apart = abs(policy.value - Exact().solve(model).value)
        yield (
            f"alpha vectors over the statistic, N = {n}, 8 symbols",
            f"{seconds * 1e3:.0f} ms",
            target,
            f"{sum(len(v.vectors) for v in policy.values.values())} vectors, {apart:.0e} to exact",
        )
    model = own(5, 16, skip=True)
    _, seconds = timed(Exact().solve, model)
    yield "exact, N = 5, 16 symbols, SKIP", f"{seconds:.2f} s per price", "≤ 2 s", ""
    prices = np.geomspace(0.01, 1, 50).tolist()

    def both() -> None:
        halves = (prices[::2], prices[1::2])
        Parallel(n_jobs=2)(delayed(Exact().solve_frontier)(model, half) for half in halves)

    yield "the same, 50 prices on 2 cores", f"{timed(both)[1]:.1f} s", "≤ 60 s", ""
    for rules in ({}, EVERYTHING):
        for price in (0.05, 0.3):
            model = own(8, 32, price=price, **rules)
            policy, seconds = timed(PointBased(max_trials=300).solve, model)
            yield (
                f"point_based, N = 8, 32 symbols, λ = {price}{', every option' if rules else ''}",
                f"{seconds:.2f} s",
                "",
                f"value in [{policy.lower:.4f}, {policy.upper:.4f}], {policy.trials} trials",
            )
    model = own(8, 32, levels=3, **EVERYTHING)
    policy, seconds = timed(PointBased().solve, model)
    yield (
        "point_based, N = 8 of 3 levels, 32 symbols, every option",
        f"{seconds:.1f} s",
        "",
        f"value in [{policy.lower:.4f}, {policy.upper:.4f}], {policy.trials} trials",
    )


def search() -> Iterator[tuple[str, ...]]:
    """Simulations per second compared with a plain pomdp-py model, evaluation time, and regret."""
    model = unsure(5, 8)
    policy = POMCP(simulations=10).solve(model)
    model_value(policy)
    codes = sorted(policy.searched)[:8]
    simulations, mine, naive = 10_000, 0.0, 0.0
    for code in codes:
        fresh = POMCP(simulations=simulations).solve(model)
        mine += timed(fresh.act, model.decode(np.array([code])))[1]
        planner = naive_pomdp.planner(model.n_models, simulations)
        naive += timed(planner.plan, naive_pomdp.agent(model, code))[1]
    total = simulations * len(codes)
    yield (
        f"pomcp, N = 5, 8 symbols, core rules, {len(codes)} searches",
        f"{total / mine:,.0f} simulations/s",
        "≥ 3×",
        f"plain pomdp-py: {total / naive:,.0f} simulations/s, {naive / mine:.1f}×",
    )
    model = fitted("mmlu", **EVERYTHING).at(0.1)
    data = model.sample(1531, np.random.default_rng(0))
    policy = POMCP(simulations=1000).solve(model)
    _, seconds = timed(evaluate, policy, data)
    yield (
        "pomcp, replay of 1,531 queries, every option, 1,000 simulations",
        f"{seconds:.1f} s",
        "≤ 60 s",
        f"{policy.plans} plans, {len(policy.searched)} searches",
    )
    for name in PROFILES:
        regret: dict[int, list[float]] = {}
        for price in (0.01, 0.05, 0.1, 0.2, 0.3, 0.5):
            model = fitted(name, **EVERYTHING).at(price)
            best = Exact().solve(model).value
            for n in (30, 100, 1000, 10_000):
                regret.setdefault(n, []).append(best - model_value(POMCP(n).solve(model)))
        curve = ", ".join(f"{max(r):.4f} at {n:,}" for n, r in regret.items())
        yield f"pomcp, {name}, worst regret of six prices", curve, "≤ 0.005", ""


def profiles() -> Iterator[tuple[str, ...]]:
    """Solvers by shipped profiles: value, regret, time to solve and to decide, peak of memory."""
    for name in PROFILES:
        model = fitted(name, **EVERYTHING).at(0.2)
        best, bounds = Exact().solve(model).value, Bounds.of(model)
        between = f"{bounds.blind:.4f} ≤ {best:.4f} ≤ {bounds.fib:.4f} ≤ {bounds.qmdp:.4f}"
        yield name, "blind ≤ exact ≤ fib ≤ qmdp", between, ""
        data = model.sample(1500, np.random.default_rng(0))
        for label, solver in solvers().items():
            policy, seconds = timed(solver.solve, model)
            outcome, replayed = timed(evaluate, policy, data)
            value = model_value(policy)
            yield (
                f"{name}, {label}",
                f"value {value:.4f}, regret {best - value:.4f}",
                f"{seconds * 1e3:.0f} ms to solve, "
                f"{replayed / outcome.decisions * 1e6:.1f} µs a decision",
                peak(label, f"fitted({name!r}, **b.EVERYTHING).at(0.2)"),
            )


def memory() -> Iterator[tuple[str, ...]]:
    """Peak memory of each solver by numbers of models and symbols, with every option."""
    for n, symbols in ((3, 8), (4, 8), (5, 8), (5, 16), (6, 8), (8, 32)):
        for solver in ("exact", "alpha_vectors", "point_based", "pomcp"):
            figure = peak(solver, f"own({n}, {symbols}, **b.EVERYTHING)")
            yield f"{solver}, N = {n}, {symbols} symbols", figure, "", ""
