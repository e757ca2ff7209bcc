"""AutoMix's POMDP router as its paper describes it (arXiv 2310.12963, §3.3 and appendix).

The state is the current model and the continuous performance of every model. The belief is a set of
weighted particles: the performance vectors of the training queries, equally likely at first. The
observation likelihood ``P(o | s)`` is learned from the training queries:

- discrete confidences: by counts of ``o`` around ``s``;
- continuous confidences: a Gaussian kernel density of the joint of ``s`` and ``o``, divided by that
  of ``s``; the mass of each bin of the confidence is an exact normal integral.

Kernels are products with Scott's bandwidth ``σ n^(-1/(d + 4))`` in each dimension. Confidences are
first replaced by the normal scores of their ranks, so that log-probabilities of any size work. With
finitely many observations the problem is a `RoutingPOMDP` whose score vectors are the particles.
Backward induction solves it exactly: the policy is a lookup table over observation sequences.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from scipy.special import ndtr, ndtri
from scipy.stats import rankdata

from routing_pomdp.envs import RoutingData, RoutingPOMDP
from routing_pomdp.envs.arrays import FloatArray, IntArray
from routing_pomdp.envs.settings.ranges import Count, Positive, Seed
from routing_pomdp.solvers.exact.backward_induction import Exact
from routing_pomdp.solvers.solver import Solver, TablePolicy

Conditioning = Literal["own", "joint"]


@dataclass(frozen=True)
class AutoMixPOMDP(Solver):
    """The paper's router, for any number of models.

    Its observations are the symbols of the run's observation model; no information is lost if there
    are as many symbols as values of the verifier.

    Attributes:
        particles: the largest number of particles; a larger training set is sampled.
        conditioning: "joint", the paper's: a confidence depends on the performance of every model;
            "own": on that of the model whose answer it rates.
        bandwidth: a factor on Scott's rule.
        max_histories: the largest number of histories to enumerate.
        seed: seed of the sample of particles.
    """

    particles: Count = 300
    conditioning: Conditioning = "joint"
    bandwidth: Positive = 1.0
    max_histories: Count = 2**24
    seed: Seed = 0

    def solve(self, problem: RoutingPOMDP, train: RoutingData) -> TablePolicy:
        return self.solve_frontier(problem, [problem.price], train)[0]

    def solve_frontier(
        self, problem: RoutingPOMDP, prices: Sequence[float], train: RoutingData
    ) -> list[TablePolicy]:
        """Lookup tables, one per price; the model is learned once.

        Raises:
            ValueError: the tree of histories is too large.
        """
        return Exact(self.max_histories).solve_frontier(self.learn(problem, train), prices)

    def learn(self, problem: RoutingPOMDP, train: RoutingData) -> RoutingPOMDP:
        """``problem`` with particles as score vectors and likelihoods learned on ``train``."""
        score = train.score
        if len(score) > self.particles:
            rng = np.random.default_rng(self.seed)
            score = score[rng.choice(len(score), self.particles, replace=False)]
        # Equal particles are merged; their weights add up.
        vectors, counts = np.unique(score, axis=0, return_counts=True)
        likelihood = np.stack(
            [
                self._likelihood(problem, train, vectors, model)
                for model in range(problem.n_models - 1)
            ]
        )
        # Particles belong to no query class: their costs are the average.
        return replace(
            problem,
            score=vectors,
            prior=counts / counts.sum(),
            likelihood=likelihood,
            costs=problem.costs.averaged(),
            member=None,
        )

    def _likelihood(
        self, problem: RoutingPOMDP, train: RoutingData, vectors: FloatArray, model: int
    ) -> FloatArray:
        """``P(o | s)`` of one model's symbols at every particle, ``(S, K)``.

        One pseudo-query is added, spread over the symbols in proportion to their frequency, with a
        small share for unseen ones: no observation has probability 0.
        """
        symbol = problem.symbols(model, train.signal[:, model])
        given = list(range(problem.n_models)) if self.conditioning == "joint" else [model]
        dimensions = len(given) + 1
        near = np.ones((len(vectors), len(train)))
        for other in given:
            width = self._width(train.score[:, other], dimensions)
            near *= _kernel((vectors[:, other, None] - train.score[None, :, other]) / width)
        covered = self._covered(train.signal[:, model], symbol, problem.n_symbols, dimensions)
        counts = near @ covered
        common = covered.mean(axis=0) + 0.5 / len(train)
        counts += common / common.sum()
        return counts / counts.sum(axis=1, keepdims=True)

    def _covered(
        self, signal: FloatArray, symbol: IntArray, n_symbols: int, dimensions: int
    ) -> FloatArray:
        """Mass of each training confidence's kernel in each symbol's bin, ``(n, K)``; one-hot
        symbols where confidences have no more values than there are symbols."""
        exact = np.eye(n_symbols)[symbol]
        there = ~np.isnan(signal).any(axis=1)
        if not there.all():  # a missing signal has no neighbours
            exact[there] = self._covered(signal[there], symbol[there], n_symbols, dimensions)
            return exact
        if signal.shape[1] != 1 or len(np.unique(signal)) <= n_symbols:
            return exact
        normal = ndtri((rankdata(signal[:, 0]) - 0.5) / len(signal))
        used = np.unique(symbol)
        low = np.array([normal[symbol == k].min() for k in used])
        high = np.array([normal[symbol == k].max() for k in used])
        if (low[1:] <= high[:-1]).any():
            return exact  # the symbols are not intervals of the confidence
        edges = np.concatenate([[-np.inf], (high[:-1] + low[1:]) / 2, [np.inf]])
        width = self._width(normal, dimensions)
        covered = np.zeros((len(signal), n_symbols))
        covered[:, used] = np.diff(ndtr((edges - normal[:, None]) / width), axis=1)
        return covered

    def _width(self, values: FloatArray, dimensions: int) -> float:
        """Scott's bandwidth; 1 for constant values, for which it does not matter."""
        spread = float(values.std(ddof=1)) if len(values) > 1 else 0.0
        return self.bandwidth * spread * len(values) ** (-1 / (dimensions + 4)) or 1.0


def _kernel(distance: FloatArray) -> FloatArray:
    return np.exp(-0.5 * distance**2)
