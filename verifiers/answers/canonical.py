"""When two answers are the same answer."""

from __future__ import annotations

from typing import Literal

from routing_pomdp.envs.logs.answer_text import answer_form, extract_quantity, number_form
from routing_pomdp.verifiers.answers.choices import extract_choice
from routing_pomdp.verifiers.answers.free_text import extract_answer
from routing_pomdp.verifiers.live import Query

Kind = Literal["auto", "choice", "number", "text"]
"""What an answer is compared as: a choice's letter, a number, or a short text without case,
punctuation and articles (a text that is nothing but a number is compared as one). "auto" is
"choice" where the query has choices, else "text"."""


def canonical(text: str, query: Query, kind: Kind) -> str:
    """An answer in the form in which equal ones are equal; "" if there is none in the text.

    The answer is found in the text as it is in one that is collected.
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
