"""`Components`: a routing problem as a mixture of components in which models are independent.

Given the hidden state, scores are certain and symbols independent, so every hidden state can be a
component. If states are pairs of a query class and a score vector, and scores are independent given
the class, then the classes are components. There are far fewer of them: expected scores and costs
after a history take ``C · N`` numbers instead of ``C · L^N``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from routing_pomdp.envs.arrays import FloatArray, IntArray
from routing_pomdp.envs.costs.cost_model import Costs


@dataclass(frozen=True, eq=False)
class Components:
    """``M`` components. A digit is a model's digit in a history code: what was observed of it.

    Attributes:
        weight: ``(M,)`` their probabilities.
        factor: ``(N - 1, digits, M)`` P(digit of the model | component); 1 for no observation.
        score: ``(N, digits, M)`` the same times the model's expected score, given the digit; the
            last model has only digit 0.
        costs: with ``call_in`` and ``verify_in`` by component, if they vary.
    """

    weight: FloatArray
    factor: FloatArray
    score: FloatArray
    costs: Costs

    @classmethod
    def of(
        cls,
        member: IntArray | None,
        prior: FloatArray,
        score: FloatArray,
        likelihood: FloatArray,
        costs: Costs,
        digits: int,
    ) -> Self:
        """The components of a problem.

        Args:
            member: ``(S,)`` the class of each hidden state. Classes are the components if models
                are independent within them; otherwise, or for None, states are.
            prior: ``(S,)``.
            score: ``(S, N)``.
            likelihood: ``(N - 1, S, K)``.
            costs: by hidden state, if they vary.
            digits: the radix of history codes.
        """
        n_verified, n_states, n_symbols = likelihood.shape
        weight = prior
        if member is not None:
            weight = np.bincount(member, prior).astype(np.float64)
        if member is None or not _independent(member, weight, prior, score, likelihood, costs):
            member, weight = np.arange(n_states), prior
        mean = _Means(member, prior, weight)
        factor = np.ones((n_verified, digits, len(weight)))
        scored = np.empty((n_verified + 1, digits, len(weight)))
        scored[:] = mean(score).T[:, None]
        for model, own in enumerate(likelihood):
            factor[model, 1 : 1 + n_symbols] = mean(own).T
            scored[model, 1 : 1 + n_symbols] = mean(own * score[:, [model]]).T
        by_component = Costs(
            costs.call,
            costs.verify,
            None if costs.call_in is None else mean(costs.call_in),
            None if costs.verify_in is None else mean(costs.verify_in),
        )
        return cls(weight, factor, scored, by_component)

    # -- after some histories -----------------------------------------------------------------

    def joint(self, digit: IntArray) -> FloatArray:
        """``P(history, component)`` ``(n, M)`` of histories with digits ``(n, N - 1)``."""
        joint = np.tile(self.weight, (len(digit), 1))
        for model, factor in enumerate(self.factor):
            joint *= factor[digit[:, model]]
        return joint

    def scores(self, digit: IntArray) -> FloatArray:
        """``P(history) E[score | history]`` of every model, ``(n, N)``."""
        n, n_verified = digit.shape
        # Products of the factors of all earlier and of all later models, to avoid divisions.
        before = [np.tile(self.weight, (n, 1))]
        for model in range(n_verified):
            before.append(before[-1] * self.factor[model][digit[:, model]])
        found = np.empty((n, n_verified + 1))
        found[:, -1] = (before[-1] * self.score[-1, 0]).sum(axis=1)
        after = np.ones_like(before[0])
        for model in reversed(range(n_verified)):
            own = digit[:, model]
            found[:, model] = (before[model] * self.score[model][own] * after).sum(axis=1)
            after = after * self.factor[model][own]
        return found

    def posterior(self, digit: IntArray) -> FloatArray:
        """``P(component | history)`` ``(n, M)``; the prior for an impossible history."""
        joint = self.joint(digit)
        mass = joint.sum(axis=1, keepdims=True)
        return np.where(mass > 0, joint / np.where(mass > 0, mass, 1.0), self.weight)

    def paid(self, posterior: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Expected costs of calls and of verifications, two ``(n, N)``, given a posterior."""
        costs, shape = self.costs, (len(posterior), len(self.costs.call))
        return (
            np.broadcast_to(costs.call, shape)
            if costs.call_in is None
            else posterior @ costs.call_in,
            np.broadcast_to(costs.verify, shape)
            if costs.verify_in is None
            else posterior @ costs.verify_in,
        )

    # -- after all histories ------------------------------------------------------------------

    def table(
        self,
        models: int,
        value: FloatArray | None = None,
        scored: int | None = None,
        called: bool = False,
    ) -> FloatArray:
        """``P(history) E[value | history]`` for every history of the first ``models`` models with
        the others not called: one axis for each model, ``(digits,) * models``.

        Args:
            models: at most ``N - 1``.
            value: ``(M,)`` expected value in each component; None for 1.
            scored: a model whose score multiplies the value.
            called: leaves out the histories in which that model is not called.
        """
        factors = list(self.factor[:models])
        if scored is not None:
            factors[scored] = self.score[scored][int(called) :]
        half = models // 2
        left, right = (
            _products(part, len(self.weight)) for part in (factors[:half], factors[half:])
        )
        weight = self.weight if value is None else self.weight * value
        return ((left * weight) @ right.T).reshape([len(factor) for factor in factors])


def _independent(
    member: IntArray,
    weight: FloatArray,
    prior: FloatArray,
    score: FloatArray,
    likelihood: FloatArray,
    costs: Costs,
) -> bool:
    """Whether models are independent within each class: their scores are, and a model's symbols and
    costs depend only on the class and its own score."""
    product = weight[member].copy()
    for model, own in enumerate(score.T):
        # States of one class in which the model's score is the same.
        level = np.unique(own, return_inverse=True)[1].ravel()
        _, first, cell = np.unique(
            member * (level.max() + 1) + level, return_index=True, return_inverse=True
        )
        cell = cell.ravel()
        mass = np.bincount(cell, prior)[cell]
        product *= np.divide(mass, weight[member], out=np.zeros(len(mass)), where=mass > 0)
        same = [table[:, model] for table in (costs.call_in, costs.verify_in) if table is not None]
        if model < len(likelihood):
            same.append(likelihood[model])
        if any((table != table[first][cell])[prior > 0].any() for table in same):
            return False
    return bool(np.allclose(product, prior, rtol=1e-9, atol=1e-15))


class _Means:
    """Prior-weighted means over the states of each component."""

    def __init__(self, member: IntArray, prior: FloatArray, weight: FloatArray) -> None:
        self._alone = len(weight) == len(prior) and np.array_equal(member, np.arange(len(prior)))
        if not self._alone:
            from scipy.sparse import csr_array

            share = prior / np.where(weight > 0, weight, 1.0)[member]
            rows = member, np.arange(len(prior))
            self._share = csr_array((share, rows), shape=(len(weight), len(prior)))

    def __call__(self, value: FloatArray) -> FloatArray:
        """Means ``(M, m)`` of values ``(S, m)``."""
        return value if self._alone else np.asarray(self._share @ value)


def _products(factors: Sequence[FloatArray], m: int) -> FloatArray:
    """Products of one row of each factor ``(rows, m)``, for all choices of rows; ones without
    factors."""
    product = np.ones((1, m))
    for factor in factors:
        product = (product[:, None] * factor).reshape(-1, m)
    return product
