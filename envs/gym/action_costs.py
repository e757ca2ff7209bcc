"""`ActionCosts`: costs of calls and verifications in score, fixed or drawn for each episode."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from routing_pomdp.envs.arrays import FloatArray
from routing_pomdp.envs.costs.cost_model import Costs, ladder

Choice = float | tuple[float, float] | FloatArray
"""One number for all episodes; a pair ``(low, high)``, from which each episode draws log-uniformly;
or ``(num_envs,)`` numbers, one for each environment."""


@dataclass(frozen=True, eq=False)
class EpisodeCosts:
    """Prices and costs of ``n`` episodes.

    Attributes:
        price: ``(n,)`` the score that one call of the most expensive model is worth.
        rate: ``(n,)`` the score that one unit of cost is worth.
        call: ``(n, N)`` cost of a call if a ratio replaces the logged costs, else None.
        verify: ``(n, N)`` cost of a verification, likewise.
    """

    price: FloatArray
    rate: FloatArray
    call: FloatArray | None = None
    verify: FloatArray | None = None


class ActionCosts:
    """Draws the prices and costs of episodes.

    Args:
        price: ``λ >= 0``; the ends of a pair are positive.
        ratio: ``r >= 1``, which replaces the costs by the ladder from 1 to ``r``, verification
            at its mean share of each call (`CostModel`); None keeps the costs.
        costs: mean costs without a ratio.
        n_envs: how many environments there are.

    Attributes:
        drawn: whether each episode draws its own price or ratio.
        vary: whether price or ratio differ between episodes.
        ladder: whether a ratio replaces the costs.

    Raises:
        ValueError: a number outside its range, or an array of another shape.
    """

    def __init__(self, price: Choice, ratio: Choice | None, costs: Costs, n_envs: int = 1) -> None:
        self._costs, self._share = costs, costs.share
        self._price = _checked("price", price, 0.0, n_envs)
        self._ratio = None if ratio is None else _checked("ratio", ratio, 1.0, n_envs)
        self.drawn = isinstance(price, tuple) or isinstance(ratio, tuple)
        self.vary = self.drawn or isinstance(price, np.ndarray) or isinstance(ratio, np.ndarray)
        self.ladder = ratio is not None

    def draw(self, rows: NDArray[np.int64], rng: np.random.Generator) -> EpisodeCosts:
        """Prices and costs of the next episodes in the environments ``rows``."""
        price = _drawn(self._price, rows, rng)
        ratio = None if self._ratio is None else _drawn(self._ratio, rows, rng)
        return self._episode_costs(price, ratio)

    def shown(self, costs: EpisodeCosts) -> FloatArray:
        """The action costs in an observation, ``(n, 2N - 1)``: the mean cost ``λ c_i / c_{N-1}`` of
        calling each model, then ``λ v_i / c_{N-1}`` of verifying each model but the last."""
        n = len(costs.price)
        call, verify = costs.call, costs.verify
        if call is None or verify is None:
            call = np.broadcast_to(self._costs.call, (n, len(self._costs.call)))
            verify = np.broadcast_to(self._costs.verify, call.shape)
        return costs.rate[:, None] * np.concatenate([call, verify[:, :-1]], axis=1)

    def largest(self) -> FloatArray:
        """``(2N - 1,)`` upper bounds of `shown`."""
        # Relative to the most expensive model, the ladder's calls cost most at the smallest ratio.
        ratio = None if self._ratio is None else np.array([np.min(self._ratio)])
        costs = self._episode_costs(np.array([np.max(self._price)]), ratio)
        # The factor allows for rounding, which differs between ratios.
        return (1 + 1e-12) * self.shown(costs)[0]

    def _episode_costs(self, price: FloatArray, ratio: FloatArray | None) -> EpisodeCosts:
        if ratio is None:
            return EpisodeCosts(price, price / self._costs.unit)
        call = ladder(ratio, len(self._costs.call))
        return EpisodeCosts(price, price / ratio, call, self._share * call)


def log_uniform(low: float, high: float, n: int, rng: np.random.Generator) -> FloatArray:
    """``(n,)`` numbers drawn log-uniformly from ``[low, high]``."""
    # Rounding of the exponential could leave the interval.
    return np.clip(np.exp(rng.uniform(math.log(low), math.log(high), size=n)), low, high)


def _checked(name: str, choice: Choice, least: float, n_envs: int) -> Choice:
    if isinstance(choice, tuple):
        if len(choice) != 2 or not 0 < choice[0] <= choice[1] < np.inf or choice[0] < least:
            raise ValueError(
                f"{name} is {choice}: expected (low, high) with "
                f"{'0 <' if least == 0 else f'{least:g} <='} low <= high"
            )
        return float(choice[0]), float(choice[1])
    if isinstance(choice, np.ndarray):
        if choice.shape != (n_envs,):
            raise ValueError(f"{name} has shape {choice.shape}: expected ({n_envs},)")
        if not ((choice >= least) & (choice < np.inf)).all():
            raise ValueError(f"{name} has {choice.min()}: expected finite numbers >= {least:g}")
        return choice.astype(np.float64)
    if not (least <= choice < np.inf):
        raise ValueError(f"{name} is {choice}: expected a finite number >= {least:g}")
    return float(choice)


def _drawn(choice: Choice, rows: NDArray[np.int64], rng: np.random.Generator) -> FloatArray:
    if isinstance(choice, tuple):
        return log_uniform(*choice, len(rows), rng)
    if isinstance(choice, np.ndarray):
        return choice[rows]
    return np.full(len(rows), choice)
