"""Verifiers at work: what has to be asked for an answer, alone or in combination.

What an answer's signals are, is one code for logs and live answers: `row_of` makes a log of one
query of what is known so far, from which any verifier reads its signal as from every other log.
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
    """The live verifiers that a verifier is made of, by the names of their signals.

    A log that a router is to learn from holds all of them: what a merge makes of them, and where
    an affordable one leaves doubt, is learned from the log. What reads a log only has none.

    Raises:
        ValueError: two of them have one name, so that their signals would be one column.
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
        VerifierError: it failed, or returned no number, or a note that is infinite; the message
            names it.
    """
    with naming(verifier):
        found = await verifier.verify(case)
    signal = found if isinstance(found, Signal) else Signal(found)
    said = {"": signal.value} | {f" as note {key!r}": note for key, note in signal.notes.items()}
    for where, value in said.items():
        if not isinstance(value, Real) or (where and np.isinf(value)):
            raise VerifierError(
                f"verifier {type(verifier).__name__} returned {value!r}{where} for "
                f"{case.answer.model!r} on query {case.query.query_id!r}: expected a number, "
                "NaN where it says nothing"
            )
    return Signal(float(signal.value), {key: float(note) for key, note in signal.notes.items()})


async def live_signals(
    verifier: Verifier,
    case: Case,
    models: Sequence[str],
    earlier: Sequence[Mapping[str, Signal]] = (),
) -> dict[str, Signal]:
    """Every signal that a verifier buys for an answer, by name, at the same time where it can.

    Before it is fitted `AffordableFirst` buys both, as doubt is learned from a log that holds both;
    once it is fitted it waits for the first and buys the second only in doubt.

    Args:
        verifier: any; what only reads logs buys nothing.
        case: the answer.
        models: ``N``, the cascade's, in the order of the log that the verifier was fitted to.
        earlier: what was said of each answer before it, if anything.

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
    """A log of the one query, to read a verifier's signals from.

    Scores are not known: they are 0, and say nothing; an answer of which the signals are not given
    counts as not called.

    Args:
        case: the answers.
        signals: what was said of the last of them, by name, or of as many of the last ones.
        models: ``N``, see `live_signals`.
    """
    place = [models.index(answer.model) for answer in case.answers]

    def spread(values: Sequence[float]) -> FloatArray:
        row = np.full((1, len(models)), np.nan)
        row[0, place[len(place) - len(values) :]] = values
        return row

    names = dict.fromkeys(name for said in signals for name in said)
    nothing = Signal(float("nan"))
    completions = [answer.completion for answer in case.answers]
    return Rollouts(
        models=tuple(models),
        query_id=np.array([case.query.query_id]),
        split=np.array(["test"]),
        dataset=np.array([case.query.dataset]),
        score=spread([0.0] * len(signals)),
        cost=spread([c.cost for c in completions]),
        signals={
            name: spread([said.get(name, nothing).value for said in signals]) for name in names
        },
        tokens_in=spread([c.tokens_in for c in completions]),
        tokens_out=spread([c.tokens_out for c in completions]),
        latency=spread([c.latency_ms for c in completions]),
        prompt=np.array([case.query.prompt], dtype=object),
    )
