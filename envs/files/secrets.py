"""`Secrets`: removes keys and passwords from text before it is written, printed or logged."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TextIO, cast

MASK = "***"

_SECRET = re.compile(
    r"pass(word|wd|phrase)|secret|credential|(api|access|private|subscription)_?key|authorization"
    r"|bearer|cookie"
)
# Ambiguous: a "token" may be a secret, or a unit of text, whose counts and prices are numbers.
_SECRET_IF_TEXT = re.compile(r"(^|_)(?<!max_)(key|token|auth|pwd|sig|signature)s?$")
# Words of letters, each followed by at most two digits.
_PLAIN_NAME = re.compile(
    r"(?!(sk|pk|hf|gsk|xai)[_-])[A-Za-z]{1,15}\d{0,2}([_-]([A-Za-z]{1,15}\d{0,2}|\d{1,2}))*"
)
_CREDENTIAL = re.compile(r"[\w.+/=~:-]{8,}", re.ASCII)
# Shorter values are placeholders such as "EMPTY"; masking them would change ordinary text.
_SHORTEST = 6


def masked(config: Any) -> Any:
    """A copy of a config in which every value under a name like ``api_key`` is ``"***"``.

    Args:
        config: nested mappings, lists and plain values.
    """
    return _walked(config, is_secret)


def without_secrets(config: Any) -> Any:
    """As `masked`, but values under ambiguous names such as ``stop_token`` are kept."""
    return _walked(config, lambda name, _: names_secret(name))


def is_secret(name: str, value: Any) -> bool:
    """Whether a value under such a name may be a key, a password or the like."""
    return value is not None and (names_secret(name) or _may_be_secret(name, value))


def names_secret(name: str) -> bool:
    """Whether a field of this name holds a secret, whatever its value is."""
    return _SECRET.search(_words(name)) is not None


def secret_values(config: Any) -> Iterator[str]:
    """The texts under names of secrets in nested mappings and lists."""
    if isinstance(config, Mapping):
        for name, value in config.items():
            if names_secret(str(name)):
                yield from _texts(value)
            elif _may_be_secret(str(name), value):
                yield from (text for text in _texts(value) if _CREDENTIAL.fullmatch(text))
            else:
                yield from secret_values(value)
    elif isinstance(config, list | tuple):
        for value in config:
            yield from secret_values(value)


def shown_name(name: Any) -> str:
    """A name from a user's file for an error message; hidden if it may be a pasted key."""
    return str(name) if _PLAIN_NAME.fullmatch(str(name)) else "(a name that is not shown)"


def shown(value: Any) -> str:
    """A value from a user's file for an error message, without anything that may be a pasted key.

    Numbers and single short words are shown; mappings and lists are summarised.
    """
    if isinstance(value, str):
        if re.fullmatch(r"[A-Za-z]{0,15}", value):
            return repr(value)
        return f"a text of {len(value)} characters (not shown: it may be a key)"
    if isinstance(value, Mapping):
        return "a mapping with " + (", ".join(map(shown, list(value)[:5])) or "nothing")
    if isinstance(value, list):
        return f"a list of {len(value)}"
    return repr(value)[:40]


class Secrets:
    """The keys and passwords of one program; masks them in text.

    Args:
        values: the secrets; those of less than 6 characters count as placeholders.
    """

    def __init__(self, values: Iterable[str] = ()) -> None:
        self._values: list[str] = []
        self.add(values)

    def add(self, values: Iterable[str]) -> None:
        found = {value for value in values if len(value) >= _SHORTEST} | set(self._values)
        self._values = sorted(found, key=lambda value: (-len(value), value))

    def text(self, text: str) -> str:
        for value in self._values:
            text = text.replace(value, MASK)
        return text

    def plain(self, value: Any) -> Any:
        """A copy of nested mappings and lists with secrets masked, in names and in texts."""
        if not self._values:
            return value
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {self.plain(name): self.plain(each) for name, each in value.items()}
        if isinstance(value, list | tuple):
            return [self.plain(each) for each in value]
        return value

    def pieces(self, texts: list[str]) -> list[bool]:
        """Which of these texts are part of a secret in their concatenation: the tokens of an answer
        are shorter than keys."""
        whole, within = "".join(texts), [False] * len(texts)
        starts = [0]
        for text in texts:
            starts.append(starts[-1] + len(text))
        for value in self._values:
            begin = whole.find(value)
            while begin >= 0:
                for i in range(len(texts)):
                    within[i] |= starts[i] < begin + len(value) and starts[i + 1] > begin
                begin = whole.find(value, begin + 1)
        return within

    def guard_output(self) -> None:
        """Masks the secrets in everything that this process prints or logs from now on."""
        wrapped: dict[TextIO, TextIO] = {}
        for name in ("stdout", "stderr"):
            stream = getattr(sys, name)
            wrapped[stream] = cast(TextIO, _Guarded(stream, self))
            setattr(sys, name, wrapped[stream])
        for handler in logging.getLogger().handlers:
            if isinstance(handler, logging.StreamHandler) and handler.stream in wrapped:
                handler.setStream(wrapped[handler.stream])


class _Guarded:
    """A stream that masks secrets in the text written to it."""

    def __init__(self, stream: TextIO, secrets: Secrets) -> None:
        self._stream, self._secrets = stream, secrets

    def write(self, text: str) -> int:
        self._stream.write(self._secrets.text(text))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        self._stream.writelines(map(self._secrets.text, lines))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _walked(config: Any, hides: Callable[[str, Any], bool]) -> Any:
    if isinstance(config, Mapping):
        return {
            key: MASK if value is not None and hides(str(key), value) else _walked(value, hides)
            for key, value in config.items()
        }
    if isinstance(config, list | tuple):
        return [_walked(value, hides) for value in config]
    return config


def _may_be_secret(name: str, value: Any) -> bool:
    return _SECRET_IF_TEXT.search(_words(name)) is not None and not isinstance(value, int | float)


def _words(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|[^A-Za-z0-9]+", "_", name).lower()


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
        # The scheme before a credential, such as "Bearer", is no secret.
        yield from value.split()[1:]
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _texts(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _texts(each)
