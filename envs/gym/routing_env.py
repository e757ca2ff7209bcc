"""`RoutingEnv`: routing of one query an episode, as a Gymnasium environment."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.error import ResetNeeded
from numpy.typing import NDArray

from routing_pomdp.envs.gym.action_costs import EpisodeCosts
from routing_pomdp.envs.gym.env_config import EnvConfig
from routing_pomdp.envs.model.routing_pomdp import RoutingPOMDP
from routing_pomdp.envs.routing_data import RoutingData
from routing_pomdp.envs.rules import STAY, Rules

_ONLY = np.zeros(1, dtype=np.int64)  # the row of the only environment


class RoutingEnv(gym.Env[NDArray[np.float64], np.int64]):
    """Route one query an episode: stay with the last answer, or pay for a better one.

    Observation: `History.to_array`, shape ``(1 + 2N + N·D,)``: the stage, which models were
    called, which answers were verified, and the verifier's signals (0 where there is none). If the
    source has missing signals, ``D`` marks follow each answer's ``D`` numbers, 1 for missing.
    Infinite signals are shown as the bounds of the space (`ShownSignals`). If the rules buy a
    pre-query signal, its ``P`` numbers follow, encoded in the same way. With ``show_action_costs``
    there are ``2N - 1`` numbers more: the action cost ``λ c_i / c_{N-1}`` of calling each model and
    ``λ v_i / c_{N-1}`` of verifying each but the last, in score (that of calling the last model is
    the price itself).

    Actions: see `Rules`. ``info["action_mask"]`` marks the legal ones (int8, as
    ``action_space.sample`` takes it). An illegal action is replaced by the lowest legal one and
    reported by ``info["illegal_action"]``.

    Reward: minus ``λ / c_{N-1}`` times the cost paid since the last reward. The last reward adds
    the score of the returned answer. The call forced at reset is paid with the first reward, so
    the rewards of an episode sum to its return (DESIGN §1).

    The episode terminates when an answer is returned, and is never truncated. Its last ``info``
    holds ``score`` (of the returned answer), ``answer`` (its model), ``cost`` (the total) and
    ``scores`` (of every model). No score is shown before.

    Args:
        source: a `RoutingData` whose queries are played in random order; a `RoutingPOMDP` to sample
            queries from; None for a simulation of the shipped profile "mmlu".
        problem: if ``source`` is a `RoutingData`, the fitted problem whose rules, price and unit of
            cost are used (the answer rule "best" needs its Bayes filter).
        rules: the rules without a ``problem``; the core pair by default.
        price: ``λ`` without a ``problem``, 0.3 by default; the unit is then the mean cost of the
            data's most expensive model. With a pair ``(low, high)``, also with a problem, each
            episode draws its own log-uniformly.
        ratio: replaces all costs by the ladder from 1 to ``ratio`` (`CostModel`), verification at
            its mean share of each call; a pair is drawn from as for ``price``. None for the
            source's own costs.
        show_action_costs: whether observations end in the action costs; they always do if price or
            ratio is a pair.
        render_mode: None or "ansi".

    Raises:
        ValueError: arguments that contradict each other, or "best" without a problem.
    """

    metadata: dict[str, Any] = {  # noqa: RUF012
        "render_modes": ["ansi"],
        "render_fps": 1,
    }

    def __init__(
        self,
        source: RoutingData | RoutingPOMDP | None = None,
        *,
        problem: RoutingPOMDP | None = None,
        rules: Rules | None = None,
        price: float | tuple[float, float] | None = None,
        ratio: float | tuple[float, float] | None = None,
        show_action_costs: bool = False,
        render_mode: str | None = None,
    ) -> None:
        if render_mode not in (None, "ansi"):
            raise ValueError(f"render_mode is {render_mode!r}: expected None or 'ansi'")
        self.render_mode = render_mode
        self.config = EnvConfig.of(source, problem, rules, price, ratio, show_action_costs)
        self.problem, self.rules = self.config.problem, self.config.rules
        self.observation_space = self.config.observation_space
        self.action_space: gym.spaces.Discrete = self.config.action_space
        self._masks = [[row.view(np.int8) for row in pair] for pair in self.rules.masks]
        self._n_models, self._n_signals = self.config.n_models, self.config.n_signals
        self._drawn = self.config.action_costs.drawn
        if not self._drawn:
            self._set_costs(self.config.action_costs.draw(_ONLY, np.random.default_rng(0)))
        self._queries: RoutingData | None = None
        self._order = np.empty(0, dtype=np.int64)
        self._next = 0
        self._done = True

    # -- the Gymnasium interface --------------------------------------------------------------

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float64], dict[str, Any]]:
        """Starts an episode on the next query; ``options={"query": row}`` chooses a row of the
        routing data."""
        super().reset(seed=seed)
        if seed is not None:
            self._next = len(self._order)
        if options and "query" in options:
            data = self.config.source
            if not isinstance(data, RoutingData):
                raise ValueError(
                    "options['query'] chooses a row of routing data: there is none here"
                )
            if not 0 <= options["query"] < len(data):
                raise ValueError(
                    f"options['query'] is {options['query']}: expected 0 … {len(data) - 1}"
                )
            self._queries, self._query = data, int(options["query"])
        else:
            if self._next >= len(self._order):
                self._queries, self._order = self.config.queries(self.np_random)
                self._next = 0
            self._query = int(self._order[self._next])
            self._next += 1
        assert self._queries is not None
        self._score = self._queries.score[self._query]
        self._signal = self._queries.signal[self._query].copy()
        self._shown = self.config.shown.show(self._signal)
        if self._drawn:
            self._set_costs(self.config.action_costs.draw(_ONLY, self.np_random))
        if self._ladder is None:
            self._call_cost = self._queries.call_cost[self._query]
            self._verify_cost = self._queries.verify_cost[self._query]
        else:
            self._call_cost, self._verify_cost = self._ladder
        self._observation = self._blank.copy()
        self._stage, self._verified = -1, 0
        self._paid = self._rewarded = 0.0
        if self.rules.pre_query:
            self._look(self._queries)
        self._done = False
        if not self.rules.free_start:
            self._call(0)
        return self._observation.copy(), {"action_mask": self._mask.copy()}

    def step(
        self, action: np.int64 | int
    ) -> tuple[NDArray[np.float64], float, bool, bool, dict[str, Any]]:
        if self._done:
            raise ResetNeeded("the episode is over: call reset() first")
        chosen = int(action)
        if not 0 <= chosen < self.rules.n_actions:
            raise ValueError(f"action is {chosen}: expected 0 … {self.rules.n_actions - 1}")
        info: dict[str, Any] = {}
        mask = self._mask
        if not mask[chosen]:
            info["illegal_action"] = True
            chosen = int(mask.argmax())
        if chosen == STAY:
            self._done = True
        elif chosen == self.rules.verify_action:
            self._verify()
        else:
            self._call(self._stage + chosen)
            self._done = self._stage == self._n_models - 1
        reward = -self._rate * (self._paid - self._rewarded)
        self._rewarded = self._paid
        if self._done:
            answer = self._answer()
            score = float(self._score[answer])
            reward += score
            info |= {
                "score": score,
                "answer": answer,
                "cost": self._paid,
                "scores": self._score.copy(),
            }
        info["action_mask"] = self._mask.copy()
        return self._observation.copy(), float(reward), self._done, False, info

    def action_masks(self) -> NDArray[np.bool_]:
        """The legal actions as booleans, under the name that sb3-contrib looks for."""
        return self._mask.astype(bool)

    def render(self) -> str | None:
        """The episode so far, one line for each model (``render_mode="ansi"``)."""
        if self.render_mode is None:
            return None
        n = self._n_models
        lines = [f"query {self._query}, paid {self._paid:.6g}" + (", done" if self._done else "")]
        for model in range(n):
            called, verified = self._observation[1 + model], self._observation[1 + n + model]
            state = "not called"
            if called:
                signal = ", ".join(f"{value:.4g}" for value in self._signal[model])
                state = f"called, signal {signal}" if verified else "called, not verified"
            lines.append(f"{'>' if model == self._stage else ' '} model {model}: {state}")
        return "\n".join(lines)

    # -- inside an episode --------------------------------------------------------------------

    def _set_costs(self, costs: EpisodeCosts) -> None:
        self.price, self._rate = float(costs.price[0]), float(costs.rate[0])
        self._ladder: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None
        if costs.call is not None and costs.verify is not None:
            self._ladder = costs.call[0], costs.verify[0]
        # The observation before the first call.
        self._blank = np.zeros(self.config.width)
        self._blank[0] = -1
        if self.config.show_action_costs:
            self._blank[self.config.history_width :] = self.config.action_costs.shown(costs)[0]

    @property
    def _mask(self) -> NDArray[np.int8]:
        # The last model's row has no legal action; it also serves for a finished episode.
        return self._masks[self._n_models if self._done else self._stage + 1][self._verified]

    def _look(self, queries: RoutingData) -> None:
        """Buys the pre-query signal, the last part of the history."""
        end = self.config.history_width
        shown = self.config.shown_pre.show(queries.require_pre_signal()[self._query])
        self._observation[end - self.config.n_pre : end] = shown
        if queries.pre_cost is not None:
            self._paid = float(queries.pre_cost[self._query])

    def _call(self, model: int) -> None:
        self._stage, self._verified = model, 0
        self._paid += float(self._call_cost[model])
        self._observation[0] = model
        self._observation[1 + model] = 1
        if self.rules.verified_at_once[model]:
            self._verify()

    def _verify(self) -> None:
        model, n, d = self._stage, self._n_models, self._n_signals
        self._verified = 1
        self._paid += float(self._verify_cost[model])
        self._observation[1 + n + model] = 1
        at = 1 + 2 * n + model * d
        assert self._queries is not None
        if self._queries.compared:
            called = self._observation[None, 1 : 1 + n] > 0.5
            self._signal[model] = self._queries.seen(
                np.array([self._query]), np.array([model]), called
            )[0]
            self._shown = self.config.shown.show(self._signal)
        self._observation[at : at + d] = self._shown[model]

    def _answer(self) -> int:
        if self.rules.answer == "last":
            return self._stage
        assert self.problem is not None
        history = self.config.history(self._observation[None])
        return int(self.problem.best_answer(history)[0])
