"""How honest a belief is: what it holds of every model at every decision point, beside the scores.

A belief is whatever says of each model how high its score is expected to be, given a history: one
that a network learned, or the fitted problem's posterior, which `Exact` and most others decide by.
Each is asked at every decision point of every query (`solvers.decision_points`), whether a policy
would go there or not and whether the model was called or not, so that two of them are judged on the
same footing. Figures take weights of the queries, ``(R, n)``, for a bootstrap: the decision points
of a query belong together.
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

# A belief of exactly 0 or 1 that is wrong would cost infinitely many nats.
_SURE = 1e-12


@dataclass(frozen=True)
class FittedBelief:
    """The posterior of a fitted problem.

    Attributes:
        problem: at any price.
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
    """What was believed, and what was so.

    Attributes:
        believed: ``(P, n, N)`` of each model's score, at each decision point of each query.
        score: ``(n, N)``.
    """

    believed: FloatArray
    score: FloatArray

    @classmethod
    def of(cls, holder: HasBelief, rules: Rules, data: RoutingData) -> Beliefs:
        """Asks at every decision point of ``rules`` on every query of ``data``."""
        believed = [holder.belief(history) for history in histories(DecisionPoints.of(rules), data)]
        return cls(np.stack(believed), data.score)

    def __len__(self) -> int:
        return len(self.score)

    @cached_property
    def bins(self) -> IntArray:
        """``(P, n, N)`` the bin of each belief among those of its model: ten with equally many
        beliefs, fewer where they tie."""
        bins = np.empty(self.believed.shape, dtype=np.int64)
        none = np.zeros((self.believed[..., 0].size, 1), dtype=np.int64)
        for model in range(self.score.shape[1]):
            held = self.believed[..., model]
            edges = inner_edges(held.ravel(), none, BINS, "quantile")
            bins[..., model] = np.searchsorted(edges, held, side="right")
        return bins

    def error(self, weight: FloatArray) -> FloatArray:
        """``(R, N)`` expected calibration error of what is believed of each model."""
        _, believed, score = self._cells
        gap = np.abs(weight @ (believed - score)).sum(axis=2).T
        found: FloatArray = gap / (len(self.believed) * weight.sum(axis=1, keepdims=True))
        return found

    def reliability(self, weight: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """How many beliefs of each model are in each bin, their mean and that of the scores,
        ``(N, R, 10)`` each; NaN where a bin is empty."""
        count, believed, score = (weight @ cells for cells in self._cells)
        some = np.where(count > 0, count, np.nan)
        return count, believed / some, score / some

    def chance(self, draws: int, rng: np.random.Generator) -> FloatArray:
        """``(N,)`` the mean error of this belief were it true: right answers still do not come in
        those very shares (consistency resampling, Bröcker & Smith 2007). A query is as lucky at
        one decision point as at the others. Scores are taken to be 0 or 1: for graded ones, which
        vary less, this is too much."""
        n_places, n, n_models = self.believed.shape
        error = np.zeros(n_models)
        cell = BINS * np.arange(n_models) + self.bins
        for _ in range(draws):
            excess = self.believed - (rng.random((n, n_models)) < self.believed)
            gap = np.bincount(cell.ravel(), excess.ravel(), minlength=BINS * n_models)
            error += np.abs(gap).reshape(n_models, BINS).sum(axis=1)
        return error / (draws * n_places * n)

    def log_loss(self, weight: FloatArray) -> FloatArray:
        """``(R, N)`` mean logarithmic loss in nats; for a graded score, its cross-entropy."""
        return _mean(self._surprise, weight)

    def brier(self, weight: FloatArray) -> FloatArray:
        """``(R, N)`` mean squared difference."""
        return _mean(self._square, weight)

    # These are wanted for one block of weights after the other.

    @cached_property
    def _cells(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """``(N, n, 10)`` how many beliefs each query has in each bin, their sum and that of the
        scores."""
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
    """Means over the models: for a training curve, and by the same names a run's measures."""
    once = np.ones((1, len(beliefs)))
    return {
        "belief_error": float(beliefs.error(once).mean()),
        "belief_log_loss": float(beliefs.log_loss(once).mean()),
        "belief_brier": float(beliefs.brier(once).mean()),
    }


def histories(points: DecisionPoints, data: RoutingData) -> Iterator[History]:
    """Every query at each decision point in turn."""
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
