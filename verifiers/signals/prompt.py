"""`Prompt`: a verifier's prompt template, from a text file that users can replace."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from pathlib import Path
from string import Template
from typing import ClassVar

from routing_pomdp.verifiers.live import Case, LiveVerifier, Message, Query

_SHIPPED = resources.files("routing_pomdp.verifiers.signals") / "prompts"


@dataclass(frozen=True)
class Prompt:
    """A prompt template.

    The placeholders ``$context``, ``$question`` and ``$answer`` stand for the query's and the
    answer's texts, and ``$$`` for a dollar sign. The choices of a multiple-choice question follow
    the question.

    Attributes:
        source: the file that it was read from.
        text: the content of the file.
    """

    source: str
    text: str

    @classmethod
    def read(cls, path: str | None, shipped: str, placeholders: Collection[str]) -> Prompt:
        """A user's prompt, or a shipped one.

        Args:
            path: of a text file; None for the shipped one.
            shipped: its name, without the suffix.
            placeholders: those that it may have; all but ``context`` are required.

        Raises:
            ValueError: the file cannot be read as UTF-8, or has other placeholders; the message
                names the file.
        """
        source = f"{shipped}.txt" if path is None else path
        try:
            file = _SHIPPED / source if path is None else Path(path)
            text = file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"verifier.prompt is {source!r}: {error}") from error
        template = Template(text)
        if not template.is_valid():
            raise ValueError(
                f"verifier.prompt is {source!r}, which holds a '$' before no name: write '$$' for "
                "a dollar sign"
            )
        found, allowed = set(template.get_identifiers()), set(placeholders)
        required = allowed - {"context"}
        if not required <= found <= allowed:
            raise ValueError(
                f"verifier.prompt is {source!r}, with placeholders for {sorted(found)}: expected "
                f"{sorted(required)}, and at most {sorted(allowed)}"
            )
        return cls(source, text)

    def about(self, case: Case) -> list[Message]:
        """The filled prompt for a case, as a chat of one user message."""
        text = Template(self.text).substitute(
            context=case.query.context.strip() or "(none)",
            question=question_of(case.query),
            answer=case.answer.text.strip() or "(no answer)",
        )
        return [{"role": "user", "content": text.rstrip()}]


class PromptedVerifier(LiveVerifier):
    """A verifier that asks a model by a prompt that users can replace; see `Prompt.read`.

    Attributes:
        shipped: the name of its own prompt.
        places: that the prompt may have.
        prompt: a text file in place of the shipped one, a setting of the subclass.
    """

    shipped: ClassVar[str]
    places: ClassVar[Collection[str]] = ("context", "question", "answer")
    prompt: str | None

    def __post_init__(self) -> None:
        super().__post_init__()
        _ = self._prompt  # reads a file of the user's, which may not be there

    @cached_property
    def _prompt(self) -> Prompt:
        return Prompt.read(self.prompt, self.shipped, self.places)

    def prompt_texts(self) -> Mapping[str, str]:
        return {self._prompt.source: self._prompt.text}


def question_of(query: Query) -> str:
    """The question with its choices, each on a line after its letter."""
    lines = [f"{chr(ord('A') + i)}. {choice}" for i, choice in enumerate(query.choices)]
    return "\n".join([query.prompt.strip(), *lines])
