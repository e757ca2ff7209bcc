"""`LiveVerifier`: a verifier of live answers, whose signals are later read from the log."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypedDict

import numpy as np

from routing_pomdp.envs import Rollouts
from routing_pomdp.envs.arrays import FloatArray
from routing_pomdp.verifiers.verifier import LoggedSignal, Verifier


class Message(TypedDict):
    """One message of a chat in the format of OpenAI-compatible endpoints."""

    role: str
    content: str


@dataclass(frozen=True)
class Query:
    """The part of a query that a router may see; it holds no reference answers.

    Attributes:
        query_id: unique.
        prompt: the question.
        context: such as a passage that the question is about; may be empty.
        choices: of a multiple-choice question, in order; may be empty.
        dataset: name of the data set.
    """

    query_id: str
    prompt: str
    context: str = ""
    choices: tuple[str, ...] = ()
    dataset: str = ""


@dataclass(frozen=True)
class Token:
    """One generated token.

    Attributes:
        text: as generated.
        logprob: its natural log-probability.
        top: log-probabilities of the likeliest tokens at its position, if requested.
    """

    text: str
    logprob: float
    top: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Completion:
    """The result of one paid call.

    Attributes:
        text: the message's content.
        tokens_in: of the prompt.
        tokens_out: generated.
        cost: by the price table, in USD.
        latency_ms: of the request that succeeded.
        tokens: with log-probabilities; None if the endpoint gave none.
        finish_reason: of the endpoint.
    """

    text: str
    tokens_in: int
    tokens_out: int
    cost: float
    latency_ms: float
    tokens: tuple[Token, ...] | None = None
    finish_reason: str = "stop"


@dataclass(frozen=True)
class Answer:
    """A model's answer to the query.

    Attributes:
        model: its name.
        text: the answer, extracted from the completion.
        completion: the call that gave it.
    """

    model: str
    text: str
    completion: Completion


class Client(Protocol):
    """One model behind an endpoint. A call is paid for, and recorded before it returns."""

    @property
    def model(self) -> str: ...

    async def complete(
        self,
        messages: Sequence[Message],
        *,
        samples: int = 1,
        temperature: float = 0.0,
        max_tokens: int = 256,
        top_logprobs: int | None = None,
    ) -> list[Completion]:
        """Independent completions of a chat, one for each sample.

        Args:
            messages: the chat.
            samples: how many.
            temperature: of sampling.
            max_tokens: of each.
            top_logprobs: how many alternatives of each token; None for no log-probabilities.
        """


@dataclass(frozen=True)
class Case:
    """An answer to verify, and everything that a verifier may use for it.

    Attributes:
        query: the query.
        answers: those paid for so far, in the order of the calls; the last one is to be verified.
        messages: the chat that the last answer completed.
        client: the model that gave the last answer.
        judges: further models by name, for verifiers that ask another model.
    """

    query: Query
    answers: tuple[Answer, ...]
    messages: tuple[Message, ...]
    client: Client
    judges: Mapping[str, Client] = field(default_factory=dict)

    @property
    def answer(self) -> Answer:
        return self.answers[-1]


@dataclass(frozen=True)
class Signal:
    """A verifier's signal of an answer.

    Attributes:
        value: the signal; NaN if it is missing.
        notes: further numbers, such as how many samples were unparsable; a collection stores each
            as a column.
    """

    value: float
    notes: Mapping[str, float] = field(default_factory=dict)


def judge_of(case: Case, name: str) -> Client:
    """One of the case's judges.

    Raises:
        ValueError: there is none of this name.
    """
    if name not in case.judges:
        raise ValueError(
            f"verifier.judge is {name!r}, the collection has the judges {sorted(case.judges)}: "
            "give it an endpoint under that name"
        )
    return case.judges[name]


class LiveVerifier(Verifier):
    """A verifier that can judge live answers.

    Offline its signals are read from the log that was collected with it, under its name.

    Attributes:
        name: of its signal in the log.
        top_logprobs: how many alternatives of each of the answer's tokens it reads; None if it
            needs no log-probabilities of the answer.
        missing: the value that replaces a missing signal (NaN) for a router; None to treat it as an
            observation of its own, whose likelihood is learned. The log keeps the NaN.
    """

    name: str
    top_logprobs: int | None = None
    missing: float | None = None

    @abstractmethod
    async def verify(self, case: Case) -> Signal | float:
        """The signal of ``case.answer``. The calls that it makes are charged to it."""

    def prompt_texts(self) -> Mapping[str, str]:
        """The texts that it sends to models, by name, for the manifest of a collection."""
        return {}

    def signal(self, rollouts: Rollouts) -> FloatArray:
        """Logged signals ``(n, N)``, with missing ones replaced by ``missing``."""
        signal = LoggedSignal(self.name).signal(rollouts)
        if self.missing is None:
            return signal
        return np.where(np.isnan(signal) & ~np.isnan(rollouts.score), self.missing, signal)

    def cost(self, rollouts: Rollouts) -> FloatArray | None:
        return LoggedSignal(self.name).cost(rollouts)
