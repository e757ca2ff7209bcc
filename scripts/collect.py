"""Collects a log from live endpoints: answers, verifications and scores, as a calls table."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

# Heavy imports are inside functions so that --help is fast.
import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from routing_pomdp.evaluation.configuration.command_line import choices_of, reported

if TYPE_CHECKING:
    from routing_pomdp.envs.files.secrets import Secrets
    from routing_pomdp.verifiers import Verifier
    from routing_pomdp.verifiers.collection import Collected, Plan
    from routing_pomdp.verifiers.collection.collector import Answers

# Keys that do not change what is collected.
_ELSEWHERE = ("out", "progress", "at_once")


@reported()
@hydra.main(version_base="1.3", config_path="pkg://routing_pomdp.conf", config_name="collect")
def main(config: DictConfig) -> None:
    from routing_pomdp.envs.files.secrets import Secrets
    from routing_pomdp.verifiers.collection import collect

    secrets = Secrets()
    secrets.guard_output()
    for name in ("httpx", "httpx2"):  # they log one line per request
        logging.getLogger(name).setLevel(logging.WARNING)
    job = HydraConfig.get()
    with reported(Path(config.out) / f"{job.job.name}.log", secrets.text):
        plan = make_plan(config, choices_of(job), secrets)
        print(*notes(plan), sep="", end="")
        collected = collect(plan, Path(config.out), config.progress)
    print("\n".join(report(collected, Path(config.out))))
    sys.exit(status(collected))


def make_plan(
    config: DictConfig, choices: Mapping[str, str], secrets: Secrets | None = None
) -> Plan:
    """The collection plan of a configuration.

    Args:
        config: the configuration of this script.
        choices: the option of each group.
        secrets: the models' secrets are added to it.

    Raises:
        ValueError: the configuration, or a file that it names, is invalid.
    """
    from routing_pomdp.envs.files.secrets import masked
    from routing_pomdp.evaluation.configuration.build import build, plain
    from routing_pomdp.evaluation.configuration.schema import Collect, check
    from routing_pomdp.verifiers import Verifier, live_parts
    from routing_pomdp.verifiers.collection import (
        AnswerPrompt,
        Plan,
        load_models,
        load_prices,
        load_questions,
    )
    from routing_pomdp.verifiers.collection.files import check_outputs
    from routing_pomdp.verifiers.collection.policy import CollectionPolicy
    from routing_pomdp.verifiers.collection.scoring import Scoring

    check(config, Collect)
    inputs = list(_files(plain(config)))
    check_outputs(Path(config.out), config.table, inputs)
    prices = load_prices(config.prices)
    models = load_models(config.models, prices)
    judges = load_models(config.judges, prices) if config.judges else ()
    if secrets:
        secrets.add(value for spec in (*models, *judges) for value in spec.secrets())
    named = {choices["verifier"]: build(config.verifier, "verifier", Verifier)}
    named |= {
        str(name): build(node, f"verifiers.{name}", Verifier)
        for name, node in config.verifiers.items()
    }
    live = [part for verifier in named.values() for part in live_parts(verifier).values()]
    settings = {str(key): value for key, value in plain(config).items() if key not in _ELSEWHERE}
    return Plan(
        questions=load_questions(config.questions, config.limit),
        models=models,
        judges=judges,
        verifiers=tuple(live),
        offline={name: verifier for name, verifier in named.items() if _judges_logs(verifier)},
        scoring=build(config.scoring, "scoring", Scoring),
        policy=build(config.policy, "policy", CollectionPolicy),
        prompt=AnswerPrompt.read(config.prompt),
        verify_last=config.verify_last,
        top_logprobs=config.top_logprobs,
        usd=config.budget.usd,
        tokens=config.budget.tokens,
        at_once=config.at_once,
        table=config.table,
        only_complete=config.only_complete,
        seed=config.seed,
        about={"config": masked(settings)},
        inputs=inputs,
    )


def _files(value: Any) -> Iterator[Path]:
    """All files that a configuration names."""
    if isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _files(each)
    elif isinstance(value, str) and 0 < len(value) < 4096 and "\0" not in value:
        with contextlib.suppress(OSError):  # too long to be a file name
            if Path(value).is_file():
                yield Path(value)


def _judges_logs(verifier: Verifier) -> bool:
    """Whether a verifier's signals can be computed from the collected log.

    This excludes signals that a log already has and verifiers that learn from scores.
    """
    from routing_pomdp.verifiers import LiveVerifier, LoggedColumn, LoggedSignal, NoSignal

    read = LiveVerifier | LoggedSignal | LoggedColumn | NoSignal
    return not isinstance(verifier, read) and not tuple(verifier.parts())


def notes(plan: Plan) -> Iterator[str]:
    """Messages before any call is paid for, one line each."""
    if repeats := sum(question.repeats for question in plan.questions):
        yield f"{repeats:,} rows of the questions repeat another: each question is asked once\n"


def report(collected: Collected, out: Path) -> Iterator[str]:
    """Messages on a finished run, one line each."""
    outcome, ledger = collected.outcome, collected.ledger
    if collected.torn:
        yield f"the log's last line was torn: set aside as {collected.torn}, its call made again"
    if collected.cut_off:
        yield (
            f"{collected.cut_off:,} calls were under way when the run before was killed: they "
            "count as paid for, and are made again"
        )
    found = f", {ledger.found:,} found in the log" if ledger.found else ""
    yield (
        f"{outcome.cells:,} answers to {collected.queries:,} queries; {ledger.made:,} calls made"
        f"{found}, {ledger.retried:,} attempts retried; spent {ledger.budget.shown()}"
    )
    for model, answers in outcome.answers.items():
        yield from _shortfalls(model, answers)
    if outcome.calls.count:
        yield f"failed calls: {outcome.calls.count:,}, the first: {outcome.calls.first}"
    if outcome.scoring.count:
        scoring = outcome.scoring
        yield f"answers without a score: {scoring.count:,}, the first: {scoring.first}"
    for name, failures in outcome.verifiers.items():
        yield f"verifier {name} failed on {failures.count:,} answers, the first: {failures.first}"
    for name, count in outcome.silent.items():
        yield f"verifier {name} gave no signal for {count:,} answers"
    for name, count in sorted(ledger.flags.items()):
        yield f"{_FLAGS.get(name, name)}: {count:,} calls"
    for name, reason in collected.failed.items():
        yield f"{f'verifier {name}' if name else 'the table cannot be used yet'}: {reason}"
    if collected.stopped:
        yield f"stopped: {collected.stopped}"
    if outcome.incomplete:
        yield (
            f"{len(outcome.incomplete):,} of {collected.queries:,} queries are incomplete: the "
            "same command goes on with them (only_complete=true leaves them out of the table)"
        )
    if outcome.unanswered:
        yield (
            f"{len(outcome.unanswered):,} of {collected.queries:,} queries lack a model's answer, "
            "and are not asked again (only_complete=true leaves them out of the table)"
        )
    if collected.table:
        yield f"written: {collected.table}"


def _shortfalls(model: str, answers: Answers) -> Iterator[str]:
    """Messages on a model's missing answers, one line for each kind."""
    silent = answers.missing["cut"]
    if answers.cut:
        yield (
            f"model {model}: {answers.cut:,} of {answers.called:,} answers were cut at max_tokens"
            f"{f', {silent:,} of them before any answer' if silent else ''}: a larger max_tokens "
            "avoids it (with another out)"
        )
    for kind, what in _MISSING.items():
        if count := answers.missing[kind]:
            yield f"model {model}: {count:,} of {answers.called:,} answers {what}"
    if count := answers.missing.total():
        yield f"model {model}: {count:,} cells are left empty, they do not count as wrong answers"


_MISSING = {
    "empty": "were empty",
    "filtered": "were filtered or refused by the endpoint",
}


_FLAGS = {
    "usage_estimated": "the endpoint gave no usage, tokens were estimated",
    "no_logprobs": "the endpoint gave no log-probabilities",
    "secret_repeated": "the endpoint repeated a key, which was taken out",
    "impossible_usage": "the endpoint counted more tokens than the request allows",
}


def status(collected: Collected) -> int:
    """The exit status, as listed in ``--help``."""
    from routing_pomdp.verifiers.collection import BudgetExhaustedError, InterruptedCollectionError

    if isinstance(collected.stopped, BudgetExhaustedError):
        return 3
    if isinstance(collected.stopped, InterruptedCollectionError):
        return 130
    if collected.stopped:
        return 1
    return 4 if collected.outcome.incomplete else 0


if __name__ == "__main__":
    main()
