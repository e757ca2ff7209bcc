"""Models of texts: features by scikit-learn or a sentence-embedding model, and regressions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from routing_pomdp.envs import RoutingData

FloatArray = NDArray[np.float64]
Kind = Literal["tfidf", "embedding"]

_FOLDS = 5
_STRENGTHS = (0.1, 1.0, 10.0, 100.0)


class Remembered(WeakKeyDictionary[RoutingData, FloatArray]):
    """What was computed of each data, as long as that lives; nothing once pickled."""

    def __reduce__(self) -> tuple[type[Remembered], tuple[()]]:
        return Remembered, ()


@dataclass(frozen=True)
class TextFeatures:
    """How texts become rows of numbers.

    Attributes:
        kind: "tfidf", words and pairs of words by sublinear TF-IDF; or "embedding", by a model of
            the package sentence-transformers, where it is installed.
        embedding_model: its name or path.
    """

    kind: Kind = "tfidf"
    embedding_model: str = "all-MiniLM-L6-v2"

    def fit(self, texts: Sequence[str]) -> FittedFeatures:
        """Learns the vocabulary of training texts.

        Raises:
            ValueError: embeddings are asked for and sentence-transformers is not installed.
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

        # Single characters count: an answer may be the letter of a choice.
        vectorizer = TfidfVectorizer(
            ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"\b\w+\b", max_features=50_000
        )
        try:
            return FittedFeatures(vectorizer.fit(texts).transform)
        except ValueError:  # no text holds a word
            return FittedFeatures(lambda texts: np.zeros((len(texts), 1)))


@dataclass(frozen=True, eq=False)
class FittedFeatures:
    """Turns texts into rows.

    Attributes:
        transform: list of texts -> ``(n, d)``, maybe sparse.
    """

    transform: Any

    def __call__(self, texts: Sequence[str]) -> Any:
        return self.transform([str(text) for text in texts])


@dataclass(frozen=True, eq=False)
class ScoreModel:
    """Predicts a score in [0, 1] from a row of features: the mean of its parts.

    Attributes:
        parts: classifiers of scikit-learn, or the mean score where it does not vary.
    """

    parts: Sequence[Any]

    def predict(self, X: Any) -> FloatArray:
        """``(n,)``."""
        found = [
            np.full(X.shape[0], part) if isinstance(part, float) else part.predict_proba(X)[:, 1]
            for part in self.parts
        ]
        return np.mean(found, axis=0)


def logistic(X: Any, score: FloatArray, seed: int) -> tuple[ScoreModel, FloatArray]:
    """Logistic regression, its strength chosen by the likelihood of held-out folds.

    The folds' regressions are kept and averaged, so that what is fitted to held-out predictions (a
    threshold) fits predictions for new queries too. A graded score counts as so much of a right
    answer and the rest of a wrong one.

    Args:
        X: ``(n, d)`` features.
        score: ``(n,)`` in [0, 1].
        seed: of the folds.

    Returns:
        The model, and what each query is predicted without its own fold, ``(n,)``.
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
        # Half a right and half a wrong answer are added: nothing is certain.
        return float((score.sum() + 0.5) / (len(score) + 1))
    model = LogisticRegression(C=strength, max_iter=1000)
    if np.isin(score, (0, 1)).all():
        return model.fit(X, score.astype(int))
    twice = vstack([X, X]).tocsr() if issparse(X) else np.concatenate([X, X])
    right = np.repeat([1, 0], len(score))
    return model.fit(twice, right, sample_weight=np.concatenate([score, 1 - score]))
