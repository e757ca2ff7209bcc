"""`Collector`: sends queries to the models, cheapest first, and answers to the verifiers."""

from __future__ import annotations

import asyncio
import inspect
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from routing_pomdp.verifiers.answers.free_text import extract_answer
from routing_pomdp.verifiers.collection.answers import AnswerPrompt
from routing_pomdp.verifiers.collection.client import BoundClient, Ledger, Meter, ModelClient
from routing_pomdp.verifiers.collection.limiter import PRIORITY
from routing_pomdp.verifiers.collection.policy import CollectionPolicy
from routing_pomdp.verifiers.collection.queries import Question
from routing_pomdp.verifiers.collection.responses import answered, shortfall
from routing_pomdp.verifiers.collection.rows import Row, Verified
from routing_pomdp.verifiers.collection.scoring import Scoring
from routing_pomdp.verifiers.collection.stops import CallError, StoppedError
from routing_pomdp.verifiers.live import Answer, Case, Completion, LiveVerifier, Signal


@dataclass
class Failures:
    """A count of failures and the message of the first one."""

    count: int = 0
    first: str = ""

    def add(self, text: str) -> None:
        self.first = self.first or text
        self.count += 1


@dataclass
class Answers:
    """Counts of one model's answer calls.

    Attributes:
        called: completed calls.
        cut: those that ended at the limit of tokens, with or without an answer.
        missing: those without an answer, by reason, see `shortfall`; their cells stay empty.
    """

    called: int = 0
    cut: int = 0
    missing: Counter[str] = field(default_factory=Counter)

    def add(self, completion: Completion) -> bool:
        """Counts a completion; whether it holds an answer."""
        lacks, holds = shortfall(completion), answered(completion)
        self.called += 1
        self.cut += lacks == "cut"
        self.missing.update([lacks] * (not holds))
        return holds


@dataclass
class Outcome:
    """The results of a collection.

    Attributes:
        incomplete: indices of queries with failed or missing calls.
        unanswered: indices of queries to which a model gave no answer; they are not asked again.
        answers: model's name -> counts of its answer calls.
        cells: how many answers have a score.
        calls: calls that failed for good.
        verifiers: name -> failures of its own code.
        silent: verifier's name -> answers with a missing signal.
        scoring: failures of the scoring.
    """

    incomplete: set[int] = field(default_factory=set)
    unanswered: set[int] = field(default_factory=set)
    answers: dict[str, Answers] = field(default_factory=dict)
    cells: int = 0
    calls: Failures = field(default_factory=Failures)
    verifiers: dict[str, Failures] = field(default_factory=dict)
    silent: dict[str, int] = field(default_factory=dict)
    scoring: Failures = field(default_factory=Failures)

    def clean(self, mask: Callable[[str], str]) -> None:
        """Masks secrets in all messages."""
        for failures in (self.calls, self.scoring, *self.verifiers.values()):
            failures.first = mask(failures.first)


@dataclass
class Collector:
    """One collection. A resumed one repeats all steps, with completed calls read from the log.

    Attributes:
        models: cheapest first.
        judges: further models, for verifiers that ask another model.
        verifiers: all of them verify every answer.
        scoring: of answers.
        policy: decides whether the next model is asked.
        prompt: the template of questions.
        ledger: of all calls.
        verify_last: whether the last model's answers are verified too; no decision follows them.
        top_logprobs: asked for with answers; None for no log-probabilities.
        keep: called with each finished row.
        watch: called after each row.
    """

    models: Sequence[ModelClient]
    judges: Mapping[str, ModelClient]
    verifiers: Sequence[LiveVerifier]
    scoring: Scoring
    policy: CollectionPolicy
    prompt: AnswerPrompt
    ledger: Ledger
    verify_last: bool
    top_logprobs: int | None
    keep: Callable[[Row], None]
    watch: Callable[[], None] = lambda: None

    async def run(self, questions: Sequence[Question], at_once: int) -> Outcome:
        """Collects the questions, with ``at_once`` queries under way at a time.

        A failure beyond a single call, such as a full disk, ends the collection after the calls
        under way.
        """
        outcome = Outcome()
        waiting = iter(enumerate(questions))
        workers = [self._work(waiting, outcome) for _ in range(min(at_once, len(questions)))]
        for error in await asyncio.gather(*workers, return_exceptions=True):
            if isinstance(error, BaseException):
                raise error
        return outcome

    async def _work(self, waiting: Iterator[tuple[int, Question]], outcome: Outcome) -> None:
        for index, question in waiting:
            PRIORITY.set(index)
            try:
                if not await self._collect(index, question, outcome):
                    outcome.incomplete.add(index)
            except StoppedError:
                outcome.incomplete.add(index)  # later queries are still read from the log
            except BaseException as error:
                self.ledger.stop(StoppedError(str(error)))
                raise

    async def _collect(self, index: int, question: Question, outcome: Outcome) -> bool:
        """Collects one query; returns whether every call succeeded and every answer has a score.

        A model that gave no answer leaves its cell empty: nothing is verified or scored, and later
        verifiers do not see it.
        """
        query = question.query
        answers: list[Answer] = []
        whole = True
        for rank, model in enumerate(self.models):
            spec = model.spec
            messages = self.prompt.ask(query, spec.system)
            client = model.bound(query.query_id, "answer")
            try:
                (completion,) = await client.complete(
                    messages,
                    temperature=spec.temperature,
                    max_tokens=spec.max_tokens,
                    top_logprobs=self.top_logprobs,
                )
            except CallError as error:
                # Later models are not asked, because that depends on this answer.
                outcome.calls.add(str(error))
                return False
            verified: dict[str, Verified] = {}
            if outcome.answers.setdefault(spec.name, Answers()).add(completion):
                answers.append(Answer(spec.name, extract_answer(completion.text), completion))
                # A single model is a first test, to which other models may be added.
                if rank + 1 < len(self.models) or self.verify_last or len(self.models) == 1:
                    judged = Judged(model, question, tuple(answers), messages)
                    verified = await self._verify(judged, outcome)
                whole &= not any(done.cut_short for done in verified.values())
                score = self._score(answers[-1], question, outcome)
                if score is not None:
                    outcome.cells += 1
                    self.keep(Row(index, rank, spec.name, question, answers[-1], score, verified))
                whole &= score is not None
            else:
                outcome.unanswered.add(index)
            self.watch()
            signals = {verifier.name: math.nan for verifier in self.verifiers}
            signals |= {name: done.value for name, done in verified.items()}
            if rank + 1 < len(self.models) and not self.policy.goes_on(query, rank, signals):
                break
        return whole

    def _score(self, answer: Answer, question: Question, outcome: Outcome) -> float | None:
        try:
            score = float(self.scoring(answer.text, question.references, question.query))
            if not 0 <= score <= 1:
                raise ValueError(f"the score is {score}, expected it in [0, 1]")
        except Exception as error:  # a plug-in may raise anything
            where = f"query {question.query.query_id!r}, model {answer.model!r}"
            outcome.scoring.add(f"{where}: {type(error).__name__}: {error}")
            return None
        return score

    async def _verify(self, judged: Judged, outcome: Outcome) -> dict[str, Verified]:
        done = await asyncio.gather(
            *(self._verify_one(verifier, judged, outcome) for verifier in self.verifiers)
        )
        return {verifier.name: each for verifier, each in zip(self.verifiers, done, strict=True)}

    async def _verify_one(
        self, verifier: LiveVerifier, judged: Judged, outcome: Outcome
    ) -> Verified:
        query, name = judged.question.query, verifier.name
        purpose = f"verify:{name}:{judged.model.spec.name}"
        client = judged.model.bound(query.query_id, purpose)
        judges = {
            judge: model.bound(query.query_id, purpose) for judge, model in self.judges.items()
        }
        clients: list[BoundClient] = [client, *judges.values()]
        case = Case(query, judged.answers, judged.messages, client, judges)
        signal, failure = Signal(math.nan), ""
        try:
            returned: Any = verifier.verify(case)
            signal = _checked(await returned if inspect.isawaitable(returned) else returned)
        except (CallError, StoppedError):
            pass  # the client has recorded it
        except Exception as error:  # a plug-in may raise anything
            failure = f"{type(error).__name__}: {error}"
        # A plug-in may have caught the error and gone on without the response.
        cut = next((bound.failure for bound in clients if bound.failure), None)
        if isinstance(cut, CallError):
            outcome.calls.add(str(cut))
        if cut is not None:
            signal = Signal(math.nan)
        elif failure:
            where = f"query {query.query_id!r}, model {judged.model.spec.name!r}"
            outcome.verifiers.setdefault(name, Failures()).add(f"{where}: {failure}")
        elif math.isnan(signal.value):
            outcome.silent[name] = outcome.silent.get(name, 0) + 1
        meter = Meter.total(bound.meter for bound in clients)
        return Verified(signal.value, signal.notes, meter, cut is not None)


@dataclass(frozen=True)
class Judged:
    """An answer to be verified, the last of ``answers``, with its model, question and messages."""

    model: ModelClient
    question: Question
    answers: tuple[Answer, ...]
    messages: tuple[Any, ...]


def _checked(returned: Any) -> Signal:
    """A verifier's result as a signal of plain floats.

    Raises:
        TypeError, ValueError: it is no number.
    """
    signal = returned if isinstance(returned, Signal) else Signal(returned)
    value = _number(signal.value, "the signal", infinite=True)
    notes = {str(k): _number(v, f"the note {k!r}") for k, v in dict(signal.notes).items()}
    return Signal(value, notes)


def _number(value: Any, what: str, infinite: bool = False) -> float:
    if value is None or isinstance(value, str | bytes):
        raise TypeError(f"{what} is {value!r}, expected a number")
    number = float(value)
    if math.isinf(number) and not infinite:
        raise ValueError(f"{what} is {number}, expected a finite number, or NaN")
    return number
