"""`RoutingVectorEnv`: thousands of routing episodes at once, with the semantics of `RoutingEnv`.

Every environment is in one of a few **states**: (stage, whether its answer was verified), or over.
The effect of an action is looked up in `TransitionTables`; the signal it reveals and its cost are
gathered from the environment's row of `EpisodeTable`. A step is then some thirty array operations
over all environments, without branches between environments.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import gymnasium as gym
import numpy as np
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from routing_pomdp.envs.arrays import FloatArray, IntArray
from routing_pomdp.envs.gym.action_costs import Choice
from routing_pomdp.envs.gym.env_config import EnvConfig
from routing_pomdp.envs.gym.episode_table import EpisodeTable
from routing_pomdp.envs.gym.transitions import TransitionTables
from routing_pomdp.envs.model.routing_pomdp import RoutingPOMDP
from routing_pomdp.envs.routing_data import RoutingData
from routing_pomdp.envs.rules import STAY, Rules

_TABLE = 2**16  # the most histories whose best answers are worth a table


class RoutingVectorEnv(VectorEnv[Any, Any, Any]):
    """Route ``num_envs`` queries at once; each environment does what `RoutingEnv` would.

    Observations, actions, rewards, and the arguments not listed here are those of `RoutingEnv`;
    observations are ``(num_envs, width)``. ``info`` has the form of
    `gymnasium.vector.SyncVectorEnv`: each key comes with a mask ``_key`` of the environments that
    it is valid for, and the keys of illegal actions and finished episodes are present only if there
    are any. With SAME_STEP autoreset ``info["final_obs"]`` is one array, valid only in the rows of
    finished episodes.

    Args:
        num_envs: how many environments.
        price: also an array ``(num_envs,)``, the price of each environment.
        ratio: also an array ``(num_envs,)``.
        autoreset_mode: what follows the end of an episode. NEXT_STEP: the next step ignores the
            action and starts a new episode. SAME_STEP: the same step starts it, and ``info`` holds
            the end of the finished one. DISABLED: ``reset(options={"reset_mask": ...})`` does.
        copy: whether each observation is a new array; if not, the next step overwrites it.
        backend: "torch" for tensors on the CPU that share the arrays' memory; actions may be
            tensors with either.
        max_episode_steps: None; episodes are short and never truncated.

    Attributes:
        price: ``(num_envs,)`` the price of each environment's episode.

    Raises:
        ValueError: arguments that contradict each other, or "best" without a problem.
    """

    def __init__(
        self,
        num_envs: int,
        source: RoutingData | RoutingPOMDP | None = None,
        *,
        problem: RoutingPOMDP | None = None,
        rules: Rules | None = None,
        price: Choice | None = None,
        ratio: Choice | None = None,
        show_action_costs: bool = False,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        copy: bool = True,
        backend: Literal["numpy", "torch"] = "numpy",
        max_episode_steps: None = None,
        render_mode: None = None,
    ) -> None:
        if num_envs < 1:
            raise ValueError(f"num_envs is {num_envs}: expected at least 1")
        if backend not in ("numpy", "torch"):
            raise ValueError(f"backend is {backend!r}: expected 'numpy' or 'torch'")
        if max_episode_steps is not None or render_mode is not None:
            raise ValueError("expected max_episode_steps and render_mode to be None")
        self.num_envs, self.copy = num_envs, copy
        self._from_numpy: Callable[[NDArray[Any]], Any] | None = None
        if backend == "torch":
            import torch

            self._from_numpy = torch.from_numpy
        self._mode = AutoresetMode(autoreset_mode)
        self.metadata = {"autoreset_mode": self._mode, "render_modes": []}
        config = EnvConfig.of(source, problem, rules, price, ratio, show_action_costs, num_envs)
        if config.rules.pre_query:
            raise ValueError("RoutingVectorEnv has no pre-query signals: use RoutingEnv")
        compares = isinstance(config.source, RoutingData) and config.source.compared
        if compares and (config.rules.skip or config.rules.free_start):
            raise ValueError(
                "a signal that compares answers depends on which models were called, and these "
                "rules can pass over models: use RoutingEnv"
            )
        self.config, self.problem, self.rules = config, config.problem, config.rules
        self.single_observation_space = config.observation_space
        self.single_action_space = config.action_space
        self.observation_space: gym.Space = batch_space(self.single_observation_space, num_envs)
        self.action_space: gym.Space = batch_space(self.single_action_space, num_envs)

        self._table = EpisodeTable(config, num_envs)
        self._transitions = TransitionTables.of(config.rules, self._table.columns)
        self._observation = np.zeros((num_envs, config.width))
        self._first = np.arange(num_envs) * self._observation.shape[1]
        self._state = np.full(num_envs, self._transitions.over)
        self._over = np.ones(num_envs, dtype=bool)
        self._paid, self._rewarded = np.zeros(num_envs), np.zeros(num_envs)
        self.price, self._minus_rate = np.zeros(num_envs), np.zeros(num_envs)
        self._every = np.arange(num_envs)
        self._best: IntArray | None = None
        if self.rules.answer == "best":
            assert self.problem is not None
            self._best = _best_answers(self.problem)
        if not config.action_costs.drawn:
            self._set_costs(self._every, np.random.default_rng(0))
        self._started = False

    # -- the Gymnasium interface --------------------------------------------------------------

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Starts an episode in every environment, or in those that ``options["reset_mask"]`` marks.
        ``options["query"]`` chooses the queries: a row of routing data, or ``(num_envs,)`` rows."""
        super().reset(seed=seed)
        if seed is not None:
            self._table.forget()
        options, rows = options or {}, self._every
        if "reset_mask" in options:
            rows = np.flatnonzero(self._reset_mask(options["reset_mask"]))
        query = None
        if "query" in options:
            query = np.asarray(options["query"])
            if query.shape not in ((), (self.num_envs,)) or query.dtype.kind not in "iu":
                raise ValueError(
                    f"options['query'] has shape {query.shape} and type {query.dtype}: "
                    f"expected a whole number, or ({self.num_envs},) of them"
                )
            query = np.broadcast_to(query, (self.num_envs,))[rows]
        self._begin(rows, query)
        self._over[rows] = False
        self._started = True
        return self._observed(), self.as_asked(self._masks())

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        over = np.flatnonzero(self._over)
        if len(over) and (not self._started or self._mode is not AutoresetMode.NEXT_STEP):
            raise ResetNeeded(
                f"the episode of environment {over[0]} is over: reset it first"
                if self._started
                else "no episode has begun: call reset() first"
            )
        move = self._state * self._transitions.n_actions
        move += self._checked(actions)
        reward = self._pay(move)
        self._show(move)
        self._state = self._transitions.after.take(move)
        ends = self._over = self._transitions.ends.take(move)
        illegal = self._transitions.illegal.take(move)
        ended = np.flatnonzero(ends)
        infos = self._results(ended, ends, reward)
        if self._mode is AutoresetMode.SAME_STEP:
            infos = self._final(infos, ended, ends, illegal)
            illegal &= ~ends
            over, self._over = ended, np.zeros_like(ends)
        if illegal.any():
            infos |= {"illegal_action": illegal, "_illegal_action": illegal.copy()}
        if len(over):
            self._begin(over, None)
        infos |= self._masks()
        flags = self.as_asked({"ends": ends.copy(), "truncated": np.zeros_like(ends)})
        return self._observed(), self.as_asked(reward), *flags.values(), self.as_asked(infos)

    def action_masks(self) -> NDArray[np.bool_]:
        """``(num_envs, n_actions)`` legal actions; none where an episode is over."""
        return self._transitions.masks.take(self._state, axis=0).astype(bool)

    # -- inside a step ------------------------------------------------------------------------

    def _checked(self, actions: Any) -> IntArray:
        """The checked actions of all environments; those of finished episodes are ignored."""
        action = np.asarray(actions)
        if action.shape != (self.num_envs,) or action.dtype.kind not in "iu":
            raise ValueError(
                f"actions have shape {action.shape} and type {action.dtype}: "
                f"expected ({self.num_envs},) whole numbers"
            )
        action = action.astype(np.int64, copy=False)
        # Read as unsigned, negative numbers are large: one comparison finds both errors.
        if action.view(np.uint64).max() >= self._transitions.n_actions:
            unknown = ((action < 0) | (action >= self._transitions.n_actions)) & ~self._over
            if unknown.any():
                raise ValueError(
                    f"action is {action[unknown][0]}: "
                    f"expected 0 … {self._transitions.n_actions - 1}"
                )
            action = np.where(self._over, STAY, action)
        return action

    def _pay(self, move: IntArray) -> FloatArray:
        """Charges the costs of the moves; returns the rewards without the scores of answers."""
        transitions, cells, first = self._transitions, self._table.cells, self._table.first
        paid = self._paid
        paid += cells.take(first + transitions.pays.take(move))
        if not self.rules.verify:
            # Added one after the other, so that rounding is as in `RoutingEnv`.
            paid += cells.take(first + transitions.pays_forced.take(move))
        reward = paid - self._rewarded
        reward *= self._minus_rate
        self._rewarded[:] = paid
        return reward

    def _show(self, move: IntArray) -> None:
        """Writes the results of the moves into the observation."""
        transitions, first = self._transitions, self._first
        # The view is not stored: a deep copy of the environment would detach it from the array.
        flat = self._observation.reshape(-1)
        self._observation[:, 0] = transitions.stage.take(move)
        flat[first + transitions.called.take(move)] = 1.0
        flat[first + transitions.verified.take(move)] = transitions.is_verified.take(move)
        to, of = (
            first + transitions.signal.take(move),
            self._table.first + transitions.shows.take(move),
        )
        for d in range(self.config.n_signals):
            flat[to + d] = self._table.cells.take(of + d)

    def _begin(self, rows: IntArray, query: IntArray | None) -> None:
        """Starts new episodes in the environments ``rows``."""
        table, columns, n = self._table, self._table.columns, self.rules.n_models
        table.deal(rows, self.np_random, query)
        if self.config.action_costs.drawn:
            self._set_costs(rows, self.np_random)
        start = np.zeros(self.config.history_width)
        start[0], state = -1, 0
        self._paid[rows] = self._rewarded[rows] = 0.0
        if not self.rules.free_start:
            forced = bool(self.rules.verified_at_once[0])
            start[0], start[1], start[1 + n], state = 0, 1, forced, 2 + forced
            first = table.first[rows]
            paid = table.cells.take(first + columns.call)
            if forced:
                paid += table.cells.take(first + columns.verify)
            self._paid[rows] = paid
        self._observation[rows, : len(start)] = start
        if not self.rules.free_start and forced:
            for d in range(columns.n_signals):
                signal = table.cells.take(first + columns.signal + d)
                self._observation.reshape(-1)[self._first[rows] + 1 + 2 * n + d] = signal
        self._state[rows] = state

    def _set_costs(self, rows: IntArray, rng: np.random.Generator) -> None:
        costs = self.config.action_costs.draw(rows, rng)
        self.price[rows], self._minus_rate[rows] = costs.price, -costs.rate
        self._table.charge(rows, costs)
        if self.config.show_action_costs:
            shown = self.config.action_costs.shown(costs)
            self._observation[rows, self.config.history_width :] = shown

    # -- the results of a step ----------------------------------------------------------------

    def _observed(self) -> Any:
        return self.as_asked(self._observation.copy() if self.copy else self._observation)

    def _masks(self) -> dict[str, Any]:
        mask = self._transitions.masks.take(self._state, axis=0)
        return {"action_mask": mask, "_action_mask": np.ones(self.num_envs, dtype=bool)}

    def _results(
        self, ended: IntArray, ends: NDArray[np.bool_], reward: FloatArray
    ) -> dict[str, Any]:
        """Infos of the episodes that ended; adds their scores to ``reward`` in place."""
        if not len(ended):
            return {}
        scores = self._table.scores(ended)
        answer = self._answer(ended)
        score = scores[np.arange(len(ended)), answer]
        reward[ended] += score
        results = {"score": score, "answer": answer, "cost": self._paid[ended], "scores": scores}
        infos: dict[str, Any] = {}
        for key, value in results.items():
            infos[key] = np.zeros((self.num_envs, *value.shape[1:]), dtype=value.dtype)
            infos[key][ended] = value
            infos[f"_{key}"] = ends.copy()
        return infos

    def _answer(self, ended: IntArray) -> IntArray:
        """The models whose answers are returned in the environments ``ended``."""
        observation = self._observation.take(ended, axis=0)
        if self.rules.answer == "last":
            return observation[:, 0].astype(np.int64)
        assert self.problem is not None
        history = self.config.history(observation)
        if self._best is None:
            return self.problem.best_answer(history)
        return self._best[self.problem.encode(history), history.called[:, -1].astype(np.int64)]

    def _final(
        self,
        results: dict[str, Any],
        ended: IntArray,
        ends: NDArray[np.bool_],
        illegal: NDArray[np.bool_],
    ) -> dict[str, Any]:
        """Infos of the episodes that ended, as SAME_STEP autoreset returns them."""
        if not len(ended):
            return {}
        mask = np.zeros((self.num_envs, self._transitions.n_actions), dtype=np.int8)
        final = results | {"action_mask": mask, "_action_mask": ends.copy()}
        if (illegal & ends).any():
            final |= {"illegal_action": illegal & ends, "_illegal_action": illegal & ends}
        return {
            "final_obs": self._observation.copy(),
            "_final_obs": ends.copy(),
            "final_info": final,
            "_final_info": ends.copy(),
        }

    def as_asked(self, arrays: Any) -> Any:
        """An array, or every array of a dict, as a tensor on the same memory if the backend is
        torch."""
        if self._from_numpy is None:
            return arrays
        if isinstance(arrays, dict):
            return {key: self.as_asked(value) for key, value in arrays.items()}
        return self._from_numpy(arrays)

    def _reset_mask(self, mask: Any) -> NDArray[np.bool_]:
        mask = np.asarray(mask)
        if mask.shape != (self.num_envs,) or mask.dtype != bool or not mask.any():
            raise ValueError(
                f"options['reset_mask'] has shape {mask.shape} and type {mask.dtype}: "
                f"expected ({self.num_envs},) booleans, at least one of them true"
            )
        if not (self._started or mask.all()):
            raise ResetNeeded("no episode has begun: the first reset is of every environment")
        return mask


def _best_answers(problem: RoutingPOMDP) -> IntArray | None:
    """`RoutingPOMDP.best_answer` by history code and by whether the last model was called, which
    the code does not say: ``(n_histories, 2)``; None if the table would be too large."""
    if problem.n_histories > _TABLE:
        return None
    code = np.arange(problem.n_histories)
    called = problem.decode(code).called
    answers = []
    for last in (False, True):
        called[:, -1] = last
        answers.append(problem.best_called(code, called))
    return np.stack(answers, axis=1)
