"""When two answers are the same answer."""

from __future__ import annotations

import re
import unicodedata
from typing import Literal

from verifiers.live import Query
from verifiers.normalise import extract_choice, extract_number, normalise_text

Kind = Literal["auto", "choice", "number", "text"]
"""What an answer is compared as: a choice's letter, a number, or a short text without case,
punctuation and articles. "auto" is "choice" where the query has choices, else "text"."""

_THOUGHTS = re.compile(r"<think(?:ing)?>.*?(?:</think(?:ing)?>|$)", re.DOTALL)
_MARKED = re.compile(
    r"^[ \t*#>]*(?:final )?answer[ \t*]*:[ \t*]*(\S.*)$", re.IGNORECASE | re.MULTILINE
)


def canonical(text: str, query: Query, kind: Kind) -> str:
    """An answer in the form in which equal ones are equal; "" if there is none in the text.

    What was thought aloud between ``<think>`` tags is no answer. A text is that of the last line
    "Answer: ...", where there is one.
    """
    text = _THOUGHTS.sub("", unicodedata.normalize("NFKC", text))
    if kind == "number":
        number = extract_number(text)
        return "" if number is None else f"{number:.12g}"
    if kind == "choice" or (kind == "auto" and query.choices):
        return extract_choice(text, query.choices)
    marked = _MARKED.findall(text)
    return normalise_text(marked[-1] if marked else text)
