"""The released heuristics, against the release itself on the same frames."""

import numpy as np
import pytest

from routing_pomdp.envs import Costs, RoutingData, RoutingPOMDP, Rules
from routing_pomdp.evaluation.evaluate import evaluate
from routing_pomdp.solvers.automix.released import AutoMixGreedy, AutoMixSimple, AutoMixUnion
from tests.support.problems import random_data, random_problem

automix = pytest.importorskip("automix", reason="the package automix-llm is not installed")
pandas = pytest.importorskip("pandas")

METHODS = {
    "simple": (AutoMixSimple, lambda bins: automix.POMDPSimple(bins)),
    "greedy": (AutoMixGreedy, lambda bins: automix.GreedyPOMDP(bins)),
    "union": (AutoMixUnion, lambda bins: automix.POMDP(bins)),
}


def frame(data: RoutingData) -> "pandas.DataFrame":
    """The columns that the release reads."""
    small, large = data.score.T
    category = np.where(large > small, "NEEDY", np.where(small == 0, "HOPELESS", "GOOD"))
    return pandas.DataFrame(
        {
            "llama13b_f1": small,
            "llama70b_f1": large,
            "p_ver_13b": data.signal[:, 0, 0],
            "category": category,
        }
    )


def queries(seed: int, n: int, costs: Costs) -> RoutingData:
    """Two models with scores of several kinds and a confidence on a grid or anywhere."""
    rng = np.random.default_rng(seed)
    ability = rng.random(n)
    small = (ability + 0.4 * rng.standard_normal(n) > 0.5).astype(float)
    large = (ability + 0.4 * rng.standard_normal(n) > 0.3).astype(float)
    if seed % 3 == 0:
        small, large = small * rng.random(n), large * rng.random(n)
    confidence = np.clip(0.5 * small + 0.5 * rng.random(n), 0, 1)
    if seed % 2 == 0:
        confidence = np.round(8 * confidence) / 8
    score = np.stack([small, large], axis=1)
    return RoutingData(
        score,
        np.broadcast_to(costs.call, (n, 2)),
        np.broadcast_to(costs.verify, (n, 2)),
        np.stack([confidence, confidence], axis=1)[..., None],
    )


def problem_with(costs: Costs) -> RoutingPOMDP:
    drawn = random_problem(Rules(2), np.random.default_rng(0))
    return RoutingPOMDP(drawn.score, drawn.prior, drawn.likelihood, costs, 0.1, drawn.rules)


@pytest.mark.parametrize("bins", [2, 8])
@pytest.mark.parametrize("method", METHODS)
def test_every_decision_is_the_release_s(method, bins):
    ours, theirs = METHODS[method]
    escalated = set()
    for seed, (size, costs) in enumerate(
        [
            (10, Costs(np.array([1.0, 50.0]), np.array([1.0, 0.0]))),
            (20, Costs(np.array([1.0, 60.0]), np.array([1.0, 0.0]))),
            (40, Costs(np.array([1.0, 200.0]), np.array([1.0, 0.0]))),
            (60, Costs(np.array([2.0, 7.0]), np.array([0.3, 0.0]))),
            (30, Costs(np.array([1.0, 100.0]), np.array([8.0, 0.0]))),
            (50, Costs(np.array([1.0, 50.0]), np.array([1.0, 0.0]))),
        ]
    ):
        train, test = queries(seed, size, costs), queries(seed + 1000, 60, costs)
        release = automix.Automix(theirs(bins), costs=costs.call, verifier_cost=costs.verify[0])
        release.train(frame(train))
        *_, score, cost, expected = release.evaluate(frame(test), return_decisions=True)
        outcome = evaluate(ours(bins=bins).solve(problem_with(costs), train), test)
        np.testing.assert_array_equal(outcome.answer == 1, expected.to_numpy())
        assert outcome.score.mean() == pytest.approx(score, abs=1e-12)
        assert outcome.cost.mean() == pytest.approx(cost, abs=1e-9)
        escalated.add(round(float(expected.mean()), 3))
    assert len(escalated) > 2


@pytest.mark.parametrize("bins", [4, 8])
def test_the_candidates_and_their_training_lift_are_the_release_s(bins):
    costs = Costs(np.array([1.0, 50.0]), np.array([1.0, 0.0]))
    for seed in range(2):
        train = queries(seed, 40, costs)
        data = frame(train)
        method = automix.POMDP(bins)
        release = automix.Automix(method, costs=[1, 50], verifier_cost=1)
        expected = []
        for point in method.generate_points(data):
            score, cost = release.compute_performance_cost(data, method.run(data, point))
            base, small, _ = release.get_slm_llm_slope_perf(data)
            expected.append(((score - small) / (cost - 1) - base) / base)
        solver = AutoMixUnion(bins=bins)
        pair = solver._pair(problem_with(costs), train)
        rules = solver.candidates(pair)
        assert len(rules) == len(expected)
        assert pair.lift(rules.decide(pair.confidence)).tolist() == expected


def test_a_frontier_has_the_best_rule_of_each_cost_region():
    costs = Costs(np.array([1.0, 50.0]), np.array([1.0, 0.0]))
    train, problem = queries(4, 400, costs), problem_with(costs)
    solver = AutoMixUnion(regions=5)
    policies = solver.solve_frontier(problem, [0.0, 0.1, 0.2, 0.4, 0.8], train)
    spent = [evaluate(policy, train).cost.mean() for policy in policies]
    assert spent == sorted(spent, reverse=True)
    pair = solver._pair(problem, train)
    rules = solver.candidates(pair)
    escalates = rules.decide(pair.confidence)
    lift, cost = pair.lift(escalates), pair.outcomes(escalates)[1]
    for region, mean in enumerate(reversed(spent)):
        low, high = 1 + 49 * region / 5, 1 + 49 * (region + 1) / 5
        assert low <= mean <= high
        inside = (cost >= low) & (cost <= high)
        chosen = np.isclose(cost, mean) & inside
        assert lift[chosen].max() == lift[inside].max()


def test_a_pair_among_many_models_leaves_the_others_out():
    rng = np.random.default_rng(0)
    problem = random_problem(Rules(4), rng)
    train = random_data(200, 4, rng)
    outcome = evaluate(AutoMixUnion(models=[1, 3]).solve(problem, train), train)
    assert set(outcome.answer.tolist()) <= {1, 3}
    assert (outcome.verifications == 1).all()
    paid = train.call_cost[:, 1] + train.verify_cost[:, 1]
    np.testing.assert_allclose(
        outcome.cost, paid + (outcome.answer == 3) * train.call_cost[:, 3], rtol=1e-12
    )


@pytest.mark.parametrize("solver", [AutoMixSimple, AutoMixGreedy, AutoMixUnion])
def test_what_it_cannot_do_is_refused_with_the_remedy(solver):
    rng = np.random.default_rng(0)
    problem, train = random_problem(Rules(3), rng), random_data(20, 3, rng)
    with pytest.raises(ValueError, match=r"routes between two models, the log has 3: set"):
        solver().solve(problem, train)
    with pytest.raises(ValueError, match=r"solver\.models is \[2, 1\]: expected two indexes"):
        solver(models=[2, 1]).solve(problem, train)
    with pytest.raises(ValueError, match=r"solver\.bins is 10: expected one of"):
        solver(bins=10)
    logged = RoutingData(
        train.score, train.call_cost, train.verify_cost, np.log(train.signal + 1e-9)
    )
    with pytest.raises(ValueError, match=r"confidences in \[0, 1\].*verifier\.transform=exp"):
        solver(models=[0, 2]).solve(problem, logged)
    wide = random_data(20, 3, rng, signals=2)
    with pytest.raises(ValueError, match="one number an answer, the verifier gives 2"):
        solver(models=[0, 2]).solve(problem, wide)


@pytest.mark.parametrize("solver", [AutoMixSimple, AutoMixGreedy, AutoMixUnion])
@pytest.mark.parametrize("right", [(0.0, 1.0), (1.0, 1.0), (0.0, 0.0), (1.0, 0.0)])
def test_models_never_or_always_right_and_a_constant_signal_work(solver, right):
    costs = Costs(np.array([1.0, 50.0]), np.array([1.0, 0.0]))
    n = 10
    train = RoutingData(
        np.tile(right, (n, 1)),
        np.broadcast_to(costs.call, (n, 2)),
        np.broadcast_to(costs.verify, (n, 2)),
        np.full((n, 2, 1), 0.5),
    )
    policies = solver().solve_frontier(problem_with(costs), [0.0, 1.0], train)
    for policy in policies:
        assert set(evaluate(policy, train).answer.tolist()) in ({0}, {1})
