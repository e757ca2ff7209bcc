"""`Entailment`: another model judges whether the context entails the answer."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

from routing_pomdp.envs.settings.ranges import Text
from routing_pomdp.verifiers.answers.free_text import without_thoughts
from routing_pomdp.verifiers.live import Case, Signal, judge_of
from routing_pomdp.verifiers.signals.prompt import PromptedVerifier
from routing_pomdp.verifiers.signals.sampling import Samples, Temperature, Tokens, mean_of_read

_WORDS = re.compile(r"(?:(\bnot|n't)\s+(?:\w+\s+){0,2}?)?\b(entail|contradict|neutral)")
_WORTH = {"entail": 1.0, "neutral": 0.5, "contradict": 0.0}


@dataclass(frozen=True)
class Entailment(PromptedVerifier):
    """A judge behind an endpoint of its own calls the answer entailed (1), neutral (0.5) or
    contradicted (0); the signal is the mean over the judgements that can be read, NaN if none can.

    A judgement is parsable if it affirms exactly one of the three.

    Notes: ``unparsable``, how many were not parsable; ``no_verdict``, 1 if none was.

    Attributes:
        name: of the signal.
        judge: the model's name among the collection's judges.
        samples: how many judgements are sampled.
        temperature: of sampling.
        max_tokens: of each judgement.
        prompt: a text file in place of the shipped one, see `Prompt`.

    Raises:
        ValueError: a value is out of its range, or the prompt has other placeholders.
    """

    shipped = "entailment"
    name: Text = "entailment"
    judge: Text = "judge"
    samples: Samples = 1
    temperature: Temperature = 0.0
    max_tokens: Tokens = 16
    prompt: Text | None = None

    async def verify(self, case: Case) -> Signal:
        completions = await judge_of(case, self.judge).complete(
            self._prompt.about(case),
            samples=self.samples,
            temperature=self.temperature,
            max_tokens=self.max_tokens,
        )
        return mean_of_read([judgement(completion.text) for completion in completions])


def judgement(text: str) -> float | None:
    """The value of a judgement; None if it affirms none of the three, or several."""
    plain = unicodedata.normalize("NFKC", without_thoughts(text)).casefold()
    found = {word for denied, word in _WORDS.findall(plain) if not denied}
    return _WORTH[found.pop()] if len(found) == 1 else None
