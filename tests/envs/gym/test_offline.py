"""Logged episodes, and a Minari data set that holds just them."""

import os

import numpy as np
import pytest

from routing_pomdp.envs import RoutingEnv, Rules
from routing_pomdp.envs.gym.offline import play, random_legal, write_minari
from routing_pomdp.evaluation.evaluate import evaluate, returns
from routing_pomdp.solvers import Exact
from tests.support.problems import every_rules, name_of, random_data, random_problem, with_bands

minari = pytest.importorskip("minari", reason="minari is not installed: pip install '.[rl]'")


def _played(rules: Rules, n: int = 20, repeats: int = 1):
    rng = np.random.default_rng(0)
    problem = with_bands(random_problem(rules, rng))
    data = random_data(n, rules.n_models, rng)
    return problem, data, play(data, problem, random_legal(rules, rng), repeats)


@pytest.mark.parametrize("rules", every_rules(3), ids=name_of)
def test_an_episode_is_what_the_environment_shows(rules):
    problem, data, episodes = _played(rules, repeats=3)
    env = RoutingEnv(data, problem=problem)
    assert [episode.query for episode in episodes] == list(range(20)) * 3
    for episode in episodes:
        observation, info = env.reset(options={"query": episode.query})
        shown, masks, rewards, ended = [observation], [info["action_mask"]], [], []
        for action in episode.action:
            observation, reward, done, _, info = env.step(action)
            assert "illegal_action" not in info
            shown.append(observation)
            masks.append(info["action_mask"])
            rewards.append(reward)
            ended.append(done)
        assert ended == [False] * (len(ended) - 1) + [True]
        np.testing.assert_array_equal(shown, episode.observation)
        np.testing.assert_array_equal(masks, episode.mask)
        np.testing.assert_array_equal(rewards, episode.reward)


def test_a_solvers_episodes_earn_what_its_evaluation_says():
    rules = Rules(4, skip=True, free_start=True, verify=True)
    problem, data, _ = _played(rules, n=200)
    policy = Exact().solve(problem)
    episodes = play(data, policy.problem, policy.act)
    got = [episode.reward.sum() for episode in episodes]
    np.testing.assert_allclose(got, returns(evaluate(policy, data), problem), atol=1e-12)


def test_every_legal_action_is_drawn_and_no_other():
    rules = Rules(3, skip=True, free_start=True, verify=True)
    _, _, episodes = _played(rules, n=500)
    first = np.bincount([episode.action[0] for episode in episodes], minlength=rules.n_actions)
    assert (first[[1, 2, 3]] > 100).all()
    assert (first[[0, 4]] == 0).all()


@pytest.mark.parametrize("by", ["argument", "variable"])
def test_minari_reads_back_the_same_episodes(by, tmp_path, monkeypatch):
    problem, data, episodes = _played(Rules(3, skip=True, verify=True))
    folder, elsewhere = tmp_path / "sets", tmp_path / "elsewhere"
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(elsewhere if by == "argument" else folder))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    written = write_minari(
        "routing/toy-v0",
        episodes,
        problem,
        data,
        path=folder if by == "argument" else None,
        algorithm="random",
    )
    assert written == folder / "routing" / "toy-v0"
    assert [path.name for path in tmp_path.iterdir()] == ["sets"]
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(folder))
    dataset = minari.load_dataset("routing/toy-v0")
    assert dataset.spec.total_episodes == len(episodes)
    assert dataset.spec.total_steps == sum(len(episode.action) for episode in episodes)
    assert dataset.storage.metadata["algorithm_name"] == "random"
    env = RoutingEnv(data, problem=problem)
    assert dataset.spec.observation_space == env.observation_space
    assert dataset.spec.action_space == env.action_space
    for read, episode in zip(dataset.iterate_episodes(), episodes, strict=True):
        np.testing.assert_array_equal(read.observations, episode.observation)
        np.testing.assert_array_equal(read.actions, episode.action)
        np.testing.assert_array_equal(read.rewards, episode.reward)
        np.testing.assert_array_equal(read.infos["action_mask"], episode.mask)
        assert read.terminations.tolist() == [False] * (len(episode.action) - 1) + [True]
        assert not read.truncations.any()


def test_no_hidden_score_is_in_the_data_set(tmp_path):
    problem, data, episodes = _played(Rules(3), n=5)
    write_minari("toy-v0", episodes, problem, data, path=tmp_path)
    dataset = minari.MinariDataset(tmp_path / "toy-v0" / "data")
    for read in dataset.iterate_episodes():
        assert set(read.infos) == {"action_mask"}


def test_bad_exports_are_refused_and_leave_the_environment_as_it_was(tmp_path, monkeypatch):
    problem, data, episodes = _played(Rules(2), n=2)
    monkeypatch.delenv("MINARI_DATASETS_PATH", raising=False)
    with pytest.raises(ValueError, match="there are no episodes"):
        write_minari("toy-v0", [], problem, data, path=tmp_path)
    with pytest.raises(ValueError, match="Malformed dataset ID: toy v0"):
        write_minari("toy v0", episodes, problem, data, path=tmp_path)
    write_minari("toy-v0", episodes, problem, data, path=tmp_path)
    with pytest.raises(ValueError, match="toy-v0 already exists"):
        write_minari("toy-v0", episodes, problem, data, path=tmp_path)
    assert "MINARI_DATASETS_PATH" not in os.environ


def test_a_policy_that_plays_illegally_is_not_logged():
    problem, data, _ = _played(Rules(2, free_start=True), n=2)
    with pytest.raises(ValueError, match="the policy took an illegal action"):
        play(data, problem, lambda history: np.zeros(len(history), dtype=np.int64))
