"""Raw signals of a problem with query classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from routing_pomdp.envs.model.observation import Observation

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

_AT_ONCE, _ROUNDS = 32, 8  # draws: far more than the ratio of any two likelihoods needs


class DensityModel(Observation, Protocol):
    """An observation model that has densities of raw signals."""

    def density(self, model: int, signal: FloatArray) -> FloatArray:
        """``(n, Y)`` densities of signals given each score vector."""

    def sample(self, model: int, vector: IntArray, uniform: FloatArray) -> FloatArray:
        """Signals ``(n, D)`` given score vectors ``(n,)``, at shares of their distributions."""


@dataclass(frozen=True, eq=False)
class ClassDensity:
    """Densities in which a class changes how likely a symbol is, and nothing within it.

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
        """As it is: fitted already."""
        return self

    def symbols(self, model: int, signal: FloatArray) -> IntArray:
        return self.of.symbols(model, signal)

    def density(self, model: int, signal: FloatArray) -> FloatArray:
        """``(n, S)`` densities of one model's signals ``(n, D)`` given each hidden state."""
        symbol = self.of.symbols(model, signal)
        return self.of.density(model, signal)[:, self.vector] * self._ratio(model)[:, symbol].T

    def sample(self, model: int, vector: IntArray, uniform: FloatArray) -> FloatArray:
        """Signals ``(n, D)`` given hidden states ``(n,)``: class-free draws, of which each is kept
        as often as its symbol is likelier in the class (rejection sampling)."""
        ratio = self._ratio(model)
        accept = ratio / ratio.max(axis=1, keepdims=True)
        signal = self.of.sample(model, self.vector[vector], uniform)
        # What is drawn again, and kept, follows from the given shares: the same draw every time.
        rng = np.random.default_rng(np.bitwise_xor.reduce(uniform.view(np.uint64), axis=None))
        refused = np.flatnonzero(~self._kept(model, signal, vector, accept, rng))
        for _ in range(_ROUNDS):
            if not len(refused):
                break
            # Many at once: over a thousand signals a model may take as long as over one.
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
        """``(S, K)`` how much likelier each symbol is in a hidden state than without classes."""
        free = self.of.likelihood[model][self.vector]
        return np.divide(self.likelihood[model], free, out=np.zeros_like(free), where=free > 0)
