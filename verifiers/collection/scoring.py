"""How good an answer is, in [0, 1]: each scoring is a callable of answer, references and query.

One's own is any function ``(answer, references, query) -> float``, named in a YAML by ``_target_``.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from envs.checks import check_settings
from envs.ranges import NotNegative
from verifiers.live import Query
from verifiers.normalise import extract_choice, extract_number, normalise_text


class Scoring(Protocol):
    """Scores an answer."""

    def __call__(self, answer: str, references: Sequence[str], query: Query) -> float:
        """In [0, 1].

        Args:
            answer: as extracted from the model's text.
            references: right answers; meeting one of them is enough.
            query: what was asked.
        """


@dataclass(frozen=True)
class ExactMatch:
    """1 for an answer that is a reference, letter by letter."""

    def __call__(self, answer: str, references: Sequence[str], query: Query) -> float:
        return float(any(answer.strip() == reference.strip() for reference in references))


@dataclass(frozen=True)
class NormalisedMatch:
    """SQuAD's exact match: without case, punctuation, articles and repeated spaces (arXiv
    1606.05250, §6)."""

    def __call__(self, answer: str, references: Sequence[str], query: Query) -> float:
        said = normalise_text(answer)
        return float(any(said == normalise_text(reference) for reference in references))


@dataclass(frozen=True)
class TokenF1:
    """SQuAD's F1 over the words of normalised texts, the best over the references (arXiv
    1606.05250, §6); a text without any word only meets another such."""

    def __call__(self, answer: str, references: Sequence[str], query: Query) -> float:
        return max(_f1(answer, reference) for reference in references)


def _f1(answer: str, reference: str) -> float:
    said, right = normalise_text(answer).split(), normalise_text(reference).split()
    if not said or not right:
        return float(said == right)
    common = sum((Counter(said) & Counter(right)).values())
    return 2 * common / (len(said) + len(right))


@dataclass(frozen=True)
class MultipleChoice:
    """1 for the right choice; references are letters, or the wording of choices."""

    def __call__(self, answer: str, references: Sequence[str], query: Query) -> float:
        """Raises ValueError if the query has no choices, or a reference is none of them."""
        if not query.choices:
            raise ValueError("the query has no choices")
        right = [_letter(reference, query.choices) for reference in references]
        return float(extract_choice(answer, query.choices) in right)


def _letter(reference: str, choices: Sequence[str]) -> str:
    for i, choice in enumerate(choices):
        if reference.strip() == choice.strip():
            return chr(ord("A") + i)
    if letter := extract_choice(reference, choices):
        return letter
    raise ValueError(f"the reference {reference!r} is none of the choices {list(choices)}")


@dataclass(frozen=True)
class Number:
    """1 for the right number.

    Attributes:
        tolerance: relative, or absolute around 0.
    """

    tolerance: NotNegative = 1e-6

    def __post_init__(self) -> None:
        check_settings(self, "scoring")

    def __call__(self, answer: str, references: Sequence[str], query: Query) -> float:
        """Raises ValueError if a reference is no number."""
        right = [extract_number(reference) for reference in references]
        if None in right:
            raise ValueError(f"the reference {references[right.index(None)]!r} is no number")
        said = extract_number(answer)
        close = (
            math.isclose(said, number, rel_tol=self.tolerance, abs_tol=self.tolerance)
            for number in right
            if said is not None and number is not None
        )
        return float(any(close))
