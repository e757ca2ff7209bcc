"""`canonical`: the form by which answers are compared."""

from __future__ import annotations

from typing import Literal

from routing_pomdp.envs.logs.answer_text import answer_form, extract_quantity, number_form
from routing_pomdp.verifiers.answers.choices import extract_choice
from routing_pomdp.verifiers.answers.free_text import extract_answer
from routing_pomdp.verifiers.live import Query

Kind = Literal["auto", "choice", "number", "text"]
"""How answers are compared: by a choice's letter, as a number, or as a short text without case,
punctuation and articles (a text that is only a number is compared as a number). "auto" is "choice"
if the query has choices, else "text"."""


def canonical(text: str, query: Query, kind: Kind) -> str:
    """The canonical form of the answer in a text; "" if there is none.

    The answer is extracted as in a collection.
    """
    text = extract_answer(text)
    if kind == "number":
        quantity = extract_quantity(text)
        if quantity is None:
            return ""
        # "2 million" is 2000000; "50%" and "50" are one answer.
        return number_form(quantity.scaled if quantity.scale > 1 else quantity.value)
    if kind == "choice" or (kind == "auto" and query.choices):
        return extract_choice(text, query.choices)
    return answer_form(text)
