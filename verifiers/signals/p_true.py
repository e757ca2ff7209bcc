"""`PTrue`: the probability of "yes" when the model is asked whether its answer is right."""

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

# Tokenisers' marks for spaces, and punctuation around a word.
_AROUND = " \t\r\n\u0120\u2581\u010a\"'`*_.,:;!()[]"


@dataclass(frozen=True)
class PTrue(PromptedVerifier):
    """P(True) of Kadavath et al. (arXiv 2207.05221, §3), by the words yes and no.

    The model that answered is asked once whether its answer is correct. The signal is
    ``P(yes) / (P(yes) + P(no))`` at the first token of the reply that is no space. Each probability
    is summed over the word's spellings among the likeliest tokens, 0 if there are none.

    Notes: ``mass``, the probability of both words together; ``no_logprobs``, 1 if the endpoint gave
    no log-probabilities. Without them, or with neither word among the likeliest, the signal is NaN.

    Attributes:
        name: of the signal.
        alternatives: how many of the likeliest tokens are requested; endpoints allow 20 or fewer.
        max_tokens: more than 1 only for models that begin with a space or line break token.
        missing: see `LiveVerifier`.
        prompt: a text file in place of the shipped one, see `Prompt`; it has to ask for yes or no.

    Raises:
        ValueError: a value is out of its range, or the prompt has other placeholders.
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
    """``P(yes) / (P(yes) + P(no))`` at a token's position, NaN for 0/0, and ``P(yes) + P(no)``."""
    likely = {token.text: token.logprob} | dict(token.top)
    yes, no = (
        _log_total(logprob for text, logprob in likely.items() if _plain(text) == word)
        for word in ("yes", "no")
    )
    if max(yes, no) == -np.inf:
        return float("nan"), 0.0
    # From the difference of logarithms, which is exact also for small probabilities.
    return float(expit(yes - no)), float(np.exp(min(np.logaddexp(yes, no), 0.0)))


def _log_total(logprobs: Iterable[float]) -> float:
    found = [logprob for logprob in logprobs if -np.inf < logprob < np.inf]
    return float(logsumexp(found)) if found else -np.inf


def _plain(text: str) -> str:
    return unicodedata.normalize("NFKC", text).strip(_AROUND).casefold()
