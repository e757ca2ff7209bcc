"""The routing problem on raw signals: beliefs by densities, nothing binned."""

from __future__ import annotations

from dataclasses import fields
from typing import Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from routing_pomdp.envs import History, RoutingData, RoutingPOMDP

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

_TIE = 1e-12  # posterior means this close are the same


@runtime_checkable
class Density(Protocol):
    """What an observation model knows of raw signals, beside their symbols."""

    def density(self, model: int, signal: FloatArray) -> FloatArray:
        """``(n, S)`` densities of one model's signals ``(n, D)`` given each score vector, up to a
        factor that is the same for all of them."""

    def sample(self, model: int, vector: IntArray, uniform: FloatArray) -> FloatArray:
        """Signals ``(n, D)`` of one model given the score vectors ``(n,)``: each number is the
        quantile of its distribution at its own of the shares ``(n, D)`` in [0, 1)."""


class ContinuousPOMDP(RoutingPOMDP):
    """A routing problem whose beliefs are the exact posteriors of raw signals.

    Symbols and their likelihoods stay what they were, for whatever wants to count or to enumerate.
    """

    @classmethod
    def of(cls, problem: RoutingPOMDP) -> Self:
        """The problem with its observation's densities.

        Raises:
            ValueError: an observation model without densities.
        """
        if not isinstance(problem.observation, Density):
            name = type(problem.observation).__name__
            raise ValueError(
                f"this solver plans on raw signals, but observation={name} has no density of them: "
                "use observation=kernel, observation=beta or observation=mixture"
            )
        return cls(**{field.name: getattr(problem, field.name) for field in fields(problem)})

    @property
    def densities(self) -> Density:
        assert isinstance(self.observation, Density)
        return self.observation

    def evidence(self, history: History) -> tuple[FloatArray, NDArray[np.bool_]]:
        """Posteriors ``(n, S)``, and which histories ``(n,)`` have density 0 given every score
        vector; those get the prior, as `RoutingPOMDP.belief` gives it."""
        joint = self.first_belief(history)
        for model in range(self.n_models - 1):
            rows = np.flatnonzero(history.verified[:, model])
            if len(rows):
                density = self.densities.density(model, history.signal[rows, model])
                # Only ratios matter; many small densities must not vanish together.
                most = density.max(axis=1, keepdims=True)
                joint[rows] *= density / np.where(most > 0, most, 1.0)
        mass = joint.sum(axis=1, keepdims=True)
        possible = mass > 0
        return np.where(possible, joint / np.where(possible, mass, 1.0), self.prior), ~possible[
            :, 0
        ]

    @property
    def has_gaps(self) -> bool:
        """True: a signal may lie where no density reaches."""
        return True

    def doubts(self, history: History) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """As `RoutingPOMDP.doubts`, where impossible is what has density 0 given every score."""
        return self.evidence(history)[1], super().doubts(history)[1]

    def posterior(self, history: History) -> FloatArray:
        """Posteriors of the score vector, ``(n, S)``."""
        return self.evidence(history)[0]

    def best_answer(self, history: History) -> IntArray:
        """As `RoutingPOMDP.best_answer`, by what the raw signals say."""
        if self.rules.answer == "last":
            return history.stage
        mean = expected(self.posterior(history), self.score)
        mean[~history.called] = -np.inf
        tied = mean >= mean.max(axis=1, keepdims=True) - _TIE
        return self.n_models - 1 - tied[:, ::-1].argmax(axis=1)

    def sample(self, n: int, rng: np.random.Generator) -> RoutingData:
        """``n`` queries drawn from the model, with raw signals."""
        vector = rng.choice(len(self.prior), size=n, p=self.prior)
        width = self.representative.shape[2]
        signal = np.full((n, self.n_models, width), np.nan)
        for model in range(self.n_models - 1):
            signal[:, model] = self.densities.sample(model, vector, rng.random((n, width)))
        call_cost, verify_cost = self.costs.in_states(vector)
        return RoutingData(self.score[vector], call_cost, verify_cost, signal)


def expected(weight: FloatArray, value: FloatArray) -> FloatArray:
    """``weight @ value`` for ``(n, S)`` and ``(S, m)``, each row rounded alike in every batch."""
    return np.stack([(weight * column).sum(axis=-1) for column in value.T], axis=-1)
