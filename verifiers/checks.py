"""`check_verifier`: checks that a user's verifier keeps the contract of verifiers."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from routing_pomdp.envs import Rollouts, RoutingData
from routing_pomdp.envs.arrays import FloatArray
from routing_pomdp.envs.plug_in_checks import (
    Claims,
    example_log,
    fault_of_settings,
    mirrored,
    own_random_numbers,
    untouched,
)
from routing_pomdp.verifiers.live import (
    Answer,
    Case,
    Client,
    Completion,
    LiveVerifier,
    Message,
    Query,
    Token,
)
from routing_pomdp.verifiers.serving import judged, row_of
from routing_pomdp.verifiers.verifier import (
    LoggedSignal,
    Verifier,
    VerifierError,
    emitted,
    fitted,
    paid,
)

CLAIMS = {
    "settings": "settings are dataclass fields, and the verifier pickles",
    "fit": "`fit` returns a verifier and does not change the one that it is called on",
    "signal": "signals are numbers of shape (n, N) or (n, N, D)",
    "cost": "costs are None, or finite numbers >= 0 of shape (n, N)",
    "pure": "the log and the verifier are not changed",
    "seed": "fitting and judging again gives the same signals, without the global random states",
    "rows": "a query gets the same signals alone and in any log, in any order",
    "score": "signals do not depend on the scores of the queries that are judged",
    "answers": "signals do not depend on other models' answers, except as `compared` declares",
    "pickle": "a fitted verifier gives the same signals after pickling",
    "missing": "logs with missing calls and missing signals are judged",
    "infinite": "logs with signals of -∞ are judged",
    "columns": "a log without a column that it needs raises an error that says so",
    "live": "live signals equal those read back from the log",
}


def check_verifier(
    verifier: Verifier, *, log: Rollouts | None = None, skip: Collection[str] = ()
) -> None:
    """Checks a verifier on a small log; returns if it keeps all claims (`CLAIMS`).

    Args:
        verifier: unfitted.
        log: with training and test queries; None for an example with every column and the logged
            signals that the verifier names.
        skip: names of claims that are not checked.

    Raises:
        CheckError: a ValueError that names the first broken claim and the case.
    """
    claims = Claims(verifier, [name for name in CLAIMS if name not in ("fit", "signal")], skip)
    names = sorted(set(_signals_of(verifier))) or ["confidence"]
    about = "the log"
    if log is None:
        log, about = example_log(40, signals=names), f"example_log(40, signals={names})"
    train, test = log.where("train"), log.where("test")
    about = f"the test queries of {about}"
    claims.hold("settings", partial(_settings, verifier))
    found: list[Verifier] = []
    with untouched(train=train, test=test, verifier=verifier) as problems:
        claims.hold("fit", partial(_fit, verifier, train, found), "fit on the training queries")
        ready = found[0]
        claims.hold("signal", partial(_signal, ready, test), about)
        claims.hold("cost", partial(_cost, ready, test))
    claims.hold("pure", lambda: problems[0] if problems else None)
    outputs = _outputs(ready, test)
    claims.hold("seed", partial(_seed, verifier, train, test, outputs))
    claims.hold("rows", partial(_rows, ready, test, outputs))
    claims.hold("score", partial(_score, ready, log))
    claims.hold("answers", partial(_answers, ready, test, outputs))
    claims.hold("pickle", partial(_pickle, ready, test, outputs))
    claims.hold("missing", partial(_stands, verifier, _with_gaps(log)), "where calls are missing")
    claims.hold("infinite", partial(_stands, verifier, _with_infinite(log)), "with signals of -∞")
    for column in ("tokens_out", "tokens_in", "latency", "prompt", "answer"):
        absent: dict[str, Any] = {column: None}
        bare = replace(log, **absent)
        claims.hold("columns", partial(_without, verifier, bare), f"a log without {column}")
    if isinstance(ready, LiveVerifier):
        claims.hold("live", partial(_live, ready, test), "judged by an endpoint that says 'yes'")


# -- claims: each returns an error message, or None if the claim holds -----------------------------


def _settings(verifier: Verifier) -> str | None:
    if problem := fault_of_settings(verifier):
        return problem
    again = pickle.loads(pickle.dumps(verifier))
    return None if type(again) is type(verifier) else "it is another class once pickled"


def _fit(verifier: Verifier, train: Rollouts, found: list[Verifier]) -> str | None:
    ready = fitted(verifier, train)
    if not isinstance(ready, Verifier):
        what = "None" if ready is None else f"a {type(ready).__name__}"
        return f"fit returned {what}: expected the fitted verifier"
    found.append(ready)
    return None


def _signal(ready: Verifier, log: Rollouts) -> str | None:
    emitted(ready, log)
    kind = np.asarray(ready.signal(log)).dtype
    return None if kind.kind in "fiub" else f"its signals are of type {kind}: expected numbers"


def _cost(ready: Verifier, log: Rollouts) -> str | None:
    paid(ready, log)
    return None


def _seed(verifier: Verifier, train: Rollouts, log: Rollouts, outputs: FloatArray) -> str | None:
    with own_random_numbers() as problems:
        again = _outputs(fitted(verifier, train), log)
    if problems:
        return problems[0]
    return _differs(outputs, again, log, "when fitted and asked again")


def _rows(ready: Verifier, log: Rollouts, outputs: FloatArray) -> str | None:
    order = np.random.default_rng(0).permutation(len(log))
    for rows in (order, order[: len(log) // 2], order[:1], order[1:2]):
        part = log.take(rows)
        how = f"in a log of {len(rows)} queries, in another order"
        if problem := _differs(outputs[rows], _outputs(ready, part), part, how):
            return problem
    return None


def _score(ready: Verifier, log: Rollouts) -> str | None:
    """Includes training queries, which a verifier may recognise by their ids."""
    other = replace(log, score=1 - log.score)
    return _differs(_outputs(ready, log), _outputs(ready, other), log, "with other scores")


def _answers(ready: Verifier, log: Rollouts, outputs: FloatArray) -> str | None:
    """Swaps one model's cells between queries with right and wrong answers."""
    compared = list(ready.compared(log))
    # A signal of the query is logged with one answer or with all; it belongs to no answer.
    of_query = bool(_same(outputs[:, :1], outputs)[..., :-1].all())
    for model in range(log.n_models):
        others = np.arange(log.n_models) != model
        exchanged = _exchanged(log, model)
        if of_query:
            exchanged = replace(exchanged, signals=log.signals, signal_costs=log.signal_costs)
        changed = _outputs(ready, exchanged)
        apart = ~_same(outputs, changed) & others[:, None]
        # Components that compare answers may use those of cheaper models.
        apart[:, model + 1 :, compared] = False
        if apart.any():
            row, affected, _ = np.argwhere(apart)[0]
            return (
                f"its signal of {log.models[affected]!r} on query {str(log.query_id[row])!r} "
                f"depends on the answer of {log.models[model]!r}, which may not have been called: "
                "only components that `compared` declares may use cheaper models' answers"
            )
    return None


def _pickle(ready: Verifier, log: Rollouts, outputs: FloatArray) -> str | None:
    loaded = pickle.loads(pickle.dumps(ready))
    return _differs(outputs, _outputs(loaded, log), log, "once pickled and loaded")


def _stands(verifier: Verifier, log: Rollouts) -> str | None:
    train, test = log.where("train"), log.where("test")
    ready = fitted(verifier, train)
    return _rows(ready, test, _outputs(ready, test))


def _without(verifier: Verifier, log: Rollouts) -> str | None:
    try:
        emitted(fitted(verifier, log.where("train")), log.where("test"))
    except VerifierError as error:
        cause = error.__cause__
        if cause is None or isinstance(cause, ValueError):
            return None
        return f"{error}: ask for a column by rollouts.require(NAME), which says what is missing"
    return None


def _live(ready: LiveVerifier, log: Rollouts) -> str | None:
    """Compares live signals with those read from a logged column, or computed from answers."""
    computes = _stands_without_signals(ready, log)
    signal = emitted(ready, log)
    nothing = np.zeros_like(log.score)
    data = RoutingData(log.score, nothing, nothing, signal, log, compared=ready.compared(log))
    for row in range(min(8, len(log))):
        for count in range(1, log.n_models + 1):
            case, model = _case(log, row, count), count - 1
            emission = _run(ready, case)
            alone = emitted(ready, row_of(case, [{ready.name: emission}], log.models))[0, model, 0]
            value = emission.value
            if ready.missing is not None and np.isnan(value):
                value = ready.missing
            found = {"read back from its column": alone}
            if computes:
                called = np.arange(log.n_models)[None] < count
                at, of = np.array([row]), np.array([model])
                found["computed of the log's answers"] = data.seen(at, of, called)[0, 0]
            for how, logged in found.items():
                if not _same(np.array(value), np.array(logged)).all():
                    return (
                        f"its signal of {log.models[model]!r} on query "
                        f"{str(log.query_id[row])!r} is {value:g} live and {logged:g} {how}"
                    )
    return None


# -- parts -----------------------------------------------------------------------------------------


def _stands_without_signals(ready: Verifier, log: Rollouts) -> bool:
    """Whether the verifier computes its signals without logged ones."""
    try:
        emitted(ready, replace(log, signals={}, signal_costs={}))
    except VerifierError:
        return False
    return True


def _signals_of(verifier: Verifier) -> Iterator[str]:
    """The logged signals that a verifier names."""
    if isinstance(verifier, LoggedSignal | LiveVerifier) and verifier.name:
        yield verifier.name
    for part in verifier.parts():
        yield from _signals_of(part)


def _outputs(ready: Verifier, log: Rollouts) -> FloatArray:
    """Signals and their cost, ``(n, N, D + 1)``."""
    cost = paid(ready, log)
    cost = np.zeros(log.score.shape) if cost is None else np.nan_to_num(cost)
    return np.concatenate([emitted(ready, log), cost[..., None]], axis=2)


def _same(one: FloatArray, other: FloatArray) -> NDArray[np.bool_]:
    """Whether numbers are equal up to rounding, which depends on the number of rows."""
    return np.isclose(one, other, rtol=1e-9, atol=1e-12, equal_nan=True)


def _differs(outputs: FloatArray, again: FloatArray, log: Rollouts, how: str) -> str | None:
    if outputs.shape != again.shape:
        return f"its signals have shape {again.shape} {how}, expected {outputs.shape}"
    apart = ~_same(outputs, again)
    if not apart.any():
        return None
    row, model, number = np.argwhere(apart)[0]
    what = "cost" if number == outputs.shape[2] - 1 else "signal"
    return (
        f"its {what} of {log.models[model]!r} on query {str(log.query_id[row])!r} is "
        f"{outputs[row, model, number]:g}, and {again[row, model, number]:g} {how}"
    )


def _changed(log: Rollouts, change: Any) -> Rollouts:
    """A log with ``change`` applied to every ``(n, N)`` array: scores, costs, signals, texts."""
    names = ("score", "cost", "answer", "latency", "tokens_in", "tokens_out")
    cells: dict[str, Any] = {
        name: value for name in names if (value := getattr(log, name)) is not None
    }
    return replace(
        log,
        **{name: change(value) for name, value in cells.items()},
        signals={name: change(value) for name, value in log.signals.items()},
        signal_costs={name: change(value) for name, value in log.signal_costs.items()},
    )


def _exchanged(log: Rollouts, model: int) -> Rollouts:
    def change(values: NDArray[Any]) -> NDArray[Any]:
        found = values.copy()
        found[:, model] = mirrored(values[:, model], log.score[:, model])
        return found

    return _changed(log, change)


def _with_gaps(log: Rollouts) -> Rollouts:
    """A log in which some calls were not made and some other signals are missing."""
    odd = np.random.default_rng(5).random(log.score.shape)
    gaps = odd < 0.15

    def change(values: NDArray[Any]) -> NDArray[Any]:
        found = values.copy()
        found[gaps] = None if values.dtype == object else np.nan
        return found

    log = _changed(log, change)
    silent = (odd > 0.15) & (odd < 0.3)
    return replace(
        log, signals={name: np.where(silent, np.nan, value) for name, value in log.signals.items()}
    )


def _with_infinite(log: Rollouts) -> Rollouts:
    odd = np.random.default_rng(6).random(log.score.shape) < 0.15
    return replace(
        log, signals={name: np.where(odd, -np.inf, value) for name, value in log.signals.items()}
    )


def _case(log: Rollouts, row: int, count: int) -> Case:
    """The answers of the first ``count`` models to a query as a live case."""
    texts = log.require("answer")[row, :count]
    answers = tuple(
        Answer(name, str(text), _completion(str(text)))
        for name, text in zip(log.models, texts, strict=False)
    )
    prompt = str(log.require("prompt")[row])
    messages: tuple[Message, ...] = ({"role": "user", "content": prompt},)
    client = _Yes(answers[-1].model)
    return Case(Query(str(log.query_id[row]), prompt), answers, messages, client, _Anyone())


def _completion(text: str) -> Completion:
    tokens = tuple(
        Token(word, -0.2, {word: -0.2, "other": -1.8}) for word in text.split(" ") if word
    )
    return Completion(text, 10, len(tokens), 0.001, 5.0, tokens)


@dataclass(frozen=True)
class _Yes:
    """A client that answers everything with "yes"."""

    model: str

    async def complete(
        self,
        messages: Sequence[Message],
        *,
        samples: int = 1,
        temperature: float = 0.0,
        max_tokens: int = 256,
        top_logprobs: int | None = None,
    ) -> list[Completion]:
        return [_completion("yes")] * samples


class _Anyone(Mapping[str, Client]):
    """A mapping with a judge for every name."""

    def __getitem__(self, name: str) -> Client:
        return _Yes(name)

    def __contains__(self, name: object) -> bool:
        return True

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


def _run(verifier: LiveVerifier, case: Case) -> Any:
    """The verifier's signal, computed in a thread: notebooks already run an event loop."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, judged(verifier, case)).result()
