"""Adapters for stable-baselines3 and sb3-contrib, whose learners train on `RoutingEnv` unchanged.

`StableBaselinesVecEnv` lets them step thousands of episodes at once. `LearnedPolicy` makes a
trained learner a policy that is evaluated like any solver's. No other module needs
stable-baselines3.
"""

from __future__ import annotations

from collections.abc import Sequence
from inspect import signature
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnv

from routing_pomdp.envs.gym.env_config import EnvConfig
from routing_pomdp.envs.gym.wrappers import View
from routing_pomdp.envs.history import History
from routing_pomdp.envs.model.routing_pomdp import RoutingPOMDP


class StableBaselinesVecEnv(VecEnv):
    """A `RoutingVectorEnv` as a stable-baselines3 ``VecEnv``: the info of a finished episode holds
    its results and its last observation.

    Args:
        env: a `RoutingVectorEnv`, wrapped or not, with SAME_STEP autoreset, which is the one of
            stable-baselines3.

    Raises:
        ValueError: another autoreset mode.
    """

    def __init__(self, env: VectorEnv[Any, Any, Any]) -> None:
        if (mode := env.metadata["autoreset_mode"]) is not AutoresetMode.SAME_STEP:
            raise ValueError(f"autoreset_mode is {mode.name}: expected SAME_STEP")
        self.env: Any = env
        super().__init__(env.num_envs, env.single_observation_space, env.single_action_space)
        self._actions: Any = None

    def reset(self) -> Any:
        # One generator draws for all environments, so only the first seed is used.
        observation, _ = self.env.reset(seed=self._seeds[0])
        self._reset_seeds()
        self._reset_options()
        return np.asarray(observation)

    def step_async(self, actions: Any) -> None:
        self._actions = actions

    def step_wait(self) -> tuple[Any, Any, Any, list[dict[str, Any]]]:
        observation, reward, terminated, _, infos = self.env.step(self._actions)
        done = np.asarray(terminated)
        listed: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        if done.any():
            last, final = np.asarray(infos["final_obs"]), infos["final_info"]
            results = {key: np.asarray(final[key]) for key in ("score", "answer", "cost")}
            for i in np.flatnonzero(done):
                listed[i] = {key: value[i] for key, value in results.items()}
                listed[i] |= {"terminal_observation": last[i], "TimeLimit.truncated": False}
        return np.asarray(observation), np.asarray(reward, dtype=np.float32), done, listed

    def action_masks(self) -> Any:
        """As `RoutingVectorEnv.action_masks`."""
        return self.env.action_masks()

    def close(self) -> None:
        self.env.close()

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        if attr_name == "action_masks":
            return [self.action_masks] * len(self._get_indices(indices))
        return [getattr(self.env, attr_name)] * len(self._get_indices(indices))

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        raise AttributeError(f"{attr_name} cannot be set in some of the environments alone")

    def env_method(
        self, method_name: str, *method_args: Any, indices: Any = None, **method_kwargs: Any
    ) -> Sequence[Any]:
        if method_name != "action_masks":
            raise AttributeError(f"the environments have no method {method_name!r} of their own")
        return list(self.action_masks()[list(self._get_indices(indices))])

    def env_is_wrapped(self, wrapper_class: type[gym.Wrapper], indices: Any = None) -> list[bool]:
        return [False] * len(self._get_indices(indices))


class LearnedPolicy:
    """A trained learner without recurrent state, as a policy that `evaluation` takes.

    An illegal choice is replaced by the lowest legal one, as in the environment.

    Args:
        learner: trained on `RoutingEnv` or `RoutingVectorEnv`.
        problem: the rules, the price and the costs to decide under.
        view: the view of observations that it was trained on, if any.
        show_action_costs: whether its observations ended in the action costs.
        config: of the environment that it was trained in, which says how missing and infinite
            signals were shown; None if there were none.
    """

    def __init__(
        self,
        learner: Any,
        problem: RoutingPOMDP,
        view: View | None = None,
        show_action_costs: bool = False,
        config: EnvConfig | None = None,
    ) -> None:
        self._config = config
        self.problem = problem
        self._learner, self._view = learner, view
        self._action_costs = np.concatenate([problem.call_price, problem.verify_price[:-1]])
        self._action_costs = self._action_costs[: len(self._action_costs) * show_action_costs]
        self._masked = "action_masks" in signature(learner.predict).parameters

    def act(self, history: History) -> NDArray[np.int64]:
        """Legal actions ``(n,)``."""
        legal = self.problem.rules.legal(history)
        action_costs = np.broadcast_to(self._action_costs, (len(history), len(self._action_costs)))
        shown = history.to_array() if self._config is None else self._config.observed(history)
        observation = np.concatenate([shown, action_costs], axis=1)
        if self._view is not None:
            observation = self._view(observation)
        masks = {"action_masks": legal} if self._masked else {}
        action, _ = self._learner.predict(observation, deterministic=True, **masks)
        action = np.asarray(action, dtype=np.int64)
        return np.where(legal[np.arange(len(action)), action], action, legal.argmax(axis=1))
