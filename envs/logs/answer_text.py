"""Short answers as they are compared: one form for texts, and the numbers that texts give.

Logs, scores, votes and agreement all compare by these functions, so that they agree.
"""

from __future__ import annotations

import re
import string
import unicodedata
from dataclasses import dataclass

_ARTICLES = re.compile(r"\b(a|an|the)\b")
# Kept: what makes a number another one (a sign, a point, whatever stands between digits and is no
# separator of thousands). Everything else that is neither a word nor a space may be punctuation.
_MARKS = re.compile(
    r"((?<=\d)(?![,'’]\d{3}(?!\d))[^\w\s]+(?=\d)|(?<![^\W\d_])\.(?=\d)|(?<!\w)[-−](?=\.?\d))"
    r"|[^\w\s]|_"
)


def normalise_text(text: str) -> str:
    """Lower case without punctuation, English articles and repeated spaces: SQuAD's definition.

    It differs where SQuAD's would call different answers equal: a number's sign and marks between
    digits stay (3.5, 1/2, 3:1), and where nothing would be left, articles do ("A"), or else the
    text as it is ("+"). Punctuation of every script is left out. "" only for a blank text.
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
    # Vowel signs of many scripts are no letters, and no punctuation either.
    punctuation = mark in string.punctuation or unicodedata.category(mark).startswith("P")
    return "" if punctuation else mark


def answer_form(text: str) -> str:
    """The form in which equal short answers are equal; "" for a blank text.

    A text that is nothing but a number has the number's form, so that 10.0 and "10" are one answer;
    others are normalised texts.
    """
    cleaned = _cleaned(text).strip(" \t\r\n.,;:!?\"'()[]{}*%")
    found = _NUMBER.fullmatch(cleaned)
    quantity = _quantity(found) if found else None
    return normalise_text(text) if quantity is None else number_form(quantity.value)


def number_form(number: float) -> str:
    """A number's digits, the same for 10 and 10.0."""
    return str(int(number)) if is_whole(number) else f"{number:.12g}"


def is_whole(number: float) -> bool:
    """Whether a number is whole and known to its last digit."""
    return isinstance(number, int) or (number.is_integer() and abs(number) < 2**53)


@dataclass(frozen=True)
class Quantity:
    """A number that a text gives.

    Attributes:
        value: of its digits, without currency and unit.
        scale: of a word or sign behind it: 0.01 for a percent sign, 1e6 for "million"; else 1.
    """

    value: float
    scale: float = 1.0

    @property
    def scaled(self) -> float:
        return self.value if self.scale == 1 else self.value * self.scale


# "The final answer is", "Answer:", '"answer":', "#### " of GSM8K, \boxed{: what follows is meant.
ANNOUNCED = re.compile(
    r"\b(?:answer|choice|option)\b[\"'*_`]*\s*"
    r"(?:(?:is|are|would\s+be|must\s+be|should\s+be|[:=])\s*[\"'*_`]*\s*)+"
    r"|<(?:final[ _-]?)?answer>\s*|####\s*|\\f?boxed\s*\{\s*",
    re.IGNORECASE,
)
# Behind a number that is announced, what belongs to it no more.
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
    """The number that a text gives as its answer, see `extract_quantity`; a currency, percent sign
    or unit is left out, not computed with."""
    quantity = extract_quantity(text)
    return None if quantity is None else quantity.value


def extract_quantity(text: str) -> Quantity | None:
    """The number that a text gives as its answer; None where it has none.

    The number after the last announcement counts ("the answer is 1,234", "#### 1234", a box), or
    the right-hand side of an equation there; else the last one that is in no aside "(I checked it
    2 times)". "3/4" and "1 1/2" are fractions, "6.02 × 10^23" is a power of ten; a comma that
    separates no thousands is a decimal one.
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
    """A number's value; None for what only looks like one, such as "1.2.3", or is out of range."""
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
    """Digits as Python reads them; None where separators make no one number of them."""
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
# In order: LaTeX first, then what surrounds numbers in any text.
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
    """A text whose numbers are written plainly: without LaTeX, currencies, superscripts."""
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
