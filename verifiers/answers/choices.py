"""`extract_choice`: the letter that a text chooses in a multiple-choice question."""

from __future__ import annotations

import re
import string
import unicodedata
from collections.abc import Sequence

from routing_pomdp.envs.logs.answer_text import normalise_text

# Markup around a letter in LaTeX, Markdown, HTML and JSON -> its replacement.
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
# A letter that follows one of these is the answer; the last one counts.
_ANNOUNCED = re.compile(
    rf"\b(?:answer|choice|option)\b(?:\s+(?!not\b)\w+){{0,5}}?\s*{_COPULA}+"
    r"(?:(?:the\s+)?(?:option|choice|letter|answer)\s*:?\s*)?",
    re.IGNORECASE,
)
# A letter that follows one of these may be the answer; it counts if there is only one.
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
    """The letter that a text chooses, "A" for the first choice; "" if it chooses none or two.

    The last announced letter counts ("the answer is B", ``\\boxed{B}``, ``{"answer": "B"}``). Else
    it is a letter alone on a line or the text's first word; else the only letter that is hinted at
    ("I choose B", "B is right") or in brackets; else the only choice whose wording occurs. All
    letters follow the same rules: "A" before a word is no choice where it may be an article, and no
    other letter is one there.
    """
    if not choices:
        return ""
    letters = string.ascii_uppercase[: len(choices)]
    worded = [normalise_text(choice) for choice in choices[: len(letters)]]
    for form, whole in ((_plain, [_plain(c) for c in choices]), (normalise_text, worded)):
        if whole.count(plain := form(text)) == 1 and len(plain) > 1:
            return letters[whole.index(plain)] if whole.index(plain) < len(letters) else ""
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
    """The letter of a line that holds nothing else; "" for any other line."""
    found = _LETTER.match(line)
    rest = line[found.end() :].strip(")]}>.:;,!? ") if found else line
    return found[1].upper() if found and not rest else ""


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())


def _inside(start: re.Match[str]) -> bool:
    """Whether a sentence continues after a match, so that an article would be in lower case."""
    return not start[0].rstrip().endswith((":", "=", "-"))


def _unwrapped(text: str) -> str:
    text = unicodedata.normalize("NFKC", text)
    for pattern, plain in _WRAPPERS:
        text = pattern.sub(plain, text)
    return text.strip()


def _meant(text: str, start: int, letters: str, worded: Sequence[str], inside: bool) -> str | None:
    """The letter after an announcement; "" for two of them, None for no choice."""
    found = _letter(text, start, letters, worded, inside)
    if found is not None:
        other = _OR.search(_SENTENCE.split(text[start : start + 400], maxsplit=1)[0])
        return "" if other and other[1] in letters and other[1] != found else found
    line = normalise_text(text[start : start + 400].split("\n")[0])
    fits = {word: letters[i] for i, word in enumerate(worded) if f"{line} ".startswith(f"{word} ")}
    if not fits or not line:
        return None
    longest = max(fits, key=len)
    rest = line[len(longest) :].strip()
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
    """The letter at a position of a text; "" for two of them, None for none.

    Args:
        text: without wrappers.
        start: of the letter, or of its brackets.
        letters: allowed.
        worded: the choices, normalised.
        inside: whether a sentence continues here, so that an article would be in lower case.
        capital: whether only capital letters count.
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
    phrase, rest = (normalise_text(text[at : at + 400]) for at in (found.start(1), end))
    if any(word and " " in word and f"{phrase} ".startswith(f"{word} ") for word in worded):
        return None  # it begins a wording: "A Tale of Two Cities"
    own = worded[letters.index(letter)]
    if (own and f"{rest} ".startswith(f"{own} ")) or _CONNECTED.match(text, end):
        return letter
    # "I" is a capital also inside a sentence.
    return letter if inside and letter != "I" else None


def _by_wording(text: str, letters: str, worded: Sequence[str]) -> str:
    """The letter of the only choice whose wording occurs; "" if none does, or several."""
    plain = f" {normalise_text(text)} "
    found = [
        (letter, f" {word} ")
        for letter, word in zip(letters, worded, strict=True)
        if word and f" {word} " in plain
    ]
    # "not true" contains "true": a wording inside a longer one that occurs does not count.
    meant = [
        letter
        for letter, word in found
        if not any(word in other and word != other for _, other in found)
    ]
    return meant[0] if len(meant) == 1 else ""
