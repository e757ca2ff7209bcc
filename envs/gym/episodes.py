"""`Episodes`: a batch of routing episodes stepped together, with the semantics of `RoutingEnv`.

Evaluation and training step thousands of queries at once through it. The single-step environment is
a separate implementation; a test requires both to agree to the last bit.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from routing_pomdp.envs.history import History
from routing_pomdp.envs.routing_data import RoutingData
from routing_pomdp.envs.rules import STAY, Rules


class Episodes:
    """A batch of episodes; finished ones leave the batch.

    Attributes:
        history: histories of the ``m`` unfinished episodes.
        paid: ``(m,)`` costs paid so far, in the unit of the data.
    """

    def __init__(self, data: RoutingData, rules: Rules, rows: slice = slice(None)) -> None:
        """Starts one episode for each query of ``data[rows]``: buys the pre-query signal if the
        rules do, then calls model 0 unless the start is free (and verifies its answer, unless
        ``VERIFY`` is an action).

        Raises:
            ValueError: the rules buy a pre-query signal that the data does not have.
        """
        self._data, self._rules = data, rules
        query = np.arange(len(data))[rows]
        self.history = History.start(query, data.n_models, data.n_signals)
        self.paid = np.zeros(len(query))
        if rules.pre_query:
            self.history = replace(self.history, pre=data.require_pre_signal()[query])
            if data.pre_cost is not None:
                self.paid += data.pre_cost[query]
        if not rules.free_start:
            self._call(np.arange(len(query)), np.zeros(len(query), dtype=np.int64))

    def __len__(self) -> int:
        return len(self.history)

    def step(self, action: NDArray[np.int64]) -> tuple[History, NDArray[np.float64]]:
        """Takes one action in every unfinished episode.

        Args:
            action: ``(m,)`` legal actions.

        Returns:
            Histories of the episodes that ended with this step, and the total cost of each.

        Raises:
            ValueError: an illegal action, or not one action for each episode.
        """
        before = self.history
        if action.shape != (len(self),):
            raise ValueError(f"actions have shape {action.shape}, expected ({len(self)},)")
        legal = self._rules.legal(before)
        known = (action >= 0) & (action < self._rules.n_actions)
        allowed = known & legal[np.arange(len(self)), np.where(known, action, STAY)]
        if not allowed.all():
            bad = int(np.argmin(allowed))
            raise ValueError(
                f"illegal action {self._rules.label(int(action[bad]))} on query "
                f"{before.query[bad]} at stage {before.stage[bad]}"
            )
        # Policies may keep the history that they were given, so it is copied, not changed.
        self.history = before.copy()
        verify = action == self._rules.verify_action
        climbs = (action != STAY) & ~verify
        if verify.any():
            self._verify(np.flatnonzero(verify))
        if climbs.any():
            rows = np.flatnonzero(climbs)
            self._call(rows, before.stage[rows] + action[rows])
        done = (action == STAY) | (self.history.stage == self._rules.n_models - 1)
        ended, going = np.flatnonzero(done), np.flatnonzero(~done)
        result = self.history.take(ended), self.paid.take(ended)
        self.history, self.paid = self.history.take(going), self.paid.take(going)
        return result

    def _call(self, rows: NDArray[np.int64], model: NDArray[np.int64]) -> None:
        history = self.history
        history.stage[rows] = model
        history.called[rows, model] = True
        self.paid[rows] += self._data.call_cost[history.query[rows], model]
        at_once = rows[self._rules.verified_at_once[model]]
        if len(at_once):
            self._verify(at_once)

    def _verify(self, rows: NDArray[np.int64]) -> None:
        history = self.history
        model, query = history.stage[rows], history.query[rows]
        history.verified[rows, model] = True
        history.signal[rows, model] = self._data.seen(query, model, history.called[rows])
        self.paid[rows] += self._data.verify_cost[query, model]
