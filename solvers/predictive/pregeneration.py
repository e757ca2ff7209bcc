"""Routers that choose one model from the prompt, before any call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from routing_pomdp.envs import RoutingData, RoutingPOMDP
from routing_pomdp.envs.arrays import FloatArray
from routing_pomdp.envs.settings.ranges import Seed, Share, Text
from routing_pomdp.solvers.baselines import FixedChoice
from routing_pomdp.solvers.cascades.threshold import best_cut
from routing_pomdp.solvers.settings import Pair
from routing_pomdp.solvers.solver import FrontierSolver, Policy, QueryPolicy
from routing_pomdp.solvers.text_models import (
    FittedFeatures,
    Kind,
    Remembered,
    ScoreModel,
    TextFeatures,
    logistic,
)

Estimator = Literal["knn", "logistic"]

_NEIGHBOURS = (5, 10, 20, 40, 80)


@dataclass(frozen=True)
class Pregeneration(FrontierSolver):
    """Predicts every model's score from the prompt and calls the one with the best return.

    The predictors are two of RouterBench's (arXiv 2403.12031, §5.1): nearest neighbours and a
    regression. With ``hybrid_tolerance`` it is HybridLLM (Ding et al., arXiv 2404.14618, §3) for
    two models: logistic regression predicts the probability that the small model's score is within
    the tolerance of the large model's, and each price has a threshold on it.

    Attributes:
        estimator: "knn", the mean scores of the most similar training prompts, or "logistic".
        features: "tfidf", or "embedding" where sentence-transformers is installed.
        embedding_model: name or path of the embedding model.
        hybrid_tolerance: a difference in score for HybridLLM; None for a prediction of each score.
        models: indexes of HybridLLM's two models; None for the cheapest and the most expensive.
        seed: seed of the folds that choose the number of neighbours or the regularisation.
    """

    estimator: Estimator = "logistic"
    features: Kind = "tfidf"
    embedding_model: Text = "all-MiniLM-L6-v2"
    hybrid_tolerance: Share | None = None
    models: Pair | None = None
    seed: Seed = 0

    def solve_frontier(
        self, problem: RoutingPOMDP, prices: Sequence[float], train: RoutingData
    ) -> list[QueryPolicy]:
        """Policies, one per price; the predictor is fitted once.

        Raises:
            ValueError: the log has no prompts, or embeddings need sentence-transformers.
        """
        texts = prompts_of(train, "pregeneration")
        features = TextFeatures(self.features, self.embedding_model).fit(texts)
        rows = features(texts)
        if self.hybrid_tolerance is None:
            models = self._score_models(rows, train.score)
            reader = PromptReader(features, models)
            return [PromptRouter(problem.at(price), reader) for price in prices]
        small, large = self._pair(problem)
        near = train.score[:, small] >= train.score[:, large] - self.hybrid_tolerance
        model, guess = logistic(rows, near.astype(np.float64), self.seed)
        reader = PromptReader(features, [model])
        routers: list[QueryPolicy] = []
        for price in prices:
            paid = train.call_cost[:, large] - train.call_cost[:, small]
            gain = train.score[:, large] - train.score[:, small]
            _, cut = best_cut(gain - price * paid / problem.costs.unit, guess, 0.0)
            routers.append(HybridRouter(problem.at(price), reader, small, large, cut))
        return routers

    def _score_models(self, rows: FloatArray, score: FloatArray) -> list[ScoreModel | Neighbours]:
        if self.estimator == "knn":
            return [Neighbours.fit(rows, score, self.seed)]
        return [logistic(rows, column, self.seed)[0] for column in score.T]

    def _pair(self, problem: RoutingPOMDP) -> tuple[int, int]:
        n = problem.n_models
        models = [0, n - 1] if self.models is None else list(self.models)
        if len(models) != 2 or not 0 <= models[0] < models[1] < n:
            raise ValueError(
                f"solver.models is {models}: expected two indexes, 0 … {n - 1}, the cheaper first"
            )
        return models[0], models[1]


def prompts_of(data: RoutingData, solver: str) -> list[str]:
    """The prompts of the queries.

    Raises:
        ValueError: the log has none.
    """
    rollouts = data.rollouts
    if rollouts is None or rollouts.prompt is None:
        raise ValueError(
            f"solver={solver} reads prompts, the log has none: log a prompt column, or choose a "
            "solver that goes by signals"
        )
    texts: list[str] = rollouts.prompt.tolist()
    return texts


@dataclass(frozen=True, eq=False)
class Neighbours:
    """Mean scores of the nearest training prompts.

    Attributes:
        model: a regressor of scikit-learn.
    """

    model: object

    @classmethod
    def fit(cls, rows: FloatArray, score: FloatArray, seed: int) -> Neighbours:
        """Fits the regressor; cross-validated squared error chooses the number of neighbours."""
        from sklearn.model_selection import GridSearchCV, KFold
        from sklearn.neighbors import KNeighborsRegressor

        n = len(score)
        model = KNeighborsRegressor(metric="cosine", algorithm="brute", n_neighbors=min(5, n))
        counts = [k for k in _NEIGHBOURS if k <= n - -(-n // 5)]
        if n >= 5 and counts:
            folds = KFold(5, shuffle=True, random_state=seed)
            model = GridSearchCV(
                model, {"n_neighbors": counts}, scoring="neg_mean_squared_error", cv=folds
            )
        return cls(model.fit(rows, score))

    def predict(self, rows: FloatArray) -> FloatArray:
        """``(n, N)`` predicted scores."""
        found: FloatArray = self.model.predict(rows)  # type: ignore[attr-defined]
        return found


@dataclass(frozen=True, eq=False)
class PromptReader:
    """Predictions for the prompts of a log, made once for all prices.

    Attributes:
        features: features of prompts.
        models: one model per column, or one for all.
    """

    features: FittedFeatures
    models: Sequence[ScoreModel | Neighbours]
    _known: Remembered = field(default_factory=Remembered)

    def predict(self, data: RoutingData) -> FloatArray:
        """``(n, columns)`` predictions."""
        if data not in self._known:
            rows = self.features(prompts_of(data, "pregeneration"))
            found = [model.predict(rows).reshape(len(data), -1) for model in self.models]
            self._known[data] = np.concatenate(found, axis=1)
        return self._known[data]


@dataclass(frozen=True, eq=False)
class PromptRouter(QueryPolicy):
    """Calls the model with the best predicted return."""

    problem: RoutingPOMDP
    reader: PromptReader

    def for_queries(self, data: RoutingData) -> Policy:
        worth = self.reader.predict(data) - self.problem.call_price
        return FixedChoice.of(self.problem, worth.argmax(axis=1))


@dataclass(frozen=True, eq=False)
class HybridRouter(QueryPolicy):
    """Calls the large model if the small one is unlikely to reach its score within tolerance."""

    problem: RoutingPOMDP
    reader: PromptReader
    small: int
    large: int
    cut: float

    def for_queries(self, data: RoutingData) -> Policy:
        near = self.reader.predict(data)[:, 0]
        return FixedChoice.of(self.problem, np.where(near < self.cut, self.large, self.small))
