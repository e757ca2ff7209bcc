"""`AnswerPrompt`: the prompt template of questions."""

from __future__ import annotations

import hashlib
import re
import string
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from routing_pomdp.verifiers.collection.models import ConfigError
from routing_pomdp.verifiers.live import Message, Query

_DEFAULT = """\
$context

Question: $question
$choices

Answer as briefly as you can$form. End with a line "Answer: ..." that holds nothing but the answer.
"""
_PLACEHOLDERS = {"context", "question", "choices", "form"}


@dataclass(frozen=True)
class AnswerPrompt:
    """A prompt template.

    Attributes:
        text: with the placeholder ``$question``, and optionally ``$context``, ``$choices`` (one a
            line, after its letter) and ``$form`` (", with the letter of a choice" if there are
            choices).
    """

    text: str = _DEFAULT

    @classmethod
    def read(cls, path: str | Path | None) -> Self:
        """A prompt from a text file; None for the shipped one.

        Raises:
            ConfigError: the file cannot be read, or has other placeholders.
        """
        if path is None:
            return cls()
        try:
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"prompt is {str(path)!r}: {error}") from error
        template = string.Template(text)
        found = set(template.get_identifiers())
        if not template.is_valid() or "question" not in found or not found <= _PLACEHOLDERS:
            raise ConfigError(
                f"prompt {path} has the placeholders {sorted(found)}: expected $question, and "
                "perhaps $context, $choices and $form; a dollar sign is $$"
            )
        return cls(text)

    @property
    def mark(self) -> str:
        """A hash of the text."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    def ask(self, query: Query, system: str = "") -> tuple[Message, ...]:
        """The chat that asks a question."""
        listed = zip(string.ascii_uppercase, query.choices, strict=False)
        text = string.Template(self.text).substitute(
            context=query.context,
            question=query.prompt,
            choices="\n".join(f"{letter}. {choice}" for letter, choice in listed),
            form=", with the letter of a choice" if query.choices else "",
        )
        # Without context or choices, no gap is left.
        asked: list[Message] = [
            {"role": "user", "content": re.sub(r"\n{3,}", "\n\n", text).strip()}
        ]
        return ({"role": "system", "content": system}, *asked) if system else tuple(asked)
