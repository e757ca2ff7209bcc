"""Extraction of the answer from a model's free text."""

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
# A number, optionally with a unit, followed by a remark with another number.
_REMARKED = re.compile(
    r"(\W{0,3}\d[\d.,]*\d|\W{0,3}\d)((?: ?[^\W\d]{1,12}| ?%)?)"
    r"(?:\s*\(|[,;.]\s+(?=[^\W\d])|\s+[-–—]\s+(?=[^\W\d])|\s+(?=because\b|since\b))"
    r"(?=(?:\S+\s+){2})(?=[^=\n]*\d)[^\n]*"
)


def without_thoughts(text: str) -> str:
    """A text without a model's thoughts between ``<think>`` tags, in all their spellings.

    A closing tag without an opening one ends thoughts that the prompt began. An opening tag without
    a closing one starts thoughts up to the end.
    """
    parts, start, thinking = [""], 0, False
    for tag in _TAG.finditer(text):
        if not thinking:
            parts.append(text[start : tag.start()])
        closing = any(tag.groups())
        if closing and not thinking:
            parts.pop()
        thinking, start = not closing, tag.end()
    if not thinking:
        parts.append(text[start:])
    return "".join(parts)


def extract_answer(text: str) -> str:
    """The answer in a model's text: `marked_answer`, or else the whole text without thoughts."""
    plain = _plain(text)
    return marked_answer(plain) or plain.strip(" \t\n*")


def marked_answer(text: str) -> str:
    """The answer that a text marks as such; "" if it marks none.

    It follows the last "Answer:" or "####", or is in the last ``\\boxed{}`` or ``<answer>``,
    whichever comes last. There is none if the text announces another one later ("the answer is").
    After a number, a remark with further numbers ("11, I checked it 2 times") is removed.
    """
    plain = _plain(text)
    lines = (*_MARKED.finditer(plain), *_HASHED.finditer(plain))
    marks = [(found.end(), found[1]) for found in lines]
    marks += _tagged(plain) + _boxes(plain)
    marks = [(end, marked) for end, marked in marks if marked.strip(" \t\n*$")]
    if not marks:
        return ""
    end, answer = max(marks)
    if ANNOUNCED.search(plain, end):
        return ""
    if inner := _boxes(answer):
        answer = inner[-1][1]
    answer = answer.strip(" \t\n*")
    remarked = _REMARKED.fullmatch(answer)
    return remarked[1] + remarked[2] if remarked else answer


def _plain(text: str) -> str:
    return _SPECIAL.sub("", without_thoughts(text)).strip()


def _tagged(text: str) -> list[tuple[int, str]]:
    """The end of each pair of answer tags, and the text between them."""
    found, start = [], -1
    for tag in _ANSWER_TAG.finditer(text):
        if not tag[1]:
            start = tag.end()
        elif start >= 0:
            found.append((tag.end(), text[start : tag.start()]))
            start = -1
    return found


def _boxes(text: str) -> list[tuple[int, str]]:
    """The end and content of each outermost ``\\boxed{}`` of a LaTeX text."""
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
