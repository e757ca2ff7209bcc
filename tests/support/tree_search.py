"""The value of a routing problem by plain recursion, straight from DESIGN's definition.

No history codes, no arrays, no sharing of work: what was seen is a dict, the joint weights of
the score vectors are a list, and every action and every symbol is walked through in turn.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from routing_pomdp.envs import STAY, History, RoutingPOMDP
from routing_pomdp.solvers.solver import Policy

Seen = dict[int, int | None]  # model called -> its symbol, None if it was not verified
Choose = Callable[[Seen], int]


def tree_value(problem: RoutingPOMDP, choose: Choose | None = None) -> float:
    """The expected return of the best policy, or of one that plays ``choose(seen)``."""
    rules, n = problem.rules, problem.n_models
    rate = problem.price / float(problem.costs.call[n - 1])
    costs = problem.costs
    call_cost, verify_cost = (
        (np.tile(mean, (len(problem.prior), 1)) if given is None else given).T.tolist()
        for mean, given in ((costs.call, costs.call_in), (costs.verify, costs.verify_in))
    )
    score, Z = problem.score.tolist(), problem.likelihood.tolist()
    vectors = range(len(score))

    def answered(seen: Seen, weights: list[float]) -> float:
        means = {m: sum(weights[s] * score[s][m] for s in vectors) for m in seen}
        return max(means.values()) if rules.answer == "best" else means[max(seen)]

    def call(seen: Seen, weights: list[float], model: int) -> float:
        seen = seen | {model: None}
        paid = rate * sum(weights[s] * call_cost[model][s] for s in vectors)
        if model == n - 1:
            return answered(seen, weights) - paid
        if rules.verify:
            return decide(seen, weights) - paid
        return verify(seen, weights, model) - paid

    def verify(seen: Seen, weights: list[float], model: int) -> float:
        total = -rate * sum(weights[s] * verify_cost[model][s] for s in vectors)
        for symbol in range(len(Z[model][0])):
            likely = [weights[s] * Z[model][s][symbol] for s in vectors]
            total += decide(seen | {model: symbol}, likely)
        return total

    def decide(seen: Seen, weights: list[float]) -> float:
        stage = max(seen, default=-1)
        options: dict[int, Callable[[], float]] = {}
        if seen:
            options[STAY] = lambda: answered(seen, weights)
        targets = range(stage + 1, n)
        if (seen and not rules.skip) or (not seen and not rules.free_start):
            targets = range(stage + 1, stage + 2)
        for target in targets:
            options[target - stage] = lambda target=target: call(seen, weights, target)
        if rules.verify and seen and seen[stage] is None:
            options[rules.verify_action] = lambda: verify(seen, weights, stage)
        if choose is None or not (seen or rules.free_start):
            return max(option() for option in options.values())
        return options[choose(seen)]()

    return decide({}, problem.prior.tolist())


def playing(policy: Policy) -> Choose:
    """A policy's choice after what was seen; signals are the symbols themselves."""
    n = policy.problem.n_models

    def choose(seen: Seen) -> int:
        called, verified = np.zeros((1, n), dtype=bool), np.zeros((1, n), dtype=bool)
        signal = np.full((1, n, 1), np.nan)
        for model, symbol in seen.items():
            called[0, model] = True
            if symbol is not None:
                verified[0, model], signal[0, model] = True, symbol
        stage = np.array([max(seen, default=-1)])
        return int(policy.act(History(np.zeros(1, dtype=int), stage, called, verified, signal))[0])

    return choose
