"""The results of one run: its policies evaluated and measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from routing_pomdp.envs import RoutingData, RoutingPOMDP
from routing_pomdp.evaluation.bootstrap import intervals
from routing_pomdp.evaluation.evaluate import evaluate, model_value, returns
from routing_pomdp.evaluation.frontier_outcomes import FrontierOutcomes
from routing_pomdp.evaluation.guarantee import Calibration, certify
from routing_pomdp.evaluation.measures import measure, router_arena_score
from routing_pomdp.evaluation.operating_points import OperatingPointSelection
from routing_pomdp.evaluation.policies.belief_quality import BeliefQuality, belief_quality
from routing_pomdp.evaluation.policies.policy_map import watch
from routing_pomdp.evaluation.runs.run_guarantee import CERTIFIED, Tolerance, guarantee_on_test
from routing_pomdp.solvers import Exact, HasBelief, Oracle, Policy, QueryPolicy
from routing_pomdp.solvers.exact.bounds import Bounds

_IN_MODEL = ("model_regret", "blind_value", "exact_value", "fib_bound", "qmdp_bound")


@dataclass(frozen=True, eq=False)
class Report:
    """The results of a run.

    Attributes:
        measures: DESIGN §3's measures on the test split, by name; None where undefined. Decisions
            after histories of probability 0, or after symbols that no training query has, are
            counted over all prices.
        intervals: bootstrap confidence intervals ``(low, high)`` of measures that have one.
        points: one operating point per price, in the order of the prices.
        chosen: operating points selected on validation by price, budget or floor, with their test
            outcomes.
        maps: ``(M, N, K + 1, N + 1)`` the policy map of each price on test.
        models: the single models on the test split, cheapest first.
        test: outcomes of each query.
        guarantee: see `evaluation.guarantee`, with its outcome on test; None if none was asked for.
        calibration: what it was found on.
        beliefs: calibration of the policies' belief; None for policies without a belief.
    """

    measures: dict[str, float | int | None]
    intervals: dict[str, tuple[float | None, float | None]]
    points: list[dict[str, float | None]]
    models: list[dict[str, float | str]]
    chosen: list[dict[str, Any]]
    maps: NDArray[np.int64]
    test: FrontierOutcomes
    beliefs: BeliefQuality | None = None
    guarantee: dict[str, Any] | None = None
    calibration: Calibration | None = None


def report(
    policies: Sequence[Policy | QueryPolicy],
    problem: RoutingPOMDP,
    prices: Sequence[float],
    validation: RoutingData,
    test: RoutingData,
    model_names: Sequence[str],
    *,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
    regret: bool = True,
    budgets: Sequence[float] = (),
    floors: Sequence[float] = (),
    usd: bool = False,
    tolerance: Tolerance | None = None,
) -> Report:
    """Evaluates one policy per price on both splits and computes all measures.

    Args:
        policies: one per price.
        problem: the fitted problem, at any price.
        prices: ``λ`` of each policy.
        validation: queries for the selection of operating points.
        test: queries for the measures.
        model_names: cheapest first.
        resamples: bootstrap resamples.
        level: coverage of the confidence intervals.
        seed: seed of the bootstrap.
        regret: whether to compute values inside the model; skipped if the exact solver cannot
            enumerate it, for policies that read texts or scores, and for policies with other rules
            than the problem's.
        budgets: mean costs to select mixtures for, as shares of the most expensive model's; budgets
            below the cheapest model's cost are left out.
        floors: losses to the best single model to select policies for, in points.
        usd: whether costs are in USD, as RouterArena's score needs them.
        tolerance: of the guarantee to give; None for none.
    """
    oracles = [Oracle().solve(problem.at(price), test) for price in prices]
    families, plays, maps = {}, {}, {}
    for name, data in (("validation", validation), ("test", test)):
        watched = [watch(policy, data, problem) for policy in policies]
        plays[name] = [outcome for outcome, _ in watched]
        maps[name] = np.stack([policy_map.count for _, policy_map in watched])
        best = [evaluate(policy, data) for policy in oracles]
        families[name] = FrontierOutcomes(
            score=np.stack([play.score for play in plays[name]], axis=1),
            cost=np.stack([play.cost for play in plays[name]], axis=1),
            model_score=data.score,
            model_cost=data.call_cost,
            oracle_score=np.stack([play.score for play in best], axis=1),
            oracle_cost=np.stack([play.cost for play in best], axis=1),
        )
    optimal = _optimal_values(problem, prices) if regret else None
    bounds = Bounds.at_prices(problem, prices) if optimal else None
    points = []
    for i, (policy, price) in enumerate(zip(policies, prices, strict=True)):
        play, checked = plays["test"][i], plays["validation"][i]
        returned = float(returns(play, problem.at(price)).mean())
        point: dict[str, float | None] = {
            "price": float(price),
            "cost": float(play.cost.mean()),
            "cost_relative": float(play.cost.mean() / test.call_cost[:, -1].mean()),
            "score": float(play.score.mean()),
            "return": returned,
            "calls": float(play.calls.mean()),
            "verifications": float(play.verifications.mean()),
            "decisions": play.decisions,
            "impossible_decisions": play.impossible,
            "unseen_decisions": play.unseen,
            "validation_cost": float(checked.cost.mean()),
            "validation_score": float(checked.score.mean()),
            **_in_model(
                policy,
                problem.at(price),
                optimal[i] if optimal else None,
                bounds[i] if bounds else None,
            ),
        }
        if (promised := point["promised"]) is not None:
            point["promise_excess"] = promised - returned
        points.append(point)
    measures = measure(families["test"], families["validation"]).as_dict()
    for key in ("promise_excess", *_IN_MODEL):
        known = [value for point in points if (value := point.get(key)) is not None]
        measures[key] = float(np.mean(known)) if known else None
        if key == "model_regret":
            measures["model_regret_max"] = float(np.max(known)) if known else None
    for key in ("impossible_decisions", "unseen_decisions"):
        measures[key] = sum(int(point[key] or 0) for point in points)
    if usd:
        measures["router_arena"] = _router_arena(families["test"], families["validation"])
    between = intervals(
        families["test"], families["validation"], resamples=resamples, level=level, seed=seed
    )
    certified = calibration = None
    if tolerance is not None:
        calibration, reference = tolerance.calibration(policies, prices)
        certified = guarantee_on_test(
            certify({tolerance.solver: calibration}, tolerance.epsilon, tolerance.delta),
            families["test"],
            reference,
            resamples,
            level,
            seed,
        )
        certified["reference"] = model_names[reference]
        at = certified["index"]
        certified["price"] = float(prices[at]) if at >= 0 else None
        measures |= {name: certified[name] for name in CERTIFIED}
        between |= {name: tuple(certified[f"{name}_interval"]) for name in CERTIFIED[:2]}
    beliefs = None
    if isinstance(policies[0], HasBelief):  # the policies of all prices share one belief
        beliefs = belief_quality(
            policies[0], problem, test, model_names, resamples=resamples, level=level, seed=seed
        )
        measures |= beliefs.measures
        between |= beliefs.intervals
    selection = OperatingPointSelection(
        families["test"], families["validation"], resamples, level, seed
    )
    cheapest = validation.call_cost[:, 0].mean() / validation.call_cost[:, -1].mean()
    affordable = [budget for budget in budgets if budget >= cheapest]
    chosen = selection.at_each(prices, affordable, floors)
    return Report(
        measures=measures,
        chosen=[choice.as_dict() for choice in chosen],
        maps=maps["test"],
        intervals={name: (_number(low), _number(high)) for name, (low, high) in between.items()},
        points=points,
        models=[
            {"name": name, "cost": float(cost), "score": float(score)}
            for name, cost, score in zip(
                model_names, test.call_cost.mean(0), test.score.mean(0), strict=True
            )
        ],
        test=families["test"],
        beliefs=beliefs,
        guarantee=certified,
        calibration=calibration,
    )


def _router_arena(test: FrontierOutcomes, validation: FrontierOutcomes) -> float | None:
    """RouterArena's score on test, of the operating point that is best by it on validation."""
    chosen_on, means = validation.means(), test.means()
    scores = router_arena_score(chosen_on.score, chosen_on.cost)
    if np.isnan(scores).all():
        return None
    best = int(np.nanargmax(scores))
    return _number(float(router_arena_score(means.score[best], means.cost[best])))


def _in_model(
    policy: Policy | QueryPolicy,
    problem: RoutingPOMDP,
    optimal: float | None,
    bounds: Bounds | None,
) -> dict[str, float | None]:
    """A policy's values inside the fitted model, None where unknown: the value that the policy
    gives itself, its exact value, its regret, and the optimal value with its bounds."""
    found: dict[str, float | None] = dict.fromkeys(("model_value", *_IN_MODEL))
    found["promised"] = _number(getattr(policy, "value", float("nan")))
    if optimal is None or bounds is None:
        return found
    found |= {"blind_value": bounds.blind, "exact_value": optimal}
    found |= {"fib_bound": bounds.fib, "qmdp_bound": bounds.qmdp}
    if not isinstance(policy, QueryPolicy) and policy.problem.rules == problem.rules:
        value = model_value(policy, problem)
        found |= {"model_value": value, "model_regret": optimal - value}
    return found


def _optimal_values(problem: RoutingPOMDP, prices: Sequence[float]) -> list[float] | None:
    """Optimal values at every price; None if there are too many histories to enumerate."""
    exact = Exact()
    if problem.n_histories > exact.max_histories:
        return None
    values = np.zeros(len(prices))
    for share, left in problem.branches():
        values += share * np.array([p.value for p in exact.solve_frontier(left, prices)])
    return [
        float(value) - problem.at(price).pre_price
        for value, price in zip(values, prices, strict=True)
    ]


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
