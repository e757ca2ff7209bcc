"""`FinitePOMDP`: a finite POMDP as arrays, the form that ``.pomdp`` files and solvers share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from routing_pomdp.envs.arrays import FloatArray

_MOST_BYTES = 4 * 2**30  # of one dense table


def require_memory(shape: Sequence[int], what: str) -> None:
    """Raise ValueError if a dense table of numbers would not fit into memory."""
    needed = 8 * math.prod(shape)
    if needed > _MOST_BYTES:
        sizes = " x ".join(f"{size:,}" for size in shape)
        raise ValueError(
            f"{what} ({sizes} numbers) would take {needed / 2**30:,.0f} GiB of memory, more than "
            f"the {_MOST_BYTES / 2**30:.0f} GiB that a dense table may take"
        )


@dataclass(frozen=True, eq=False)
class FinitePOMDP:
    """A finite POMDP (Kaelbling, Littman & Cassandra, AIJ 1998, §3).

    Attributes:
        transition: ``(A, S, S)``, ``P(s' | s, a)``.
        observation: ``(A, S, O)``, ``P(o | a, s')``. An observation that no state emits is legal.
        reward: ``(A, S)``, the expected immediate reward.
        discount: in (0, 1].
        start: ``(S,)`` the initial belief.
        states, actions, observations: their names.

    Raises:
        ValueError: shapes do not fit together, numbers are NaN, probabilities do not sum to one, or
            the discount is outside (0, 1].
    """

    transition: FloatArray
    observation: FloatArray
    reward: FloatArray
    discount: float
    start: FloatArray
    states: tuple[str, ...]
    actions: tuple[str, ...]
    observations: tuple[str, ...]

    def __post_init__(self) -> None:
        n_actions, n_states = len(self.actions), len(self.states)
        for name, expected in (
            ("transition", (n_actions, n_states, n_states)),
            ("observation", (n_actions, n_states, len(self.observations))),
            ("reward", (n_actions, n_states)),
            ("start", (n_states,)),
        ):
            found = getattr(self, name).shape
            if found != expected:
                raise ValueError(f"{name} has shape {found}, expected {expected}")
        if not np.isfinite(self.reward).all():
            raise ValueError("reward is not finite everywhere")
        if not 0 < self.discount <= 1:
            raise ValueError(f"discount is {self.discount}: expected a number in (0, 1]")
        for name in ("transition", "observation", "start"):
            rows = getattr(self, name)
            total = rows.sum(axis=-1)
            bad = ~((rows >= 0).all(axis=-1) & (np.abs(total - 1) <= 1e-9))
            if bad.any():
                where = tuple(int(index) for index in np.argwhere(bad)[0])
                row = self._row_name(name, where)
                least = float(rows[where].min())
                found = f"one is {least}" if least < 0 else f"their sum is {float(total[where])!r}"
                raise ValueError(f"{name}{row}: expected probabilities that sum to 1, but {found}")

    def _row_name(self, name: str, where: tuple[int, ...]) -> str:
        if not where:
            return ""
        state = "after state" if name == "observation" else "from state"
        return f" of action {self.actions[where[0]]} {state} {self.states[where[1]]}"

    @property
    def n_states(self) -> int:
        return len(self.states)

    @property
    def kernel(self) -> FloatArray:
        """``(A, O, S, S)``, ``P(s', o | s, a)``.

        Raises:
            ValueError: it would not fit into memory.
        """
        shape = len(self.actions), len(self.observations), self.n_states, self.n_states
        require_memory(shape, "transitions by action, observation and two states")
        emitted = self.observation.transpose(0, 2, 1)[:, :, None, :]
        return self.transition[:, None] * emitted
