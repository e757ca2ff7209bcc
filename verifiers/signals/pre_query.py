"""`PreQuery`: a model's estimate of a query's difficulty before any answer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from routing_pomdp.envs import Rollouts
from routing_pomdp.envs.arrays import FloatArray
from routing_pomdp.envs.settings.ranges import Finite, Text
from routing_pomdp.verifiers.answers.free_text import extract_number, without_thoughts
from routing_pomdp.verifiers.live import Case, Signal, judge_of
from routing_pomdp.verifiers.signals.prompt import PromptedVerifier
from routing_pomdp.verifiers.signals.sampling import Samples, Temperature, Tokens
from routing_pomdp.verifiers.verifier import LoggedSignal


@dataclass(frozen=True)
class PreQuery(PromptedVerifier):
    """A model's guess, from the question alone, of how likely it would answer correctly.

    It is the same for all of a query's answers. It is asked for once, with the first answer, and is
    missing (NaN) with the others; reading the log gives it to every answer.

    Notes, with the first answer: ``unparsable``, how many estimates were not parsable. The signal
    is NaN if none was.

    Attributes:
        name: of the signal.
        judge: the model to ask, by its name among the collection's judges; None for the model that
            answers first.
        samples: how many estimates are sampled; the signal is the mean of the parsable ones.
        temperature: of sampling.
        max_tokens: of each estimate.
        missing: see `LiveVerifier`.
        prompt: a text file in place of the shipped one, see `Prompt`; it has to ask for a number
            from 0 to 100, and cannot show an answer.

    Raises:
        ValueError: a value is out of its range, or the prompt has other placeholders.
    """

    shipped = "pre_query"
    places = ("context", "question")
    name: Text = "pre_query"
    judge: Text | None = None
    samples: Samples = 1
    temperature: Temperature = 0.0
    max_tokens: Tokens = 16
    missing: Finite | None = None
    prompt: Text | None = None

    async def verify(self, case: Case) -> Signal:
        if len(case.answers) > 1:
            return Signal(float("nan"))
        client = case.client if self.judge is None else judge_of(case, self.judge)
        completions = await client.complete(
            self._prompt.about(case),
            samples=self.samples,
            temperature=self.temperature,
            max_tokens=self.max_tokens,
        )
        found = [probability(completion.text) for completion in completions]
        read = [guess for guess in found if guess is not None]
        return Signal(
            sum(read) / len(read) if read else float("nan"),
            {"unparsable": float(len(found) - len(read))},
        )

    def signal(self, rollouts: Rollouts) -> FloatArray:
        """``(n, N)``, the same for all answers of a query."""
        logged = LoggedSignal(self.name).signal(rollouts)
        present = ~np.isnan(logged)
        first = logged[np.arange(len(logged)), present.argmax(axis=1)]
        if self.missing is not None:
            first = np.where(present.any(axis=1), first, self.missing)
        return np.where(np.isnan(rollouts.score), np.nan, first[:, None])

    def cost(self, rollouts: Rollouts) -> FloatArray | None:
        """As logged with one answer of a query; 0 with the others."""
        cost = LoggedSignal(self.name).cost(rollouts)
        return None if cost is None else np.nan_to_num(cost)


def probability(text: str) -> float | None:
    """The probability in a text: a percentage such as "85" or "85%", or a fraction such as "0.85";
    None if there is none."""
    number = extract_number(without_thoughts(text))
    if number is None or not 0 <= number <= 100:
        return None
    return number if 0 < number < 1 else number / 100
