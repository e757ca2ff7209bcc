"""Action costs: the cost of each decision, in units of score.

A router at price ``λ`` pays ``λ c_i / c_{N-1}`` for a call of model ``i`` and ``λ v_i / c_{N-1}``
for a verification (DESIGN §1). Price and cost ratio change this vector of **action costs** and
nothing else: observations do not depend on them. A network that takes the action costs as input can
therefore be trained for all prices and cost ratios at once.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from routing_pomdp.envs import Costs, RoutingPOMDP, Rules
from routing_pomdp.envs.arrays import FloatArray
from routing_pomdp.envs.costs.cost_model import ladder
from routing_pomdp.envs.gym.action_costs import log_uniform

if TYPE_CHECKING:
    from torch import Tensor


_LEAST = 1e-3  # on a logarithmic scale, smaller prices count as 0


@dataclass(frozen=True, eq=False)
class CostRange:
    """The prices and costs that a learner is trained for.

    Attributes:
        prices: the smallest and the largest price.
        ratios: the smallest and the largest cost ratio ``r`` of the ladder from 1 to ``r``; None
            to train for the costs in ``call`` only.
        call: ``(N,)`` call costs, in units of the most expensive model's call.
        verify: ``(N,)`` verification costs: with ``ratios`` as shares of the same model's call,
            otherwise in the unit of ``call``; 0 for the last model.
    """

    prices: tuple[float, float]
    ratios: tuple[float, float] | None
    call: FloatArray
    verify: FloatArray

    @classmethod
    def of(
        cls,
        problem: RoutingPOMDP,
        prices: Sequence[float],
        price_range: tuple[float, float] | None = None,
        ratios: tuple[float, float] | None = None,
    ) -> Self:
        """The cost range to train for.

        Args:
            problem: the problem whose costs are used; with ``ratios``, only the ratio of
                verification to call costs is.
            prices: the prices of the run.
            price_range: train for this range instead of that of ``prices``.
            ratios: see the class.

        Raises:
            ValueError: a range is invalid.
        """
        low, high = price_range or (min(prices), max(prices))
        if not 0 <= low <= high < math.inf:
            raise ValueError(f"solver.price_range is [{low}, {high}]: expected 0 <= low <= high")
        if ratios is not None and not 1 <= ratios[0] <= ratios[1] < math.inf:
            raise ValueError(f"solver.cost_ratios is {list(ratios)}: expected 1 <= low <= high")
        call, verify = problem.costs.call, problem.costs.verify.copy()
        verify[-1] = 0
        if ratios is None:
            return cls((low, high), None, call / call[-1], verify / call[-1])
        share = Costs(call, verify).share
        return cls((low, high), (ratios[0], ratios[1]), call / call[-1], share)

    def draw(self, m: int, rng: np.random.Generator) -> FloatArray:
        """Random action costs ``(m, 2N)``. Prices and ratios are log-uniform over their ranges; 5%
        of the prices are the lower end of the range, which may be 0."""
        least = max(self.prices[0], _LEAST)
        price = log_uniform(least, max(least, self.prices[1]), m, rng)
        price[rng.random(m) < 0.05] = self.prices[0]
        if self.ratios is None:
            return price[:, None] * np.concatenate([self.call, self.verify])
        ratio = log_uniform(*self.ratios, m, rng)
        call = ladder(ratio, len(self.call)) / ratio[:, None]
        return price[:, None] * np.concatenate([call, call * self.verify], axis=1)

    def check(self, problem: RoutingPOMDP) -> None:
        """Warns if the price or costs of ``problem`` lie outside the trained range."""
        low, high = self.prices
        if not low <= problem.price <= high:
            _warn(f"price {problem.price:g} lies outside the trained range [{low:g}, {high:g}]")
        call, verify = problem.costs.call, problem.costs.verify[:-1]
        if self.ratios is None:
            ours, theirs = np.concatenate([self.call, self.verify[:-1]]), np.append(call, verify)
            if not np.allclose(theirs / call[-1], ours, rtol=0.05, atol=1e-9):
                _warn(
                    f"costs {_shown(theirs / call[-1])} (calls, then verifications, in units of "
                    f"the most expensive call) are not those trained for, {_shown(ours)}"
                )
            return
        ratio = call[-1] / call[0] if call[0] > 0 else math.inf
        if not self.ratios[0] * 0.999 <= ratio <= self.ratios[1] * 1.001:
            _warn(
                f"cost ratio {ratio:g} lies outside the trained range "
                f"[{self.ratios[0]:g}, {self.ratios[1]:g}]"
            )
        elif not np.allclose(call / call[0], ladder(ratio, len(call)), rtol=0.05):
            _warn(f"costs {_shown(call / call[-1])} are no ladder from 1 to {ratio:g}, as trained")
        elif not np.allclose(verify / call[:-1], self.verify[:-1], rtol=0.05, atol=1e-9):
            _warn(
                f"verifications cost {_shown(verify / call[:-1])} of a call, trained for "
                f"{_shown(self.verify[:-1])}"
            )


def packed(cost_range: CostRange) -> dict[str, Any]:
    """A cost range as plain values, for a checkpoint."""
    plain = asdict(cost_range)
    return plain | {key: plain[key].tolist() for key in ("call", "verify")}


def unpacked(saved: Mapping[str, Any]) -> CostRange:
    """The inverse of `packed`."""
    arrays = {key: np.array(saved[key]) for key in ("call", "verify")}
    return CostRange(tuple(saved["prices"]), saved["ratios"] and tuple(saved["ratios"]), **arrays)


def action_costs_of(problem: RoutingPOMDP) -> FloatArray:
    """A problem's action costs ``(2N,)``: calls, then verifications. The last one is 0: the last
    model is never verified."""
    action_costs = np.concatenate([problem.call_price, problem.verify_price])
    action_costs[-1] = 0
    return action_costs


def action_cost_matrix(rules: Rules) -> FloatArray:
    """Matrix ``(N + 1, n_actions, 2N)``, indexed by ``stage + 1``, of which costs each action pays.

    Its product with action costs ``(2N,)`` is the cost of each action; illegal actions cost 0.
    """
    n, last = rules.n_models, rules.n_models - 1
    pays = np.zeros((n + 1, rules.n_actions, 2 * n))
    for stage in range(-1, last):
        for rungs in range(1, 1 + rules.reach(stage)):
            target = stage + rungs
            pays[stage + 1, rungs, target] = 1
            pays[stage + 1, rungs, n + target] = rules.verified_at_once[target]
        if rules.verify and stage >= 0:
            pays[stage + 1, rules.verify_action, n + stage] = 1
    return pays


def action_cost_features(action_costs: Tensor) -> Tensor:
    """Network inputs ``(m, 4N)`` of action costs ``c (m, 2N)``: ``log10 c / 2``, ``c/(1 + c)``."""
    import torch  # imported here so that the rest of the module works without torch

    return torch.cat(
        [torch.log10(action_costs + _LEAST) / 2, action_costs / (1 + action_costs)], dim=-1
    )


def _warn(what: str) -> None:
    warnings.warn(f"{what}: the network extrapolates", stacklevel=3)


def _shown(values: FloatArray) -> str:
    return "[" + ", ".join(f"{value:.3g}" for value in values) + "]"
