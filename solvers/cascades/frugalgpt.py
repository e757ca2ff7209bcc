"""FrugalGPT (Chen, Zaharia & Zou, arXiv 2305.05176): a cascade on learned scores of answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Any

import numpy as np

from routing_pomdp.envs import History, RoutingData, RoutingPOMDP, Rules
from routing_pomdp.envs.arrays import FloatArray
from routing_pomdp.envs.settings.ranges import Count, Positive, Seed, Text
from routing_pomdp.envs.signals import SignalRange
from routing_pomdp.solvers.budget import neighbours
from routing_pomdp.solvers.cascades.threshold import ThresholdPolicy, best_chain, best_cut
from routing_pomdp.solvers.solver import Actions, FrontierSolver, Policy, QueryPolicy
from routing_pomdp.solvers.text_models import (
    FittedFeatures,
    Kind,
    Remembered,
    ScoreModel,
    TextFeatures,
    logistic,
)


@dataclass(frozen=True)
class FrugalGPT(FrontierSolver):
    """A cascade over a short list of models that escalates where an answer's score is low.

    The list and a threshold for each model have the best training return (§3, "LLM cascade") on
    cross-validated scores. The scorer is a logistic regression for each model on features of prompt
    and answer; the paper fine-tunes DistilBERT. Scoring is free, but the verifier's signal, if it
    is a feature, is paid for. The policy may start at any model and skip models, whatever the
    rules.

    Attributes:
        max_models: the largest number of models of a list.
        signal: whether the verifier's signal is a feature.
        features: text features, "tfidf" or "embedding".
        embedding_model: name or path of the embedding model.
        budget: an upper limit on the mean cost per training query, as a share of the most expensive
            model's; it replaces the price. None uses the price.
        seed: seed of the folds.
    """

    max_models: Count = 3
    signal: bool = False
    features: Kind = "tfidf"
    embedding_model: Text = "all-MiniLM-L6-v2"
    budget: Positive | None = None
    seed: Seed = 0

    def solve_frontier(
        self, problem: RoutingPOMDP, prices: Sequence[float], train: RoutingData
    ) -> list[QueryPolicy]:
        """Policies, one per price; the scorer is fitted once.

        Raises:
            ValueError: there are no features of answers, or the budget buys no model.
        """
        n = problem.n_models
        own = replace(problem, rules=Rules(n, skip=True, free_start=True, verify=True))
        scorer, guess = AnswerScorer.fit(self, train)
        scored = replace(
            train,
            signal=guess[..., None],
            verify_cost=train.verify_cost if self.signal else np.zeros_like(train.verify_cost),
        )
        lists = [
            chosen
            for size in range(1, min(self.max_models, n) + 1)
            for chosen in combinations(range(n), size)
        ]

        def chain(price: float) -> ThresholdPolicy:
            return best_chain(own.at(price), scored, lists, best_cut)

        if self.budget is None:
            return [Frugal(own.at(price), scorer, chain(price)) for price in prices]
        within, _ = neighbours(
            lambda price: ScoredChain(chain(price), guess, self.signal), own, train, self.budget
        )
        assert isinstance(within.policy, ScoredChain)
        return [Frugal(own.at(price), scorer, within.policy.chain) for price in prices]


@dataclass(frozen=True, eq=False)
class AnswerScorer:
    """The probability that an answer is right, from prompt and answer (and signal).

    Attributes:
        prompt: features of prompts; None if the log has none.
        answer: features of answers; None if the log has none.
        ranks: ranks of signals; None if they are not features.
        models: one regression for each model but the last.
    """

    prompt: FittedFeatures | None
    answer: FittedFeatures | None
    ranks: SignalRanks | None
    models: Sequence[ScoreModel]
    _known: Remembered = field(default_factory=Remembered)

    @classmethod
    def fit(cls, solver: FrugalGPT, train: RoutingData) -> tuple[AnswerScorer, FloatArray]:
        """A scorer, and the ``(n, N)`` cross-validated scores of the training answers."""
        log, last = train.rollouts, train.n_models - 1
        texts = TextFeatures(solver.features, solver.embedding_model)
        prompt = answer = ranks = None
        if log is not None and log.prompt is not None:
            prompt = texts.fit(log.prompt.tolist())
        if log is not None and log.answer is not None:
            answer = texts.fit(log.answer[:, :last].ravel().tolist())
        if solver.signal:
            columns = train.signal[:, :last].reshape(len(train) * last, -1)
            ranks = SignalRanks.fit(columns)
        elif answer is None:
            raise ValueError(
                "solver=frugalgpt scores answers, the log has none: log an answer column, or set "
                "solver.signal=true to go by the verifier's signal"
            )
        blank = cls(prompt, answer, ranks, ())
        fits = [
            logistic(blank.rows(train, model), train.score[:, model], solver.seed)
            for model in range(last)
        ]
        guess = np.column_stack([found for _, found in fits] + [np.zeros(len(train))])
        return replace(blank, models=[model for model, _ in fits]), guess

    def rows(self, data: RoutingData, model: int) -> Any:
        """Features of one model's answers, ``(n, d)``."""
        from scipy.sparse import csr_array, hstack

        parts: list[Any] = []
        log = data.rollouts
        if self.prompt is not None and log is not None and log.prompt is not None:
            parts.append(self.prompt(log.prompt.tolist()))
        if self.answer is not None and log is not None and log.answer is not None:
            parts.append(self.answer(log.answer[:, model].tolist()))
        if self.ranks is not None:
            parts.append(self.ranks(data.signal[:, model]))
        return hstack([csr_array(part) for part in parts]).tocsr()

    def scores(self, data: RoutingData) -> FloatArray:
        """``(n, N)`` scores of answers; 0 for the last model, which never escalates."""
        if data not in self._known:
            found = [model.predict(self.rows(data, i)) for i, model in enumerate(self.models)]
            self._known[data] = np.column_stack([*found, np.zeros(len(data))])
        return self._known[data]


@dataclass(frozen=True, eq=False)
class SignalRanks:
    """Ranks of signals among the training signals, and indicators of missing signals.

    Attributes:
        range: makes signals finite.
        ranks: scikit-learn's quantile transformer.
    """

    range: SignalRange
    ranks: Any

    @classmethod
    def fit(cls, signal: FloatArray) -> SignalRanks:
        """From training signals ``(n, D)``."""
        from sklearn.preprocessing import QuantileTransformer

        bounds = SignalRange.fit(signal)
        finite = np.where(np.isnan(signal).all(axis=0), 0.0, bounds.finite(signal))
        return cls(bounds, QuantileTransformer(n_quantiles=min(len(signal), 100)).fit(finite))

    def __call__(self, signal: FloatArray) -> FloatArray:
        """``(n, 2D)`` features of signals ``(n, D)``; a missing one has the middle rank."""
        silent = np.isnan(signal)
        found = self.ranks.transform(np.where(silent, self.range.low, self.range.finite(signal)))
        return np.column_stack([np.where(silent, 0.5, found), silent])


@dataclass(frozen=True, eq=False)
class Frugal(QueryPolicy):
    """FrugalGPT's policy: a scorer of answers and a chain of models with thresholds.

    Attributes:
        problem: the problem whose rules it follows.
        scorer: scores answers.
        chain: the chain with its thresholds.
    """

    problem: RoutingPOMDP
    scorer: AnswerScorer
    chain: ThresholdPolicy

    def for_queries(self, data: RoutingData) -> Policy:
        bought = self.scorer.ranks is not None
        return ScoredChain(self.chain, self.scorer.scores(data), bought)


@dataclass(frozen=True, eq=False)
class ScoredChain:
    """A threshold chain on the scores of answers.

    Attributes:
        chain: the chain with its thresholds.
        scores: ``(n, N)`` scores, used only after their model was called.
        bought: whether a score also needs the verifier's signal.
    """

    chain: ThresholdPolicy
    scores: FloatArray
    bought: bool

    @property
    def problem(self) -> RoutingPOMDP:
        return self.chain.problem

    def act(self, history: History) -> Actions:
        seen = history.verified if self.bought else history.called
        signal = np.where(seen, self.scores[history.query], np.nan)[..., None]
        return self.chain.act(replace(history, verified=seen, signal=signal))
