"""`ClassDensity`: densities of raw signals in a problem with query classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from routing_pomdp.envs.model.observation import Observation

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

_AT_ONCE, _ROUNDS = 32, 8  # draws: far more than rejection needs at any likelihood ratio


class DensityModel(Observation, Protocol):
    """An observation model with densities of raw signals."""

    def density(self, model: int, signal: FloatArray) -> FloatArray:
        """``(n, Y)`` densities of signals given each score vector."""

    def sample(self, model: int, vector: IntArray, uniform: FloatArray) -> FloatArray:
        """Signals ``(n, D)`` given score vectors ``(n,)``, from uniform draws ``(n, D)``."""


@dataclass(frozen=True, eq=False)
class ClassDensity:
    """Densities that depend on the class through symbols only: within a symbol, the density has the
    same shape in all classes.

    Attributes:
        of: the class-free model, over score vectors.
        likelihood: ``(N - 1, S, K)`` of the symbols in each hidden state.
        vector: ``(S,)`` the score vector of each hidden state.
    """

    of: DensityModel
    likelihood: FloatArray
    vector: IntArray

    @property
    def n_symbols(self) -> int:
        return self.likelihood.shape[2]

    @property
    def representative(self) -> FloatArray:
        return self.of.representative

    def fit(self, signal: FloatArray, level: IntArray, score_vectors: IntArray) -> Self:
        """Itself: it is made from a fitted model."""
        return self

    def symbols(self, model: int, signal: FloatArray) -> IntArray:
        return self.of.symbols(model, signal)

    def density(self, model: int, signal: FloatArray) -> FloatArray:
        """``(n, S)`` densities of one model's signals ``(n, D)`` given each hidden state."""
        symbol = self.of.symbols(model, signal)
        return self.of.density(model, signal)[:, self.vector] * self._ratio(model)[:, symbol].T

    def sample(self, model: int, vector: IntArray, uniform: FloatArray) -> FloatArray:
        """Signals ``(n, D)`` given hidden states ``(n,)``, by rejection sampling: a class-free draw
        is kept in proportion to the likelihood ratio of its symbol in the class."""
        ratio = self._ratio(model)
        accept = ratio / ratio.max(axis=1, keepdims=True)
        signal = self.of.sample(model, self.vector[vector], uniform)
        # Further draws are seeded by the given uniforms, so that the result is deterministic.
        rng = np.random.default_rng(np.bitwise_xor.reduce(uniform.view(np.uint64), axis=None))
        refused = np.flatnonzero(~self._kept(model, signal, vector, accept, rng))
        for _ in range(_ROUNDS):
            if not len(refused):
                break
            # Many draws at once, because a model's time hardly depends on their number.
            states = np.repeat(vector[refused], _AT_ONCE)
            again = self.of.sample(
                model, self.vector[states], rng.random((len(states), uniform.shape[1]))
            )
            kept = self._kept(model, again, states, accept, rng).reshape(-1, _AT_ONCE)
            first = kept.argmax(axis=1) + _AT_ONCE * np.arange(len(refused))
            signal[refused] = again[first]
            refused = refused[~kept.any(axis=1)]
        return signal

    def _kept(
        self,
        model: int,
        signal: FloatArray,
        state: IntArray,
        accept: FloatArray,
        rng: np.random.Generator,
    ) -> NDArray[np.bool_]:
        """Which of the signals drawn for hidden states ``(n,)`` are kept."""
        return rng.random(len(state)) < accept[state, self.of.symbols(model, signal)]

    def _ratio(self, model: int) -> FloatArray:
        """``(S, K)`` likelihood ratios of symbols in each hidden state against no classes."""
        free = self.of.likelihood[model][self.vector]
        return np.divide(self.likelihood[model], free, out=np.zeros_like(free), where=free > 0)
