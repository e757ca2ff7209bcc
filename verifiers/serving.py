"""Live use of verifiers, single or combined.

Logs and live answers share the code that computes signals: `row_of` makes a log of one query, from
which any verifier reads its signal as from every other log.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from numbers import Real

import numpy as np

from routing_pomdp.envs import Rollouts
from routing_pomdp.envs.arrays import FloatArray
from routing_pomdp.verifiers.combinators import AffordableFirst
from routing_pomdp.verifiers.live import Case, LiveVerifier, Signal
from routing_pomdp.verifiers.verifier import Verifier, VerifierError, naming


def live_parts(verifier: Verifier) -> dict[str, LiveVerifier]:
    """The live verifiers that a verifier consists of, by the names of their signals.

    A training log has to hold the signals of all of them, because calibrated merges and the doubt
    of `AffordableFirst` are learned from it. A verifier that only reads logs has none.

    Raises:
        ValueError: two of them share a name, so that their signals would be one column.
    """
    if isinstance(verifier, LiveVerifier):
        return {verifier.name: verifier}
    found: dict[str, LiveVerifier] = {}
    for part in verifier.parts():
        for name, live in live_parts(part).items():
            if found.setdefault(name, live) != live:
                raise ValueError(
                    f"two verifiers are named {name!r}, {found[name]} and {live}: expected a name "
                    "for each, as their signals are columns of one log"
                )
    return found


async def judged(verifier: LiveVerifier, case: Case) -> Signal:
    """A live verifier's signal of an answer.

    Raises:
        VerifierError: it failed, or returned no number or an infinite note; the message names it.
    """
    with naming(verifier):
        found = await verifier.verify(case)
    signal = found if isinstance(found, Signal) else Signal(found)
    values = {"": signal.value} | {f" as note {key!r}": note for key, note in signal.notes.items()}
    for where, value in values.items():
        if not isinstance(value, Real) or (where and np.isinf(value)):
            raise VerifierError(
                f"verifier {type(verifier).__name__} returned {value!r}{where} for "
                f"{case.answer.model!r} on query {case.query.query_id!r}: expected a number, "
                "NaN for a missing signal"
            )
    return Signal(float(signal.value), {key: float(note) for key, note in signal.notes.items()})


async def live_signals(
    verifier: Verifier,
    case: Case,
    models: Sequence[str],
    earlier: Sequence[Mapping[str, Signal]] = (),
) -> dict[str, Signal]:
    """The signals that a verifier buys for an answer, by name, concurrently where possible.

    An unfitted `AffordableFirst` buys both signals, because doubt is learned from a log with both.
    A fitted one waits for the first and buys the second only in doubt.

    Args:
        verifier: any; one that only reads logs buys nothing.
        case: the answer.
        models: ``N`` names, in the order of the log that the verifier was fitted to.
        earlier: signals of each earlier answer, if any.

    Raises:
        VerifierError: one failed; the message names it.
    """
    if isinstance(verifier, LiveVerifier):
        return {verifier.name: await judged(verifier, case)}
    if isinstance(verifier, AffordableFirst):
        found = await live_signals(verifier.first, case, models, earlier)
        doubts = verifier.doubts(row_of(case, [*earlier, found], models))
        if doubts is None or doubts[0, models.index(case.answer.model)]:
            found |= await live_signals(verifier.then, case, models, earlier)
        return found
    every = await asyncio.gather(
        *(live_signals(part, case, models, earlier) for part in verifier.parts())
    )
    return {name: signal for signals in every for name, signal in signals.items()}


def row_of(case: Case, signals: Sequence[Mapping[str, Signal]], models: Sequence[str]) -> Rollouts:
    """A log of one query, from which a verifier can read its signals.

    Scores are not known; they are 0 and must not be used. An answer without signals counts as not
    called.

    Args:
        case: the answers.
        signals: by name, of the last answers, in their order.
        models: ``N`` names, see `live_signals`.
    """
    column = [models.index(answer.model) for answer in case.answers]

    def spread(values: Sequence[float]) -> FloatArray:
        row = np.full((1, len(models)), np.nan)
        row[0, column[len(column) - len(values) :]] = values
        return row

    names = dict.fromkeys(name for by_name in signals for name in by_name)
    missing = Signal(float("nan"))
    completions = [answer.completion for answer in case.answers]
    return Rollouts(
        models=tuple(models),
        query_id=np.array([case.query.query_id]),
        split=np.array(["test"]),
        dataset=np.array([case.query.dataset]),
        score=spread([0.0] * len(signals)),
        cost=spread([c.cost for c in completions]),
        signals={
            name: spread([by_name.get(name, missing).value for by_name in signals])
            for name in names
        },
        tokens_in=spread([c.tokens_in for c in completions]),
        tokens_out=spread([c.tokens_out for c in completions]),
        latency=spread([c.latency_ms for c in completions]),
        prompt=np.array([case.query.prompt], dtype=object),
    )
