"""The vector environment: each of its environments does what the single one would."""

import copy
import pickle
import warnings
from dataclasses import replace

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv
from gymnasium.wrappers.vector import RecordEpisodeStatistics
from hypothesis import given
from hypothesis import strategies as st

from routing_pomdp.envs import STAY, History, RoutingEnv, RoutingVectorEnv, Rules
from tests.support.problems import (
    problems,
    random_data,
    random_problem,
    with_bands,
)

SEEDS = st.integers(0, 2**32)
MODES = list(AutoresetMode)
SOURCES = ("problem", "replay")


class Follower(RoutingEnv):
    """Plays the query that a vector environment dealt to its environment ``index``."""

    leader: RoutingVectorEnv
    index: int

    def reset(self, *, seed=None, options=None):
        del seed, options
        return super().reset(options={"query": self.leader._table.query[self.index]})


def followers(leader: RoutingVectorEnv, mode: AutoresetMode, arguments: list[dict]) -> VectorEnv:
    """Gymnasium's own vector environment of single ones, on the leader's queries."""

    def follower(index: int) -> Follower:
        env = Follower(**arguments[index])
        env.leader, env.index = leader, index
        # Each knows its own price alone; the leader's space has room for all.
        env.observation_space = leader.single_observation_space
        return env

    return SyncVectorEnv(
        [lambda i=i: follower(i) for i in range(leader.num_envs)], autoreset_mode=mode
    )


def assert_same(here: object, there: object, mask: np.ndarray | None = None) -> None:
    """That two things said are equal to the last bit, where they concern anyone."""
    if isinstance(here, dict):
        assert here.keys() == there.keys()
        for key in here:
            of_key = None if key.startswith("_") else here.get(f"_{key}")
            assert_same(here[key], there[key], of_key)
        return
    if isinstance(here, tuple):
        for said, expected in zip(here, there, strict=True):
            assert_same(said, expected)
        return
    here, there = np.asarray(here), np.asarray(there)
    if there.dtype == object:  # Gymnasium's observations of ended episodes
        here, there = here[mask], np.stack(list(there[mask]))
    elif mask is not None:
        here, there = here[mask], there[mask]
    assert here.dtype == there.dtype
    np.testing.assert_array_equal(here, there)


def assert_alike(mine: VectorEnv, other: VectorEnv, mode, rng, n_steps: int, seed=None) -> None:
    """Plays random actions, legal or not, in both, and resets those that are over if need be."""
    assert_same(mine.reset(seed=seed), other.reset(seed=seed))
    actions = mine.single_action_space.n
    for _ in range(n_steps):
        action = rng.integers(actions, size=mine.num_envs)
        here = mine.step(action)
        assert_same(here, other.step(action))
        over = here[2]
        if mode is AutoresetMode.DISABLED and over.any():
            (seen, told), (seen_, told_) = (
                env.reset(options={"reset_mask": over.copy()}) for env in (mine, other)
            )
            assert_same(seen, seen_)
            np.testing.assert_array_equal(told["action_mask"][over], told_["action_mask"][over])


# -- equal to the single environment ----------------------------------------------------------


def check_against_followers(problem, source, mode, seed, signals=1, **options) -> None:
    n_envs = 5
    problem, rng = with_bands(problem, signals), np.random.default_rng(seed)
    if source == "replay":
        data = random_data(30, problem.n_models, rng, signals)
        mine = RoutingVectorEnv(n_envs, data, problem=problem, autoreset_mode=mode, **options)
    else:
        mine = RoutingVectorEnv(n_envs, problem, autoreset_mode=mode, **options)
        # The very queries that the environment will draw with this seed.
        data = problem.sample(1024, seeding.np_random(seed)[0])
    arguments = [{"source": data, "problem": problem}] * n_envs
    if "ratio" in options:
        arguments = [
            {
                "source": data,
                "problem": problem.at(price),
                "ratio": ratio,
                "show_action_costs": True,
            }
            for price, ratio in zip(options["price"], options["ratio"], strict=True)
        ]
    assert_alike(mine, followers(mine, mode, arguments), mode, rng, n_steps=25, seed=seed)


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.name)
def test_each_environment_does_what_the_single_one_does(source, mode):
    rules = Rules(3, skip=True, free_start=True, verify=True, answer="best")
    check_against_followers(random_problem(rules, np.random.default_rng(0)), source, mode, seed=1)


@pytest.mark.slow
@given(problems(), st.sampled_from(SOURCES), st.sampled_from(MODES), SEEDS, st.integers(1, 2))
def test_it_does_so_in_any_problem(problem, source, mode, seed, signals):
    check_against_followers(problem, source, mode, seed, signals)


@pytest.mark.slow
@given(problems(), st.sampled_from(SOURCES), st.sampled_from(MODES), SEEDS)
def test_it_does_so_at_a_price_and_a_ratio_of_each_environment(problem, source, mode, seed):
    rng = np.random.default_rng(seed)
    price, ratio = rng.uniform(0, 2, 5), rng.uniform(1, 100, 5)
    check_against_followers(problem, source, mode, seed, price=price, ratio=ratio)


@given(
    problems(),
    st.sampled_from(SOURCES),
    st.sampled_from(MODES),
    SEEDS,
    st.sampled_from((None, (0.01, 2.0))),
    st.sampled_from((None, 20.0, (1.0, 100.0))),
    st.booleans(),
)
def test_a_vector_of_one_plays_the_same_episodes_from_the_same_seed(
    problem, source, mode, seed, price, ratio, show_action_costs
):
    problem = with_bands(problem)
    options = {
        "source": problem,
        "price": price,
        "ratio": ratio,
        "show_action_costs": show_action_costs,
    }
    if source == "replay":
        data = random_data(30, problem.n_models, np.random.default_rng(seed))
        options |= {"source": data, "problem": problem}
    mine = RoutingVectorEnv(1, **options, autoreset_mode=mode)
    other = SyncVectorEnv([lambda: RoutingEnv(**options)], autoreset_mode=mode)
    assert mine.single_observation_space == other.single_observation_space
    assert mine.observation_space == other.observation_space
    assert mine.action_space == other.action_space
    assert_alike(mine, other, mode, np.random.default_rng(seed), n_steps=25, seed=seed)


def test_thousands_of_episodes_pass_through_many_blocks_of_queries():
    # 700 queries a step or so, of blocks of 4,000.
    problem = random_problem(Rules(3, skip=True, verify=True), np.random.default_rng(0))
    env, rng = RoutingVectorEnv(1000, problem), np.random.default_rng(1)
    env.reset(seed=0)
    scores = []
    for _ in range(100):
        *_, infos = env.step(rng.integers(env.single_action_space.n, size=1000))
        if "scores" in infos:
            scores.append(infos["scores"][infos["_scores"]])
    seen = np.concatenate(scores)
    assert len(seen) > 20_000
    vector, counts = np.unique(
        np.argmin(np.abs(seen[:, None] - problem.score).sum(2), axis=1), return_counts=True
    )
    share = np.zeros(len(problem.prior))
    share[vector] = counts / len(seen)
    # Episodes end no sooner for one score vector than for another: nobody looks at signals.
    error = np.sqrt(problem.prior * (1 - problem.prior) / len(seen))
    assert (np.abs(share - problem.prior) < 4 * error + 1e-12).all()


# -- the contract -----------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.name)
def test_gymnasium_makes_it_without_a_warning(mode):
    problem = random_problem(Rules(3, skip=True), np.random.default_rng(0))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env = gymnasium.make_vec(
            "routing_pomdp.envs:Routing-v0",
            num_envs=7,
            source=problem,
            autoreset_mode=mode,
        )
        observation, _ = env.reset(seed=0)
    assert isinstance(env, RoutingVectorEnv)
    assert env.metadata["autoreset_mode"] is mode
    assert env.spec.id == "Routing-v0"
    assert observation.shape == (7, 1 + 3 * 3)
    assert env.observation_space.contains(observation)


def test_it_is_made_without_an_argument():
    env = gymnasium.make_vec("routing_pomdp.envs:Routing-v0", num_envs=3)
    observation, infos = env.reset(seed=0)
    assert env.observation_space.contains(observation)
    assert infos["action_mask"].tolist() == [[1, 1]] * 3


@given(problems(), SEEDS, st.sampled_from(MODES[:2]), st.integers(1, 2))
def test_every_observation_lies_in_its_space(problem, seed, mode, signals):
    env = RoutingVectorEnv(
        20, with_bands(problem, signals), price=(0.1, 3.0), ratio=(1.0, 50.0), autoreset_mode=mode
    )
    rng = np.random.default_rng(seed)
    observation, _ = env.reset(seed=seed)
    for _ in range(20):
        assert env.observation_space.contains(observation)
        action = rng.integers(env.single_action_space.n, size=20)
        observation, reward, terminated, truncated, infos = env.step(action)
        assert reward.dtype == np.float64
        assert terminated.dtype == truncated.dtype == bool
        if "final_obs" in infos:
            assert env.observation_space.contains(infos["final_obs"])


def test_the_same_seed_plays_the_same_episodes():
    problem = random_problem(Rules(4, skip=True), np.random.default_rng(0))
    env = RoutingVectorEnv(50, problem, price=(0.1, 1.0))
    said = []
    for _ in range(2):
        rng = np.random.default_rng(1)
        said.append([env.reset(seed=3), *(env.step(rng.integers(4, size=50)) for _ in range(30))])
    for here, there in zip(*said, strict=True):
        assert_same(here, there)
    assert (env.reset(seed=4)[0] != said[0][0][0]).any()


def _unpickled(env: RoutingVectorEnv) -> RoutingVectorEnv:
    return pickle.loads(pickle.dumps(env))


@pytest.mark.parametrize("duplicate", [copy.deepcopy, _unpickled])
@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("answer", ["last", "best"])
def test_a_copy_made_in_mid_episode_plays_on_alike(duplicate, source, answer):
    problem = random_problem(Rules(4, skip=True, answer=answer), np.random.default_rng(0))
    arguments = {"source": problem, "price": (0.1, 1.0)}
    if source == "replay":
        arguments |= {"source": random_data(30, 4, np.random.default_rng(1)), "problem": problem}
        arguments["problem"] = with_bands(problem)
    env = RoutingVectorEnv(7, **arguments)
    env.reset(seed=0)
    env.step(np.ones(7, dtype=int))
    other, rng = duplicate(env), np.random.default_rng(0)
    actions = rng.integers(4, size=(40, 7))
    ahead = [env.step(action) for action in actions]
    again = [other.step(action) for action in actions]
    for here, there in zip(ahead, again, strict=True):
        assert_same(here, there)


def test_gymnasiums_statistics_of_episodes_are_its_returns():
    problem = random_problem(Rules(3, skip=True), np.random.default_rng(0))
    env = RecordEpisodeStatistics(RoutingVectorEnv(8, problem))
    env.reset(seed=0)
    rng, ended = np.random.default_rng(0), 0
    for _ in range(30):
        *_, infos = env.step(rng.integers(3, size=8))
        if "episode" in infos:
            over = infos["_score"]
            np.testing.assert_array_equal(infos["_episode"], over)
            expected = infos["score"] - problem.price * infos["cost"] / problem.costs.unit
            np.testing.assert_allclose(infos["episode"]["r"][over], expected[over], atol=1e-6)
            ended += over.sum()
    assert ended > 40


def test_queries_can_be_chosen():
    data = random_data(10, 3, np.random.default_rng(0))
    env = RoutingVectorEnv(3, data, autoreset_mode="Disabled")
    observation, _ = env.reset(options={"query": np.array([7, 0, 9])})
    np.testing.assert_array_equal(observation[:, 7], data.signal[[7, 0, 9], 0, 0])
    some = np.array([True, False, True])
    observation, _ = env.reset(options={"query": 4, "reset_mask": some})
    np.testing.assert_array_equal(observation[:, 7], data.signal[[4, 0, 4], 0, 0])
    *_, infos = env.step(np.full(3, STAY))
    np.testing.assert_array_equal(infos["scores"], data.score[[4, 0, 4]])
    with pytest.raises(ValueError, match=r"options\['query'\] has -1 … 10: expected 0 … 9"):
        env.reset(options={"query": np.array([-1, 10, 0])})
    with pytest.raises(ValueError, match=r"shape \(2,\) and type int64: expected a whole number"):
        env.reset(options={"query": np.array([1, 2])})
    sampled = RoutingVectorEnv(3, random_problem(Rules(2), np.random.default_rng(0)))
    with pytest.raises(ValueError, match="there is none here"):
        sampled.reset(options={"query": 0})


# -- prices and ratios ------------------------------------------------------------------------


def test_prices_are_drawn_anew_and_evenly_over_the_logarithm():
    problem = random_problem(Rules(3, free_start=True), np.random.default_rng(0))
    env = RoutingVectorEnv(2000, problem, price=(0.01, 1.0), ratio=(10.0, 1000.0))
    n = problem.n_models
    draws = []
    for seed in range(3):
        observation, _ = env.reset(seed=seed)
        price, cheapest = observation[:, -(2 * n - 1) + n - 1], observation[:, -(2 * n - 1)]
        np.testing.assert_allclose(price, env.price, rtol=1e-12)
        draws.append(np.log10(np.stack([price, price / cheapest], axis=1)))
    assert not np.isin(draws[0], draws[1]).any()
    places = (np.concatenate(draws) - [-2, 1]) / 2
    for place in places.T:
        assert 0 <= place.min() < 0.01
        assert 0.99 < place.max() <= 1 + 1e-9
        assert place.mean() == pytest.approx(0.5, abs=0.02)
        assert place.var() == pytest.approx(1 / 12, abs=0.005)
    assert abs(np.corrcoef(places.T)[0, 1]) < 0.05


@given(problems(), st.sampled_from(SOURCES), SEEDS)
def test_rewards_sum_to_the_return_at_the_price_that_is_shown(problem, source, seed):
    problem, n, rng = with_bands(problem), problem.n_models, np.random.default_rng(seed)
    options = {"source": problem}
    if source == "replay":
        options = {"source": random_data(9, n, rng), "problem": problem}
    env = RoutingVectorEnv(30, **options, price=(0.1, 3.0), ratio=(2.0, 50.0))
    env.reset(seed=seed)
    total = np.zeros(30)
    for _ in range(20):
        action = rng.integers(env.single_action_space.n, size=30)
        observation, reward, ended, _, infos = env.step(action)
        total += reward
        action_costs, seen = observation[:, -(2 * n - 1) :], History.from_array(observation, n)
        calls, verifications = (
            seen.called * action_costs[:, :n],
            seen.verified[:, :-1] * action_costs[:, n:],
        )
        paid = calls.sum(axis=1) + verifications.sum(axis=1)
        if ended.any():
            expected = infos["score"] - paid
            np.testing.assert_allclose(total[ended], expected[ended], atol=1e-9)
        total[ended] = 0


# -- memory and secrets -----------------------------------------------------------------


@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_copies_are_fresh_and_shared_observations_are_one(backend):
    problem = random_problem(Rules(3), np.random.default_rng(0))
    for fresh in (True, False):
        env = RoutingVectorEnv(4, problem, copy=fresh, backend=backend)
        first, _ = env.reset(seed=0)
        before = np.asarray(first).copy()
        second, *_ = env.step(np.ones(4, dtype=int))
        assert np.shares_memory(np.asarray(first), np.asarray(second)) == (not fresh)
        assert np.array_equal(before, first) == fresh


def test_tensors_share_the_environments_memory():
    problem = random_problem(Rules(3, skip=True), np.random.default_rng(0))
    env = RoutingVectorEnv(6, problem, copy=False, backend="torch", autoreset_mode="SameStep")
    plain = RoutingVectorEnv(6, problem, autoreset_mode="SameStep")
    observation, _ = env.reset(seed=0)
    plain.reset(seed=0)
    assert observation.data_ptr() == env._observation.ctypes.data
    for step in range(20):
        action = torch.from_numpy(np.random.default_rng(step).integers(3, size=6))
        *said, infos = env.step(action)
        assert said[0].data_ptr() == observation.data_ptr()
        assert all(isinstance(tensor, torch.Tensor) for tensor in (*said, infos["action_mask"]))
        *expected, infos_ = plain.step(action.numpy())
        assert_same(infos, infos_)
        for tensor, array in zip(said, expected, strict=True):
            np.testing.assert_array_equal(tensor.numpy(), array)


@given(problems(), SEEDS)
def test_no_score_shows_before_the_end(problem, seed):
    problem, rng = with_bands(problem), np.random.default_rng(seed)
    data = random_data(6, problem.n_models, rng)
    other = replace(data, score=rng.random(data.score.shape))
    here, there = (RoutingVectorEnv(8, source, problem=problem) for source in (data, other))
    assert_same(here.reset(seed=seed), there.reset(seed=seed))
    for _ in range(12):
        action = rng.integers(here.single_action_space.n, size=8)
        seen, reward, ended, _, infos = here.step(action)
        seen_, reward_, ended_, _, infos_ = there.step(action)
        np.testing.assert_array_equal(seen, seen_)
        np.testing.assert_array_equal(ended, ended_)
        np.testing.assert_array_equal(reward[~ended], reward_[~ended])
        assert infos.keys() == infos_.keys()
        for name in set(infos) - {"score", "scores"}:
            np.testing.assert_array_equal(infos[name], infos_[name])
        for name in {"score", "scores"} & set(infos):
            assert not infos[name][~ended].any()
