"""The Gymnasium environment: its contract, its secrets and its arithmetic."""

import copy
import pickle
import warnings
from dataclasses import replace

import gymnasium
import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env
from hypothesis import given, settings
from hypothesis import strategies as st

from routing_pomdp.envs import ESCALATE, STAY, History, RoutingData, RoutingEnv, Rules
from tests.support.problems import (
    every_rules,
    name_of,
    problems,
    random_data,
    random_problem,
    toy_data,
    with_bands,
)

SEEDS = st.integers(0, 2**32)


def _play(env: RoutingEnv, rng: np.random.Generator, episodes: int = 1, **reset) -> list[tuple]:
    """Plays random actions, legal or not; everything that the environment said."""
    said: list[tuple] = []
    for _ in range(episodes):
        said.append(env.reset(**reset))
        done = False
        while not done:
            said.append(env.step(int(rng.integers(env.action_space.n))))
            done = said[-1][2]
    return said


def _same(a: object, b: object) -> bool:
    """Whether two things that an environment said are equal to the last bit."""
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_same(a[key], b[key]) for key in a)
    if isinstance(a, tuple | list) and isinstance(b, tuple | list):
        return len(a) == len(b) and all(map(_same, a, b))
    return np.array_equal(a, b)


# -- the contract -----------------------------------------------------------------------------


@pytest.mark.parametrize("rules", every_rules(3), ids=name_of)
@pytest.mark.parametrize("source", ["problem", "replay"])
def test_gymnasiums_own_checker_finds_nothing_to_warn_of(rules, source):
    problem = with_bands(random_problem(rules, np.random.default_rng(0)))
    options = {"source": problem}
    if source == "replay":
        options = {"source": random_data(20, 3, np.random.default_rng(1)), "problem": problem}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env = gymnasium.make("routing_pomdp.envs:Routing-v0", **options)
        check_env(env.unwrapped)


def test_an_environment_is_made_without_an_argument():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env = gymnasium.make("routing_pomdp.envs:Routing-v0")
        observation, info = env.reset(seed=0)
    assert env.observation_space.contains(observation)
    assert info["action_mask"].tolist() == [1, 1]
    check_env(env.unwrapped)


@given(problems(), SEEDS, st.integers(1, 2))
def test_every_observation_lies_in_its_space_and_is_the_history(problem, seed, signals):
    problem, n = with_bands(problem, signals), problem.n_models
    data = random_data(8, n, np.random.default_rng(seed), signals)
    for env in (RoutingEnv(problem), RoutingEnv(data, problem=problem)):
        assert env.observation_space.shape == (1 + 2 * n + n * signals,)
        for observation, *_ in _play(env, np.random.default_rng(seed), episodes=5):
            assert env.observation_space.contains(observation)
            history = History.from_array(observation[None], n)
            np.testing.assert_array_equal(history.to_array()[0], observation)
            assert (history.called | ~history.verified).all()


def test_a_constant_signal_still_has_a_space():
    data = replace(toy_data(), signal=np.zeros((1, 3, 1)))
    space = RoutingEnv(data).observation_space
    assert (space.high > space.low).all()


def test_what_was_returned_is_never_changed_later():
    problem = random_problem(Rules(4, skip=True, verify=True), np.random.default_rng(0))
    env, rng = RoutingEnv(problem), np.random.default_rng(0)
    said = []
    for _ in range(20):
        observation, info = env.reset()
        done = False
        while not done:
            said.append((observation, observation.copy(), info, copy.deepcopy(info)))
            observation, _, done, _, info = env.step(rng.integers(env.action_space.n))
        said.append((observation, observation.copy(), info, copy.deepcopy(info)))
    assert all(_same(now, then) for o, p, i, j in said for now, then in ((o, p), (i, j)))


def test_a_step_after_the_end_needs_a_reset():
    env = RoutingEnv(toy_data())
    with pytest.raises(ResetNeeded):
        env.step(STAY)
    env.reset()
    env.step(STAY)
    with pytest.raises(ResetNeeded, match="call reset"):
        env.step(STAY)


# -- seeds ------------------------------------------------------------------------------------


@settings(max_examples=20)
@given(problems(), SEEDS, st.integers(0, 30))
def test_the_same_seed_plays_the_same_episodes(problem, seed, warm_up):
    data = random_data(50, problem.n_models, np.random.default_rng(1))
    for source in (problem, data):
        given_problem = None if source is problem else with_bands(problem)
        said = []
        for before in (0, warm_up):
            env = RoutingEnv(source, problem=given_problem)
            _play(env, np.random.default_rng(9), episodes=before)
            first = env.reset(seed=seed)
            said.append((first, _play(env, np.random.default_rng(2), episodes=10)))
        assert _same(*said)


def test_different_seeds_play_different_episodes():
    env = RoutingEnv(random_data(1000, 2, np.random.default_rng(0)))
    first = [env.reset(seed=seed)[0][-2] for seed in range(20)]
    assert len(set(first)) > 15


def test_every_query_of_a_data_comes_up_equally_often():
    env = RoutingEnv(random_data(20, 2, np.random.default_rng(0)))
    env.reset(seed=0)
    seen = np.array([env.reset()[0][5] for _ in range(20_000)])
    counts = np.unique(seen, return_counts=True)[1]
    assert len(counts) == 20
    # 1,000 each, four standard deviations of about 31.
    assert np.abs(counts - 1000).max() < 4 * np.sqrt(1000 * 0.95)


def test_a_query_can_be_chosen():
    data = random_data(10, 3, np.random.default_rng(0))
    env = RoutingEnv(data)
    for query in (7, 0, np.int64(9)):
        observation, _ = env.reset(options={"query": query})
        assert observation[7] == data.signal[query, 0, 0]
        *_, info = env.step(STAY)
        np.testing.assert_array_equal(info["scores"], data.score[query])
    for query in (-1, 10):
        with pytest.raises(ValueError, match=rf"options\['query'\] is {query}: expected 0 … 9"):
            env.reset(options={"query": query})


def test_a_sampled_problem_has_no_rows_to_choose_from():
    env = RoutingEnv(random_problem(Rules(2), np.random.default_rng(0)))
    with pytest.raises(ValueError, match="there is none here"):
        env.reset(options={"query": 0})


def _unpickled(env: RoutingEnv) -> RoutingEnv:
    return pickle.loads(pickle.dumps(env))


@pytest.mark.slow
@pytest.mark.parametrize("duplicate", [copy.deepcopy, _unpickled])
@pytest.mark.parametrize("answer", ["last", "best"])
def test_a_copy_made_in_mid_episode_plays_on_alike(duplicate, answer):
    rules = Rules(4, skip=True, verify=True, answer=answer)
    problem = with_bands(random_problem(rules, np.random.default_rng(0)))
    for source in (problem, random_data(30, 4, np.random.default_rng(1))):
        env = RoutingEnv(source, problem=None if source is problem else problem)
        env.reset(seed=3)
        env.step(ESCALATE)
        other = duplicate(env)
        ahead = [env.step(STAY), _play(env, np.random.default_rng(4), episodes=1100)]
        again = [other.step(STAY), _play(other, np.random.default_rng(4), episodes=1100)]
        assert _same(ahead, again)


# -- what must not be seen --------------------------------------------------------------------


@given(problems(), SEEDS)
def test_no_score_shows_before_the_end(problem, seed):
    problem = with_bands(problem)
    rng = np.random.default_rng(seed)
    data = random_data(1, problem.n_models, rng)
    other = replace(data, score=rng.random(data.score.shape))
    here, there = (
        _play(RoutingEnv(source, problem=problem), np.random.default_rng(seed))
        for source in (data, other)
    )
    assert len(here) == len(there)
    assert _same(here[:-1], there[:-1])
    # At the end the scores enter the reward and the info, and nothing else.
    observation, reward, *_, info = here[-1]
    observation_, reward_, *_, info_ = there[-1]
    np.testing.assert_array_equal(observation, observation_)
    assert (info["answer"], info["cost"]) == (info_["answer"], info_["cost"])
    assert reward - info["score"] == pytest.approx(reward_ - info_["score"], abs=1e-12)
    for *_, info in here[:-1]:
        assert info.keys() <= {"action_mask", "illegal_action"}


@given(problems(), SEEDS)
def test_nothing_shows_of_what_was_not_paid_for(problem, seed):
    problem = with_bands(problem)
    rng = np.random.default_rng(seed)
    data = random_data(1, problem.n_models, rng)
    here = _play(RoutingEnv(data, problem=problem), np.random.default_rng(seed))
    end = History.from_array(here[-1][0][None], problem.n_models)
    called, verified = end.called, end.verified
    other = random_data(1, problem.n_models, rng)
    altered = RoutingData(
        score=np.where(called, data.score, other.score),
        call_cost=np.where(called, data.call_cost, other.call_cost),
        verify_cost=np.where(verified, data.verify_cost, other.verify_cost),
        signal=np.where(verified[..., None], data.signal, other.signal),
    )
    there = _play(RoutingEnv(altered, problem=problem), np.random.default_rng(seed))
    for said in (here, there):
        said[-1][-1].pop("scores")
    assert _same(here, there)


@given(problems(), SEEDS)
def test_the_text_shows_no_score_and_no_unseen_signal(problem, seed):
    problem = with_bands(problem)
    rng = np.random.default_rng(seed)
    data = random_data(1, problem.n_models, rng)
    other = replace(data, score=rng.random(data.score.shape))
    here, there = (
        RoutingEnv(source, problem=problem, render_mode="ansi") for source in (data, other)
    )
    observation, _ = here.reset()
    there.reset()
    done = False
    while not done:
        assert here.render() == there.render()
        verified = History.from_array(observation[None], problem.n_models).verified[0]
        for model, line in enumerate(here.render().splitlines()[1:]):
            assert (f"{data.signal[0, model, 0]:.4g}" in line) == verified[model]
        action = int(rng.integers(here.action_space.n))
        observation, _, done, _, _ = here.step(action)
        there.step(action)


# -- actions ----------------------------------------------------------------------------------


@given(problems(), SEEDS)
def test_the_mask_is_that_of_the_rules_and_empty_at_the_end(problem, seed):
    env = RoutingEnv(with_bands(problem))
    rng = np.random.default_rng(seed)
    for _ in range(5):
        observation, info = env.reset()
        done = False
        while not done:
            history = History.from_array(observation[None], problem.n_models)
            verified = int(history.last_verified[0])
            legal = problem.rules.masks[history.stage[0] + 1, verified]
            np.testing.assert_array_equal(info["action_mask"], legal)
            np.testing.assert_array_equal(env.action_masks(), legal)
            assert info["action_mask"].dtype == np.int8
            assert legal[env.action_space.sample(info["action_mask"])]
            info["action_mask"][:] = observation[:] = 1  # the caller's own, to scribble on
            chosen = int(rng.integers(problem.rules.n_actions))
            observation, _, done, truncated, info = env.step(chosen)
            assert ("illegal_action" in info) == (not legal[chosen])
            assert not truncated
        assert not info["action_mask"].any()


@given(problems(), SEEDS)
def test_an_illegal_action_is_played_as_the_lowest_legal_one(problem, seed):
    problem = with_bands(problem)
    data = random_data(1, problem.n_models, np.random.default_rng(seed))
    env, shadow = (RoutingEnv(data, problem=problem) for _ in range(2))
    rng = np.random.default_rng(seed)
    _, info = env.reset()
    shadow.reset()
    done = False
    while not done:
        legal, chosen = info["action_mask"], int(rng.integers(problem.rules.n_actions))
        played = chosen if legal[chosen] else int(np.flatnonzero(legal)[0])
        *said, info = env.step(chosen)
        *expected, info_ = shadow.step(played)
        assert _same(said, expected)
        assert info.pop("illegal_action", False) == (played != chosen)
        assert _same(info, info_)
        done = said[2]


@pytest.mark.parametrize("action", [-1, 2, 100])
def test_an_action_outside_of_the_space_is_refused(action):
    env = RoutingEnv(toy_data())
    env.reset()
    with pytest.raises(ValueError, match=f"action is {action}: expected 0 … 1"):
        env.step(action)


# -- rewards ----------------------------------------------------------------------------------


def test_an_episode_by_hand():
    # Price .2 of a 100-unit call: .002 a unit. Calls 1, 10, 100, verifications .5 and 5.
    env = RoutingEnv(toy_data(), rules=Rules(3, skip=True), price=0.2)
    observation, _ = env.reset()
    np.testing.assert_array_equal(observation, [0, 1, 0, 0, 1, 0, 0, -2, 0, 0])
    observation, reward, done, _, info = env.step(ESCALATE)
    np.testing.assert_array_equal(observation, [1, 1, 1, 0, 1, 1, 0, -2, 0.75, 0])
    assert reward == pytest.approx(-0.002 * 16.5)  # the forced call is paid with it
    assert not done
    assert info.keys() == {"action_mask"}
    observation, reward, done, _, info = env.step(ESCALATE)
    # Called last of all: not verified, and its signal (9) never shows.
    np.testing.assert_array_equal(observation, [2, 1, 1, 1, 1, 1, 0, -2, 0.75, 0])
    assert done
    assert reward == pytest.approx(1.0 - 0.002 * 100)
    assert (info["score"], info["answer"], info["cost"]) == (1.0, 2, 116.5)
    np.testing.assert_array_equal(info["scores"], [0.25, 0.5, 1.0])


@given(problems(), SEEDS)
def test_rewards_sum_to_the_return(problem, seed):
    problem = with_bands(problem)
    data = random_data(20, problem.n_models, np.random.default_rng(seed))
    env = RoutingEnv(data, problem=problem)
    for query in range(5):
        said = _play(env, np.random.default_rng(seed + query), options={"query": query})
        info = said[-1][-1]
        expected = info["score"] - problem.price * info["cost"] / problem.costs.call[-1]
        assert sum(step[1] for step in said[1:]) == pytest.approx(expected, abs=1e-9)
        assert info["score"] == data.score[query, info["answer"]]


def test_without_a_problem_the_price_counts_the_datas_own_most_expensive_calls():
    data = random_data(50, 3, np.random.default_rng(0))
    env = RoutingEnv(data, rules=Rules(3, free_start=True), price=0.7)
    env.reset(options={"query": 4})
    _, reward, *_ = env.step(3)
    paid = data.call_cost[4, 2] / data.call_cost[:, 2].mean()
    assert reward == pytest.approx(data.score[4, 2] - 0.7 * paid)


# -- rendering --------------------------------------------------------------------------------


def test_the_episode_reads_as_text():
    rules = Rules(3, verify=True)
    env = RoutingEnv(toy_data(), rules=rules, render_mode="ansi")
    env.reset()
    env.step(rules.verify_action)
    env.step(ESCALATE)
    assert env.render() == (
        "query 0, paid 11.5\n"
        "  model 0: called, signal -2\n"
        "> model 1: called, not verified\n"
        "  model 2: not called"
    )
    env.step(STAY)
    assert env.render().splitlines()[0] == "query 0, paid 11.5, done"
    assert RoutingEnv(toy_data()).render() is None
