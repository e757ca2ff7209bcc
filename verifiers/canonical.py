"""When two answers are the same answer."""

from __future__ import annotations

import unicodedata
from typing import Literal

from verifiers.live import Query
from verifiers.normalise import extract_answer, extract_choice, extract_number, normalise_text

Kind = Literal["auto", "choice", "number", "text"]
"""What an answer is compared as: a choice's letter, a number, or a short text without case,
punctuation and articles. "auto" is "choice" where the query has choices, else "text"."""


def canonical(text: str, query: Query, kind: Kind) -> str:
    """An answer in the form in which equal ones are equal; "" if there is none in the text.

    The answer is found in the text as it is in one that is collected.
    """
    text = extract_answer(unicodedata.normalize("NFKC", text))
    if kind == "number":
        number = extract_number(text)
        return "" if number is None else f"{number:.12g}"
    if kind == "choice" or (kind == "auto" and query.choices):
        return extract_choice(text, query.choices)
    return normalise_text(text)
