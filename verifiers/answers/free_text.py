"""The answer in a model's free text; what texts, choices and numbers are compared by."""

from __future__ import annotations

import re

from routing_pomdp.envs.logs.answer_text import ANNOUNCED, extract_number, normalise_text
from routing_pomdp.verifiers.answers.choices import extract_choice

__all__ = ["extract_answer", "extract_choice", "extract_number", "normalise_text"]

_MARKED = re.compile(
    r"(?:^|\n)[ \t*#>_]*(?:the )?(?:final )?answer[ \t*_]*[:：][ \t*_]*\n*[ \t*_]*(\S.*)",
    re.IGNORECASE,
)
_ANSWER_TAG = re.compile(r"<(/?)(?:final[ _-]?)?answer>", re.IGNORECASE)
_HASHED = re.compile(r"(?:^|\n)####[ \t]*(\S.*)")
_BRACE = re.compile(r"(\\f?boxed\s*)?\{|\}")
_LATEX_TEXT = re.compile(r"\\(?:text|math)[a-z]*\s*\{([^{}]*)\}")
_TAG = re.compile(
    r"<(/?)(?:think|thinking|thought|thoughts|reason|reasoning)>|◁(/?)think▷|\[(/?)THINK\]",
    re.IGNORECASE,
)
_SPECIAL = re.compile(r"<\|[^|<>]{1,30}\|>|</s>|<eos>|<end_of_turn>")
# A number, perhaps with a unit, and a remark that holds another number.
_REMARKED = re.compile(
    r"(\W{0,3}\d[\d.,]*\d|\W{0,3}\d)((?: ?[^\W\d]{1,12}| ?%)?)"
    r"(?:\s*\(|[,;.]\s+(?=[^\W\d])|\s+[-–—]\s+(?=[^\W\d])|\s+(?=because\b|since\b))"
    r"(?=(?:\S+\s+){2})(?=[^=\n]*\d)[^\n]*"
)


def without_thoughts(text: str) -> str:
    """A text without what a model thought aloud between ``<think>`` tags, of whichever spelling.

    A closing tag without an opening one ends thoughts that the prompt began; thoughts without an
    end are all that follows.
    """
    said, start, thinking = [""], 0, False
    for tag in _TAG.finditer(text):
        if not thinking:
            said.append(text[start : tag.start()])
        closing = any(tag.groups())
        if closing and not thinking:
            said.pop()
        thinking, start = not closing, tag.end()
    if not thinking:
        said.append(text[start:])
    return "".join(said)


def extract_answer(text: str) -> str:
    """The answer in a model's text: `marked_answer`, or else all of it but thoughts."""
    said = _said(text)
    return marked_answer(said) or said.strip(" \t\n*")


def marked_answer(text: str) -> str:
    """The answer that a text marks as one; "" if it marks none.

    It stands behind the last "Answer:" or "####", or in the last ``\\boxed{}`` or ``<answer>``,
    whichever comes last; there is none if the text goes on to announce another ("the answer is"). A
    remark with numbers of its own behind a number ("11, I checked it 2 times") is left out.
    """
    said = _said(text)
    lines = (*_MARKED.finditer(said), *_HASHED.finditer(said))
    marks = [(found.end(), found[1]) for found in lines]
    marks += _tagged(said) + _boxes(said)
    marks = [(end, marked) for end, marked in marks if marked.strip(" \t\n*$")]
    if not marks:
        return ""
    end, answer = max(marks)
    if ANNOUNCED.search(said, end):
        return ""
    if inner := _boxes(answer):
        answer = inner[-1][1]
    answer = answer.strip(" \t\n*")
    remarked = _REMARKED.fullmatch(answer)
    return remarked[1] + remarked[2] if remarked else answer


def _said(text: str) -> str:
    return _SPECIAL.sub("", without_thoughts(text)).strip()


def _tagged(text: str) -> list[tuple[int, str]]:
    """Where each pair of answer tags ends, and what is between them."""
    found, start = [], -1
    for tag in _ANSWER_TAG.finditer(text):
        if not tag[1]:
            start = tag.end()
        elif start >= 0:
            found.append((tag.end(), text[start : tag.start()]))
            start = -1
    return found


def _boxes(text: str) -> list[tuple[int, str]]:
    """Where each box of a LaTeX text ends, and what is in it; none that is in another one."""
    found: list[tuple[int, str]] = []
    depth = inside = start = 0
    for brace in _BRACE.finditer(text):
        depth = max(0, depth + (-1 if brace[0] == "}" else 1))
        if brace[1] and not inside:
            inside, start = depth, brace.end()
        elif inside and depth < inside:
            found.append((brace.end(), _LATEX_TEXT.sub(r"\1", text[start : brace.start()]).strip()))
            inside = 0
    if inside:  # cut off within it
        found.append((len(text), _LATEX_TEXT.sub(r"\1", text[start:]).strip()))
    return found
