"""Calibration of beliefs: predicted and realised scores of every model at every decision point.

A belief predicts the score of each model from a history. It is either learned by a network or the
posterior of the fitted problem, which `Exact` and most other solvers use. Every belief is evaluated
at every decision point of every query (`solvers.decision_points`), whether or not a policy reaches
it and whether or not the model was called there, so that beliefs can be compared. Measures take
query weights ``(R, n)`` for a bootstrap, which resamples the decision points of a query together.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from routing_pomdp.envs import History, RoutingData, RoutingPOMDP, Rules
from routing_pomdp.envs.arrays import FloatArray, IntArray
from routing_pomdp.envs.model.binning import inner_edges
from routing_pomdp.solvers.decision_points import DecisionPoints
from routing_pomdp.solvers.solver import HasBelief

BINS = 10

_SURE = 1e-12  # keeps the log loss of a wrong prediction of exactly 0 or 1 finite


@dataclass(frozen=True)
class FittedBelief:
    """The belief of a fitted problem: its posterior.

    Attributes:
        problem: the fitted problem, at any price.
    """

    problem: RoutingPOMDP

    def belief(self, history: History) -> FloatArray:
        """``(n, N)`` posterior means of every model's score."""
        if not self.problem.rules.pre_query:
            return self.problem.expected_scores(self.problem.encode(history))
        symbol = self.problem.pre_symbols(history)
        belief = np.empty((len(history), self.problem.n_models))
        for k in np.unique(symbol):
            rows = np.flatnonzero(symbol == k)
            belief[rows] = FittedBelief(self.problem.given(int(k))).belief(history.take(rows))
        return belief


@dataclass(frozen=True, eq=False)
class Beliefs:
    """Predicted and realised scores.

    Attributes:
        believed: ``(P, n, N)`` predicted score of each model at each decision point of each query.
        score: ``(n, N)`` realised scores.
    """

    believed: FloatArray
    score: FloatArray

    @classmethod
    def of(cls, holder: HasBelief, rules: Rules, data: RoutingData) -> Beliefs:
        """The predictions of ``holder`` at every decision point of ``rules``."""
        believed = [holder.belief(history) for history in histories(DecisionPoints.of(rules), data)]
        return cls(np.stack(believed), data.score)

    def __len__(self) -> int:
        return len(self.score)

    @cached_property
    def bins(self) -> IntArray:
        """``(P, n, N)`` the quantile bin of each prediction among those of its model: ten bins of
        equal size, fewer where predictions tie."""
        bins = np.empty(self.believed.shape, dtype=np.int64)
        none = np.zeros((self.believed[..., 0].size, 1), dtype=np.int64)
        for model in range(self.score.shape[1]):
            held = self.believed[..., model]
            edges = inner_edges(held.ravel(), none, BINS, "quantile")
            bins[..., model] = np.searchsorted(edges, held, side="right")
        return bins

    def error(self, weight: FloatArray) -> FloatArray:
        """``(R, N)`` expected calibration error (ECE) for each model."""
        _, believed, score = self._cells
        gap = np.abs(weight @ (believed - score)).sum(axis=2).T
        found: FloatArray = gap / (len(self.believed) * weight.sum(axis=1, keepdims=True))
        return found

    def reliability(self, weight: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Count, mean prediction and mean score of each bin of each model, ``(N, R, 10)`` each;
        the means are NaN where a bin is empty."""
        count, believed, score = (weight @ cells for cells in self._cells)
        some = np.where(count > 0, count, np.nan)
        return count, believed / some, score / some

    def chance(self, draws: int, rng: np.random.Generator) -> FloatArray:
        """``(N,)`` expected ECE if the predictions were true probabilities: sampling noise alone.

        By consistency resampling (Bröcker & Smith 2007), with one draw per query and model for all
        decision points. Scores are drawn as 0 or 1, so the figure is too large for graded scores,
        which vary less.
        """
        n_points, n, n_models = self.believed.shape
        error = np.zeros(n_models)
        cell = BINS * np.arange(n_models) + self.bins
        for _ in range(draws):
            excess = self.believed - (rng.random((n, n_models)) < self.believed)
            gap = np.bincount(cell.ravel(), excess.ravel(), minlength=BINS * n_models)
            error += np.abs(gap).reshape(n_models, BINS).sum(axis=1)
        return error / (draws * n_points * n)

    def log_loss(self, weight: FloatArray) -> FloatArray:
        """``(R, N)`` mean log loss in nats; the cross-entropy where scores are graded."""
        return _mean(self._surprise, weight)

    def brier(self, weight: FloatArray) -> FloatArray:
        """``(R, N)`` Brier score: mean squared difference."""
        return _mean(self._square, weight)

    # Cached because a bootstrap asks for them with one block of weights after another.

    @cached_property
    def _cells(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Count, summed predictions and summed scores of each query in each bin, ``(N, n, 10)``
        each."""
        n_models, n = self.score.shape[1], len(self.score)
        query = n * np.arange(n_models) + np.arange(n)[:, None]
        cell = (BINS * query + self.bins).ravel()
        score = np.broadcast_to(self.score, self.believed.shape)

        def summed(values: FloatArray) -> FloatArray:
            found = np.bincount(cell, values.ravel(), minlength=BINS * n * n_models)
            return found.astype(np.float64).reshape(n_models, n, BINS)

        return summed(np.ones(self.believed.shape)), summed(self.believed), summed(score)

    @cached_property
    def _surprise(self) -> FloatArray:
        sure = np.clip(self.believed, _SURE, 1 - _SURE)
        loss = -(self.score * np.log(sure) + (1 - self.score) * np.log(1 - sure))
        mean: FloatArray = loss.mean(axis=0)
        return mean

    @cached_property
    def _square(self) -> FloatArray:
        mean: FloatArray = np.square(self.believed - self.score).mean(axis=0)
        return mean


def belief_figures(beliefs: Beliefs) -> dict[str, float]:
    """ECE, log loss and Brier score, each the mean over models, under the names of a run's
    measures."""
    once = np.ones((1, len(beliefs)))
    return {
        "belief_error": float(beliefs.error(once).mean()),
        "belief_log_loss": float(beliefs.log_loss(once).mean()),
        "belief_brier": float(beliefs.brier(once).mean()),
    }


def histories(points: DecisionPoints, data: RoutingData) -> Iterator[History]:
    """The histories of all queries at each decision point in turn."""
    n = len(data)
    for at in range(len(points)):
        called = np.tile(np.append(points.seen[at] > 0, False), (n, 1))
        verified = np.tile(np.append(points.verified[at], False), (n, 1))
        signal = np.where(verified[..., None], data.signal, np.nan)
        stage = np.full(n, points.stage[at])
        yield History(np.arange(n), stage, called, verified, signal, data.pre_signal)


def _mean(loss: FloatArray, weight: FloatArray) -> FloatArray:
    found: FloatArray = weight @ loss / weight.sum(axis=1, keepdims=True)
    return found
