"""`PromptEase`: a query's easiness, predicted from its prompt by training prompts and scores."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from routing_pomdp.envs import Rollouts
from routing_pomdp.envs.arrays import FloatArray
from routing_pomdp.envs.settings.ranges import Folds, Seed
from routing_pomdp.verifiers.verifier import Verifier

Target = Literal["mean", "gain"]

_PENALTIES = (0.3, 1.0, 3.0, 10.0, 30.0, 100.0)


@dataclass(frozen=True)
class PromptEase(Verifier):
    """Predicts the models' scores from the prompt by ridge regression on TF-IDF features.

    It needs no call and is the same for all answers of a query. Training queries are predicted
    without their own score and without those of queries with the same prompt.

    Attributes:
        target: "mean": the mean score of all models; "gain": the most expensive model's score minus
            the cheapest one's.
        folds: of the training queries' held-out predictions.
        seed: of the folds.
        model_: fitted.
        known_: fitted, held-out predictions of the training queries by their ids.

    Raises:
        ValueError: an unknown target, or fewer than two folds.
    """

    target: Target = "mean"
    folds: Folds = 5
    seed: Seed = 0
    model_: Any = field(default=None, repr=False, compare=False)
    known_: dict[str, float] = field(default_factory=dict, repr=False, compare=False)

    def fit(self, train: Rollouts) -> PromptEase:
        """Raises ValueError for a log without prompts."""
        texts, score = _prompts(train), train.score
        target = score[:, -1] - score[:, 0] if self.target == "gain" else np.nanmean(score, axis=1)
        rows = ~np.isnan(target)
        if not rows.any():
            raise ValueError("no training query has the scores that it is to predict")
        prompt = np.unique(texts, return_inverse=True)[1]
        shuffled = np.random.default_rng(self.seed).permutation(prompt.max() + 1)
        fold = shuffled[prompt] % self.folds
        guess = np.full(len(texts), target[rows].mean())
        for k in range(self.folds):
            rest = rows & (fold != k)
            if rest.any() and (fold == k).any():
                guess[fold == k] = _ridge(texts[rest], target[rest]).predict(texts[fold == k])
        return replace(
            self,
            model_=_ridge(texts[rows], target[rows]),
            known_=dict(zip(train.query_id.tolist(), guess.tolist(), strict=True)),
        )

    def signal(self, rollouts: Rollouts) -> FloatArray:
        """``(n, N)``, the same for all answers of a query."""
        if self.model_ is None:
            raise ValueError("this verifier learns: call fit(training rollouts) before it is used")
        guess = self.model_.predict(_prompts(rollouts))
        predicted = [
            self.known_.get(query, fresh)
            for query, fresh in zip(rollouts.query_id.tolist(), guess.tolist(), strict=True)
        ]
        return np.repeat(np.array(predicted)[:, None], rollouts.n_models, axis=1)


def _prompts(rollouts: Rollouts) -> NDArray[np.str_]:
    return np.array(rollouts.require("prompt").tolist(), dtype=np.str_)


def _ridge(texts: NDArray[np.str_], target: FloatArray) -> Any:
    from sklearn.dummy import DummyRegressor
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import RidgeCV
    from sklearn.pipeline import make_pipeline

    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"\b\w+\b")
    try:
        return make_pipeline(words, RidgeCV(_PENALTIES)).fit(texts, target)
    except ValueError:  # no text holds a word, or there is one text
        return DummyRegressor().fit(texts, target)
