"""`EnvConfig`: the checked configuration of `RoutingEnv` and `RoutingVectorEnv`."""

from __future__ import annotations

from dataclasses import dataclass, replace

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from routing_pomdp.envs.costs.cost_model import CostModel, Costs
from routing_pomdp.envs.gym.action_costs import ActionCosts, Choice
from routing_pomdp.envs.history import History
from routing_pomdp.envs.model.routing_pomdp import RoutingPOMDP
from routing_pomdp.envs.routing_data import RoutingData
from routing_pomdp.envs.rules import Rules
from routing_pomdp.envs.signals import ShownSignals

# Queries drawn at once; one call of the generator for each query would take microseconds.
_BLOCK = 1024


@dataclass(frozen=True, eq=False)
class EnvConfig:
    """The source of queries, the rules, the costs and the spaces of an environment.

    Attributes:
        source: queries to play, or a problem to sample them from.
        problem: the problem whose Bayes filter finds the "best" answer, if there is one.
        rules: the decisions on offer.
        action_costs: prices and costs.
        show_action_costs: whether observations end in the action costs (`ActionCosts.shown`).
        shown: how signals are encoded in observations.
        shown_pre: the same for pre-query signals; of width 0 if there are none.
        observation_space: of one environment.
        action_space: of one environment.
    """

    source: RoutingData | RoutingPOMDP
    problem: RoutingPOMDP | None
    rules: Rules
    action_costs: ActionCosts
    show_action_costs: bool
    shown: ShownSignals
    shown_pre: ShownSignals
    observation_space: gym.Space[NDArray[np.float64]]
    action_space: gym.spaces.Discrete

    @classmethod
    def of(
        cls,
        source: RoutingData | RoutingPOMDP | None,
        problem: RoutingPOMDP | None,
        rules: Rules | None,
        price: Choice | None,
        ratio: Choice | None,
        show_action_costs: bool,
        n_envs: int = 1,
    ) -> EnvConfig:
        """See `RoutingEnv` for the arguments.

        Raises:
            ValueError: arguments that contradict each other, or "best" without a problem.
        """
        if isinstance(source, RoutingPOMDP):
            if problem is not None:
                raise ValueError("source is a RoutingPOMDP already: give no other problem")
            problem = source
        # A single price would contradict the problem's; prices that vary replace it.
        one_price = price is not None and not isinstance(price, tuple | np.ndarray)
        if problem is not None and (rules is not None or one_price):
            raise ValueError("rules and price come from the problem: give only one of them")
        source = _embedded_data() if source is None else source
        n_models = source.n_models
        if isinstance(source, RoutingData) and len(source) == 0:
            raise ValueError("source has no queries: expected at least one")
        if problem is not None:
            rules, costs = problem.rules, problem.costs
            price = problem.price if price is None else price
        else:
            assert isinstance(source, RoutingData)
            rules, price = rules or Rules(n_models), 0.3 if price is None else price
            costs = Costs(source.call_cost.mean(axis=0), source.verify_cost.mean(axis=0))
            if ratio is None and not costs.unit > 0:
                raise ValueError(
                    "the most expensive model costs nothing, but the price counts its calls"
                )
            if rules.answer == "best":
                raise ValueError("the answer rule 'best' needs a problem with its Bayes filter")
        if rules.n_models != n_models:
            raise ValueError(f"source has {n_models} models, the rules {rules.n_models}")
        before = np.empty((1, 0))
        if rules.pre_query:
            before = _pre_signals(source)
            if ratio is not None:
                raise ValueError("a cost ratio replaces all costs but the pre-query signal's")
        action_costs = ActionCosts(price, ratio, costs, n_envs)
        show_action_costs = show_action_costs or action_costs.vary

        # Only a verified answer has a signal, so the last model's is never observed.
        observed = (
            source.representative.swapaxes(0, 1)
            if isinstance(source, RoutingPOMDP)
            else source.signal[:, :-1]
        )
        shown, shown_pre = ShownSignals.fit(observed), ShownSignals.fit(before)
        low, high = shown.bounds(observed)
        if isinstance(source, RoutingData):
            high[list(source.compared)] = np.maximum(high[list(source.compared)], 1.0)
        first_low, first_high = shown_pre.bounds(before)
        largest = action_costs.largest() if show_action_costs else np.empty(0)
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
            action_costs=action_costs,
            show_action_costs=show_action_costs,
            shown=shown,
            shown_pre=shown_pre,
            # Gymnasium warns of empty ranges; a constant signal of 0 would have one.
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
        """How many numbers of an observation encode one answer's signals."""
        return self.shown.width

    @property
    def n_pre(self) -> int:
        """How many numbers of an observation encode the pre-query signal."""
        return self.shown_pre.width

    def history(self, observation: NDArray[np.float64]) -> History:
        """Histories, with raw signals, decoded from observations ``(n, width)``."""
        history = History.from_array(observation, self.n_models, self.n_pre)
        pre = None if history.pre is None else self.shown_pre.raw(history.pre)
        return replace(history, signal=self.shown.raw(history.signal), pre=pre)

    def observed(self, history: History) -> NDArray[np.float64]:
        """Histories encoded as in observations, ``(n, history_width)``: `History.to_array`, except
        for missing and infinite signals."""
        pre = None if history.pre is None else self.shown_pre.show(history.pre)
        return replace(history, signal=self.shown.show(history.signal), pre=pre).to_array()

    @property
    def history_width(self) -> int:
        """How many numbers of an observation are the history; the action costs follow."""
        return 1 + (2 + self.n_signals) * self.n_models + self.n_pre

    @property
    def width(self) -> int:
        """How many numbers an observation has."""
        return self.history_width + self.show_action_costs * (2 * self.n_models - 1)

    def queries(
        self, rng: np.random.Generator, at_least: int = 1
    ) -> tuple[RoutingData, NDArray[np.int64]]:
        """The next queries to play: routing data, and its rows in the order of play."""
        n = max(_BLOCK, at_least)
        if isinstance(self.source, RoutingData):
            return self.source, rng.integers(len(self.source), size=n)
        return self.source.sample(n, rng), np.arange(n)


def _pre_signals(source: RoutingData | RoutingPOMDP) -> NDArray[np.float64]:
    """Pre-query signals ``(m, P)`` that can occur."""
    if isinstance(source, RoutingData):
        return source.require_pre_signal()
    assert source.pre is not None
    return source.pre.representative


def _embedded_data() -> RoutingData:
    from routing_pomdp.envs.profiles import load_profile, simulate

    profile = load_profile("mmlu")
    rollouts = simulate(profile, {"train": 4096}, seed=0)
    (name,) = rollouts.signals
    model = CostModel()
    verification = rollouts.signal_costs.get(name)
    call, verify = model.apply(rollouts, verification, model.fit(rollouts, verification))
    return RoutingData(rollouts.score, call, verify, rollouts.signals[name][..., None], rollouts)
