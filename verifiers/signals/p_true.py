"""`PTrue`: the probability with which the model says that its answer is right."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from scipy.special import expit, logsumexp

from routing_pomdp.envs.settings.ranges import Finite, Range, Text
from routing_pomdp.verifiers.live import Case, Signal, Token
from routing_pomdp.verifiers.signals.prompt import PromptedVerifier
from routing_pomdp.verifiers.signals.sampling import Tokens

# What tokenisers write for a leading space, and what may stand around a word.
_AROUND = " \t\r\n\u0120\u2581\u010a\"'`*_.,:;!()[]"


@dataclass(frozen=True)
class PTrue(PromptedVerifier):
    """P(True) of Kadavath et al. (arXiv 2207.05221, §3), by the words yes and no.

    The model that answered is asked once whether its answer is correct. The signal is the
    probability of "yes" as a share of that of "yes" and "no", in its first token that is no space,
    each summed over its spellings among the likeliest tokens. A word that is not among them has
    none.

    Notes: ``mass``, the probability of both words together; ``no_logprobs``, 1 if the endpoint gave
    no log-probabilities. Without them, or with neither word among the likeliest, the signal is NaN.

    Attributes:
        name: of the signal.
        alternatives: how many of the likeliest tokens are asked for; endpoints allow 20 or fewer.
        max_tokens: more than 1 only for models that begin with a space or a new line of its own.
        missing: see `LiveVerifier`.
        prompt: a text file in place of the shipped one, see `Prompt`; it has to ask for yes or no.

    Raises:
        ValueError: a value out of its range, or a prompt that does not fit.
    """

    shipped = "p_true"
    name: Text = "p_true"
    alternatives: Annotated[int, Range(1, 1000)] = 20
    max_tokens: Tokens = 1
    missing: Finite | None = None
    prompt: Text | None = None

    async def verify(self, case: Case) -> Signal:
        (completion,) = await case.client.complete(
            self._prompt.about(case), max_tokens=self.max_tokens, top_logprobs=self.alternatives
        )
        token = next((t for t in completion.tokens or () if t.text.strip(_AROUND)), None)
        if token is None:
            return Signal(float("nan"), {"mass": 0.0, "no_logprobs": float(not completion.tokens)})
        probability, mass = yes_share(token)
        return Signal(probability, {"mass": mass, "no_logprobs": 0.0})


def yes_share(token: Token) -> tuple[float, float]:
    """The share of "yes" in the probability of "yes" and "no" at a token's place, and the sum of
    the two; the share is NaN if that is 0."""
    likely = {token.text: token.logprob} | dict(token.top)
    yes, no = (
        _log_total(logprob for text, logprob in likely.items() if _plain(text) == word)
        for word in ("yes", "no")
    )
    if max(yes, no) == -np.inf:
        return float("nan"), 0.0
    # By the difference of logarithms: a small probability is as good as a large one.
    return float(expit(yes - no)), float(np.exp(min(np.logaddexp(yes, no), 0.0)))


def _log_total(logprobs: Iterable[float]) -> float:
    found = [logprob for logprob in logprobs if -np.inf < logprob < np.inf]
    return float(logsumexp(found)) if found else -np.inf


def _plain(text: str) -> str:
    return unicodedata.normalize("NFKC", text).strip(_AROUND).casefold()
