"""`TransitionTables`: the effect of each action in each state of an episode, as lookup tables."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from routing_pomdp.envs.arrays import IntArray
from routing_pomdp.envs.rules import STAY, Rules


@dataclass(frozen=True)
class Layout:
    """Columns of a row of `EpisodeTable`, which holds everything about one query: ``N`` scores,
    ``D`` zeros, ``N·D`` signals, ``N`` costs of calls, ``N`` costs of verifications."""

    n_models: int
    n_signals: int

    @property
    def nothing(self) -> int:
        """The zeros, which stand for a cost or a signal of nothing."""
        return self.n_models

    @property
    def signal(self) -> int:
        return self.n_models + self.n_signals

    @property
    def call(self) -> int:
        return self.signal + self.n_models * self.n_signals

    @property
    def verify(self) -> int:
        return self.call + self.n_models

    @property
    def width(self) -> int:
        return self.verify + self.n_models


@dataclass(frozen=True, eq=False)
class TransitionTables:
    """Tables indexed by moves, ``state * n_actions + action``.

    The state is ``2 * (stage + 1) + verified``. A finished episode is in state ``over``, where
    moves do nothing; their observations are never read, because the environment starts a new
    episode in the same step. An illegal action has the effect of the lowest legal one.

    Every move writes the same parts of an observation: the stage, and one cell of each other part.
    A move that leaves a part unchanged writes the value that is already there.

    Attributes:
        after: the next state.
        ends: whether the episode ends.
        illegal: whether the action is illegal.
        stage: the next stage.
        called: the cell of the observation to set to 1.
        verified: the cell of the observation to set to ``is_verified``.
        is_verified: 1 or 0.
        signal: the first of the ``D`` cells of the observation to write the signal to.
        shows: the column of `EpisodeTable` that holds the signal.
        pays: the column that holds the cost of the action.
        pays_forced: the column that holds the cost of the verification that comes with it.
    """

    after: IntArray
    ends: NDArray[np.bool_]
    illegal: NDArray[np.bool_]
    stage: NDArray[np.float64]
    called: IntArray
    verified: IntArray
    is_verified: NDArray[np.float64]
    signal: IntArray
    shows: IntArray
    pays: IntArray
    pays_forced: IntArray
    n_actions: int
    over: int
    masks: NDArray[np.int8]
    """``(over + 1, n_actions)`` the legal actions of each state."""

    @classmethod
    def of(cls, rules: Rules, columns: Layout) -> TransitionTables:
        n, d, n_actions = rules.n_models, columns.n_signals, rules.n_actions
        over = 2 * (n + 1)
        masks = np.zeros((over + 1, n_actions), dtype=np.int8)
        masks[:over] = rules.masks.reshape(over, n_actions)
        tables: dict[str, NDArray[Any]] = {
            field.name: np.zeros((over + 1, n_actions), dtype=_TYPES.get(field.name, np.int64))
            for field in fields(cls)
            if field.name not in ("n_actions", "over", "masks")
        }
        for name in ("shows", "pays", "pays_forced"):
            tables[name][:] = columns.nothing
        tables["after"][:] = over
        for state in np.flatnonzero(masks.any(axis=1)):
            for action in range(n_actions):
                stage, verified = int(state) // 2 - 1, int(state) % 2
                legal = bool(masks[state, action])
                played = action if legal else int(masks[state].argmax())
                row: dict[str, float] = {"illegal": not legal}
                if played == rules.verify_action:
                    verified = 1
                    row["pays"] = columns.verify + stage
                elif played != STAY:
                    stage += played
                    verified = int(rules.verified_at_once[stage])
                    row["pays"] = columns.call + stage
                    if verified:
                        row["pays_forced"] = columns.verify + stage
                ends = played == STAY or stage == n - 1
                row |= {
                    "after": over if ends else 2 * (stage + 1) + verified,
                    "ends": ends,
                    "stage": stage,
                    "called": 1 + stage,
                    "verified": 1 + n + stage,
                    "is_verified": verified,
                    "signal": 1 + 2 * n + stage * d,
                    "shows": columns.signal + stage * d if verified else columns.nothing,
                }
                for name, value in row.items():
                    tables[name][state, action] = value
        flat = {name: table.reshape(-1) for name, table in tables.items()}
        return cls(**flat, n_actions=n_actions, over=over, masks=masks)


_TYPES: dict[str, type] = {
    "ends": np.bool_,
    "illegal": np.bool_,
    "stage": np.float64,
    "is_verified": np.float64,
}
