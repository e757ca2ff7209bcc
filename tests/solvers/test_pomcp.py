"""POMCP, against exact backward induction inside the model."""

import os
import random
import subprocess
import sys
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pomdp_py
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envs import STAY, Costs, History, RoutingPOMDP, Rules
from envs.decision_graph import DecisionGraph
from evaluation.evaluate import evaluate, model_value
from solvers import Exact, TablePolicy
from solvers.pomcp import POMCP, POMCPPolicy, _systematic
from tests.problems import every_rules, name_of, problems, score_vectors, with_bands

EVERYTHING = Rules(3, skip=True, free_start=True, verify=True)


@pytest.fixture
def searches(monkeypatch):
    """The planners that pomdp-py was asked to run, in order: most decisions need none."""
    ran = []

    class Noted(pomdp_py.POMCP):
        def plan(self, agent):
            chosen = super().plan(agent)
            ran.append(self)
            return chosen

    monkeypatch.setattr("solvers.pomcp.pomdp_py.POMCP", Noted)
    return ran


def _hard(rules: Rules, seed: int = 0, symbols: int = 4) -> RoutingPOMDP:
    """A random problem in which verifiers are cheap and models differ enough in cost for bounds to
    leave much to the search."""
    n, rng = rules.n_models, np.random.default_rng(seed)
    score = score_vectors(np.tile([0.0, 1.0], (n, 1)))
    call = 3.0 ** np.arange(n)
    return RoutingPOMDP(
        score=score,
        prior=rng.dirichlet(np.ones(len(score))),
        likelihood=rng.dirichlet(np.ones(symbols), size=(n - 1, len(score))),
        costs=Costs(call, call / 10),
        price=0.1,
        rules=rules,
    )


def _asked(problem: RoutingPOMDP) -> np.ndarray:
    """The codes of all histories at which a decision is asked for."""
    codes = np.arange(problem.n_histories)
    if not problem.rules.free_start:
        codes = codes[problem.digits_of(codes)[:, 0] > 0]
    return codes[DecisionGraph.of(problem).reaches(problem.decode(codes))]


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
    hard = [_hard(rules, seed) for seed, rules in product(range(2), every_rules(4))]
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
    hard = [_hard(rules, seed) for seed, rules in product(range(2), every_rules(4))]
    near, far = (
        np.mean([_regret(p, simulations=1000, decide="mean", max_depth=depth) for p in hard])
        for depth in (1, None)
    )
    assert near > 2 * far


@pytest.mark.slow
@pytest.mark.parametrize("rules", every_rules(3), ids=name_of)
def test_ten_thousand_simulations_come_within_five_thousandths_of_exact(rules):
    regret = [_regret(_hard(rules, seed), simulations=10_000) for seed in range(4)]
    assert np.mean(regret) < 0.005


@pytest.mark.slow
@pytest.mark.parametrize("answer", ["last", "best"])
def test_four_models_with_every_option_come_within_a_hundredth_of_exact(answer, searches):
    rules = Rules(4, skip=True, free_start=True, verify=True, answer=answer)
    assert np.mean([_regret(_hard(rules, seed), simulations=3000) for seed in range(4)]) < 0.01
    assert searches


@pytest.mark.parametrize("seed", [0, 1])
def test_verification_is_bought_as_often_as_exact_buys_it_at_every_cost(seed, searches):
    problem = _hard(replace(EVERYTHING, answer="best"), seed)
    call, bought = problem.costs.call, []
    for share in (0.1, 1.0, 2.0, 4.0):
        priced = replace(problem, costs=Costs(call, share * call))
        replay = priced.sample(2000, np.random.default_rng(0))
        exact, pomcp = Exact().solve(priced), POMCP(simulations=2000).solve(priced)
        bought.append(evaluate(exact, replay).verifications.mean())
        assert evaluate(pomcp, replay).verifications.mean() == pytest.approx(bought[-1], abs=0.05)
    assert bought[0] > 1
    assert bought[-1] == 0
    assert searches


def test_the_search_alone_finds_what_exact_finds_where_much_depends_on_it():
    """Wherever exact goes, replacing its action by POMCP's alone costs little: so the two agree
    wherever every other action is much worse."""
    agreed = 0
    for seed, rules in enumerate(every_rules(3)):
        problem = _hard(rules, seed)
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


@settings(max_examples=100, deadline=None)
@given(problems(max_models=3))
def test_no_optimal_action_is_ever_left_out_of_the_search(problem):
    exact = Exact().solve(problem)
    model = POMCP().solve(problem).model
    codes, mass = _reached(exact)
    for code in codes[mass > 1e-9].tolist():
        searched = [action.index for action in model.root(code).edges]
        assert exact.actions[code] in searched


@pytest.mark.parametrize("rules", every_rules(3), ids=name_of)
def test_the_search_starts_from_upper_bounds_of_the_exact_values(rules):
    """Of every action: what it is worth if exact follows it, told from one change of exact."""
    # A dear last model, or else climbing to it is worth more than any answer at hand.
    for seed, price, share in product(range(3), (0.1, 0.8), (0.0, 0.5)):
        problem = _hard(rules, seed, symbols=3)
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


@settings(max_examples=60, deadline=None)
@given(problems(max_models=3), st.integers(8, 60), st.integers(1, 30))
def test_every_decision_is_legal(problem, simulations, particles):
    """Also where the model holds the history for impossible."""
    history = problem.decode(_asked(problem))
    policy = POMCP(simulations=simulations, particles=particles).solve(problem)
    action = policy.act(history)
    masks = problem.rules.masks[history.stage + 1, history.last_verified.astype(int)]
    assert masks[np.arange(len(history)), action].all()


@pytest.mark.parametrize("rules", every_rules(4), ids=name_of)
def test_looking_ahead_by_default_sees_the_whole_episode(rules):
    problem = _hard(rules)
    history = problem.decode(_asked(problem))
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
        problem = _hard(replace(EVERYTHING, answer=answer))
        assert _regret(problem, simulations=500, **change) < 0.002
        assert _regret(problem, simulations=5000, decide="mean", **change) < 0.01


def test_a_reused_tree_depends_on_no_other_question():
    """Each plan makes the one before it, whether or not that was asked for."""
    problem = _hard(EVERYTHING)
    codes = _asked(problem)
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

    monkeypatch.setattr("solvers.pomcp.pomdp_py.POMCP", Noted)
    problem = _hard(EVERYTHING)
    history = problem.decode(_asked(problem))
    POMCP(simulations=200).solve(problem).act(history)
    assert set(visits) == {0}
    POMCP(simulations=200, reuse=True).solve(problem).act(history)
    assert max(visits) > 10


# -- the same question, the same answer -------------------------------------------------------

_UNSURE = {
    "simulations": 12,
    "particles": 20,
    "exploration": 1.0,
    "prior_visits": 0,
    "decide": "mean",
}


def test_the_seed_decides_everything():
    problem = _hard(EVERYTHING)
    history = problem.decode(_asked(problem))
    first, again, other = (
        POMCP(seed=seed, **_UNSURE).solve(problem).act(history) for seed in (0, 0, 1)
    )
    assert (first == again).all()
    assert (first != other).any()


def test_decisions_depend_on_neither_order_nor_batch():
    problem = _hard(EVERYTHING)
    codes = _asked(problem)
    together = POMCP(**_UNSURE).solve(problem).act(problem.decode(codes))
    backwards, alone = (POMCP(**_UNSURE).solve(problem) for _ in range(2))
    assert (backwards.act(problem.decode(codes[::-1]))[::-1] == together).all()
    one_by_one = [alone.act(problem.decode(codes[i : i + 1]))[0] for i in range(len(codes))]
    assert (np.array(one_by_one) == together).all()
    twice = POMCP(**_UNSURE).solve(problem).act(problem.decode(np.repeat(codes, 2)))
    assert (twice == np.repeat(together, 2)).all()


_PROCESS = """
import tests.solvers.test_pomcp as here
problem = here._hard(here.EVERYTHING)
print(here.POMCP(**here._UNSURE).solve(problem).act(problem.decode(here._asked(problem))).tolist())
"""


def test_another_process_with_another_hash_seed_decides_alike():
    problem = _hard(EVERYTHING)
    here = POMCP(**_UNSURE).solve(problem).act(problem.decode(_asked(problem)))
    for hash_seed in ("1", "2"):
        assert _python(_PROCESS, PYTHONHASHSEED=hash_seed).strip() == str(here.tolist())


def test_the_users_own_random_numbers_are_left_alone(searches):
    problem = _hard(EVERYTHING)
    random.seed(5)
    np.random.seed(5)  # noqa: NPY002 - the global state is the point
    before, numpy_before = random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
    POMCP(simulations=50).solve(problem).act(problem.decode(_asked(problem)))
    assert searches
    assert random.getstate() == before
    assert np.random.get_state()[1].tolist() == numpy_before  # noqa: NPY002


def test_a_search_that_fails_gives_the_random_numbers_back(monkeypatch):
    def fail(self, agent):
        random.random()
        raise RuntimeError("search")

    monkeypatch.setattr(
        "solvers.pomcp.pomdp_py.POMCP",
        type(
            "Failing",
            (),
            {
                "__init__": lambda self, **settings: None,
                "plan": fail,
            },
        ),
    )
    problem = _hard(EVERYTHING)
    before = random.getstate()
    with pytest.raises(RuntimeError, match="search"):
        POMCP().solve(problem).act(problem.decode(_asked(problem)))
    assert random.getstate() == before


# -- what is planned, and how often -----------------------------------------------------------


def test_a_log_is_replayed_in_as_many_plans_as_it_has_distinct_histories(searches):
    problem = _hard(EVERYTHING, symbols=3)
    replay = problem.sample(5000, np.random.default_rng(0))
    policy = POMCP(simulations=100).solve(problem)
    first = evaluate(policy, replay)
    planned, searched = policy.plans, len(searches)
    assert 0 < searched <= planned <= problem.n_histories
    assert planned < first.decisions / 100
    again = evaluate(policy, replay)
    assert (policy.plans, len(searches)) == (planned, searched)
    assert (again.cost == first.cost).all()
    assert (again.answer == first.answer).all()


def test_raw_signals_of_one_symbol_share_one_plan():
    problem = with_bands(_hard(Rules(3)))
    history = problem.decode(np.repeat(_asked(problem)[:1], 2))
    history.signal[:, 0] = [[0.01], [0.24]]
    policy = POMCP(simulations=100).solve(problem)
    first, second = policy.act(history)
    assert first == second
    assert policy.plans == 1


def test_each_search_runs_the_simulations_asked_for(searches):
    problem = _hard(EVERYTHING)
    POMCP(simulations=77).solve(problem).act(problem.decode(_asked(problem)))
    assert {planner.last_num_sims for planner in searches} == {77}


def test_a_single_legal_action_is_not_searched_for(searches):
    problem = _hard(Rules(3))
    start = History.start(np.arange(3), 3, 1)
    assert not problem.rules.masks[0, 0].any(), "a forced start is no decision"
    free = replace(problem, rules=Rules(3, free_start=True), price=50.0)
    assert (POMCP().solve(free).act(start) == Exact().solve(free).act(start)).all()
    assert not searches


def test_nothing_is_printed(capfd):
    problem = _hard(EVERYTHING)
    POMCP(simulations=20).solve(problem).act(problem.decode(_asked(problem)))
    assert capfd.readouterr() == ("", "")


def test_six_models_with_32_symbols_are_replayed_without_enumerating_them(searches):
    rules = Rules(6, skip=True, free_start=True, verify=True, answer="best")
    problem = _hard(rules, symbols=32)
    with pytest.raises(ValueError, match="solver=pomcp"):
        Exact().solve(problem)
    replay = problem.sample(100, np.random.default_rng(0))
    policy = POMCP(simulations=100).solve(problem)
    outcome = evaluate(policy, replay)
    assert searches
    assert policy.plans <= outcome.decisions
    assert np.isfinite(outcome.cost).all()


# -- the belief -------------------------------------------------------------------------------


def test_an_impossible_history_is_planned_for_from_the_prior(searches):
    problem = _hard(EVERYTHING)
    likelihood = problem.likelihood.copy()
    likelihood[0] = 0
    likelihood[0, :, 0] = 1  # only the first symbol of the first model can be
    problem = replace(problem, likelihood=likelihood)
    impossible = 2 * problem.weights[:1]
    assert problem.joint(impossible).sum() == 0
    action = POMCP(simulations=500).solve(problem).act(problem.decode(impossible))
    useless = replace(problem, likelihood=np.full_like(likelihood, 1 / problem.n_symbols))
    assert action == POMCP(simulations=500).solve(useless).act(useless.decode(impossible))


@given(st.integers(0, 2**32), st.integers(1, 200), st.integers(1, 40))
def test_particles_represent_the_posterior_to_within_one(seed, particles, n_vectors):
    rng = np.random.default_rng(seed)
    posterior = rng.dirichlet(np.full(n_vectors, 0.3)) * (rng.random(n_vectors) < 0.7)
    posterior[0] += 0.01
    posterior /= posterior.sum()
    counts = np.bincount(_systematic(posterior, particles, rng), minlength=n_vectors)
    assert counts.sum() == particles
    assert (np.abs(counts - particles * posterior) < 1 + 1e-9).all()
    assert not counts[posterior == 0].any()


def test_each_search_starts_from_the_exact_posterior(monkeypatch):
    beliefs = []

    class Noted(pomdp_py.Agent):
        def __init__(self, belief, **models):
            super().__init__(belief, **models)
            beliefs.append([state.vector for state in belief.particles])

    monkeypatch.setattr("solvers.pomcp.pomdp_py.Agent", Noted)
    problem = _hard(EVERYTHING)
    policy = POMCP(simulations=20, particles=400).solve(problem)
    for code in _asked(problem).tolist():
        beliefs.clear()
        policy.act(problem.decode(np.array([code])))
        for belief in beliefs:
            share = np.bincount(belief, minlength=len(problem.prior)) / 400
            exact = problem.belief(np.array([code]))[0]
            assert np.abs(share - exact).max() < 1 / 400 + 1e-9


# -- settings ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("simulations", 0, "at least 1"),
        ("simulations", -5, "at least 1"),
        ("particles", 0, "at least 1"),
        ("max_depth", 0, "null or at least 1"),
        ("exploration", -0.1, "a number >= 0"),
        ("exploration", float("nan"), "a number >= 0"),
        ("exploration", float("inf"), "a number >= 0"),
        ("prior_visits", -1, "at least 0"),
        ("seed", -1, "at least 0"),
    ],
)
def test_bad_settings_are_refused_by_name(key, value, expected):
    with pytest.raises(ValueError, match=rf"solver\.{key} is {value}: expected {expected}"):
        POMCP(**{key: value})


def test_too_few_simulations_to_try_every_action_are_refused():
    problem = _hard(EVERYTHING)
    assert problem.rules.n_actions == 5
    with pytest.raises(ValueError, match=r"solver\.simulations is 4: expected .* 5 actions"):
        POMCP(simulations=4).solve(problem)
    assert isinstance(POMCP(simulations=5).solve(problem), POMCPPolicy)


def test_the_other_solvers_do_without_pomdp_py():
    assert _python("import sys, solvers; print('pomdp_py' in sys.modules)").strip() == "False"


def _python(code: str, **environment: str) -> str:
    """What a fresh interpreter prints."""
    root = str(Path(__file__).parents[2])
    return subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        capture_output=True,
        text=True,
        cwd=root,
        env={**os.environ, "PYTHONPATH": root, **environment},
    ).stdout
