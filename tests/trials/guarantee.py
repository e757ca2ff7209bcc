"""Counts how often a guarantee is broken, and what it saves, over draws of calibration queries.

    python -m tests.trials.guarantee worlds --repetitions 1000
    python -m tests.trials.guarantee logs --splits 200

*Worlds*: for each embedded profile, policies are fitted on 1,000 simulated queries and replayed on
50,000 more, whose means count as the truth; calibration queries are drawn from these. In the world
"edge" every operating point loses a hair more than the tolerance, so that whatever is certified is
a violation: the hardest case. *Logs*: for each real log, policies are fitted on a random 40 % of
the queries, four times; calibration queries are drawn from the rest, whose means count as the
truth.

For each number of calibration queries: the rate of violations (what was chosen truly loses more
than ε) with its exact 95 % interval, and the power, the saving got as a share of the largest saving
that keeps ε; of the guarantee, of the same with betting in place of the exact test, and of the
naive choice, the cheapest operating point that loses at most ε on the calibration queries.
"""

from __future__ import annotations

import argparse
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from hydra import compose, initialize_config_module
from scipy.stats import binomtest
from tabulate import tabulate

from routing_pomdp.envs import CostModel, RoutingData
from routing_pomdp.evaluation import guarantee
from routing_pomdp.evaluation.configuration.build import build
from routing_pomdp.evaluation.evaluate import evaluate
from routing_pomdp.evaluation.guarantee import Calibration, certify, order_of_tests
from routing_pomdp.evaluation.loss_tests import betting_p_value
from routing_pomdp.evaluation.measures import best_single_model
from routing_pomdp.evaluation.runs.prepare import prepare
from routing_pomdp.solvers import Solver
from routing_pomdp.solvers.solver import solved

HEADER = ("world", "n", "choice", "violations", "95 % interval", "power", "saving", "possible")
PROFILES = ("mmlu", "medmcqa", "truthfulqa", "triviaqa", "gsm8k")
QUICK = ["observation.bins=5", "model=joint", "env=full", "tracker=none"]
LLAMA = ("mmlu", "medmcqa", "truthfulqa", "triviaqa", "gsm8k")
PUBLIC = {
    "letters_mmlu": "[Llama3-8b,Yi-34b,Llama3-70b,gpt-4-turbo]",
    "letters_arc": "[Llama3-8b,Yi-34b,Llama3-70b,gpt-4-turbo]",
    "mmlu_pro_openai": "null",
    "swe_bench_pro": "null",
}


class World(NamedTuple):
    """Operating points on a population of queries, whose means are the truth."""

    score: np.ndarray
    cost: np.ndarray
    reference_score: np.ndarray
    reference_cost: np.ndarray
    order: tuple[int, ...]

    def drawn(self, rows: np.ndarray) -> Calibration:
        arrays = (self.score, self.cost, self.reference_score, self.reference_cost)
        return Calibration(*(values[rows] for values in arrays), self.order)

    def truth(self) -> tuple[np.ndarray, np.ndarray]:
        """True losses ``(M,)`` and true savings ``(M,)``."""
        loss = self.reference_score.mean() - self.score.mean(axis=0)
        return loss, 1 - self.cost.mean(axis=0) / self.reference_cost.mean()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("worlds", "logs"))
    parser.add_argument("--repetitions", type=int, default=1000, help="of each world")
    parser.add_argument("--splits", type=int, default=200, help="of each log")
    parser.add_argument("--epsilon", type=float, default=0.02)
    parser.add_argument("--delta", type=float, default=0.1)
    parser.add_argument("--solver", default="threshold")
    parser.add_argument("--only", nargs="*", help="names of worlds or logs")
    a = parser.parse_args()
    # The estimate takes most of the time, and decides nothing.
    guarantee.queries_needed = lambda *given: None
    print("\t".join(HEADER), flush=True)
    table = []
    if a.what == "worlds":
        for name in a.only or ("edge", *PROFILES):
            world = edge(a.epsilon) if name == "edge" else embedded(name, a.solver)
            for n in (50, 200, 1000):
                rng = np.random.default_rng(n)
                drawn = (rng.integers(0, len(world.score), n) for _ in range(a.repetitions))
                table += rows_of(name, n, [(world, rows) for rows in drawn], a.epsilon, a.delta)
    else:
        for name in a.only or (*LLAMA, *PUBLIC):
            worlds = [logged(name, a.solver, seed) for seed in range(4)]
            pool = len(worlds[0].score)
            for n in sorted({min(n, pool // 2) for n in (75, 200, 1000)}):
                rng = np.random.default_rng(n)
                drawn = [
                    (world, rng.permutation(len(world.score))[:n])
                    for world in worlds
                    for _ in range(a.splits // len(worlds))
                ]
                table += rows_of(name, n, drawn, a.epsilon, a.delta)
    print(tabulate(table, HEADER, disable_numparse=True))


def rows_of(
    name: str, n: int, drawn: list[tuple[World, np.ndarray]], epsilon: float, delta: float
) -> Iterator[list[str]]:
    """One row a way to choose."""
    choices = {
        "guarantee": lambda c: certify({"": c}, epsilon, delta).index,
        "betting": lambda c: by_betting(c, epsilon, delta),
        "naive": lambda c: naive(c, epsilon),
    }
    truth = {id(world): world.truth() for world, _ in drawn}
    broken, got, possible = Counter(), Counter(), 0.0
    for world, rows in drawn:
        loss, saving = truth[id(world)]
        calibration = world.drawn(rows)
        possible += max([0.0, *saving[loss <= epsilon + 1e-12]])
        for label, choose in choices.items():
            if (point := choose(calibration)) >= 0:
                broken[label] += bool(loss[point] > epsilon + 1e-12)
                got[label] += float(saving[point])
    for label in choices:
        low, high = binomtest(broken[label], len(drawn)).proportion_ci(method="exact")
        power = f"{got[label] / possible:.2f}" if possible > 1e-9 else "–"
        mean = [f"{total / len(drawn):.3f}" for total in (got[label], possible)]
        rate = f"{broken[label] / len(drawn):.3f}"
        row = [name, f"{n:,}", label, rate, f"[{low:.3f}, {high:.3f}]", power, *mean]
        print("\t".join(row), flush=True)
        yield row


def by_betting(calibration: Calibration, epsilon: float, delta: float) -> int:
    """The certified point that saves most, each tested by betting alone."""
    best, most = -1, 0.0
    for point in calibration.order:
        if betting_p_value(calibration.loss(point), epsilon, delta, -1.0, 1.0) > delta:
            break
        if calibration.saving(point) > most:
            best, most = point, calibration.saving(point)
    return best


def naive(calibration: Calibration, epsilon: float) -> int:
    """The point that saves most of those that lose at most epsilon on the calibration queries."""
    kept = [p for p in calibration.order if calibration.loss(p).mean() <= epsilon]
    best = max(kept, key=calibration.saving, default=-1)
    return best if best >= 0 and calibration.saving(best) > 0 else -1


def edge(epsilon: float, n: int = 50_000, points: int = 10) -> World:
    """Ten points that all lose one query in 50,000 more than ε, each with other wins and losses."""
    rng = np.random.default_rng(0)
    reference = (rng.random(n) < 0.8).astype(float)
    score = np.repeat(reference[:, None], points, axis=1)
    for point in range(points):
        right, wrong = (rng.permutation(np.flatnonzero(reference == r)) for r in (1, 0))
        wins = 200 * point
        score[right[: wins + round(n * epsilon) + 1], point] = 0
        score[wrong[:wins], point] = 1
    cost = np.tile(np.linspace(0.9, 0.1, points), (n, 1))
    return World(score, cost, reference, np.ones(n), tuple(range(points)))


def embedded(profile: str, solver: str) -> World:
    """Policies fitted on simulated queries, on a large simulated population."""
    queries = "rollouts.queries={train: 1000, validation: 10, test: 50000}"
    return fitted([f"rollouts.profile={profile}", queries, f"solver={solver}"])


def logged(name: str, solver: str, seed: int) -> World:
    """Policies fitted on 40 % of a log, on the rest of it."""
    shared = Path(__file__).parents[3] / "shared" / "data" / "rational_cascades"
    llama = Path(os.environ.get("ROUTING_LOGS", shared))
    split = ["evaluation.resplit=true", "evaluation.test=0.6", "evaluation.validation=0.02"]
    split += [f"evaluation.split_seed={seed}", "costs=logged", f"solver={solver}"]
    if name in LLAMA:
        log = ["rollouts=rational_cascades", f"rollouts.path={llama}", f"rollouts.dataset={name}"]
    else:
        path = llama.parent / "public_logs" / f"{name}.parquet"
        log = ["rollouts=calls_table", f"rollouts.path={path}", f"rollouts.models={PUBLIC[name]}"]
        signals = {"mmlu_pro_openai": "verbal", "swe_bench_pro": "submitted"}
        log.append(f"verifier.name={signals.get(name, 'msp')}")
    return fitted([*log, *split])


def fitted(overrides: list[str]) -> World:
    with initialize_config_module("routing_pomdp.conf", version_base="1.3"):
        config = compose("train", [*QUICK, *overrides])
    costs = build(config.costs, "costs", CostModel)
    problem, train, _, pool = prepare(config, build(config.rollouts, "rollouts"), costs)
    prices = list(config.evaluation.prices)
    policies = solved(build(config.solver, "solver", Solver), problem, prices, train)
    reference = best_single_model(train.score.mean(axis=0), train.call_cost.mean(axis=0))
    paid = replayed(policies, train)[1].mean(axis=0)
    score, cost = replayed(policies, pool)
    order = order_of_tests(prices, paid, float(train.call_cost[:, reference].mean()))
    return World(score, cost, pool.score[:, reference], pool.call_cost[:, reference], order)


def replayed(policies: list, data: RoutingData) -> tuple[np.ndarray, np.ndarray]:
    plays = [evaluate(policy, data) for policy in policies]
    return np.stack([p.score for p in plays], 1), np.stack([p.cost for p in plays], 1)


if __name__ == "__main__":
    main()
