"""POMCP: that the same question has the same answer, what is planned, and from which belief."""

import random
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pomdp_py
import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing_pomdp.envs import History, Rules
from routing_pomdp.evaluation.evaluate import evaluate
from routing_pomdp.solvers import Exact
from routing_pomdp.solvers.search.pomcp import POMCP, _systematic
from tests.support.checkout import ROOT, environment
from tests.support.hard_problems import EVERYTHING, asked, hard_problem
from tests.support.problems import with_bands

# -- the same question, the same answer -------------------------------------------------------

_UNSURE = {
    "simulations": 12,
    "particles": 20,
    "exploration": 1.0,
    "prior_visits": 0,
    "decide": "mean",
}


def test_the_seed_decides_everything():
    problem = hard_problem(EVERYTHING)
    history = problem.decode(asked(problem))
    first, again, other = (
        POMCP(seed=seed, **_UNSURE).solve(problem).act(history) for seed in (0, 0, 1)
    )
    assert (first == again).all()
    assert (first != other).any()


def test_decisions_depend_on_neither_order_nor_batch():
    problem = hard_problem(EVERYTHING)
    codes = asked(problem)
    together = POMCP(**_UNSURE).solve(problem).act(problem.decode(codes))
    backwards, alone = (POMCP(**_UNSURE).solve(problem) for _ in range(2))
    assert (backwards.act(problem.decode(codes[::-1]))[::-1] == together).all()
    one_by_one = [alone.act(problem.decode(codes[i : i + 1]))[0] for i in range(len(codes))]
    assert (np.array(one_by_one) == together).all()
    twice = POMCP(**_UNSURE).solve(problem).act(problem.decode(np.repeat(codes, 2)))
    assert (twice == np.repeat(together, 2)).all()


_PROCESS = """
import tests.solvers.search.test_pomcp_search as here
problem = here.hard_problem(here.EVERYTHING)
print(here.POMCP(**here._UNSURE).solve(problem).act(problem.decode(here.asked(problem))).tolist())
"""


def test_another_process_with_another_hash_seed_decides_alike():
    problem = hard_problem(EVERYTHING)
    here = POMCP(**_UNSURE).solve(problem).act(problem.decode(asked(problem)))
    for hash_seed in ("1", "2"):
        assert _python(_PROCESS, PYTHONHASHSEED=hash_seed).strip() == str(here.tolist())


def test_the_users_own_random_numbers_are_left_alone(searches):
    problem = hard_problem(EVERYTHING)
    random.seed(5)
    np.random.seed(5)  # noqa: NPY002 - the global state is the point
    before, numpy_before = random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
    POMCP(simulations=50).solve(problem).act(problem.decode(asked(problem)))
    assert searches
    assert random.getstate() == before
    assert np.random.get_state()[1].tolist() == numpy_before  # noqa: NPY002


def test_a_search_that_fails_gives_the_random_numbers_back(monkeypatch):
    def fail(self, agent):
        random.random()
        raise RuntimeError("search")

    monkeypatch.setattr(
        "routing_pomdp.solvers.search.pomcp.pomdp_py.POMCP",
        type(
            "Failing",
            (),
            {
                "__init__": lambda self, **settings: None,
                "plan": fail,
            },
        ),
    )
    problem = hard_problem(EVERYTHING)
    before = random.getstate()
    with pytest.raises(RuntimeError, match="search"):
        POMCP().solve(problem).act(problem.decode(asked(problem)))
    assert random.getstate() == before


# -- what is planned, and how often -----------------------------------------------------------


def test_a_log_is_replayed_in_as_many_plans_as_it_has_distinct_histories(searches):
    problem = hard_problem(EVERYTHING, symbols=3)
    data = problem.sample(5000, np.random.default_rng(0))
    policy = POMCP(simulations=100).solve(problem)
    first = evaluate(policy, data)
    planned, searched = policy.plans, len(searches)
    assert 0 < searched <= planned <= problem.n_histories
    assert planned < first.decisions / 100
    again = evaluate(policy, data)
    assert (policy.plans, len(searches)) == (planned, searched)
    assert (again.cost == first.cost).all()
    assert (again.answer == first.answer).all()


def test_raw_signals_of_one_symbol_share_one_plan():
    problem = with_bands(hard_problem(Rules(3)))
    history = problem.decode(np.repeat(asked(problem)[:1], 2))
    history.signal[:, 0] = [[0.01], [0.24]]
    policy = POMCP(simulations=100).solve(problem)
    first, second = policy.act(history)
    assert first == second
    assert policy.plans == 1


def test_each_search_runs_the_simulations_asked_for(searches):
    problem = hard_problem(EVERYTHING)
    POMCP(simulations=77).solve(problem).act(problem.decode(asked(problem)))
    assert {planner.last_num_sims for planner in searches} == {77}


def test_a_single_legal_action_is_not_searched_for(searches):
    problem = hard_problem(Rules(3))
    start = History.start(np.arange(3), 3, 1)
    assert not problem.rules.masks[0, 0].any(), "a forced start is no decision"
    free = replace(problem, rules=Rules(3, free_start=True), price=50.0)
    assert (POMCP().solve(free).act(start) == Exact().solve(free).act(start)).all()
    assert not searches


def test_nothing_is_printed(capfd):
    problem = hard_problem(EVERYTHING)
    POMCP(simulations=20).solve(problem).act(problem.decode(asked(problem)))
    assert capfd.readouterr() == ("", "")


def test_six_models_with_32_symbols_are_replayed_without_enumerating_them(searches):
    rules = Rules(6, skip=True, free_start=True, verify=True, answer="best")
    problem = hard_problem(rules, symbols=32)
    with pytest.raises(ValueError, match="solver=pomcp"):
        Exact().solve(problem)
    data = problem.sample(20, np.random.default_rng(0))
    policy = POMCP(simulations=30).solve(problem)
    outcome = evaluate(policy, data)
    assert searches
    assert policy.plans <= outcome.decisions
    assert np.isfinite(outcome.cost).all()


# -- the belief -------------------------------------------------------------------------------


def test_an_impossible_history_is_planned_for_from_the_prior(searches):
    problem = hard_problem(EVERYTHING)
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

    monkeypatch.setattr("routing_pomdp.solvers.search.pomcp.pomdp_py.Agent", Noted)
    problem = hard_problem(EVERYTHING)
    policy = POMCP(simulations=20, particles=400).solve(problem)
    for code in asked(problem).tolist():
        beliefs.clear()
        policy.act(problem.decode(np.array([code])))
        for belief in beliefs:
            share = np.bincount(belief, minlength=len(problem.prior)) / 400
            exact = problem.belief(np.array([code]))[0]
            assert np.abs(share - exact).max() < 1 / 400 + 1e-9


def _python(code: str, **changed: str) -> str:
    """What a fresh interpreter prints."""
    return subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=environment(**changed),
    ).stdout
