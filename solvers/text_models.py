"""Text features by TF-IDF or a sentence-embedding model, and regressions on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal
from weakref import WeakKeyDictionary

import numpy as np

from routing_pomdp.envs import RoutingData
from routing_pomdp.envs.arrays import FloatArray

Kind = Literal["tfidf", "embedding"]

_FOLDS = 5
_STRENGTHS = (0.1, 1.0, 10.0, 100.0)


class Remembered(WeakKeyDictionary[RoutingData, FloatArray]):
    """A cache of one array for each `RoutingData`, kept while that exists and never pickled."""

    def __reduce__(self) -> tuple[type[Remembered], tuple[()]]:
        return Remembered, ()


@dataclass(frozen=True)
class TextFeatures:
    """The kind of text features.

    Attributes:
        kind: "tfidf", words and pairs of words by sublinear TF-IDF; or "embedding", by a model of
            the package sentence-transformers, where it is installed.
        embedding_model: name or path of the embedding model.
    """

    kind: Kind = "tfidf"
    embedding_model: str = "all-MiniLM-L6-v2"

    def fit(self, texts: Sequence[str]) -> FittedFeatures:
        """Learns the vocabulary of training texts.

        Raises:
            ValueError: the features are embeddings and sentence-transformers is not installed.
        """
        if self.kind == "embedding":
            try:
                from sentence_transformers import SentenceTransformer
            except ImportError:
                raise ValueError(
                    "solver.features is 'embedding', which needs the package "
                    "sentence-transformers: install it, or set solver.features=tfidf"
                ) from None
            return FittedFeatures(SentenceTransformer(self.embedding_model).encode)
        from sklearn.feature_extraction.text import TfidfVectorizer

        # Single characters are words too: an answer may be the letter of a choice.
        vectorizer = TfidfVectorizer(
            ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"\b\w+\b", max_features=50_000
        )
        try:
            return FittedFeatures(vectorizer.fit(texts).transform)
        except ValueError:  # no text holds a word
            return FittedFeatures(lambda texts: np.zeros((len(texts), 1)))


@dataclass(frozen=True, eq=False)
class FittedFeatures:
    """Fitted text features.

    Attributes:
        transform: maps a list of texts to an array ``(n, d)``, possibly sparse.
    """

    transform: Any

    def __call__(self, texts: Sequence[str]) -> Any:
        return self.transform([str(text) for text in texts])


@dataclass(frozen=True, eq=False)
class ScoreModel:
    """Predicts a score in [0, 1] from features, as the mean of its parts.

    Attributes:
        parts: classifiers of scikit-learn, or a constant where the score does not vary.
    """

    parts: Sequence[Any]

    def predict(self, X: Any) -> FloatArray:
        """``(n,)`` predicted scores."""
        found = [
            np.full(X.shape[0], part) if isinstance(part, float) else part.predict_proba(X)[:, 1]
            for part in self.parts
        ]
        return np.mean(found, axis=0)


def logistic(X: Any, score: FloatArray, seed: int) -> tuple[ScoreModel, FloatArray]:
    """Logistic regression, its regularisation chosen by the log loss of held-out folds.

    The model averages the regressions of the folds, so that a threshold fitted to held-out
    predictions fits predictions for new queries too. A graded score weights a right and a wrong
    answer.

    Args:
        X: ``(n, d)`` features.
        score: ``(n,)`` in [0, 1].
        seed: seed of the folds.

    Returns:
        The model, and the prediction for each query from the other folds, ``(n,)``.
    """
    from sklearn.model_selection import KFold

    n = len(score)
    if n < _FOLDS:
        mean = float(score.mean())
        return ScoreModel([mean]), np.full(n, mean)
    folds = list(KFold(_FOLDS, shuffle=True, random_state=seed).split(np.zeros((n, 1))))
    best: tuple[float, list[Any], FloatArray] | None = None
    for strength in _STRENGTHS:
        guess, parts = np.empty(n), []
        for train, held in folds:
            parts.append(_fit(X[train], score[train], strength))
            guess[held] = ScoreModel(parts[-1:]).predict(X[held])
        p = np.clip(guess, 1e-6, 1 - 1e-6)
        loss = -float((score * np.log(p) + (1 - score) * np.log(1 - p)).mean())
        if best is None or loss < best[0]:
            best = loss, parts, guess
    assert best is not None
    return ScoreModel(best[1]), best[2]


def _fit(X: Any, score: FloatArray, strength: float) -> Any:
    from scipy.sparse import issparse, vstack
    from sklearn.linear_model import LogisticRegression

    if score.max() == 0 or score.min() == 1:
        # Half a right and half a wrong answer are added, so that the constant is not 0 or 1.
        return float((score.sum() + 0.5) / (len(score) + 1))
    model = LogisticRegression(C=strength, max_iter=1000)
    if np.isin(score, (0, 1)).all():
        return model.fit(X, score.astype(int))
    twice = vstack([X, X]).tocsr() if issparse(X) else np.concatenate([X, X])
    right = np.repeat([1, 0], len(score))
    return model.fit(twice, right, sample_weight=np.concatenate([score, 1 - score]))
