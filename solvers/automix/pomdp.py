"""AutoMix's POMDP router as its paper describes it (arXiv 2310.12963, §3.3 and appendix).

The state is the current model and the performance of every model, which is continuous. The belief
is a set of weighted particles, the performance vectors of the training queries, each as likely as
any other at first. What a confidence says of a state is learned from the training queries alone:

- discrete confidences: ``P(o | s)`` by counts of ``o`` around ``s``;
- continuous ones: a Gaussian kernel density of the joint of ``s`` and ``o``, divided by that of
  ``s``; what is needed of it is the mass of each bin of the confidence, an exact normal integral.

Kernels are products with Scott's bandwidth ``σ n^(-1/(d + 4))`` a dimension; confidences are first
turned into normal scores of their ranks, so that log-probabilities of any size are at home. With
finitely many observations the problem is a `RoutingPOMDP` whose score vectors are the particles,
and backward induction solves it exactly: the policy is a lookup table over observation sequences.
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

    Its observations are the symbols of the run's observation model: with as many symbols as the
    verifier has values, nothing is lost.

    Attributes:
        particles: the most training queries that become particles; more are sampled from.
        conditioning: "joint", the paper's, where a confidence depends on the performance of every
            model; "own" on that of the model that it was said of.
        bandwidth: a factor on Scott's rule.
        max_histories: the largest tree it takes on.
        seed: of the sample of particles.
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
        """Lookup tables for every price; the model is learned once.

        Raises:
            ValueError: the tree of histories is too large.
        """
        return Exact(self.max_histories).solve_frontier(self.learn(problem, train), prices)

    def learn(self, problem: RoutingPOMDP, train: RoutingData) -> RoutingPOMDP:
        """``problem`` with particles for score vectors and likelihoods learned on ``train``."""
        score = train.score
        if len(score) > self.particles:
            rng = np.random.default_rng(self.seed)
            score = score[rng.choice(len(score), self.particles, replace=False)]
        # Equal particles are one of their common weight.
        vectors, counts = np.unique(score, axis=0, return_counts=True)
        likelihood = np.stack(
            [
                self._likelihood(problem, train, vectors, model)
                for model in range(problem.n_models - 1)
            ]
        )
        # Its states are particles, of which nothing but scores and signals is known.
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

        One query is added that has said everything in proportion to how often it was said, and a
        little of what was not: no observation is impossible.
        """
        symbol = problem.symbols(model, train.signal[:, model])
        given = list(range(problem.n_models)) if self.conditioning == "joint" else [model]
        dimensions = len(given) + 1
        near = np.ones((len(vectors), len(train)))
        for other in given:
            width = self._width(train.score[:, other], dimensions)
            near *= _kernel((vectors[:, other, None] - train.score[None, :, other]) / width)
        said = self._said(train.signal[:, model], symbol, problem.n_symbols, dimensions)
        counts = near @ said
        common = said.mean(axis=0) + 0.5 / len(train)
        counts += common / common.sum()
        return counts / counts.sum(axis=1, keepdims=True)

    def _said(
        self, signal: FloatArray, symbol: IntArray, n_symbols: int, dimensions: int
    ) -> FloatArray:
        """How much of each symbol's bin the kernel of each training confidence covers, ``(n, K)``;
        where confidences are as discrete as symbols, the symbol itself."""
        exact = np.eye(n_symbols)[symbol]
        there = ~np.isnan(signal).any(axis=1)
        if not there.all():  # nothing lies near a missing one
            exact[there] = self._said(signal[there], symbol[there], n_symbols, dimensions)
            return exact
        if signal.shape[1] != 1 or len(np.unique(signal)) <= n_symbols:
            return exact
        normal = ndtri((rankdata(signal[:, 0]) - 0.5) / len(signal))
        used = np.unique(symbol)
        low = np.array([normal[symbol == k].min() for k in used])
        high = np.array([normal[symbol == k].max() for k in used])
        if (low[1:] <= high[:-1]).any():
            return exact  # symbols that are no intervals have no bins to cover
        edges = np.concatenate([[-np.inf], (high[:-1] + low[1:]) / 2, [np.inf]])
        width = self._width(normal, dimensions)
        covered = np.zeros((len(signal), n_symbols))
        covered[:, used] = np.diff(ndtr((edges - normal[:, None]) / width), axis=1)
        return covered

    def _width(self, values: FloatArray, dimensions: int) -> float:
        """Scott's bandwidth; 1 for values that do not vary, which any kernel tells nothing of."""
        spread = float(values.std(ddof=1)) if len(values) > 1 else 0.0
        return self.bandwidth * spread * len(values) ** (-1 / (dimensions + 4)) or 1.0


def _kernel(distance: FloatArray) -> FloatArray:
    return np.exp(-0.5 * distance**2)
