"""The letter of a multiple-choice question that a text chooses."""

from __future__ import annotations

import re
import string
import unicodedata
from collections.abc import Sequence

from routing_pomdp.envs.logs.answer_text import normalise_text

# What may stand around a letter, in LaTeX, Markdown, HTML and JSON: it goes, whatever the letter.
_WRAPPERS = [
    (re.compile(r"\\f?boxed\s*(?:\{|(?=\s\w))|(?:^|\n)[ \t]*####"), "\nanswer: "),
    (re.compile(r"<(?:final[ _-]?)?(?:answer|choice|option|letter)>", re.IGNORECASE), "\nanswer: "),
    (re.compile(r"\\(?:text|math)[a-z]*\s*\{([^{}]*)\}"), r"\1"),
    (re.compile(r"<([bipu])>([^<]*)</\1>", re.IGNORECASE), r"\2"),
    (re.compile(r"</[A-Za-z][\w-]{0,20}>|<[A-Za-z][\w-]{1,20}\s*/?>|<\|[^|<>]{1,30}\|>"), " "),
    (re.compile(r"\\left|\\right|\\[()\[\]]|[*`_$\"“”„]|(?<!\w)['‘’]|['‘’](?!\w)"), ""),
]
_COPULA = (
    r"(?:(?:(?:is|are|was|es|ist|est|è|é)(?!\w)|(?:would|must|should)\s+be|[是为は选]|[:=])\s*"
    r"(?:(?:[a-z]+ly|most|thus|then|therefore|indeed|still)\s+){0,2})"
)
# After these a letter is meant; the last one counts.
_ANNOUNCED = re.compile(
    rf"\b(?:answer|choice|option)\b(?:\s+(?!not\b)\w+){{0,5}}?\s*{_COPULA}+"
    r"(?:(?:the\s+)?(?:option|choice|letter|answer)\s*:?\s*)?",
    re.IGNORECASE,
)
# After these it may be; one letter alone counts.
_HINTED = re.compile(
    r"\b(?:option|choice|letter|answer|select|choose|chose|pick|picked|guess|say|think|believe|with"
    r"|so|thus|therefore|hence)\b[)\]]?\s*[:,-]?\s*"
    rf"|(?:\bit's|(?<![A-Za-z])be|{_COPULA})\s*"
    r"|(?<!\w)(?=[(\[]?[A-Z][)\]]?\s+is\s+(?:\w+\s+){0,2}(?:correct|right|best|answer|true)\b)",
    re.IGNORECASE,
)
_LETTER = re.compile(r"[(\[{<]*\s*(?<![A-Za-z0-9])([A-Za-z])(?![A-Za-z0-9])")
_CLOSED = re.compile(r"\s*(?:[)\]}>:;,!?|。，、；：]|\.(?!\w)|\n|$|[-–—]+\s)")
_ENDED = re.compile(rf"{_CLOSED.pattern}|\s+(?:and|or)\b|\s*[/&]")
_SENTENCE = re.compile(r"\n|[.!?](?=\s|$)")
_OR = re.compile(r"\bor\s+(?:option\s+)?[(\[]?([A-Z])[)\]]")
_DENIED = re.compile(r"\s*[)\]]*\s*(?:is|are|was)(?:n't|\s+(?:not|wrong|incorrect|false)\b)", re.I)
_NEGATION = re.compile(r"(?:\bnot|n't|\bnor|neither|except)\W*(?:\w+\W+)?$", re.IGNORECASE)
_CONNECTED = re.compile(r"\s+(?:because|since|as|is|due|for|which|given)\b")
_MORE = re.compile(r"\s*[)\]]*\s*(?:,|/|&|\band\b|\bor\b)+\s*(?:\bor\b|\band\b)?\s*", re.IGNORECASE)


def extract_choice(text: str, choices: Sequence[str]) -> str:
    """The letter, "A" for the first choice, that a text chooses; "" where it chooses none or two.

    The last announced letter counts ("the answer is B", ``\\boxed{B}``, ``{"answer": "B"}``); else
    a letter alone on a line, or as the text's first word; else the one letter that is hinted at ("I
    choose B", "B is right") or stands in brackets; else the one choice whose wording occurs. All
    letters are read by the same rules: "A" before a word is no letter where a sentence may begin
    with it, and neither is any other.
    """
    if not choices:
        return ""
    letters = string.ascii_uppercase[: len(choices)]
    worded = [normalise_text(choice) for choice in choices[: len(letters)]]
    for form, whole in ((_plain, [_plain(c) for c in choices]), (normalise_text, worded)):
        if whole.count(said := form(text)) == 1 and len(said) > 1:
            return letters[whole.index(said)] if whole.index(said) < len(letters) else ""
    text = _unwrapped(text)
    for start in reversed(list(_ANNOUNCED.finditer(text))):
        if (meant := _meant(text, start.end(), letters, worded, _inside(start))) is not None:
            return meant
    lines = [line.strip() for line in text.split("\n")]
    alone = [_alone(line) for line in lines if _alone(line) in [*letters]]
    if alone:
        return alone[-1]
    first = [_letter(line, 0, letters, worded) for line in lines]
    listed = {found for found in first if found}
    if first[0] and len(listed) == 1:
        return first[0]
    hinted = {
        found
        for start in _HINTED.finditer(text)
        if not _NEGATION.search(text, max(0, start.start() - 30), start.end())
        and (found := _letter(text, start.end(), letters, worded, _inside(start), capital=True))
    }
    bracketed = set(re.findall(rf"[(\[]([{letters}])[)\]]", text))
    for named in (hinted, bracketed):
        if len(named) == 1:
            return named.pop()
    return _by_wording(text, letters, worded)


def _alone(line: str) -> str:
    """The letter that a line holds and nothing else; "" for any other line."""
    found = _LETTER.match(line)
    rest = line[found.end() :].strip(")]}>.:;,!? ") if found else line
    return found[1].upper() if found and not rest else ""


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())


def _inside(start: re.Match[str]) -> bool:
    """Whether a sentence goes on behind a match, in which an article would be a small letter."""
    return not start[0].rstrip().endswith((":", "=", "-"))


def _unwrapped(text: str) -> str:
    text = unicodedata.normalize("NFKC", text)
    for pattern, plain in _WRAPPERS:
        text = pattern.sub(plain, text)
    return text.strip()


def _meant(text: str, start: int, letters: str, worded: Sequence[str], inside: bool) -> str | None:
    """What an announcement is followed by: a letter, "" for two, None for no choice at all."""
    found = _letter(text, start, letters, worded, inside)
    if found is not None:
        other = _OR.search(_SENTENCE.split(text[start : start + 400], maxsplit=1)[0])
        return "" if other and other[1] in letters and other[1] != found else found
    said = normalise_text(text[start : start + 400].split("\n")[0])
    fits = {word: letters[i] for i, word in enumerate(worded) if f"{said} ".startswith(f"{word} ")}
    if not fits or not said:
        return None
    longest = max(fits, key=len)
    rest = said[len(longest) :].strip()
    others = (word for word in worded if word != longest)
    if any(rest.startswith((f"or {word}", f"and {word}")) for word in others):
        return ""
    return fits[longest] if worded.count(longest) == 1 else None


def _letter(
    text: str,
    start: int,
    letters: str,
    worded: Sequence[str],
    inside: bool = False,
    capital: bool = False,
) -> str | None:
    """The letter that stands at a place of a text; "" for two of them, None for none.

    Args:
        text: without wrappers.
        start: of the letter, or of its brackets.
        letters: allowed.
        worded: the choices, normalised.
        inside: whether a sentence goes on here, so that an article would be a small one.
        capital: whether a small letter is none.
    """
    found = _LETTER.match(text, start)
    if not found or found[1].upper() not in letters or (capital and found[1].islower()):
        return None
    letter, end = found[1].upper(), found.end()
    if _DENIED.match(text, end):
        return None
    if more := _MORE.match(text, end):
        other = _LETTER.match(text, more.end())
        if other and other[1] in letters and _ENDED.match(text, other.end()):
            return ""
    if _CLOSED.match(text, end):
        return letter
    if found[1].islower():
        return None
    said, rest = (normalise_text(text[at : at + 400]) for at in (found.start(1), end))
    if any(word and " " in word and f"{said} ".startswith(f"{word} ") for word in worded):
        return None  # it begins a wording: "A Tale of Two Cities"
    own = worded[letters.index(letter)]
    if (own and f"{rest} ".startswith(f"{own} ")) or _CONNECTED.match(text, end):
        return letter
    # "I" alone is a word that is written so inside a sentence.
    return letter if inside and letter != "I" else None


def _by_wording(text: str, letters: str, worded: Sequence[str]) -> str:
    """The letter of the one choice whose wording occurs; "" if none does, or several."""
    said = f" {normalise_text(text)} "
    found = [
        (letter, f" {word} ")
        for letter, word in zip(letters, worded, strict=True)
        if word and f" {word} " in said
    ]
    # "not true" holds "true" as well: a wording inside a longer one that occurs is not meant.
    meant = [
        letter
        for letter, word in found
        if not any(word in other and word != other for _, other in found)
    ]
    return meant[0] if len(meant) == 1 else ""
