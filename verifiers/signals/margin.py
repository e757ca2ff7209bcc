"""`Margin`: the probability margin between a token's two likeliest alternatives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from routing_pomdp.envs.settings.ranges import Finite, Text
from routing_pomdp.verifiers.live import Case, LiveVerifier, Signal, Token
from routing_pomdp.verifiers.signals.answer_logprob import Span, answer_tokens

MarginReduction = Literal["first", "mean", "least"]


@dataclass(frozen=True)
class Margin(LiveVerifier):
    """The probability of the likeliest token minus that of the second, in [0, 1]; it needs no call.

    Notes: ``no_logprobs``, 1 if there are none, and then the signal is NaN. Tokens with fewer than
    two alternatives have no margin and are left out.

    Attributes:
        name: of the signal.
        reduction: the margin of the "first" token that has one (a choice's letter), their "mean",
            or the "least".
        span: tokens of the "answer" or of the whole "completion", see `AnswerLogprob`.
        missing: see `LiveVerifier`.

    Raises:
        ValueError: an unknown reduction or span.
    """

    top_logprobs = 2
    name: Text = "margin"
    reduction: MarginReduction = "first"
    span: Span = "answer"
    missing: Finite | None = None

    async def verify(self, case: Case) -> Signal:
        margins = [lead(token) for token in answer_tokens(case.answer, self.span)]
        found = [margin for margin in margins if margin is not None]
        if not found:
            return Signal(float("nan"), {"no_logprobs": 1.0})
        value = {"first": found[0], "mean": sum(found) / len(found), "least": min(found)}
        return Signal(value[self.reduction], {"no_logprobs": 0.0})


def lead(token: Token) -> float | None:
    """The margin at a token's position; None if fewer than two alternatives are known."""
    likely = {token.text: token.logprob} | dict(token.top)
    found = sorted(p for p in likely.values() if not np.isnan(p))[-2:]
    if len(found) < 2:
        return None
    second, first = np.exp(np.minimum(found, 0.0))
    return float(first - second)
