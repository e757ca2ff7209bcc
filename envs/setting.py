"""`Setting`: what `RoutingEnv` and `RoutingVectorEnv` are made from, checked once for both."""

from __future__ import annotations

from dataclasses import dataclass, replace

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from envs.costs import CostModel, Costs
from envs.history import History
from envs.pomdp import RoutingPOMDP
from envs.replay import Replay
from envs.rules import Rules
from envs.signals import ShownSignals
from envs.tolls import Choice, Tolls

# Queries drawn at once: one call of the generator a query would cost microseconds.
_BLOCK = 1024


@dataclass(frozen=True, eq=False)
class Setting:
    """Where queries come from, by which rules they are played, and what things cost.

    Attributes:
        source: queries to replay, or a problem to draw them from.
        problem: the problem whose filter finds the "best" answer, if there is one.
        rules: the decisions on offer.
        tolls: prices and costs.
        show_tolls: whether observations end in the tolls (`Tolls.shown`).
        shown: how signals are shown.
        shown_pre: how pre-query signals are; of none, if there are none.
        observation_space: of one environment.
        action_space: of one environment.
    """

    source: Replay | RoutingPOMDP
    problem: RoutingPOMDP | None
    rules: Rules
    tolls: Tolls
    show_tolls: bool
    shown: ShownSignals
    shown_pre: ShownSignals
    observation_space: gym.Space[NDArray[np.float64]]
    action_space: gym.spaces.Discrete

    @classmethod
    def of(
        cls,
        source: Replay | RoutingPOMDP | None,
        problem: RoutingPOMDP | None,
        rules: Rules | None,
        price: Choice | None,
        ratio: Choice | None,
        show_tolls: bool,
        n_envs: int = 1,
    ) -> Setting:
        """See `RoutingEnv` for the arguments.

        Raises:
            ValueError: arguments that contradict each other, or "best" without a problem.
        """
        if isinstance(source, RoutingPOMDP):
            if problem is not None:
                raise ValueError("source is a RoutingPOMDP already: give no other problem")
            problem = source
        # A price for every episode would contradict the problem's; prices of each replace it.
        one_price = price is not None and not isinstance(price, tuple | np.ndarray)
        if problem is not None and (rules is not None or one_price):
            raise ValueError("rules and price come from the problem: give only one of them")
        source = _embedded_replay() if source is None else source
        n_models = source.n_models
        if isinstance(source, Replay) and len(source) == 0:
            raise ValueError("source has no queries: expected at least one")
        if problem is not None:
            rules, costs = problem.rules, problem.costs
            price = problem.price if price is None else price
        else:
            assert isinstance(source, Replay)
            rules, price = rules or Rules(n_models), 0.3 if price is None else price
            costs = Costs(source.call_cost.mean(axis=0), source.verify_cost.mean(axis=0))
            if ratio is None and not costs.unit > 0:
                raise ValueError("the dearest model costs nothing, but the price counts its calls")
            if rules.answer == "best":
                raise ValueError("the answer rule 'best' needs a problem with its Bayes filter")
        if rules.n_models != n_models:
            raise ValueError(f"source has {n_models} models, the rules {rules.n_models}")
        before = np.empty((1, 0))
        if rules.pre_query:
            before = _pre_signals(source)
            if ratio is not None:
                raise ValueError("a cost ratio replaces all costs but the pre-query signal's")
        tolls = Tolls(price, ratio, costs, n_envs)
        show_tolls = show_tolls or tolls.vary

        # Only a verified answer has a signal, so the last model's never shows.
        seen = (
            source.representative.swapaxes(0, 1)
            if isinstance(source, RoutingPOMDP)
            else source.signal[:, :-1]
        )
        shown, shown_pre = ShownSignals.fit(seen), ShownSignals.fit(before)
        low, high = shown.bounds(seen)
        if isinstance(source, Replay):
            high[list(source.compared)] = np.maximum(high[list(source.compared)], 1.0)
        first_low, first_high = shown_pre.bounds(before)
        largest = tolls.largest() if show_tolls else np.empty(0)
        bottom = np.concatenate(
            [
                [-1.0],
                np.zeros(2 * n_models),
                np.tile(low, n_models),
                first_low,
                np.zeros_like(largest),
            ]
        )
        top = np.concatenate(
            [
                [n_models - 1.0],
                np.ones(2 * n_models),
                np.tile(high, n_models),
                first_high,
                largest,
            ]
        )
        return cls(
            source=source,
            problem=problem,
            rules=rules,
            tolls=tolls,
            show_tolls=show_tolls,
            shown=shown,
            shown_pre=shown_pre,
            # Gymnasium warns of an empty range, which a constant signal of 0 would have.
            observation_space=gym.spaces.Box(
                bottom, np.where(top > bottom, top, bottom + 1), dtype=np.float64
            ),
            action_space=gym.spaces.Discrete(rules.n_actions),
        )

    @property
    def n_models(self) -> int:
        return self.rules.n_models

    @property
    def n_signals(self) -> int:
        """How many numbers a verification shows."""
        return self.shown.width

    @property
    def n_pre(self) -> int:
        """How many numbers are seen before the first call."""
        return self.shown_pre.width

    def history(self, observation: NDArray[np.float64]) -> History:
        """The histories, with raw signals, that observations ``(n, width)`` show."""
        history = History.from_array(observation, self.n_models, self.n_pre)
        pre = None if history.pre is None else self.shown_pre.raw(history.pre)
        return replace(history, signal=self.shown.raw(history.signal), pre=pre)

    def observed(self, history: History) -> NDArray[np.float64]:
        """Histories as observations show them, ``(n, history_width)``: `History.to_array`, but for
        signals that are missing or infinite."""
        pre = None if history.pre is None else self.shown_pre.show(history.pre)
        return replace(history, signal=self.shown.show(history.signal), pre=pre).to_array()

    @property
    def history_width(self) -> int:
        """How many numbers of an observation are the history; the tolls follow."""
        return 1 + (2 + self.n_signals) * self.n_models + self.n_pre

    @property
    def width(self) -> int:
        """How many numbers an observation has."""
        return self.history_width + self.show_tolls * (2 * self.n_models - 1)

    def queries(
        self, rng: np.random.Generator, at_least: int = 1
    ) -> tuple[Replay, NDArray[np.int64]]:
        """The next queries to play: rows of a replay, in the order of play."""
        n = max(_BLOCK, at_least)
        if isinstance(self.source, Replay):
            return self.source, rng.integers(len(self.source), size=n)
        return self.source.sample(n, rng), np.arange(n)


def _pre_signals(source: Replay | RoutingPOMDP) -> NDArray[np.float64]:
    """Signals ``(m, P)`` as they are seen before the first call."""
    if isinstance(source, Replay):
        return source.require_pre_signal()
    assert source.pre is not None
    return source.pre.representative


def _embedded_replay() -> Replay:
    from envs.profiles import load_profile, simulate

    profile = load_profile("mmlu")
    rollouts = simulate(profile, {"train": 4096}, seed=0)
    (name,) = rollouts.signals
    model = CostModel()
    verification = rollouts.signal_costs.get(name)
    call, verify = model.apply(rollouts, verification, model.fit(rollouts, verification))
    return Replay(rollouts.score, call, verify, rollouts.signals[name][..., None], rollouts)
