"""Episodes of a behaviour policy, and their export as a Minari data set for offline RL."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from routing_pomdp.envs.gym.vector_env import RoutingVectorEnv
from routing_pomdp.envs.history import History
from routing_pomdp.envs.model.routing_pomdp import RoutingPOMDP
from routing_pomdp.envs.routing_data import RoutingData
from routing_pomdp.envs.rules import Rules

Act = Callable[[History], NDArray[np.int64]]
"""A policy: maps histories of ``n`` episodes to legal actions ``(n,)``."""


@dataclass(frozen=True, eq=False)
class Episode:
    """One episode of ``T`` steps, with the observations of `RoutingEnv`.

    Attributes:
        query: the row of its query in the data.
        observation: ``(T + 1, width)``, including the final one.
        action: ``(T,)``.
        reward: ``(T,)``.
        mask: ``(T + 1, n_actions)`` legal actions; none after the last step.
    """

    query: int
    observation: NDArray[np.float64]
    action: NDArray[np.int64]
    reward: NDArray[np.float64]
    mask: NDArray[np.int8]


def random_legal(rules: Rules, rng: np.random.Generator) -> Act:
    """A policy that draws legal actions uniformly."""

    def act(history: History) -> NDArray[np.int64]:
        legal = rules.legal(history)
        return np.where(legal, rng.random(legal.shape), -1.0).argmax(axis=1)

    return act


def play(data: RoutingData, problem: RoutingPOMDP, act: Act, repeats: int = 1) -> list[Episode]:
    """Episodes of a policy on every query of ``data``, ``repeats`` times, under the rules, the
    price and the unit of cost of ``problem``."""
    query = np.tile(np.arange(len(data)), repeats)
    env = RoutingVectorEnv(len(query), data, problem=problem)
    observation, infos = env.reset(seed=0, options={"query": query})
    observations, masks = [observation], [infos["action_mask"]]
    actions, rewards = [], []
    length, alive = np.zeros(len(query), dtype=np.int64), np.arange(len(query))
    while len(alive):
        action = np.zeros(len(query), dtype=np.int64)
        history = env.config.history(observation[alive])
        action[alive] = act(replace(history, query=query[alive]))
        observation, reward, ended, _, infos = env.step(action)
        if "illegal_action" in infos and infos["illegal_action"][alive].any():
            raise ValueError("the policy took an illegal action")
        observations.append(observation)
        masks.append(infos["action_mask"])
        actions.append(action)
        rewards.append(reward)
        length[alive] += 1
        alive = alive[~ended[alive]]
    shown, legal = np.stack(observations, axis=1), np.stack(masks, axis=1)
    taken, got = np.stack(actions, axis=1), np.stack(rewards, axis=1)
    return [
        Episode(int(query[i]), shown[i, : n + 1], taken[i, :n], got[i, :n], legal[i, : n + 1])
        for i, n in enumerate(length.tolist())
    ]


def write_minari(
    dataset_id: str,
    episodes: Sequence[Episode],
    problem: RoutingPOMDP,
    data: RoutingData,
    *,
    path: str | os.PathLike[str] | None = None,
    algorithm: str = "unknown",
    description: str = "Episodes of LLM routing: stay with an answer, or pay for a better one.",
) -> Path:
    """Writes episodes as a Minari data set (arrow format), which ``minari.load_dataset`` reads.

    Its infos hold the action mask of every step. It does not hold the scores of answers that were
    not returned.

    Args:
        dataset_id: ``(namespace/)name-vN``.
        episodes: as `play` returns them.
        problem: the problem that they were played under.
        data: the data that they were played on.
        path: the folder of all data sets; None for MINARI_DATASETS_PATH, or else Minari's default.
            Nothing is written outside it.
        algorithm: the name of the behaviour policy.
        description: of the data set.

    Returns:
        The folder of the data set.

    Raises:
        ValueError: there are no episodes, Minari does not allow the id, or the data set exists.
    """
    import minari
    from minari.data_collector.episode_buffer import EpisodeBuffer
    from minari.storage.datasets_root_dir import get_dataset_path

    if not episodes:
        raise ValueError("there are no episodes to write")
    config = RoutingVectorEnv(1, data, problem=problem).config
    buffers = [
        EpisodeBuffer(
            id=number,
            options={"query": episode.query},
            observations=list(episode.observation),
            actions=list(episode.action),
            rewards=list(episode.reward),
            terminations=[False] * (len(episode.reward) - 1) + [True],
            truncations=[False] * len(episode.reward),
            infos={"action_mask": episode.mask},
        )
        for number, episode in enumerate(episodes)
    ]
    with _datasets_in(path), warnings.catch_warnings():
        # Minari warns that there is no e-mail address, no link to code and no environment id.
        warnings.simplefilter("ignore", UserWarning)
        storage = minari.create_dataset_from_buffers(
            dataset_id,
            [],
            algorithm_name=algorithm,
            description=description,
            observation_space=config.observation_space,
            action_space=config.action_space,
            data_format="arrow",
            requirements=[],
        ).storage
        # Minari measures the whole folder after every episode: quadratic in their number.
        storage.get_size = lambda: 0.0
        storage.update_episodes(buffers)
        del storage.get_size
        storage.update_metadata({"dataset_size": storage.get_size()})
        return Path(get_dataset_path(dataset_id))


@contextmanager
def _datasets_in(path: str | os.PathLike[str] | None) -> Iterator[None]:
    """Lets Minari keep its data sets in ``path``."""
    before = os.environ.get("MINARI_DATASETS_PATH")
    if path is not None:
        os.environ["MINARI_DATASETS_PATH"] = os.fspath(path)
    try:
        yield
    finally:
        if path is not None and before is None:
            del os.environ["MINARI_DATASETS_PATH"]
        elif path is not None and before is not None:
            os.environ["MINARI_DATASETS_PATH"] = before
