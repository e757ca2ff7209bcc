"""`Product`: an observation model of several signals that are independent given the score."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field
from math import prod
from typing import Self

import numpy as np
from scipy.special import xlogy

from routing_pomdp.envs.arrays import FloatArray, IntArray
from routing_pomdp.envs.model.routing_pomdp import Observation
from routing_pomdp.envs.settings.checks import check_settings
from routing_pomdp.envs.settings.ranges import Symbols
from routing_pomdp.verifiers.observation.histogram import row_of

# Combinations of the parts' symbols that are merged: their pairs are compared, and kept in memory.
_MOST = 4096


@dataclass(eq=False)
class Product:
    """One observation model for each of ``D`` signals, and the product of their likelihoods.

    The ``K_1 × … × K_D`` combinations of symbols are merged to ``keep`` by the agglomerative
    information bottleneck (Slonim & Tishby 1999), which repeatedly merges the pair that loses least
    information about the score vector.

    Attributes:
        of: the observation model of each signal, which is copied.
        keep: ``K``, symbols after merging.
        parts_: fitted, of each signal.
        merged_: fitted, ``(N - 1, K_1 ⋯ K_D)`` the symbol of each combination; a model's symbols
            are sorted by the expected score.
        likelihood: fitted, ``(N - 1, S, K)``.
        representative: fitted, ``(N - 1, K, D)`` of the symbol's likeliest combination.

    Raises:
        ValueError: ``keep < 1``.
    """

    of: Observation
    keep: Symbols = 8
    parts_: list[Observation] = field(init=False, repr=False)
    merged_: IntArray = field(init=False, repr=False)
    likelihood: FloatArray = field(init=False, repr=False)
    representative: FloatArray = field(init=False, repr=False)

    def __post_init__(self) -> None:
        check_settings(self, "observation")

    @property
    def n_symbols(self) -> int:
        return self.keep

    def fit(self, signal: FloatArray, level: IntArray, score_vectors: IntArray) -> Self:
        """Fits every part and merges; arguments as `Histogram.fit`, with ``D`` signals an answer.

        Raises:
            ValueError: there are too many combinations.
        """
        n, n_verified, width = signal.shape
        _refuse_many([self.of.n_symbols] * width)
        self.parts_ = [
            deepcopy(self.of).fit(signal[:, :, [d]], level, score_vectors) for d in range(width)
        ]
        combinations = _refuse_many([part.n_symbols for part in self.parts_])
        n_vectors = len(score_vectors)
        # Half a pseudo-query spread over all vectors, so that none is impossible.
        count = np.bincount(row_of(level, score_vectors), minlength=n_vectors)
        prior = (count + 0.5 / n_vectors) / (n + 0.5)
        self.merged_ = np.empty((n_verified, combinations), dtype=np.int64)
        self.likelihood = np.zeros((n_verified, n_vectors, self.keep))
        self.representative = np.empty((n_verified, self.keep, width))
        for model in range(n_verified):
            joint = prior[:, None] * self._product(model)
            symbol = merge_symbols(joint, self.keep)
            kept = int(symbol.max()) + 1
            onto = np.eye(kept)[symbol]  # (combinations, kept)
            expected = score_vectors[:, model] @ (joint @ onto) / (joint.sum(axis=0) @ onto)
            order = np.argsort(np.argsort(expected, kind="stable"), kind="stable")
            self.merged_[model] = order[symbol]
            for k in range(kept):
                members = self.merged_[model] == k
                self.likelihood[model, :, k] = joint[:, members].sum(axis=1) / prior
                likeliest = np.flatnonzero(members)[joint[:, members].sum(axis=0).argmax()]
                self.representative[model, k] = self._typical(model, int(likeliest))
            self.representative[model, kept:] = self.representative[model, kept - 1]
        return self

    def symbols(self, model: int, signal: FloatArray) -> IntArray:
        """Symbols ``(n,)`` of one model's signals ``(n, D)``."""
        combination = np.zeros(len(signal), dtype=np.int64)
        for d, part in enumerate(self.parts_):
            combination = combination * part.n_symbols + part.symbols(model, signal[:, [d]])
        return self.merged_[model, combination]

    def _product(self, model: int) -> FloatArray:
        """``(S, combinations)`` likelihoods; the last signal's symbol changes fastest."""
        product = np.ones((len(self.parts_[0].likelihood[model]), 1))
        for part in self.parts_:
            product = (product[:, :, None] * part.likelihood[model][:, None]).reshape(
                len(product), -1
            )
        return product

    def _typical(self, model: int, combination: int) -> FloatArray:
        digits = np.unravel_index(combination, [part.n_symbols for part in self.parts_])
        return np.array(
            [part.representative[model, k, 0] for part, k in zip(self.parts_, digits, strict=True)]
        )


def _refuse_many(symbols: list[int]) -> int:
    """The number of combinations of symbols.

    Raises:
        ValueError: there are too many to merge.
    """
    combinations = prod(symbols)
    if combinations > _MOST:
        raise ValueError(
            f"observation=product would merge {combinations:,} combinations of {len(symbols)} "
            f"signals with {max(symbols)} symbols each, more than {_MOST:,}: use fewer "
            "observation.of.bins, or observation=merged"
        )
    return combinations


def merge_symbols(joint: FloatArray, keep: int) -> IntArray:
    """The merged symbol of each symbol, ``(K,)``, in ``0 … keep - 1``.

    Args:
        joint: ``(S, K)`` probabilities of hidden states and symbols; a symbol may be impossible.
        keep: at least 1; fewer remain if fewer are possible.
    """
    table = joint.T.copy()
    member = np.arange(len(table))
    alive = table.sum(axis=1) > 0
    # Impossible symbols join the first possible one.
    member[~alive] = int(alive.argmax())
    content = _content(table)
    loss = np.full((len(table), len(table)), np.inf)
    for k in np.flatnonzero(alive):
        loss[k] = content + content[k] - _content(table + table[k])
    loss[~alive] = loss[:, ~alive] = np.inf
    np.fill_diagonal(loss, np.inf)
    for _ in range(int(alive.sum()) - keep):
        a, b = sorted(np.unravel_index(loss.argmin(), loss.shape))
        table[a] += table[b]
        member[member == b] = a
        alive[b] = False
        content[a] = _content(table[a])
        loss[b] = loss[:, b] = np.inf
        fresh = content + content[a] - _content(table + table[a])
        fresh[~alive] = fresh[a] = np.inf
        loss[a] = loss[:, a] = fresh
    return np.unique(member, return_inverse=True)[1]


def _content(table: FloatArray) -> FloatArray:
    """``Σ_s p(s, k) log p(s | k)`` of each row; a merger loses the difference of its sum."""
    return xlogy(table, table).sum(axis=-1) - xlogy(table.sum(axis=-1), table.sum(axis=-1))
