"""Canonical forms of short answers: normalised texts, and the numbers in texts.

Log readers, scores, votes and agreement all compare answers by these functions.
"""

from __future__ import annotations

import re
import string
import unicodedata
from dataclasses import dataclass

_ARTICLES = re.compile(r"\b(a|an|the)\b")
# Group 1 is kept because it changes a number's value: a sign, a point, or a mark between digits
# that separates no thousands. Everything else that is no word or space may be punctuation.
_MARKS = re.compile(
    r"((?<=\d)(?![,'’]\d{3}(?!\d))[^\w\s]+(?=\d)|(?<![^\W\d_])\.(?=\d)|(?<!\w)[-−](?=\.?\d))"
    r"|[^\w\s]|_"
)


def normalise_text(text: str) -> str:
    """A text in lower case without punctuation, English articles and repeated spaces, as in SQuAD.

    It differs from SQuAD's definition where that makes different answers equal. A number's sign and
    marks between digits are kept (3.5, 1/2, 3:1). If nothing would be left, articles are kept
    ("A"), or else the whole text ("+"). Punctuation of every script is removed. The result is ""
    only for a blank text.
    """
    lower = unicodedata.normalize("NFKC", text).lower()
    bare = _MARKS.sub(_without_punctuation, lower)
    for form in (_ARTICLES.sub(" ", bare), bare, lower):
        if words := " ".join(form.split()):
            return words
    return ""


def _without_punctuation(found: re.Match[str]) -> str:
    mark = found[0]
    if found[1]:
        return mark.replace("−", "-").replace("–", "-")
    # Vowel signs of many scripts are neither letters nor punctuation.
    punctuation = mark in string.punctuation or unicodedata.category(mark).startswith("P")
    return "" if punctuation else mark


def answer_form(text: str) -> str:
    """The canonical form of a short answer; "" for a blank text.

    A text that is only a number has the number's form, so that 10.0 and "10" are one answer. Other
    texts are normalised.
    """
    cleaned = _cleaned(text).strip(" \t\r\n.,;:!?\"'()[]{}*%")
    found = _NUMBER.fullmatch(cleaned)
    quantity = _quantity(found) if found else None
    return normalise_text(text) if quantity is None else number_form(quantity.value)


def number_form(number: float) -> str:
    """The canonical digits of a number, the same for 10 and 10.0."""
    return str(int(number)) if is_whole(number) else f"{number:.12g}"


def is_whole(number: float) -> bool:
    """Whether a number is whole and exactly represented."""
    return isinstance(number, int) or (number.is_integer() and abs(number) < 2**53)


@dataclass(frozen=True)
class Quantity:
    """A number in a text.

    Attributes:
        value: of its digits, without currency and unit.
        scale: of the word or sign that follows: 0.01 for a percent sign, 1e6 for "million"; else 1.
    """

    value: float
    scale: float = 1.0

    @property
    def scaled(self) -> float:
        return self.value if self.scale == 1 else self.value * self.scale


# What announces an answer: "The final answer is", "Answer:", '"answer":', GSM8K's "#### ", \boxed{.
ANNOUNCED = re.compile(
    r"\b(?:answer|choice|option)\b[\"'*_`]*\s*"
    r"(?:(?:is|are|would\s+be|must\s+be|should\s+be|[:=])\s*[\"'*_`]*\s*)+"
    r"|<(?:final[ _-]?)?answer>\s*|####\s*|\\f?boxed\s*\{\s*",
    re.IGNORECASE,
)
# The end of the clause that holds an announced number.
_ENDED = re.compile(r"\n|[.!?;](?=\s|$)|,(?=\s*[^\W\d])|[(}]|</|\b(?:because|since)\b")
_ASIDE = re.compile(r"\([^()\n]*(?:[^\W\d_]{2}|\d\s*[-+*/×÷=])[^()\n]*\)")
_SCALES = {
    "%": 0.01,
    "percent": 0.01,
    "per cent": 0.01,
    "‰": 0.001,
    "thousand": 1e3,
    "million": 1e6,
    "billion": 1e9,
    "trillion": 1e12,
}
_NUMBER = re.compile(
    r"(?<![A-Za-z\d.,^_])"  # not inside a word, nor an exponent, nor the end of a longer number
    r"(?P<sign>(?<![A-Za-z\d)])[-+−–])?"
    r"(?P<whole>\d{1,6}\s+(?=\d+\s?/\s?\d))?"
    r"(?P<digits>\d+(?:[.,'’]\d+)*|\.\d+)"
    r"(?:e(?P<exponent>[-+−]?\d+)(?![\w.])|\s?[×x*·]\s?10\^(?P<ten>[-+−]?\d+)|\^(?P<power>\d+))?"
    r"(?:\s?/\s?(?P<divisor>\d+(?:\.\d+)?)(?![\d/]))?"
    r"(?:\s?(?P<scale>[%‰]|(?:per\s?cent|thousand|million|billion|trillion)\b))?",
    re.IGNORECASE,
)
_THOUSANDS = re.compile(r"[1-9]\d{0,2}(?:([,.'’])\d{3})(?:\1\d{3})*|[1-9]\d?(?:,\d\d)+,\d{3}")


def extract_number(text: str) -> float | None:
    """The number that a text gives as its answer, see `extract_quantity`; currency, percent sign
    and unit are ignored."""
    quantity = extract_quantity(text)
    return None if quantity is None else quantity.value


def extract_quantity(text: str) -> Quantity | None:
    """The number that a text gives as its answer; None if it has none.

    It is the number after the last announcement ("the answer is 1,234", "#### 1234", a box), or the
    right-hand side of an equation there. Without an announcement it is the last number outside
    asides such as "(I checked it 2 times)". "3/4" and "1 1/2" are fractions, "6.02 × 10^23" is a
    power of ten; a comma that separates no thousands is a decimal comma.
    """
    text = _cleaned(text)
    every = _quantities(text)
    if not every:
        return None
    last = every[-1][0].start()
    announced = [end for start in ANNOUNCED.finditer(text) if (end := start.end()) <= last]
    if not announced:
        return (_quantities(_ASIDE.sub(" ", text)) or every)[-1][1]
    first, quantity = next(pair for pair in every if pair[0].start() >= announced[-1])
    ended = _ENDED.search(text, first.end())
    stop = ended.start() if ended else len(text)
    equation = max(text.rfind(sign, first.end(), stop) for sign in "=≈")
    if equation >= 0:
        right = (q for found, q in every if equation < found.start() and found.end() <= stop)
        return next(right, quantity)
    return quantity


def _quantities(text: str) -> list[tuple[re.Match[str], Quantity]]:
    pairs = ((found, _quantity(found)) for found in _NUMBER.finditer(text))
    return [(found, quantity) for found, quantity in pairs if quantity is not None]


def _quantity(found: re.Match[str]) -> Quantity | None:
    """The value of a match; None if it is no number, such as "1.2.3", or out of range."""
    digits = _decimal(found["digits"])
    exponent = int(_ascii(found["exponent"] or found["ten"] or "0")[:6])
    power = int((found["power"] or "1")[:6])
    if digits is None or len(digits) > 300:
        return None
    try:
        value: float = int(digits) if digits.isdecimal() else float(digits)
        if exponent:
            value = float(f"{digits}e{exponent}")
        if power != 1:
            value = value**power if abs(value) <= 1 or power <= 64 else float(value) ** power
        if found["divisor"] and float(found["divisor"]):
            value = value / float(found["divisor"])
        if found["whole"]:
            value += int(found["whole"])
        value = -value if found["sign"] in ("-", "−", "–") else value
        if not abs(float(value)) < float("inf"):
            return None
    except OverflowError:
        return None
    scale = " ".join((found["scale"] or "").lower().split()).replace("percent", "%")
    return Quantity(value, _SCALES.get(scale, 1.0))


def _decimal(digits: str) -> str | None:
    """Digits in Python's notation; None if the separators do not form one number."""
    separators = [mark for mark in digits if not mark.isdecimal()]
    if not separators:
        return digits
    head, last, tail = digits.rpartition(separators[-1])
    if len(separators) > 1 and separators[-2] != last and last in ".,":
        # 1,234.5 and 1.234,5: the last mark is the decimal one.
        return f"{_joined(head)}.{tail}" if _THOUSANDS.fullmatch(head) else None
    if last != "." and _THOUSANDS.fullmatch(digits):
        return _joined(digits)
    if len(separators) > 1:
        return _joined(digits) if _THOUSANDS.fullmatch(digits) else None
    return f"{head or '0'}.{tail}" if last in ".," else None


def _joined(digits: str) -> str:
    return "".join(mark for mark in digits if mark.isdecimal())


def _ascii(number: str) -> str:
    return number.replace("−", "-")


_SUPERSCRIPT = re.compile("[⁺⁻]?[⁰¹²³⁴⁵⁶⁷⁸⁹]+")
_SPACED = re.compile(r"(?<![\d.,])(?<![\d.,] )[1-9]\d{0,2}(?: \d{3})+(?! ?\d)(?! ?/ ?\d)")
_VULGAR = re.compile("[¼-¾⅐-⅞↉]")
_CURRENCY = "$€£¥₹₩₽₺¢"
# Applied in order: LaTeX first, then currencies.
_CLEANED = [
    (re.compile(r"(?<=\d)[\u00a0\u2009\u202f](?=\d{3}(?!\d))"), ""),
    (re.compile(r"\\(?:text|math|operatorname)[a-z]*\s*\{([^{}]*)\}"), r"\1"),
    (re.compile(r"(\d?)\\[dtc]?frac\s*\{?(\d+(?:\.\d+)?)\}\s*\{(\d+(?:\.\d+)?)\}"), r"\1 \2/\3"),
    (re.compile(r"(\d?)\\[dtc]?frac\s*(\d)\s*(\d)"), r"\1 \2/\3"),
    (re.compile(r"(?<=\d)(?:\{,\}|\\,|\\!|\\;)(?=\d{3}(?!\d))"), ""),
    (re.compile(r"\\(?:left|right|[,!;: ])"), " "),
    (re.compile(r"\^\s*(?:\{\s*)?\\(?:circ|degree)\s*\}?"), " "),
    (re.compile(r"\\(?:times|cdot)\b\s*"), "×"),
    (re.compile(r"\^\s*[{(]([^{}()]*)[})]"), r"^\1"),
    (re.compile(r"\\([%$#&_])"), r"\1"),
    (re.compile(rf"(?<=[-+−–])\s?[{_CURRENCY}]\s?"), ""),
    (re.compile(rf"[{_CURRENCY}]+\s?"), " "),
    (re.compile(r"([-+−–]) (?=\d+(?:\.\d+)?/\d)"), r"\1"),  # of a fraction that was LaTeX
]


def _cleaned(text: str) -> str:
    """A text with numbers in plain notation: without LaTeX, currencies and superscripts."""
    text = _SUPERSCRIPT.sub(lambda found: "^" + _plain(found[0]), text)
    text = _VULGAR.sub(lambda found: " " + _plain(found[0]), text)
    text = _CLEANED[0][0].sub(_CLEANED[0][1], text)
    text = _plain(text).replace("٬", ",").replace("٫", ".")
    text = _SPACED.sub(lambda found: found[0].replace(" ", ""), text)
    for pattern, plain in _CLEANED[1:]:
        text = pattern.sub(plain, text)
    return text


def _plain(text: str) -> str:
    return unicodedata.normalize("NFKC", text).replace("⁄", "/")
