"""POMCP, against exact backward induction inside the model."""

from dataclasses import replace
from itertools import product

import numpy as np
import pomdp_py
import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing_pomdp.envs import STAY, Costs, History, RoutingPOMDP, Rules
from routing_pomdp.evaluation.evaluate import evaluate, model_value
from routing_pomdp.solvers import Exact, TablePolicy
from routing_pomdp.solvers.search.pomcp import POMCP, POMCPPolicy
from tests.support.hard_problems import EVERYTHING, asked, hard_problem
from tests.support.problems import covering_rules, every_rules, name_of, problems


def _reached(policy: TablePolicy) -> tuple[np.ndarray, np.ndarray]:
    """The histories that a policy reaches, and their probabilities."""
    seen: list[np.ndarray] = []

    class Noting:
        problem = policy.problem

        def act(self, history: History) -> np.ndarray:
            seen.append(self.problem.encode(history))
            return policy.act(history)

    model_value(Noting())
    codes = np.concatenate(seen)
    return codes, policy.problem.joint(codes).sum(axis=1)


def _regret(problem: RoutingPOMDP, **settings) -> float:
    return Exact().solve(problem).value - model_value(POMCP(**settings).solve(problem))


# -- against exact ----------------------------------------------------------------------------


def test_regret_falls_towards_zero_as_simulations_grow(searches):
    hard = [hard_problem(rules, seed) for seed, rules in product(range(2), every_rules(4))]
    plain = {"decide": "mean", "prior_visits": 0}
    regret = {n: [_regret(p, simulations=n, **plain) for p in hard] for n in (10, 100, 3000)}
    assert len(searches) > 100
    assert np.mean(regret[10]) > 2 * np.mean(regret[100])
    assert np.mean(regret[100]) > 2 * np.mean(regret[3000])
    assert np.mean(regret[3000]) < 0.001
    assert min(map(min, regret.values())) > -1e-10
    # Told by a backup instead, a tenth of the simulations do.
    assert np.mean([_regret(problem, simulations=300) for problem in hard]) < 0.0005


def test_what_lies_beyond_the_lookahead_counts_for_nothing():
    hard = [hard_problem(rules, seed) for seed, rules in enumerate(every_rules(4))]
    near, far = (
        np.mean([_regret(p, simulations=1000, decide="mean", max_depth=depth) for p in hard])
        for depth in (1, None)
    )
    assert near > 2 * far


@pytest.mark.slow
@pytest.mark.parametrize("rules", covering_rules(3), ids=name_of)
def test_ten_thousand_simulations_come_within_five_thousandths_of_exact(rules):
    regret = [_regret(hard_problem(rules, seed), simulations=10_000) for seed in range(3)]
    assert np.mean(regret) < 0.005


@pytest.mark.slow
@pytest.mark.parametrize("answer", ["last", "best"])
def test_four_models_with_every_option_come_within_a_hundredth_of_exact(answer, searches):
    rules = Rules(4, skip=True, free_start=True, verify=True, answer=answer)
    assert (
        np.mean([_regret(hard_problem(rules, seed), simulations=2000) for seed in range(3)]) < 0.01
    )
    assert searches


@pytest.mark.parametrize("seed", [0, 1])
def test_verification_is_bought_as_often_as_exact_buys_it_at_every_cost(seed, searches):
    problem = hard_problem(replace(EVERYTHING, answer="best"), seed)
    call, bought = problem.costs.call, []
    for share in (0.1, 1.0, 2.0, 4.0):
        priced = replace(problem, costs=Costs(call, share * call))
        data = priced.sample(2000, np.random.default_rng(0))
        exact, pomcp = Exact().solve(priced), POMCP(simulations=2000).solve(priced)
        bought.append(evaluate(exact, data).verifications.mean())
        assert evaluate(pomcp, data).verifications.mean() == pytest.approx(bought[-1], abs=0.05)
    assert bought[0] > 1
    assert bought[-1] == 0
    assert searches


def test_the_search_alone_finds_what_exact_finds_where_much_depends_on_it():
    """Wherever exact goes, replacing its action by POMCP's alone costs little: so the two agree
    wherever every other action is much worse."""
    agreed = 0
    for seed, rules in enumerate(every_rules(3)):
        problem = hard_problem(rules, seed)
        exact, pomcp = Exact().solve(problem), POMCP(simulations=2000).solve(problem)
        codes, mass = _reached(exact)
        chosen = pomcp.act(problem.decode(codes))
        for code, p, action in zip(codes, mass, chosen, strict=True):
            if action != exact.actions[code]:
                deviation = exact.actions.copy()
                deviation[code] = action
                loss = (exact.value - model_value(TablePolicy(problem, deviation))) / p
                assert loss < 0.02
            agreed += action == exact.actions[code]
    assert agreed > 100


@given(problems(max_models=3))
def test_no_optimal_action_is_ever_left_out_of_the_search(problem):
    exact = Exact().solve(problem)
    model = POMCP().solve(problem).model
    codes, mass = _reached(exact)
    for code in codes[mass > 1e-9].tolist():
        searched = [action.index for action in model.root(code).edges]
        assert exact.actions[code] in searched


@pytest.mark.parametrize("rules", covering_rules(3), ids=name_of)
def test_the_search_starts_from_upper_bounds_of_the_exact_values(rules):
    """Of every action: what it is worth if exact follows it, told from one change of exact."""
    # A dear last model, or else climbing to it is worth more than any answer at hand.
    for seed, price, share in product(range(3), (0.1, 0.8), (0.0, 0.5)):
        problem = hard_problem(rules, seed, symbols=3)
        call = problem.costs.call * [1, 1, 5]
        problem = replace(problem, costs=Costs(call, share * call), price=price)
        exact, model = Exact().solve(problem), POMCP().solve(problem).model

        def value(code: int, action: int, exact: TablePolicy = exact) -> float:
            actions = exact.actions.copy()
            actions[code] = action
            return model_value(TablePolicy(exact.problem, actions))

        for code, mass in zip(*_reached(exact), strict=True):
            history = problem.decode(np.array([code]))
            if history.stage[0] < 0:
                continue
            belief = problem.belief(np.array([code]))[0]
            stayed = belief @ problem.score[:, problem.best_answer(history)[0]]
            for action, _, bound in model.root(int(code)).preferred:
                gained = (value(code, action.index) - value(code, STAY)) / mass
                assert bound >= stayed + gained - 1e-7


@given(problems(max_models=3), st.integers(8, 60), st.integers(1, 30))
def test_every_decision_is_legal(problem, simulations, particles):
    """Also where the model holds the history for impossible."""
    history = problem.decode(asked(problem))
    policy = POMCP(simulations=simulations, particles=particles).solve(problem)
    action = policy.act(history)
    masks = problem.rules.masks[history.stage + 1, history.last_verified.astype(int)]
    assert masks[np.arange(len(history)), action].all()


@pytest.mark.parametrize("rules", every_rules(4), ids=name_of)
def test_looking_ahead_by_default_sees_the_whole_episode(rules):
    problem = hard_problem(rules)
    history = problem.decode(asked(problem))
    settings = {"simulations": 100, "decide": "mean"}
    ever = POMCP(max_depth=1000, **settings).solve(problem)
    assert (POMCP(**settings).solve(problem).act(history) == ever.act(history)).all()


@pytest.mark.parametrize(
    "change",
    [
        {"tree": "pouct"},
        {"reuse": True},
        {"rollout": "qmdp"},
        {"rollout": "stay"},
        {"rollout": "random"},
    ],
    ids=str,
)
def test_every_variant_comes_near_to_exact(change, searches):
    for answer in ("last", "best"):
        problem = hard_problem(replace(EVERYTHING, answer=answer))
        assert _regret(problem, simulations=500, **change) < 0.002
        assert _regret(problem, simulations=5000, decide="mean", **change) < 0.01


def test_a_reused_tree_depends_on_no_other_question():
    """Each plan makes the one before it, whether or not that was asked for."""
    problem = hard_problem(EVERYTHING)
    codes = asked(problem)
    settings = {"reuse": True, "simulations": 30, "decide": "mean"}
    forwards, backwards = (POMCP(**settings).solve(problem) for _ in range(2))
    first = forwards.act(problem.decode(codes))
    last = [backwards.act(problem.decode(codes[[i]]))[0] for i in reversed(range(len(codes)))]
    assert (np.array(last[::-1]) == first).all()


def test_a_reused_tree_has_more_visits(monkeypatch):
    visits = []

    class Noted(pomdp_py.POMCP):
        def plan(self, agent):
            tree = getattr(agent, "tree", None)
            visits.append(tree.num_visits if tree else 0)
            return super().plan(agent)

    monkeypatch.setattr("routing_pomdp.solvers.search.pomcp.pomdp_py.POMCP", Noted)
    problem = hard_problem(EVERYTHING)
    history = problem.decode(asked(problem))
    POMCP(simulations=200).solve(problem).act(history)
    assert set(visits) == {0}
    POMCP(simulations=200, reuse=True).solve(problem).act(history)
    assert max(visits) > 10


# -- settings ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("simulations", 0, "a whole number from 1"),
        ("simulations", -5, "a whole number from 1"),
        ("particles", 0, "a whole number from 1"),
        ("max_depth", 0, "a whole number from 1"),
        ("exploration", -0.1, "a number >= 0"),
        ("exploration", float("nan"), "a number >= 0"),
        ("exploration", float("inf"), "a number >= 0"),
        ("prior_visits", -1, "a whole number from 0"),
        ("seed", -1, "a whole number from 0"),
    ],
)
def test_bad_settings_are_refused_by_name(key, value, expected):
    with pytest.raises(ValueError, match=rf"solver\.{key} is {value}: expected {expected}"):
        POMCP(**{key: value})


def test_too_few_simulations_to_try_every_action_are_refused():
    problem = hard_problem(EVERYTHING)
    assert problem.rules.n_actions == 5
    with pytest.raises(ValueError, match=r"solver\.simulations is 4: expected .* 5 actions"):
        POMCP(simulations=4).solve(problem)
    assert isinstance(POMCP(simulations=5).solve(problem), POMCPPolicy)
