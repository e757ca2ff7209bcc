"""Scorings of answers in [0, 1]: callables of answer, references and query.

A user's own is any function ``(answer, references, query) -> float``, named by ``_target_`` in a
YAML file.
"""

from __future__ import annotations

import math
import re
import string
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Protocol

from routing_pomdp.envs.logs.answer_text import Quantity, extract_quantity, is_whole, normalise_text
from routing_pomdp.envs.settings.checks import check_settings
from routing_pomdp.envs.settings.ranges import NotNegative
from routing_pomdp.verifiers.answers.choices import extract_choice
from routing_pomdp.verifiers.collection.models import ConfigError
from routing_pomdp.verifiers.live import Query

if TYPE_CHECKING:
    from routing_pomdp.verifiers.collection.queries import Question


class Scoring(Protocol):
    """Scores an answer. A blank answer is never right.

    A scoring may have a method ``understood(questions) -> questions``, called before any call is
    made. It can refuse references, or normalise them with knowledge of all questions.
    """

    def __call__(self, answer: str, references: Sequence[str], query: Query) -> float:
        """The score in [0, 1].

        Args:
            answer: extracted from the model's text.
            references: right answers; matching one of them is enough.
            query: the query.
        """


@dataclass(frozen=True)
class ExactMatch:
    """1 for an answer that equals a reference character by character."""

    def __call__(self, answer: str, references: Sequence[str], query: Query) -> float:
        bare = answer.strip()
        return float(bare != "" and any(bare == reference.strip() for reference in references))


@dataclass(frozen=True)
class NormalisedMatch:
    """SQuAD's exact match: without case, punctuation, articles and repeated spaces (arXiv
    1606.05250, §6), with the exceptions of `normalise_text`."""

    def __call__(self, answer: str, references: Sequence[str], query: Query) -> float:
        plain = normalise_text(answer)
        return float(plain != "" and any(plain == normalise_text(right) for right in references))


@dataclass(frozen=True)
class TokenF1:
    """SQuAD's F1 over the words of normalised texts, maximised over the references (arXiv
    1606.05250, §6)."""

    def __call__(self, answer: str, references: Sequence[str], query: Query) -> float:
        return max(_f1(answer, reference) for reference in references)


def _f1(answer: str, reference: str) -> float:
    words, right = normalise_text(answer).split(), normalise_text(reference).split()
    if not words or not right:
        return 0.0
    common = sum((Counter(words) & Counter(right)).values())
    return 2 * common / (len(words) + len(right))


@dataclass(frozen=True)
class MultipleChoice:
    """1 for the right choice; references are letters, the wording of choices, or their numbers.

    Which of these a file uses is inferred from all of its questions, see `understood`.

    Attributes:
        first: the number of the first choice, 0 or 1, if references are numbers of choices; None to
            infer it from the file.

    Raises:
        ValueError: another ``first``.
    """

    first: int | None = None

    def __post_init__(self) -> None:
        if self.first not in (None, 0, 1) or isinstance(self.first, bool):
            raise ValueError(f"scoring.first is {self.first!r}: expected 0, 1 or null")

    def __call__(self, answer: str, references: Sequence[str], query: Query) -> float:
        """Raises ValueError if the query has no choices, or a reference is none of them."""
        if not query.choices:
            raise ValueError("the query has no choices")
        right = [self._letter(reference, query.choices) for reference in references]
        return float(extract_choice(answer, query.choices) in right)

    def understood(self, questions: Sequence[Question]) -> list[Question]:
        """The questions with each reference replaced by the wording of its choice.

        All references of a file are read as wording, or else all as letters, or else all as numbers
        from 0 or from 1. In a file that mixes wording and letters each reference is read alone.

        Raises:
            ConfigError: a question has no choices or too many, a reference is none of them, or
                numbers may count from 0 as well as from 1.
        """
        for question in questions:
            if not 2 <= len(question.query.choices) <= len(string.ascii_uppercase):
                raise ConfigError(
                    f"scoring=multiple_choice: query {question.query.query_id!r} has "
                    f"{len(question.query.choices)} choices, expected 2 to 26"
                )
        readings: list[Callable[[str, Sequence[str]], int | None]] = [_worded, _lettered]
        if self.first is not None:
            readings.append(partial(_numbered, first=self.first))
        else:
            numbered = [partial(_numbered, first=first) for first in (0, 1)]
            fitting = [read for read in numbered if _fits(read, questions)]
            if len(fitting) == 2 and not any(_fits(read, questions) for read in readings):
                raise ConfigError(
                    "scoring=multiple_choice: the references are numbers of choices that may "
                    "count from 0 or from 1: give scoring.first=0 or scoring.first=1, or letters"
                )
            readings += fitting
        for read in readings:
            if _fits(read, questions):
                return [_with_references(question, read) for question in questions]
        for question in questions:
            for reference in question.references:
                try:
                    self._letter(reference, question.query.choices)
                except ValueError as error:
                    where = f"query {question.query.query_id!r}"
                    raise ConfigError(f"scoring=multiple_choice: {where}: {error}") from None
        return list(questions)

    def _letter(self, reference: str, choices: Sequence[str]) -> str:
        index = _worded(reference, choices)
        if index is None:
            index = _lettered(reference, choices)
        if index is None and self.first is not None:
            index = _numbered(reference, choices, self.first)
        if index is None:
            raise ValueError(
                f"the reference {reference!r} is none of the choices {list(choices)}: expected "
                "a letter, or a choice's wording (or its number, in all questions of the file)"
            )
        return string.ascii_uppercase[index]


def _fits(read: Callable[[str, Sequence[str]], int | None], questions: Sequence[Question]) -> bool:
    return all(
        read(reference, question.query.choices) is not None
        for question in questions
        for reference in question.references
    )


def _with_references(
    question: Question, read: Callable[[str, Sequence[str]], int | None]
) -> Question:
    choices = question.query.choices
    indices = [read(reference, choices) for reference in question.references]
    return replace(question, references=tuple(choices[i] for i in indices if i is not None))


def _worded(reference: str, choices: Sequence[str]) -> int | None:
    """The index of the choice with this wording; None if there is none."""
    for form in (str.strip, normalise_text):
        found = [i for i, choice in enumerate(choices) if form(reference) == form(choice)]
        if found:
            return found[0]
    return None


def _lettered(reference: str, choices: Sequence[str]) -> int | None:
    """The index of the choice that a text such as "B", "(b)" or "B. London" names, or None."""
    letter = extract_choice(reference, choices)
    return string.ascii_uppercase.index(letter) if letter else None


def _numbered(reference: str, choices: Sequence[str], first: int) -> int | None:
    """The index of a choice by its number; None for anything else."""
    found = re.fullmatch(r"\s*(\d{1,3})(?:\.0*)?\s*", reference)
    index = int(found[1]) - first if found else -1
    return index if 0 <= index < len(choices) else None


@dataclass(frozen=True)
class Number:
    """1 for the right number. If only one of the two numbers has a percent sign or a word such as
    "million", the numbers may agree with or without it: 50%, 50 and 0.5 are right for 50%.

    Attributes:
        tolerance: relative; absolute if the right number is 0. None for 1e-6, and 0 between whole
            numbers, so that 12345678 is not 12345679.
    """

    tolerance: NotNegative | None = None

    def __post_init__(self) -> None:
        check_settings(self, "scoring")

    def __call__(self, answer: str, references: Sequence[str], query: Query) -> float:
        """Raises ValueError if a reference is no number."""
        right = [_number(reference) for reference in references]
        given = extract_quantity(answer)
        return float(given is not None and any(self._same(given, number) for number in right))

    def understood(self, questions: Sequence[Question]) -> list[Question]:
        """The questions, unchanged.

        Raises:
            ConfigError: a reference is no number.
        """
        for question in questions:
            try:
                _ = [_number(reference) for reference in question.references]
            except ValueError as error:
                where = f"query {question.query.query_id!r}"
                raise ConfigError(f"scoring=number: {where}: {error}") from None
        return list(questions)

    def _same(self, given: Quantity, right: Quantity) -> bool:
        if given.scale != 1 and right.scale != 1:
            return self._close(given.scaled, right.scaled)
        return self._close(given.value, right.value) or self._close(given.scaled, right.scaled)

    def _close(self, given: float, right: float) -> bool:
        if self.tolerance is None and is_whole(given) and is_whole(right):
            return given == right
        tolerance = 1e-6 if self.tolerance is None else self.tolerance
        around_zero = tolerance if right == 0 else 0.0
        return math.isclose(given, right, rel_tol=tolerance, abs_tol=around_zero)


def _number(reference: str) -> Quantity:
    quantity = extract_quantity(reference)
    if quantity is None:
        raise ValueError(f"the reference {reference!r} is no number")
    return quantity


def understood(scoring: Scoring, questions: Sequence[Question]) -> list[Question]:
    """The questions with references as the scoring interprets them.

    Raises:
        ConfigError: the scoring refuses a reference; the message names the query.
    """
    read = getattr(scoring, "understood", None)
    return list(read(questions)) if read else list(questions)
