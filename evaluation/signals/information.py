"""Mutual information between a signal's bins and score levels, in bits.

The plug-in estimate is biased upwards by about ``(K − 1)(L − 1) / 2n`` nats: bins of a useless
signal differ by chance. The bias is estimated with shuffled signals and subtracted.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from routing_pomdp.envs.arrays import FloatArray, IntArray


@dataclass(frozen=True, eq=False)
class SharedInformation:
    """Mutual information ``I(symbol; level)`` or ``I(symbol; level | given)`` of ``n`` queries.

    Attributes:
        symbol: ``(n,)`` bins of the signal, from 0.
        level: ``(n,)`` score levels, from 0.
        given: ``(n,)`` levels of the condition, from 0; all 0 for no condition.
    """

    symbol: IntArray
    level: IntArray
    given: IntArray

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape of the contingency table: given, symbols, levels."""
        given, symbol, level = (int(a.max()) + 1 for a in (self.given, self.symbol, self.level))
        return given, symbol, level

    def resampled(self, weight: FloatArray) -> FloatArray:
        """Plug-in estimates ``(R,)`` under weights ``(R, n)`` of the queries."""
        cell = np.ravel_multi_index((self.given, self.symbol, self.level), self.shape)
        table = weight @ np.eye(int(np.prod(self.shape)))[cell]
        return information(table.reshape(-1, *self.shape))

    def shuffled(self, draws: int, rng: np.random.Generator) -> FloatArray:
        """Plug-in estimates ``(draws,)`` with the symbols shuffled among the queries with the same
        ``given``: the estimates for a signal without information."""
        n, cells = len(self.symbol), int(np.prod(self.shape))
        # Sorting by a random number shuffles each stratum, for all draws at once.
        key = self.given + rng.random((draws, n))
        order = np.argsort(key, axis=1)
        sorted_symbol = self.symbol[order]
        rows = np.argsort(self.given, kind="stable")
        cell = np.ravel_multi_index(
            (
                np.broadcast_to(self.given[rows], order.shape),
                sorted_symbol,
                np.broadcast_to(self.level[rows], order.shape),
            ),
            self.shape,
        )
        flat = np.bincount(
            (cell + cells * np.arange(draws)[:, None]).ravel(), minlength=draws * cells
        )
        return information(flat.reshape(draws, *self.shape).astype(np.float64))


def shared_information(
    symbol: IntArray, level: IntArray, given: IntArray | None = None
) -> SharedInformation:
    """A `SharedInformation`, by default without a condition."""
    return SharedInformation(symbol, level, np.zeros_like(level) if given is None else given)


def information(table: FloatArray) -> FloatArray:
    """``(R,)`` conditional mutual information ``I(K; L | C)`` in bits of contingency tables
    ``(R, C, K, L)`` of any total."""
    total = table.sum(axis=(1, 2, 3), keepdims=True)
    share = table / total
    stratum = share.sum(axis=(2, 3), keepdims=True)
    apart = share.sum(axis=3, keepdims=True) * share.sum(axis=2, keepdims=True)
    there = share > 0
    ratio = np.divide(share * stratum, apart, out=np.ones_like(share), where=there)
    return (share * np.log2(ratio)).sum(axis=(1, 2, 3))
