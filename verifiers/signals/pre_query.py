"""`PreQuery`: how hard a query looks before anybody has answered it."""

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

    It says the same of all of a query's answers, so it is asked once, with the first one, and says
    nothing (NaN) with the others; the log is read back so that every answer has it.

    Notes, with the first answer: ``unparsable``, how many guesses could not be read. The signal is
    NaN if none could.

    Attributes:
        name: of the signal.
        judge: whom to ask, by its name among the collection's judges; None for the model that
            answers first.
        samples: guesses asked for; the signal is the mean of those that can be read.
        temperature: of their sampling.
        max_tokens: of each.
        missing: see `LiveVerifier`.
        prompt: a text file in place of the shipped one, see `Prompt`; it has to ask for a number
            from 0 to 100, and cannot show an answer.

    Raises:
        ValueError: a value out of its range, or a prompt that does not fit.
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
        there = ~np.isnan(logged)
        first = logged[np.arange(len(logged)), there.argmax(axis=1)]
        if self.missing is not None:
            first = np.where(there.any(axis=1), first, self.missing)
        return np.where(np.isnan(rollouts.score), np.nan, first[:, None])

    def cost(self, rollouts: Rollouts) -> FloatArray | None:
        """As logged, with the answer that it was asked with; 0 with the others."""
        cost = LoggedSignal(self.name).cost(rollouts)
        return None if cost is None else np.nan_to_num(cost)


def probability(text: str) -> float | None:
    """A probability given in percent, "85" or "85%"; a fraction such as "0.85" is one too."""
    number = extract_number(without_thoughts(text))
    if number is None or not 0 <= number <= 100:
        return None
    return number if 0 < number < 1 else number / 100
