"""`Rules`: the actions of an episode, and which of them are legal at each decision point.

Actions are small integers, the same in every environment, solver and data set:

- ``STAY = 0`` returns an answer that was paid for and ends the episode;
- ``a`` in ``1 … rungs`` escalates by ``a`` rungs: ``ESCALATE = 1`` calls the next model,
  larger ones (``SKIP``) call a later model directly. Before the first call the stage is -1, so
  ``a`` then starts at model ``a - 1``;
- the last action, where the rules have it, is ``VERIFY``.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from routing_pomdp.envs.arrays import BoolArray, IntArray
from routing_pomdp.envs.history import History
from routing_pomdp.envs.settings.checks import check_settings

STAY = 0
ESCALATE = 1

Answer = Literal["last", "best"]


@dataclass(frozen=True)
class Rules:
    """The actions of an episode.

    `STAY` and `ESCALATE` always exist. An episode ends when `STAY` is taken or the last model is
    called.

    Attributes:
        n_models: ``N``, at least 2.
        skip: escalation may pass over models (``Route_j`` in AutoMix, arXiv 2310.12963 §3.3).
        free_start: the first model is a decision too; otherwise model 0 is called at reset.
        verify: verification is bought by an action, at most once an answer; otherwise it comes
            with the call, see `verified_at_once`.
        answer: which paid-for answer `STAY` (or the end) returns: the ``last``, or the ``best``
            by posterior mean.
        pre_query: a pre-query signal is bought at reset, before any call.

    Raises:
        ValueError: fewer than two models, or an unknown answer rule.
    """

    n_models: int
    skip: bool = False
    free_start: bool = False
    verify: bool = False
    answer: Answer = "last"
    pre_query: bool = False

    def __post_init__(self) -> None:
        if self.n_models < 2:
            raise ValueError(f"routing needs at least 2 models, found {self.n_models}")
        check_settings(self, "env")

    @property
    def rungs(self) -> int:
        """The most rungs that one action can climb."""
        if self.free_start:
            return self.n_models
        return self.n_models - 1 if self.skip else 1

    @property
    def n_actions(self) -> int:
        return 1 + self.rungs + self.verify

    @property
    def verify_action(self) -> int:
        """The index of ``VERIFY``; -1, which no action equals, where the rules lack it."""
        return self.rungs + 1 if self.verify else -1

    def reach(self, stage: int) -> int:
        """The most rungs that an action can climb from a stage; 1 before a forced start."""
        if stage < 0:
            return self.n_models if self.free_start else 1
        return self.n_models - 1 - stage if self.skip else 1

    @cached_property
    def masks(self) -> BoolArray:
        """Legal actions, ``(N + 1, 2, n_actions)``, indexed by ``stage + 1`` and by whether the
        last answer was verified. None is legal at the last model, where the episode is over."""
        masks = np.zeros((self.n_models + 1, 2, self.n_actions), dtype=bool)
        for stage in range(-1, self.n_models - 1):
            if stage >= 0:
                masks[stage + 1, :, STAY] = True
            elif not self.free_start:
                continue
            masks[stage + 1, :, 1 : 1 + self.reach(stage)] = True
            if self.verify and stage >= 0:
                masks[stage + 1, 0, self.verify_action] = True
        masks.setflags(write=False)
        return masks

    @cached_property
    def verified_at_once(self) -> BoolArray:
        """``(N,)`` which models' answers are verified, and paid for, with the call: those that a
        decision follows, unless verification is an action."""
        at_once = np.full(self.n_models, not self.verify)
        at_once[-1] = False
        at_once.setflags(write=False)
        return at_once

    def legal(self, history: History) -> BoolArray:
        """``(n, n_actions)`` which actions are legal after each history."""
        return self.masks[history.stage + 1, history.last_verified.astype(np.int64)]

    def targets(self, stage: IntArray) -> IntArray:
        """``(n, n_actions)`` the model called last after each action at stages ``(n,)``."""
        rungs = np.arange(self.n_actions)
        if self.verify:
            rungs[self.verify_action] = 0
        return np.minimum(stage[:, None] + rungs, self.n_models - 1)

    def can_verify(self, history: History) -> BoolArray:
        """``(n,)`` where ``VERIFY`` is legal: it is an action, and the last answer was called,
        is not verified and has signals. They are NaN until then."""
        if not self.verify:
            return np.zeros(len(history), dtype=bool)
        return self.legal(history)[:, self.verify_action]

    def label(self, action: int) -> str:
        """The name of an action for display; the number itself if there is no such action."""
        if not 0 <= action < self.n_actions:
            return str(action)
        if action == self.verify_action:
            return "VERIFY"
        return {STAY: "STAY", ESCALATE: "ESCALATE"}.get(action, f"SKIP+{action}")
