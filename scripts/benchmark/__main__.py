"""Benchmarks of speed and accuracy, each with a peer timed in the same run."""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tabulate import tabulate

from routing_pomdp.envs import Costs, Rollouts, RoutingData, RoutingPOMDP, Rules
from routing_pomdp.evaluation.evaluate import evaluate
from routing_pomdp.scripts.benchmark import collect, environment, learners, pomdp
from routing_pomdp.scripts.benchmark.pomdp import timed
from routing_pomdp.solvers import Exact, Threshold


class Row(NamedTuple):
    what: str
    figure: str
    target: str = ""
    peer: str = ""
    ratio: str = ""


def main() -> None:
    sections = {
        "replay": data,
        "exact": exact,
        "environment": lambda: as_rows(environment.environment),
        "alpha": lambda: as_rows(pomdp.alpha),
        "search": lambda: as_rows(pomdp.search),
        "profiles": lambda: as_rows(pomdp.profiles),
        "memory": lambda: as_rows(pomdp.memory),
        "collect": lambda: as_rows(collect.throughput),
        "learners": lambda: as_rows(learners.learners),
        "automix": automix,
        "bootstrap": bootstrap,
        "loading": loading,
        "help": help_time,
    }
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "sections", nargs="*", help=f"which of {', '.join(sections)}; all by default"
    )
    chosen = parser.parse_args().sections or list(sections)
    if unknown := set(chosen) - set(sections):
        parser.error(f"no section {sorted(unknown)}: expected some of {list(sections)}")
    for name in chosen:
        rows = list(sections[name]())
        print(f"\n{name}\n" + tabulate(rows, Row._fields, disable_numparse=True), flush=True)


def as_rows(section: Callable[[], Iterator[tuple[str, ...]]]) -> Iterator[Row]:
    return (Row(*row) for row in section())


def problem(n_models: int, symbols: int, rules: dict[str, Any], price: float = 0.3) -> RoutingPOMDP:
    """A random binary problem with costs growing tenfold and verification at half an answer."""
    rng = np.random.default_rng(0)
    vectors = np.stack(np.unravel_index(np.arange(2**n_models), (2,) * n_models), axis=1).astype(
        float
    )
    call = np.logspace(0, n_models - 1, n_models)
    return RoutingPOMDP(
        score=vectors,
        prior=rng.dirichlet(np.ones(2**n_models)),
        likelihood=rng.dirichlet(np.ones(symbols), size=(n_models - 1, 2**n_models)),
        costs=Costs(call, call / 2),
        price=price,
        rules=Rules(n_models, **rules),
    )


EVERYTHING = {"skip": True, "free_start": True, "verify": True}


def data() -> Iterator[Row]:
    """Evaluation of one policy on 10^6 queries, compared with a plain loop over queries."""
    for n_models, rules in ((2, {}), (5, {}), (5, EVERYTHING)):
        model = problem(n_models, 8, rules, price=0.01)
        queries = model.sample(10**6, np.random.default_rng(1))
        policy = Exact().solve(model)
        outcome, seconds = timed(evaluate, policy, queries, repeat=3)
        speed = outcome.decisions / seconds
        label = f"N = {n_models}, {'every option' if rules else 'core'}"
        if rules:
            yield Row(f"replay 10^6 queries, {label}", f"{speed / 1e6:.1f} M decisions/s", "≥ 5")
            continue
        fitted = Threshold().solve(model, model.sample(1000, np.random.default_rng(2)))
        few = 20_000
        _, loop = timed(threshold_loop, queries, fitted, few)
        fast, seconds = timed(evaluate, fitted, queries, repeat=3)
        yield Row(f"replay 10^6 queries, {label}", f"{speed / 1e6:.1f} M decisions/s", "≥ 5")
        yield Row(
            f"a threshold policy, {label}",
            f"{fast.decisions / seconds / 1e6:.1f} M decisions/s",
            peer=f"loop over queries: {loop / few * 1e6:.2f} s for 10^6",
            ratio=f"{loop / few * 1e6 / seconds:.0f}×",
        )


def threshold_loop(queries: RoutingData, policy: Any, n: int) -> float:
    """A plain threshold script: the peer of `data`."""
    total, last = 0.0, queries.n_models - 1
    for q in range(n):
        model = 0
        cost = queries.call_cost[q, 0]
        while model < last:
            cost += queries.verify_cost[q, model]
            if not queries.signal[q, model, 0] < policy.cut[model]:
                break
            model += 1
            cost += queries.call_cost[q, model]
        total += queries.score[q, model] - cost
    return total


def exact() -> Iterator[Row]:
    """Solve times, compared with plain recursion over actions and symbols."""
    small = problem(4, 8, EVERYTHING)
    value, recursion = timed(tree_search, small)
    policy, seconds = timed(Exact().solve, small, repeat=5)
    assert abs(policy.value - value) < 1e-9
    yield Row(
        "exact, N = 4, 8 bins, every option",
        f"{seconds * 1e3:.2f} ms per price",
        peer=f"tree search: {recursion * 1e3:.0f} ms",
        ratio=f"{recursion / seconds:.0f}×",
    )
    for n_models, bins, rules, target in (
        (2, 33, {}, "≤ 5 ms"),
        (5, 8, EVERYTHING, "≤ 1000 ms"),
        (5, 16, {"skip": True}, ""),
        (6, 12, {"skip": True}, ""),
    ):
        model = problem(n_models, bins, rules)
        _, seconds = timed(Exact().solve, model, repeat=3)
        name = "every option" if rules == EVERYTHING else ("SKIP" if rules else "core")
        yield Row(
            f"exact, N = {n_models}, {bins} bins, {name}",
            f"{seconds * 1e3:.2f} ms per price",
            target,
        )


def tree_search(model: RoutingPOMDP) -> float:
    """The value by plain recursion, as in DESIGN §1: the peer of `exact`."""
    n, rules = model.n_models, model.rules

    def call(joint: Any, target: int) -> float:
        paid = -model.call_price[target] * joint.sum()
        if target == n - 1:
            return paid + joint @ model.score[:, target]
        return paid + (value(joint, target, False) if rules.verify else verify(joint, target))

    def verify(joint: Any, stage: int) -> float:
        likelihood = model.likelihood[stage].T
        return -model.verify_price[stage] * joint.sum() + sum(
            value(joint * likelihood[k], stage, True) for k in range(model.n_symbols)
        )

    def value(joint: Any, stage: int, verified: bool) -> float:
        options = [joint @ model.score[:, stage]]
        options += [call(joint, stage + a) for a in range(1, 1 + rules.reach(stage))]
        if rules.verify and not verified:
            options.append(verify(joint, stage))
        return max(options)

    starts = range(n) if rules.free_start else range(1)
    return float(max(call(model.prior, start) for start in starts))


def automix() -> Iterator[Row]:
    """AutoMix's routers, fitted on 1,000 and evaluated on 5,000 queries, beside its release."""
    from routing_pomdp.solvers.automix.pomdp import AutoMixPOMDP
    from routing_pomdp.solvers.automix.released import (
        AutoMixGreedy,
        AutoMixSimple,
        AutoMixUnion,
        Bins,
    )
    from routing_pomdp.solvers.automix.thresholds import (
        AutoMixDoubleThreshold,
        AutoMixThreshold,
        SelfConsistency,
    )

    bins: Bins = 8
    model = problem(2, bins + 1, {}, price=0.02)
    train, test = (two_models(n, seed) for seed, n in enumerate((1000, 5000)))
    solvers = {
        "Threshold": AutoMixThreshold(),
        "DoubleThreshold": AutoMixDoubleThreshold(),
        "SelfConsistency": SelfConsistency(),
        "POMDPSimple": AutoMixSimple(bins),
        "GreedyPOMDP": AutoMixGreedy(bins),
        "POMDP": AutoMixUnion(bins),
    }
    for name, solver in solvers.items():
        _, seconds = timed(lambda s=solver: evaluate(s.solve(model, train), test), repeat=5)
        peer = release_seconds(name, bins, train, test)
        yield Row(
            f"automix {name}, fit 1,000 and replay 5,000",
            f"{seconds * 1e3:.1f} ms",
            "≥ 100×",
            "automix-llm is not installed" if peer is None else f"automix-llm: {peer:.2f} s",
            "" if peer is None else f"{peer / seconds:.0f}×",
        )
    large = problem(5, 9, {"skip": True}, price=0.3)
    queries = large.sample(300, np.random.default_rng(0))
    graded = np.random.default_rng(1).random(queries.score.shape)
    particles = replace(queries, score=graded)
    policy, seconds = timed(AutoMixPOMDP().solve, large, particles)
    yield Row(
        "automix_pomdp, 300 particles, N = 5, 9 confidences", f"{seconds:.2f} s per price", "≤ 2 s"
    )
    one = replace(queries, **{name: getattr(queries, name)[:1] for name in PER_QUERY})
    _, seconds = timed(evaluate, policy, one, repeat=200)
    yield Row("automix_pomdp, one query from first to last decision", f"{seconds * 1e3:.2f} ms")


PER_QUERY = ("score", "call_cost", "verify_cost", "signal")


def two_models(n: int, seed: int) -> RoutingData:
    """Random data of two models with a confidence of nine values."""
    rng = np.random.default_rng(seed)
    score = (rng.random((n, 2)) < [0.5, 0.8]).astype(float)
    confidence = rng.binomial(8, 0.3 + 0.4 * score[:, :1], (n, 2)) / 8
    call, verify = np.broadcast_to([1.0, 10.0], (n, 2)), np.broadcast_to([0.5, 5.0], (n, 2))
    return RoutingData(score, call, verify, confidence[..., None])


def release_seconds(name: str, bins: int, train: RoutingData, test: RoutingData) -> float | None:
    """The release's time for the same; None if it is not installed."""
    try:
        import automix as release
        import pandas
    except ImportError:
        return None

    def frame(data: RoutingData) -> Any:
        small, large = data.score.T
        category = np.where(large > small, "NEEDY", np.where(small == 0, "HOPELESS", "GOOD"))
        columns = {"llama13b_f1": small, "llama70b_f1": large, "category": category}
        return pandas.DataFrame(columns | {"p_ver_13b": data.signal[:, 0, 0]})

    frames = frame(train), frame(test)

    def peer() -> None:
        router = release.Automix(getattr(release, name)(bins), costs=[1, 10], verifier_cost=0.5)
        router.train(frames[0])
        router.evaluate(frames[1])

    return timed(peer)[1]


def bootstrap() -> Iterator[Row]:
    """Intervals and differences of a full table, compared with a loop over resamples."""
    from routing_pomdp.evaluation.bootstrap import bootstrap_weights, intervals
    from routing_pomdp.evaluation.frontier_outcomes import FrontierOutcomes
    from routing_pomdp.evaluation.measures import measure
    from routing_pomdp.evaluation.significance import Resampled

    def family(seed: int) -> FrontierOutcomes:
        rng = np.random.default_rng(0)
        score = (rng.random((1500, 5)) < np.linspace(0.4, 0.9, 5)).astype(float)
        cost = np.geomspace(1, 50, 5) * rng.uniform(0.5, 1.5, (1500, 5))
        chosen = np.random.default_rng(seed).integers(5, size=(1500, 19))
        picked, paid = (np.take_along_axis(values, chosen, axis=1) for values in (score, cost))
        return FrontierOutcomes(picked, paid, score, cost, score, cost)

    families = {str(seed): family(seed) for seed in range(15)}

    def table() -> None:
        for outcomes in families.values():
            intervals(outcomes, outcomes)
        Resampled(families, "gap_closed").against("0")

    _, seconds = timed(table)
    one = families["0"]

    def loop() -> None:
        for counts in bootstrap_weights(1500, 20, 0):
            rows = np.repeat(np.arange(1500), counts.astype(int))
            measure(FrontierOutcomes(*(values[rows] for values in arrays)), one)

    arrays = [getattr(one, name) for name in one.__dataclass_fields__]
    _, few = timed(loop)
    looped = few / 20 * 1000 * 15 * 5
    yield Row(
        "bootstrap, 5 logs × 15 solvers × 1,000 resamples",
        f"{5 * seconds:.1f} s",
        "≤ 60 s",
        f"loop over resamples: {looped:.0f} s",
        f"{looped / (5 * seconds):.0f}×",
    )


def loading() -> Iterator[Row]:
    """Loading 10^6 queries × 5 models, compared with reading the file into an Arrow table."""
    import pyarrow.parquet

    from routing_pomdp.envs.logs.calls_table import read_calls, write_calls

    n, n_models = 10**6, 5
    rng = np.random.default_rng(0)
    rollouts = Rollouts(
        models=tuple(f"model-{i}" for i in range(n_models)),
        query_id=np.array([f"query-{i:07d}" for i in range(n)]),
        score=rng.integers(2, size=(n, n_models)).astype(float),
        cost=rng.random((n, n_models)) + np.arange(n_models),
        signals={"confidence": rng.random((n, n_models))},
        split=np.full(n, "train"),
        dataset=np.full(n, "random"),
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "calls.parquet"
        write_calls(rollouts, path)
        _, table = timed(pyarrow.parquet.read_table, path)
        _, seconds = timed(read_calls, path)
    yield Row(
        "load and validate 10^6 × 5 calls (parquet)",
        f"{seconds:.1f} s",
        "seconds",
        f"Arrow table alone: {table:.1f} s",
        f"{table / seconds:.2f}×",
    )


def help_time() -> Iterator[Row]:
    """Time to print the help of train.py, compared with importing torch."""
    script = Path(__file__).parents[1] / "train.py"
    _, seconds = timed(run, [str(script), "--help"], repeat=3)
    _, torch = timed(run, ["-c", "import torch"], repeat=3)
    yield Row(
        "train.py --help",
        f"{seconds:.2f} s",
        "≤ 2 s",
        f"import torch: {torch:.2f} s",
        f"{torch / seconds:.1f}×",
    )


def run(arguments: list[str]) -> None:
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True)


if __name__ == "__main__":
    main()
