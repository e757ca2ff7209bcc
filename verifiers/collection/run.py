"""`collect`: one run of a collection in its folder, from questions to the calls table."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import re
import signal
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from routing_pomdp.envs.files.secrets import Secrets
from routing_pomdp.envs.logs.table_files import file_format
from routing_pomdp.verifiers.collection.answers import AnswerPrompt
from routing_pomdp.verifiers.collection.budget import Amount, Budget, amount
from routing_pomdp.verifiers.collection.call_log import CallLog
from routing_pomdp.verifiers.collection.client import Ledger, ModelClient
from routing_pomdp.verifiers.collection.collector import Collector, Outcome
from routing_pomdp.verifiers.collection.endpoint import Endpoint
from routing_pomdp.verifiers.collection.files import check_outputs
from routing_pomdp.verifiers.collection.limiter import Limiter
from routing_pomdp.verifiers.collection.manifest import Manifest
from routing_pomdp.verifiers.collection.models import ConfigError, ModelSpec, check_priced
from routing_pomdp.verifiers.collection.policy import AskAll, CollectionPolicy
from routing_pomdp.verifiers.collection.progress import Bar
from routing_pomdp.verifiers.collection.queries import Question
from routing_pomdp.verifiers.collection.requests import check_bounded
from routing_pomdp.verifiers.collection.rows import RowFile, write_collected
from routing_pomdp.verifiers.collection.scoring import NormalisedMatch, Scoring, understood
from routing_pomdp.verifiers.collection.stops import InterruptedCollectionError, StoppedError
from routing_pomdp.verifiers.live import LiveVerifier
from routing_pomdp.verifiers.verifier import Verifier

_NAME = re.compile(r"[A-Za-z0-9_.-]+")


@dataclass(frozen=True)
class Plan:
    """The settings of a collection.

    Attributes:
        questions: at least one.
        models: cheapest first; a single one for a first test.
        judges: further models, for verifiers that ask another model.
        verifiers: each verifies every answer.
        offline: name -> verifier without calls, computed when the table is written.
        scoring: of answers; the questions' references are stored as it interprets them.
        policy: decides whether the next model is asked.
        prompt: the template of questions.
        verify_last: whether the last model's answers are verified as well.
        top_logprobs: asked for with answers; None for as many as the verifiers read.
        usd: the budget; None for no limit.
        tokens: the budget; None for no limit.
        at_once: queries under way; None for twice the endpoints' bounds.
        table: name of the calls table in the folder.
        only_complete: leaves queries out of the table if a model gave no answer or a call failed.
        seed: of pauses.
        about: further content of the manifest, without secrets.
        inputs: files that were read; none of them may be written.

    Raises:
        ConfigError: settings do not fit together.
    """

    questions: Sequence[Question]
    models: Sequence[ModelSpec]
    judges: Sequence[ModelSpec] = ()
    verifiers: Sequence[LiveVerifier] = ()
    offline: Mapping[str, Verifier] = field(default_factory=dict)
    scoring: Scoring = field(default_factory=NormalisedMatch)
    policy: CollectionPolicy = field(default_factory=AskAll)
    prompt: AnswerPrompt = field(default_factory=AnswerPrompt)
    verify_last: bool = False
    top_logprobs: int | None = None
    usd: float | None = None
    tokens: int | None = None
    at_once: int | None = None
    table: str = "calls.parquet"
    only_complete: bool = False
    seed: int = 0
    about: Mapping[str, Any] = field(default_factory=dict)
    inputs: Sequence[Path] = ()

    def __post_init__(self) -> None:
        if not self.models:
            raise ConfigError("there are no models to collect from")
        both = [spec.name for spec in (*self.models, *self.judges)]
        if repeated := [name for name in both if both.count(name) > 1]:
            raise ConfigError(f"{repeated[0]!r} is a model and a judge: give each its own name")
        check_priced([*self.models, *self.judges], self.usd is not None)
        object.__setattr__(self, "questions", understood(self.scoring, self.questions))
        names = [*(verifier.name for verifier in self.verifiers), *self.offline]
        for name in names:
            if not _NAME.fullmatch(name):
                raise ConfigError(f"verifier {name!r}: expected letters, digits, _ . - in its name")
            if names.count(name) > 1:
                raise ConfigError(f"two verifiers are named {name!r}: give one another name")
            if f"{name}_cost" in names:
                raise ConfigError(
                    f"verifier {name + '_cost'!r} would be read as the cost of {name!r}: rename it"
                )
        if self.at_once is not None and self.at_once < 1:
            raise ConfigError(f"at_once is {self.at_once}: expected at least 1, or null")
        file_format(Path(self.table))
        if self.usd is not None or self.tokens is not None:
            check_bounded([*self.models, *self.judges])

    @property
    def secrets(self) -> Secrets:
        """The secrets that no file and no message may hold."""
        specs = [*self.models, *self.judges]
        return Secrets(value for spec in specs for value in spec.secrets())

    @property
    def logprobs(self) -> int | None:
        read = [verifier.top_logprobs for verifier in self.verifiers]
        wanted = [self.top_logprobs, *read]
        return max((top for top in wanted if top is not None), default=None)


@dataclass(frozen=True)
class Collected:
    """The results of one run.

    Attributes:
        table: the calls table; None if it would be empty.
        outcome: cells and failures.
        ledger: calls and spend.
        stopped: why the run ended early; None if it did not.
        failed: error messages of the table's columns, see `write_collected`.
        torn: the file to which the torn last line of the log was moved; None if there was none.
        cut_off: calls that were cut off when the previous run was killed; they may be charged.
        resumed: whether the folder has an earlier run.
        queries: how many queries were asked for.
    """

    table: Path | None
    outcome: Outcome
    ledger: Ledger
    stopped: StoppedError | None
    failed: Mapping[str, str]
    torn: Path | None
    cut_off: int
    resumed: bool
    queries: int


def collect(plan: Plan, folder: Path, progress: bool = True) -> Collected:
    """Collects into a folder, or resumes its collection; logged calls are not paid for again.

    Raises:
        ConfigError, LogError: it cannot be started.
    """
    check_outputs(folder, plan.table, plan.inputs)
    secrets = plan.secrets
    log = CallLog(folder)
    try:
        about = dict(plan.about) | {
            "questions": {"count": len(plan.questions), "sha256": _mark(plan.questions)},
            "verifier_prompts": _prompts(plan.verifiers),
        }
        manifest = Manifest(
            folder, plan.models, plan.judges, secrets, plan.prompt.mark, plan.logprobs, about
        )
        ledger = Ledger(log, Budget(plan.usd, plan.tokens), secrets)
        _count_earlier_runs(ledger, plan, manifest)
        priced = plan.models[0].price is not None
        with RowFile(folder, priced) as rows:
            outcome = asyncio.run(_run(plan, ledger, rows, progress))
            outcome.clean(secrets.text)
            table: Path | None = None
            failed: dict[str, str] = {}
            if rows.count:
                names = [verifier.name for verifier in plan.verifiers]
                specs = [spec.name for spec in plan.models]
                leave_out = outcome.incomplete | outcome.unanswered if plan.only_complete else ()
                content = rows.table(plan.questions, specs, names, leave_out)
                if content.num_rows:
                    table = folder / plan.table
                    failed = write_collected(content, table, plan.offline)
        manifest.end(
            str(ledger.stopped or ("incomplete" if outcome.incomplete else "complete")),
            calls=ledger.made,
            found=ledger.found,
            spent=ledger.budget.shown(),
        )
    finally:
        log.close()
    return Collected(
        table,
        outcome,
        ledger,
        ledger.stopped,
        failed,
        log.torn,
        log.cut_off,
        manifest.resumed,
        len(plan.questions),
    )


def _count_earlier_runs(ledger: Ledger, plan: Plan, manifest: Manifest) -> None:
    """Counts the logged calls toward the budget.

    Raises:
        ConfigError: there is a budget, but the logged spend has no bound.
    """
    budget, log = ledger.budget, ledger.log
    prices = {spec.name: spec.price for spec in (*plan.models, *plan.judges)}
    for name, totals in log.totals.items():
        price = prices.get(name) or manifest.price(name)
        spent = amount(totals.tokens_in, totals.tokens_out, price)
        # Without a current price, the cost that was recorded counts.
        budget.spent += spent if price else Amount(totals.cost, spent.tokens)
        budget.lost += amount(totals.lost_in, totals.lost_out, price)
        if budget.limited and totals.unlimited:
            raise ConfigError(
                f"{log.path}: {totals.unlimited} calls of model {name!r} had no limit of "
                "generated tokens and may be charged for without a response, so that no budget "
                "can be kept in this folder: give another out, or no budget"
            )
        if budget.limited and totals.impossible:
            raise ConfigError(
                f"{log.path}: the endpoint of model {name!r} counted more tokens than its request "
                "allows, so that no budget can be kept in this folder: give another out without "
                "that model, or no budget"
            )


async def _run(plan: Plan, ledger: Ledger, rows: RowFile, progress: bool) -> Outcome:
    specs = [*plan.models, *plan.judges]
    bounds = {
        spec.base_url: min(other.concurrency for other in specs if other.base_url == spec.base_url)
        for spec in specs
    }
    slots = {url: Limiter(bound, ledger.pause) for url, bound in bounds.items()}
    clients = [
        ModelClient(spec, Endpoint(spec, slots[spec.base_url], plan.seed), ledger) for spec in specs
    ]
    models = clients[: len(plan.models)]
    most = len(plan.questions) * len(models)
    try:
        with Bar(most, ledger, slots.values(), progress) as bar, _stopping_cleanly(ledger):
            collector = Collector(
                models,
                {client.spec.name: client for client in clients},
                plan.verifiers,
                plan.scoring,
                plan.policy,
                plan.prompt,
                ledger,
                plan.verify_last,
                plan.logprobs,
                rows.keep,
                bar.step,
            )
            return await collector.run(plan.questions, plan.at_once or 2 * sum(bounds.values()))
    finally:
        for client in clients:
            await client.endpoint.close()


@contextlib.contextmanager
def _stopping_cleanly(ledger: Ledger) -> Iterator[None]:
    """On the first Ctrl-C the calls under way are finished; a second one ends the process."""
    loop = asyncio.get_running_loop()

    def stop() -> None:
        ledger.stop(InterruptedCollectionError("interrupted"))
        release()

    def release() -> None:
        for each in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(each)

    try:
        for each in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(each, stop)
    except (RuntimeError, ValueError):
        pass  # only the main thread can handle signals
    try:
        yield
    finally:
        with contextlib.suppress(RuntimeError, ValueError):
            release()


def _mark(questions: Sequence[Question]) -> str:
    whole = hashlib.sha256()
    for question in questions:
        whole.update(repr(question).encode())
    return whole.hexdigest()


def _prompts(verifiers: Sequence[LiveVerifier]) -> dict[str, dict[str, str]]:
    """Hashes of the verifiers' prompts, by verifier and name."""
    return {
        verifier.name: {
            name: hashlib.sha256(text.encode()).hexdigest() for name, text in texts().items()
        }
        for verifier in verifiers
        if (texts := getattr(verifier, "prompt_texts", None))
    }
