"""`EpisodeTable`: scores, signals and costs of each environment's current query, in flat rows."""

from __future__ import annotations

import numpy as np

from routing_pomdp.envs.arrays import FloatArray, IntArray
from routing_pomdp.envs.gym.action_costs import EpisodeCosts
from routing_pomdp.envs.gym.env_config import EnvConfig
from routing_pomdp.envs.gym.transitions import Layout
from routing_pomdp.envs.routing_data import RoutingData


class EpisodeTable:
    """Assigns queries to environments and holds their scores, signals and costs.

    Routing data with its own costs is laid out once, and each environment points to a row of it.
    Otherwise each environment has a row of its own, which is filled when its episode starts.

    Attributes:
        first: ``(num_envs,)`` the first cell of each environment's row.
        query: ``(num_envs,)`` the row of each environment's query in the data or sampled block.
    """

    def __init__(self, config: EnvConfig, num_envs: int) -> None:
        self.columns = Layout(config.n_models, config.n_signals)
        self._config, self._num_envs = config, num_envs
        self._shared = isinstance(config.source, RoutingData) and not config.action_costs.ladder
        self._own_costs = not config.action_costs.ladder
        self._hidden = np.empty((0, 0))
        if isinstance(config.source, RoutingData):
            self._hidden = self._laid_out(config.source)
        if self._shared:
            self._rows = self._hidden
        else:
            self._rows = np.zeros((num_envs, self.columns.width))
        self.first: IntArray = np.arange(num_envs) * self.columns.width
        self.query: IntArray = np.zeros(num_envs, dtype=np.int64)
        self._order, self._next = np.empty(0, dtype=np.int64), 0

    @property
    def cells(self) -> FloatArray:
        """All rows, concatenated; `Layout` gives the columns of a row."""
        return self._rows.reshape(-1)

    def forget(self) -> None:
        """Drops the queries drawn ahead, after the generator was seeded again."""
        self._next = len(self._order)

    def deal(self, rows: IntArray, rng: np.random.Generator, query: IntArray | None) -> None:
        """Assigns new queries to the environments ``rows``: ``query``, or drawn ones for None.

        Raises:
            ValueError: ``query`` is out of range.
        """
        if query is None:
            if self._next + len(rows) > len(self._order):
                data, self._order = self._config.queries(rng, 4 * self._num_envs)
                self._next = 0
                if data is not self._config.source:
                    self._hidden = self._laid_out(data)
            query = self._order[self._next : self._next + len(rows)]
            self._next += len(rows)
        else:
            source = self._config.source
            if not isinstance(source, RoutingData):
                raise ValueError(
                    "options['query'] chooses a row of routing data: there is none here"
                )
            if not ((query >= 0) & (query < len(source))).all():
                raise ValueError(
                    f"options['query'] has {query.min()} … {query.max()}: "
                    f"expected 0 … {len(source) - 1}"
                )
        self.query[rows] = query
        if self._shared:
            self.first[rows] = query * self.columns.width
        else:
            self._rows[rows, : self._hidden.shape[1]] = self._hidden.take(query, axis=0)

    def charge(self, rows: IntArray, costs: EpisodeCosts) -> None:
        """Writes the costs of the ladder, if there is one."""
        if costs.call is not None and costs.verify is not None:
            self._rows[rows, self.columns.call : self.columns.verify] = costs.call
            self._rows[rows, self.columns.verify :] = costs.verify

    def scores(self, rows: IntArray) -> FloatArray:
        """``(len(rows), N)`` every model's score on the queries of the environments ``rows``."""
        return self.cells.take(self.first[rows][:, None] + np.arange(self.columns.n_models))

    def _laid_out(self, data: RoutingData) -> FloatArray:
        """One row for each query, without costs if a ladder replaces them."""
        n, shown = len(data), self._config.shown.show(data.signal)
        parts = [data.score, np.zeros((n, self.columns.n_signals)), shown.reshape(n, -1)]
        if self._own_costs:
            parts += [data.call_cost, data.verify_cost]
        return np.concatenate(parts, axis=1, dtype=np.float64)
