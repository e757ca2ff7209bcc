"""A model that answers by script, and cases to be judged."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass, field

from routing_pomdp.verifiers.live import Answer, Case, Completion, Query, Token


@dataclass
class Scripted:
    """Gives its completions in order; texts are completions without log-probabilities."""

    script: list
    model: str = "small"
    calls: list = field(default_factory=list)

    async def complete(self, messages, *, samples=1, temperature=0.0, max_tokens=256,
                       top_logprobs=None):  # fmt: skip
        self.calls.append(
            {
                "messages": messages,
                "samples": samples,
                "temperature": temperature,
                "max_tokens": max_tokens,
                "top_logprobs": top_logprobs,
            }
        )
        given, self.script = self.script[:samples], self.script[samples:]
        return [said if isinstance(said, Completion) else completion(said) for said in given]


def completion(text, tokens=None):
    return Completion(text, 10, 2, 0.001, 5.0, tokens)


def token(text, probability, **others):
    """A token with its probability and those of others in its place, itself among them."""
    top = {text: math.log(probability)} | {
        o.replace("_", " "): math.log(p) for o, p in others.items()
    }
    return Token(text, math.log(probability), top)


def case_of(client=None, *texts, query=None, tokens=None, judges=None):
    """A case in which the texts were answered, by m0, m1, …; the last with tokens."""
    texts = texts or ("Paris",)
    query = query or Query("q1", "What is the capital of France?", "Paris is the capital.")
    answers = tuple(
        Answer(f"m{i}", text, completion(text, tokens if i == len(texts) - 1 else None))
        for i, text in enumerate(texts)
    )
    chat = ({"role": "user", "content": query.prompt},)
    return Case(query, answers, chat, client or Scripted([]), judges or {})


def signal_of(verifier, case):
    return asyncio.run(verifier.verify(case))
