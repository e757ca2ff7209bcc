"""`SelfVerification`: the share of a model's verdicts that call its own answer correct."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

from routing_pomdp.envs.settings.ranges import Text
from routing_pomdp.verifiers.answers.free_text import without_thoughts
from routing_pomdp.verifiers.live import Case, Signal
from routing_pomdp.verifiers.signals.prompt import PromptedVerifier
from routing_pomdp.verifiers.signals.sampling import Samples, Temperature, Tokens, mean_of_read

# "Verdict: correct or incorrect" repeats the question and is no verdict.
_VERDICT = re.compile(
    r"verdict\W*(?:the\s+(?:\w+\s+){0,2}answer\s+is\W+)?(not\s+)?(correct|incorrect)\b"
    r"(?!\W*(?:or\b|/|\|)\W*(?:in)?correct)"
)
_ALONE = re.compile(r"\W*()(correct|incorrect)\W*")


@dataclass(frozen=True)
class SelfVerification(PromptedVerifier):
    """AutoMix's few-shot verifier (Aggarwal et al., arXiv 2310.12963, §3.1).

    The model that answered is asked ``samples`` times whether its answer is entailed by context and
    question, after four worked examples. The signal is the share of "correct" among the parsable
    verdicts, NaN if there is none.

    Notes: ``unparsable``, how many verdicts were not parsable; ``no_verdict``, 1 if none was.

    Attributes:
        name: of the signal.
        samples: how many verdicts are sampled.
        temperature: of sampling.
        max_tokens: of each; a reply that is cut off before its verdict is not parsable.
        prompt: a text file in place of the shipped one, see `Prompt`; it has to ask for a last
            line "Verdict: correct" or "Verdict: incorrect".

    Raises:
        ValueError: a value is out of its range, or the prompt has other placeholders.
    """

    shipped = "self_verification"
    name: Text = "self_verification"
    samples: Samples = 8
    temperature: Temperature = 1.0
    max_tokens: Tokens = 160
    prompt: Text | None = None

    async def verify(self, case: Case) -> Signal:
        completions = await case.client.complete(
            self._prompt.about(case),
            samples=self.samples,
            temperature=self.temperature,
            max_tokens=self.max_tokens,
        )
        return mean_of_read([verdict(completion.text) for completion in completions])


def verdict(text: str) -> bool | None:
    """Whether the last verdict in a text is "correct"; None if there is no verdict.

    A text that is only the word "correct" or "incorrect" is a verdict too.
    """
    plain = unicodedata.normalize("NFKC", without_thoughts(text)).casefold()
    announced = list(_VERDICT.finditer(plain))
    found = announced[-1] if announced else _ALONE.fullmatch(plain)
    if found is None:
        return None
    denied, word = found.groups()
    return (word == "correct") != bool(denied)
