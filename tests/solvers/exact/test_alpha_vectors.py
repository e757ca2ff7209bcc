"""Alpha vectors of routing problems, against backward induction and the flat general solver."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing_pomdp.envs import CostModel, RoutingPOMDP, Rules
from routing_pomdp.envs.model.decision_graph import DecisionGraph, flatten
from routing_pomdp.envs.model.pomdp_file import read_pomdp, write_pomdp
from routing_pomdp.envs.profiles import load_profile, simulate
from routing_pomdp.evaluation.evaluate import model_value
from routing_pomdp.solvers import Exact
from routing_pomdp.solvers.exact.alpha_files import read_alpha, write_alpha
from routing_pomdp.solvers.exact.alpha_vectors import AlphaVectorIteration
from routing_pomdp.solvers.exact.point_based import PointBased
from routing_pomdp.solvers.exact.value_iteration import AlphaVectors, value_iteration
from routing_pomdp.verifiers import Histogram, LoggedSignal, make_routing_data
from tests.support.problems import every_rules, name_of, problems, random_problem
from tests.support.profiles import LLAMA_PROFILES

SEEDS = st.integers(0, 2**32)
REGIONS = ("simplex", "statistic", "reachable")
# The sets of vectors explode beyond.
SMALL = problems(max_models=3).filter(lambda problem: len(problem.prior) <= 9)


@given(problem=SMALL, region=st.sampled_from(REGIONS))
def test_alpha_vectors_equal_backward_induction(problem, region):
    best = Exact().solve(problem).value
    policy = AlphaVectorIteration(region).solve(problem)
    assert policy.value == pytest.approx(best, abs=1e-9)
    assert model_value(policy) == pytest.approx(best, abs=1e-9)


@given(problem=SMALL, seed=SEEDS)
def test_over_the_simplex_they_are_exact_for_every_prior(problem, seed):
    """One solution serves every prior."""
    policy = AlphaVectorIteration("simplex").solve(problem)
    prior = np.random.default_rng(seed).dirichlet(np.ones(len(problem.prior)))
    best = Exact().solve(replace(problem, prior=prior)).value
    assert policy.values[0].value(prior) == pytest.approx(best, abs=1e-9)


@given(problem=SMALL.filter(lambda problem: not problem.rules.free_start), seed=SEEDS)
def test_over_the_statistic_they_are_exact_for_every_belief_of_what_was_called(problem, seed):
    """After the first symbol, whatever the belief in the first model's classes: as exact as the
    whole simplex there, while those of the reachable beliefs are a lower bound."""
    everywhere, merged, reachable = (AlphaVectorIteration(r).solve(problem) for r in REGIONS)
    node = merged.graph.nodes[1]
    classes = np.random.default_rng(seed).dirichlet(np.ones(len(node.prior)))
    belief = problem.prior * np.where(
        node.members >= 0, (classes / node.prior)[np.maximum(node.members, 0)], 0.0
    )
    best = everywhere.values[1].value(belief)
    assert merged.values[1].value(classes) == pytest.approx(best, abs=1e-9)
    assert reachable.values[1].value(classes) <= best + 1e-9


@pytest.mark.parametrize("rules", every_rules(5), ids=name_of)
def test_five_models_under_every_rule(rules):
    problem = random_problem(rules, np.random.default_rng(5), symbols=3)
    policy = AlphaVectorIteration().solve(problem)
    assert policy.value == pytest.approx(Exact().solve(problem).value, abs=1e-9)


@pytest.mark.parametrize("name", LLAMA_PROFILES)
def test_shipped_profiles_under_every_option(name):
    """Alpha vectors, point-based bounds and backward induction on what real logs look like."""
    log = simulate(load_profile(name), 300, seed=0)
    verifier, cost_model = LoggedSignal(), CostModel(ratio=50.0)
    costs = cost_model.fit(log, verifier.cost(log))
    train = make_routing_data(log, verifier, cost_model, costs)
    rules = Rules(len(log.models), skip=True, free_start=True, verify=True)
    problem = RoutingPOMDP.fit(train, Histogram(), costs, rules)
    for price in (0.02, 0.2, 0.6):
        priced = problem.at(price)
        best = Exact().solve(priced).value
        policy = AlphaVectorIteration().solve(priced)
        assert policy.value == pytest.approx(best, abs=1e-9)
        assert model_value(policy) == pytest.approx(best, abs=1e-9)
        found = PointBased().solve(priced)
        assert found.lower - 1e-9 <= best <= found.upper + 1e-9
        assert best - model_value(found) <= 1e-3


@given(problems(max_models=2))
def test_the_flat_problem_has_the_same_value(problem):
    """By the general solver, which knows nothing of routing."""
    flat = flatten(problem)
    value = value_iteration(flat, 2 * problem.n_models + 1).value
    assert value.value(flat.start) == pytest.approx(Exact().solve(problem).value, abs=1e-8)


def test_a_routing_problem_survives_the_trip_through_files(tmp_path):
    problem = random_problem(Rules(3, skip=True), np.random.default_rng(2), symbols=2)
    write_pomdp(flatten(problem), tmp_path / "routing.pomdp")
    flat = read_pomdp(tmp_path / "routing.pomdp")
    value = value_iteration(flat, 4).value
    assert value.value(flat.start) == pytest.approx(Exact().solve(problem).value, abs=1e-8)


@given(problems())
def test_every_history_has_its_place_in_the_graph(problem):
    graph = DecisionGraph.of(problem)
    history = problem.decode(np.arange(problem.n_histories))
    rules, called = problem.rules, history.called
    expected = np.ones(len(called), dtype=bool)
    if rules.answer == "best":  # else a node is its last call alone
        if not rules.free_start:
            expected &= called[:, 0] | (history.stage < 0)
        if not rules.skip:  # no gap between the first and the last call
            expected &= called.sum(axis=1) == history.stage - called.argmax(axis=1) + 1
            expected |= history.stage < 0
    np.testing.assert_array_equal(graph.reaches(history), expected)
    if not expected.all():
        with pytest.raises(ValueError, match="the rules lead to no history"):
            graph.index(history)
    point = graph.index(history.take(np.flatnonzero(expected)))
    for i, row in zip(point.tolist(), np.flatnonzero(expected).tolist(), strict=True):
        node = graph.nodes[i]
        assert node.stage == history.stage[row]
        assert node.verified == history.last_verified[row]
        if problem.rules.answer == "best":
            assert list(node.called) == np.flatnonzero(history.called[row]).tolist()


def test_errors_name_the_key():
    problem = random_problem(Rules(4), np.random.default_rng(0), symbols=6)
    with pytest.raises(ValueError, match="max_vectors=20"):
        AlphaVectorIteration("simplex", max_vectors=20).solve(problem)
    with pytest.raises(ValueError, match=r"solver\.max_histories=30"):
        AlphaVectorIteration(max_histories=30).solve(problem)
    with pytest.raises(ValueError, match=r"solver.region is 'all'"):
        AlphaVectorIteration("all")
    with pytest.raises(ValueError, match=r"the flat problem's transitions .* GiB"):
        flatten(random_problem(Rules(5, verify=True), np.random.default_rng(0), levels=4))


# -- files ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["tiger.alpha", "tiger.policy"])
@given(seed=SEEDS, count=st.integers(1, 5), states=st.integers(1, 4))
def test_vectors_read_back_to_the_last_bit(tmp_path_factory, name, seed, count, states):
    rng = np.random.default_rng(seed)
    value = AlphaVectors(rng.normal(size=(count, states)), np.sort(rng.integers(3, size=count)))
    path = tmp_path_factory.mktemp("alpha") / name
    write_alpha(value, path)
    read = read_alpha(path)
    np.testing.assert_array_equal(read.vectors, value.vectors)
    np.testing.assert_array_equal(read.actions, value.actions)


def test_pomdp_py_reads_our_files(tmp_path):
    """Its parsers are those that it reads pomdp-solve and SARSOP with."""
    from pomdp_py.utils.interfaces.conversion import AlphaVectorPolicy, parse_pomdp_solve_output

    value = AlphaVectors(np.array([[1.5, -2.0], [0.25, 3.0]]), np.array([0, 1]))
    expected = {((1.5, -2.0), 0), ((0.25, 3.0), 1)}
    write_alpha(value, tmp_path / "a.alpha")
    assert set(parse_pomdp_solve_output(str(tmp_path / "a.alpha"))) == expected
    write_alpha(value, tmp_path / "a.policy")
    policy = AlphaVectorPolicy.construct(str(tmp_path / "a.policy"), ["l", "r"], ["stay", "go"])
    found = {(tuple(vector), action) for vector, action in policy.alphas}
    assert found == {((1.5, -2.0), "stay"), ((0.25, 3.0), "go")}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0\n1 2\n\n1\n", "line 4: expected pairs of lines"),
        ("0\n1 2\n\n1\n3\n", "line 5: a vector of length 1, earlier ones have 2"),
        ("0\n1 nan\n", "line 2: expected a finite number, found 'nan'"),
        ("0\n1 x\n", "line 2: expected a finite number, found 'x'"),
        ("0\n1 2\n-1\n1 2\n", "line 3: expected an action from 0, found '-1'"),
        ("", "lengths"),
        ("<Policy><AlphaVector/></Policy>", "no <AlphaVector> with a <Vector>"),
        ("<Policy>", "no element found"),
        ('<Policy><AlphaVector><Vector obsValue="1" action="0">1</Vector></AlphaVector></Policy>',
         "factored"),
        ("<Policy><AlphaVector><Vector>1</Vector></AlphaVector></Policy>", "has no action"),
    ],
)  # fmt: skip
def test_a_malformed_file_is_refused(tmp_path, text, message):
    (tmp_path / "bad.alpha").write_text(text)
    with pytest.raises(ValueError, match=message) as caught:
        read_alpha(tmp_path / "bad.alpha")
    assert "bad.alpha" in str(caught.value)
