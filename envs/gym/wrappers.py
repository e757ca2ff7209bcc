"""Other views of the history: the exact belief, or one row a model; for one or many environments.

Without a wrapper the environments show the history itself.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import VectorEnv, VectorWrapper
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from routing_pomdp.envs.arrays import FloatArray
from routing_pomdp.envs.gym.env_config import EnvConfig
from routing_pomdp.envs.gym.routing_env import RoutingEnv
from routing_pomdp.envs.gym.vector_env import RoutingVectorEnv
from routing_pomdp.envs.model.routing_pomdp import RoutingPOMDP

_TABLE = 2**21  # the most beliefs, in numbers, that are tabulated rather than computed


class BeliefView:
    """The exact belief, a sufficient statistic of the history.

    Shape ``(S + 2N + 1,)``: the posterior ``b(y)`` of the ``S`` score vectors, the posterior mean
    of each model's score, which models were called, and whether the last answer was verified. The
    action costs follow if the environment shows them.

    Args:
        config: of the environment.
        problem: the model whose Bayes filter is used; None for the environment's own.

    Raises:
        ValueError: there is no problem, or its number of models or signals differs.
    """

    def __init__(self, config: EnvConfig, problem: RoutingPOMDP | None = None) -> None:
        problem = config.problem if problem is None else problem
        if problem is None:
            raise ValueError("a belief needs a problem with its Bayes filter: give one")
        n, n_signals = problem.n_models, problem.representative.shape[2]
        shown = config.shown.n_signals
        if (n, n_signals) != (config.n_models, shown):
            raise ValueError(
                f"the problem has {n} models and {n_signals} signals, "
                f"the environment {config.n_models} and {shown}"
            )
        self._problem, self._config = problem, config
        self._table: FloatArray | None = None
        if problem.n_histories * (len(problem.prior) + n) <= _TABLE:
            self._table = self._beliefs(np.arange(problem.n_histories))
        width = len(problem.prior) + 2 * n + 1
        low, high = _action_costs(config)
        self.space = gym.spaces.Box(
            np.concatenate([np.zeros(width), low]),
            np.concatenate([np.ones(width), high]),
            dtype=np.float64,
        )

    def __call__(self, observation: FloatArray) -> FloatArray:
        """The view of observations ``(n, width)``."""
        history = self._config.history(observation)
        code = self._problem.encode(history)
        beliefs = self._beliefs(code) if self._table is None else self._table.take(code, axis=0)
        action_costs = observation[:, self._config.history_width :]
        return np.concatenate(
            [beliefs, history.called, history.last_verified[:, None], action_costs], axis=1
        )

    def _beliefs(self, code: NDArray[np.int64]) -> FloatArray:
        """``(n, S + N)`` posteriors, and posterior means of scores."""
        belief = self._problem.belief(code)
        # By rounding, probabilities may sum to slightly more than one.
        return np.concatenate([belief, belief @ self._problem.score], axis=1).clip(0, 1)


class StackedView:
    """One row for each model, for networks that treat models alike.

    Shape ``(N, 2 + D)``: whether the model was called, whether its answer was verified, and its
    signals (with marks for missing ones: `ShownSignals`). If action costs are shown, those of
    calling the model and of verifying its answer follow: ``(N, 4 + D)``.
    """

    def __init__(self, config: EnvConfig) -> None:
        self._config = config
        space = config.observation_space
        assert isinstance(space, gym.spaces.Box)
        low, high = (self(bound[None])[0] for bound in (space.low, space.high))
        # The last model's verification cost is always 0, but a range must not be empty.
        self.space = gym.spaces.Box(low, np.where(high > low, high, low + 1), dtype=np.float64)

    def __call__(self, observation: FloatArray) -> FloatArray:
        """The view of observations ``(n, width)``."""
        n, models, end = len(observation), self._config.n_models, self._config.history_width
        parts = [
            observation[:, 1 : 1 + models, None],
            observation[:, 1 + models : 1 + 2 * models, None],
            observation[:, 1 + 2 * models : end].reshape(n, models, -1),
        ]
        if self._config.show_action_costs:
            action_costs = np.zeros((n, 2 * models))
            action_costs[:, :-1] = observation[:, end:]
            parts.append(action_costs.reshape(n, 2, models).swapaxes(1, 2))
        return np.concatenate(parts, axis=2)


View = BeliefView | StackedView


class _Viewed(gym.ObservationWrapper[FloatArray, np.int64, FloatArray]):
    def __init__(self, env: gym.Env[FloatArray, np.int64], view: View) -> None:
        super().__init__(env)
        self._view = view
        self.observation_space = view.space

    def observation(self, observation: FloatArray) -> FloatArray:
        return self._view(observation[None])[0]

    def action_masks(self) -> NDArray[np.bool_]:
        """As `RoutingEnv.action_masks`."""
        return _single(self).action_masks()


class BeliefObservation(_Viewed):
    """`BeliefView` of a `RoutingEnv`."""

    def __init__(
        self, env: gym.Env[FloatArray, np.int64], problem: RoutingPOMDP | None = None
    ) -> None:
        super().__init__(env, BeliefView(_single(env).config, problem))


class StackedSignals(_Viewed):
    """`StackedView` of a `RoutingEnv`."""

    def __init__(self, env: gym.Env[FloatArray, np.int64]) -> None:
        super().__init__(env, StackedView(_single(env).config))


class _VectorViewed(VectorWrapper[Any, Any, Any, Any, Any]):
    # Not Gymnasium's VectorObservationWrapper, which refuses SAME_STEP autoreset.
    def __init__(self, env: VectorEnv[Any, Any, Any], view: View) -> None:
        super().__init__(env)
        self._view = view
        self.single_observation_space = view.space
        self.observation_space = batch_space(view.space, env.num_envs)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        observation, infos = self.env.reset(seed=seed, options=options)
        return self._viewed(observation), infos

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        observation, reward, terminated, truncated, infos = self.env.step(actions)
        if "final_obs" in infos:
            infos["final_obs"] = self._viewed(infos["final_obs"])
        return self._viewed(observation), reward, terminated, truncated, infos

    def action_masks(self) -> Any:
        """As `RoutingVectorEnv.action_masks`."""
        return _vector(self).action_masks()

    def _viewed(self, observation: Any) -> Any:
        viewed = self._view(np.asarray(observation))
        return _vector(self).as_asked(viewed)


class VectorBeliefObservation(_VectorViewed):
    """`BeliefView` of a `RoutingVectorEnv`."""

    def __init__(self, env: VectorEnv[Any, Any, Any], problem: RoutingPOMDP | None = None) -> None:
        super().__init__(env, BeliefView(_vector(env).config, problem))


class VectorStackedSignals(_VectorViewed):
    """`StackedView` of a `RoutingVectorEnv`."""

    def __init__(self, env: VectorEnv[Any, Any, Any]) -> None:
        super().__init__(env, StackedView(_vector(env).config))


def _single(env: gym.Env[Any, Any]) -> RoutingEnv:
    inner = env.unwrapped
    if not isinstance(inner, RoutingEnv):
        raise ValueError(f"{inner} is no RoutingEnv")
    return inner


def _vector(env: VectorEnv[Any, Any, Any]) -> RoutingVectorEnv:
    inner = env.unwrapped
    if not isinstance(inner, RoutingVectorEnv):
        raise ValueError(f"{inner} is no RoutingVectorEnv")
    return inner


def _action_costs(config: EnvConfig) -> tuple[FloatArray, FloatArray]:
    """Lower and upper bounds of the action costs in observations."""
    space = config.observation_space
    assert isinstance(space, gym.spaces.Box)
    return space.low[config.history_width :], space.high[config.history_width :]
