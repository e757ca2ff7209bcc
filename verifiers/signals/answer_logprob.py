"""`AnswerLogprob`: the log-probability of an answer under its own model."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from routing_pomdp.envs.settings.ranges import Finite, Text
from routing_pomdp.verifiers.live import Answer, Case, LiveVerifier, Signal, Token

Span = Literal["answer", "completion"]
Reduction = Literal["mean", "sum", "first", "least"]

# The log-probability that endpoints give for a probability of 0.
_LEAST = -1e4


@dataclass(frozen=True)
class AnswerLogprob(LiveVerifier):
    """The log-probability of the answer's own tokens; it needs no call.

    Notes: ``no_logprobs``, 1 if there are none, and then the signal is NaN.

    Attributes:
        name: of the signal.
        reduction: "mean" over tokens, which does not penalise long answers; "sum", the logarithm of
            the answer's probability; the "first" token's; or the "least" one.
        span: "answer", the tokens of the answer's last occurrence in the completion as whole words
            (all tokens if there is none); or "completion", all tokens.
        missing: see `LiveVerifier`.

    Raises:
        ValueError: an unknown reduction or span.
    """

    top_logprobs = 0
    name: Text = "answer_logprob"
    reduction: Reduction = "mean"
    span: Span = "answer"
    missing: Finite | None = None

    async def verify(self, case: Case) -> Signal:
        tokens = answer_tokens(case.answer, self.span)
        found = np.array([token.logprob for token in tokens], dtype=np.float64)
        if not len(found) or np.isnan(found).any():
            return Signal(float("nan"), {"no_logprobs": 1.0})
        found = np.clip(found, _LEAST, 0.0)
        value = {
            "mean": max(found.mean(), found.min()),  # rounding may put the mean below the minimum
            "sum": found.sum(),
            "first": found[0],
            "least": found.min(),
        }[self.reduction]
        return Signal(float(value), {"no_logprobs": 0.0})


def answer_tokens(answer: Answer, span: Span) -> Sequence[Token]:
    """The tokens of an answer with log-probabilities; see `AnswerLogprob.span`."""
    tokens = answer.completion.tokens or ()
    wanted = answer.text.strip()
    if span == "completion" or not wanted:
        return tokens
    text = "".join(token.text for token in tokens)
    spans = [m.span() for m in re.finditer(rf"(?<!\w){re.escape(wanted)}(?!\w)", text)]
    if not spans:
        # Extraction may have rewritten the answer, and tokens may be parts of a character.
        return tokens
    begin, end = spans[-1]
    ends = np.cumsum([len(token.text) for token in tokens])
    first = int(np.searchsorted(ends, begin, side="right"))
    return tokens[first : int(np.searchsorted(ends, end, side="left")) + 1]
