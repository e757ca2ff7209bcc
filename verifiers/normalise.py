"""From a model's free text to what can be compared: a short text, a choice's letter, a number."""

from __future__ import annotations

import re
import string
from collections.abc import Sequence

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)

# "The final answer is", "Answer:", "#### " of GSM8K, and LaTeX's \boxed{: what follows is meant.
_ANNOUNCED = re.compile(
    r"(?:\b(?:answer|choice|option)\b\**(?:\s+(?:is|would\s+be|must\s+be))?\s*(?:[:=]|(?<=is)|(?<=be))"
    r"|####|\\boxed\{)\s*",
    re.IGNORECASE,
)
_NUMBER = re.compile(
    r"(?<![A-Za-z\d.,])"  # not inside a word, nor the end of a longer number
    r"((?<![A-Za-z\d)])[-+−])?[$€£]?\s?"
    r"((?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+)(e[-+]?\d+)?"
    r"(?:\s?/\s?(\d+(?:\.\d+)?)(?![\d/]))?",
    re.IGNORECASE,
)
_MARKED = re.compile(r"(?:^|\n)[ \t*#>]*(?:final )?answer[ \t*]*:[ \t*]*(.*)", re.IGNORECASE)
_THOUGHTS = re.compile(r"<think(?:ing)?>.*?(?:</think(?:ing)?>|$)", re.DOTALL)
_FRACTION = re.compile(r"([-+−]?)\\[dt]?frac\{(\d+(?:\.\d+)?)\}\{(\d+(?:\.\d+)?)\}")


def normalise_text(text: str) -> str:
    """Lower case without punctuation, English articles and repeated spaces: SQuAD's definition."""
    words = _ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION))
    return " ".join(words.split())


def extract_answer(text: str) -> str:
    """The answer in a model's text: behind its last "Answer:", or else all of it.

    What a model thought aloud between ``<think>`` tags is no answer.
    """
    said = _THOUGHTS.sub("", text).strip()
    marked = [found for found in _MARKED.findall(said) if found.strip()]
    return (marked[-1] if marked else said).strip(" \t\n*")


def extract_choice(text: str, choices: Sequence[str]) -> str:
    """The letter, "A" for the first choice, that a text chooses; "" where it chooses none or two.

    The last announced letter counts ("the answer is B"); else a letter that stands as the answer's
    first word or in brackets; else the one choice whose wording occurs.
    """
    if not choices:
        return ""
    letters = string.ascii_uppercase[: len(choices)]
    # Alone, or before what a list of choices has after its letters; "A dog" is an article.
    letter = rf"\**[(\[]?\**([{letters}{letters.lower()}])\**(?:[)\].:,;*]|\s*$|\s*\n)"
    bracketed = rf"[(\[]([{letters}])[)\]]"
    announced = [
        found[1].upper()
        for start in _ANNOUNCED.finditer(text)
        if (found := re.compile(letter).match(text, start.end()))
        or (found := re.compile(rf"\**([{letters[1:]}])\b").match(text, start.end()))
    ]
    if announced:
        return announced[-1]
    if found := re.match(letter, text.strip()):
        return found[1].upper()
    if len(named := set(re.findall(bracketed, text))) == 1:
        return named.pop()
    said = f" {normalise_text(text)} "
    worded = [
        (letter, f" {wording} ")
        for letter, choice in zip(letters, choices, strict=False)
        if (wording := normalise_text(choice)) and f" {wording} " in said
    ]
    # "not true" holds "true" as well: a wording inside a longer one that occurs is not meant.
    meant = [
        letter
        for letter, wording in worded
        if not any(wording in other and wording != other for _, other in worded)
    ]
    return meant[0] if len(meant) == 1 else ""


def extract_number(text: str) -> float | None:
    """The number that a text gives as its answer; None where it has none.

    The number after the last announcement counts ("the answer is 1,234", "#### 1234"); else the
    last one. "3/4" is a fraction; a currency or percent sign is left out, not computed with.
    """
    text = _FRACTION.sub(r"\1\2/\3", text)
    for start in reversed(list(_ANNOUNCED.finditer(text))):
        if found := _NUMBER.search(text, start.end()):
            return _value(found)
    every = list(_NUMBER.finditer(text))
    return _value(every[-1]) if every else None


def _value(found: re.Match[str]) -> float:
    sign, digits, exponent, divisor = found.groups()
    value = float(digits.replace(",", "") + (exponent or ""))
    if divisor and float(divisor):
        value /= float(divisor)
    return -value if sign in ("-", "−") else value
