"""`LiveVerifier`: judges an answer as an endpoint gives it, and is read back from the log later."""

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
    """One message of a chat, as OpenAI-compatible endpoints take it."""

    role: str
    content: str


@dataclass(frozen=True)
class Query:
    """What a router may know of a query. Reference answers are kept from it.

    Attributes:
        query_id: unique.
        prompt: the question.
        context: what it is asked about, such as a passage; may be empty.
        choices: of a multiple-choice question, in order; may be empty.
        dataset: a name.
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
        top: log-probabilities of the likeliest tokens in its place, where asked for.
    """

    text: str
    logprob: float
    top: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Completion:
    """What one paid call returned.

    Attributes:
        text: the message's content.
        tokens_in: of the prompt.
        tokens_out: generated.
        cost: by the price table, in USD.
        latency_ms: of the request that succeeded.
        tokens: with log-probabilities; None where the endpoint gave none.
        finish_reason: as the endpoint says.
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
    """One model behind an endpoint. A call is paid for, and recorded before it is returned."""

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
        """Independent completions of a chat, one a sample.

        Args:
            messages: the chat.
            samples: how many.
            temperature: of sampling.
            max_tokens: of each.
            top_logprobs: how many alternatives a token comes with; None for no log-probabilities.
        """


@dataclass(frozen=True)
class Case:
    """An answer to be judged, and all that may be used for it.

    Attributes:
        query: what was asked.
        answers: those paid for so far, in the order of the calls; the last one is to be judged.
        messages: the chat that the last one completed.
        client: the model that gave it.
        judges: further models by name, for verifiers that ask another one.
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
    """What a verifier says of an answer.

    Attributes:
        value: the signal; NaN where it says nothing.
        notes: what is worth keeping beside it, such as how many samples were unparsable; a
            collection keeps each as a column.
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
    """A verifier that can judge answers as they come.

    Offline its signals stand in the log that was collected with it, under its name.

    Attributes:
        name: of its signal, in the log.
        top_logprobs: how many alternatives to each of the answer's tokens it reads; None where it
            needs no log-probabilities of the answer.
        missing: what a router takes an answer's signal for where the verifier said nothing (NaN);
            None for an observation of its own, whose meaning is learned. The log keeps the NaN.
    """

    name: str
    top_logprobs: int | None = None
    missing: float | None = None

    @abstractmethod
    async def verify(self, case: Case) -> Signal | float:
        """The signal of ``case.answer``. What it asks of clients is charged to it."""

    def prompt_texts(self) -> Mapping[str, str]:
        """The texts that it sends to models, by a name: a record of a collection keeps them."""
        return {}

    def signal(self, rollouts: Rollouts) -> FloatArray:
        """As logged, ``(n, N)``, with ``missing`` for answers of which nothing was said."""
        signal = LoggedSignal(self.name).signal(rollouts)
        if self.missing is None:
            return signal
        return np.where(np.isnan(signal) & ~np.isnan(rollouts.score), self.missing, signal)

    def cost(self, rollouts: Rollouts) -> FloatArray | None:
        return LoggedSignal(self.name).cost(rollouts)
