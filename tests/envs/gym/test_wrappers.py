"""Views of the history: the exact belief, and one row a model."""

import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from hypothesis import given
from hypothesis import strategies as st

from routing_pomdp.envs import History, RoutingEnv, RoutingVectorEnv, Rules
from routing_pomdp.envs.gym.wrappers import (
    BeliefObservation,
    StackedSignals,
    VectorBeliefObservation,
    VectorStackedSignals,
)
from tests.support.problems import (
    every_rules,
    name_of,
    problems,
    random_data,
    random_problem,
    with_bands,
)

SEEDS = st.integers(0, 2**32)
PAIRS = [(BeliefObservation, VectorBeliefObservation), (StackedSignals, VectorStackedSignals)]
OPTIONS = st.sampled_from(
    ({}, {"price": (0.1, 2.0)}, {"ratio": (2.0, 90.0)}, {"show_action_costs": True})
)


@pytest.mark.parametrize("rules", every_rules(3), ids=name_of)
@pytest.mark.parametrize("wrapper", [BeliefObservation, StackedSignals])
@pytest.mark.parametrize("options", [{}, {"price": (0.1, 1.0)}], ids=["", "drawn"])
def test_gymnasiums_own_checker_finds_nothing_to_warn_of(rules, wrapper, options):
    problem = with_bands(random_problem(rules, np.random.default_rng(0)), signals=2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # It would rather check what is wrapped, and make more of it.
        for ignored in (".*different from the unwrapped version.*", ".*not having a spec.*"):
            warnings.filterwarnings("ignore", message=ignored)
        check_env(wrapper(RoutingEnv(problem, **options)))


@given(problems(), SEEDS, OPTIONS)
def test_the_belief_is_that_of_an_enumeration(problem, seed, options):
    problem, rng, n = with_bands(problem), np.random.default_rng(seed), problem.n_models
    env = BeliefObservation(RoutingEnv(problem, **options))
    plain = RoutingEnv(problem, **options)
    n_vectors = len(problem.prior)
    for episode in range(3):
        view, _ = env.reset(seed=seed + episode)
        observation, _ = plain.reset(seed=seed + episode)
        done = False
        while not done:
            action = int(rng.integers(env.action_space.n))
            view, _, done, *_ = env.step(action)
            observation, *_ = plain.step(action)
            assert env.observation_space.contains(view)
            history = History.from_array(observation[None], n)
            joint = problem.prior.copy()
            for model in np.flatnonzero(history.verified[0]):
                symbol = int(history.signal[0, model, 0] * problem.n_symbols)
                joint *= problem.likelihood[model, :, symbol]
            belief = joint / joint.sum()
            np.testing.assert_allclose(view[:n_vectors], belief, atol=1e-12)
            np.testing.assert_allclose(
                view[n_vectors : n_vectors + n], belief @ problem.score, atol=1e-12
            )
            np.testing.assert_array_equal(view[n_vectors + n :][:n], history.called[0])
            assert view[n_vectors + 2 * n] == history.last_verified[0]
            np.testing.assert_array_equal(
                view[n_vectors + 2 * n + 1 :], observation[plain.config.history_width :]
            )


def test_a_belief_too_large_for_a_table_is_computed(monkeypatch):
    problem = with_bands(random_problem(Rules(4, skip=True), np.random.default_rng(0)))
    views = []
    for size in (2**21, 0):
        monkeypatch.setattr("routing_pomdp.envs.gym.wrappers._TABLE", size)
        env = VectorBeliefObservation(RoutingVectorEnv(50, problem))
        env.reset(seed=0)
        views.append([env.step(np.ones(50, dtype=int))[0] for _ in range(4)])
    np.testing.assert_allclose(*views, atol=1e-12)


@given(problems(), SEEDS, OPTIONS)
def test_a_row_a_model_holds_what_is_known_of_it(problem, seed, options):
    problem, n, rng = with_bands(problem, 2), problem.n_models, np.random.default_rng(seed)
    env, plain = StackedSignals(RoutingEnv(problem, **options)), RoutingEnv(problem, **options)
    view, _ = env.reset(seed=seed)
    observation, _ = plain.reset(seed=seed)
    done = False
    while not done:
        assert env.observation_space.contains(view)
        action_costs = observation[plain.config.history_width :]
        for model in range(n):
            expected = [observation[1 + model], observation[1 + n + model]]
            expected += list(observation[1 + 2 * n + 2 * model :][:2])
            if len(action_costs):
                expected += [action_costs[model], 0 if model == n - 1 else action_costs[n + model]]
            np.testing.assert_array_equal(view[model], expected)
        action = int(rng.integers(env.action_space.n))
        view, _, done, *_ = env.step(action)
        observation, *_ = plain.step(action)


@given(
    problems(),
    SEEDS,
    st.sampled_from(PAIRS),
    OPTIONS,
    st.sampled_from(("NextStep", "SameStep")),
    st.sampled_from(("numpy", "torch")),
)
def test_many_environments_are_seen_as_one_is(problem, seed, pair, options, mode, backend):
    problem, rng, (single, vector) = with_bands(problem), np.random.default_rng(seed), pair
    arguments = {"source": problem, **options}
    wrapped = vector(
        RoutingVectorEnv(6, **arguments, autoreset_mode=mode, copy=False, backend=backend)
    )
    plain = RoutingVectorEnv(6, **arguments, autoreset_mode=mode)
    one = single(RoutingEnv(**arguments))
    assert wrapped.single_observation_space == one.observation_space
    views, observations = wrapped.reset(seed=seed)[0], plain.reset(seed=seed)[0]
    assert wrapped.observation_space.contains(np.asarray(views))
    for _ in range(10):
        expected = [one.observation(observation) for observation in observations]
        np.testing.assert_array_equal(np.asarray(views), expected)
        action = rng.integers(wrapped.single_action_space.n, size=6)
        np.testing.assert_array_equal(wrapped.action_masks(), plain.action_masks())
        views, *_, infos = wrapped.step(action)
        observations, *_, infos_ = plain.step(action)
        if "final_obs" in infos_:
            ended = infos_["_final_obs"]
            expected = [one.observation(final) for final in infos_["final_obs"][ended]]
            np.testing.assert_array_equal(np.asarray(infos["final_obs"])[ended], expected)


def test_the_mask_passes_through_the_wrapper():
    problem = random_problem(Rules(3, skip=True, free_start=True), np.random.default_rng(0))
    env = BeliefObservation(gymnasium.make("routing_pomdp.envs:Routing-v0", source=problem))
    env.reset(seed=0)
    assert env.action_masks().tolist() == [False, True, True, True]


def test_a_belief_needs_a_problem_that_fits():
    data = random_data(5, 3, np.random.default_rng(0))
    with pytest.raises(ValueError, match="a belief needs a problem"):
        BeliefObservation(RoutingEnv(data))
    other = random_problem(Rules(4), np.random.default_rng(0))
    with pytest.raises(ValueError, match="4 models and 1 signals, the environment 3 and 1"):
        BeliefObservation(RoutingEnv(data), problem=other)
    with pytest.raises(ValueError, match="is no RoutingEnv"):
        StackedSignals(gymnasium.make("CartPole-v1"))
    with pytest.raises(ValueError, match="is no RoutingVectorEnv"):
        VectorStackedSignals(gymnasium.make_vec("CartPole-v1", num_envs=2))
