"""`check_solver`: tests whether a solver keeps the claims that every solver makes."""

from __future__ import annotations

import pickle
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product

import numpy as np
from numpy.typing import NDArray

from routing_pomdp.envs import Episodes, History, RoutingData, Rules
from routing_pomdp.envs.model.observation import Observation
from routing_pomdp.envs.plug_in_checks import (
    Claims,
    fault_of_settings,
    mirrored,
    own_random_numbers,
    untouched,
)
from routing_pomdp.solvers.check_examples import Example
from routing_pomdp.solvers.pre_query import PreQueryConditioned
from routing_pomdp.solvers.solver import Policy, QueryPolicy, Solver, decided, for_queries, solved

PRICES = (0.0, 0.3, 3.0)
CLAIMS = {
    "settings": "hyperparameters are dataclass fields, and the solver pickles",
    "solves": "`solve` returns a policy for each price",
    "pure": "problem, log, solver and histories stay as they were",
    "legal": "every action is legal, at every decision point under every rule set",
    "batch": "a history gets the same action alone and in any batch, whatever its other queries",
    "paid": "scores, signals and answers that were not paid for change nothing",
    "pickle": "a policy that was pickled and loaded plays the same",
    "seed": "solved again it is the same policy, and the global random states stay as they were",
    "prices": "a higher price buys no more",
    "verify": "a solver that goes by signals buys them where VERIFY is an action",
    "missing": "it copes with verified signals that are missing (NaN)",
    "infinite": "it copes with signals of -∞ and +∞",
    "pre_query": "it copes with problems that begin with a pre-query signal",
}


def check_solver(
    solver: Solver,
    *,
    observation: Observation | None = None,
    rules: Sequence[Rules] | None = None,
    skip: Collection[str] = (),
    queries: int = 120,
) -> None:
    """Tests a solver on small example problems; returns if it keeps all claims (`CLAIMS`).

    Args:
        solver: the solver to test.
        observation: unfitted observation model of the problems; None for quantile bins.
        rules: the rule sets, for three models, that the solver supports; None for all 16.
        skip: names of claims to leave out.
        queries: number of queries of each example; half of them are training queries.

    Raises:
        CheckError: a ValueError that names the first broken claim and how to make its example
            again.
    """
    claims = Claims(solver, [name for name in CLAIMS if name not in ("solves", "legal")], skip)
    claims.hold("settings", partial(_settings, solver))
    kinds = list(rules or _all_rules())
    found = {}
    for rule in kinds:
        found[rule] = _play(claims, solver, Example.make(rule, observation, queries=queries))
    first, last = kinds[0], kinds[-1]
    claims.hold("seed", partial(_seed, found[first]))
    claims.hold("prices", partial(_prices, found[first]))
    bought = [tried for tried in found.values() if tried.example.problem.rules.verify]
    if bought:
        free = Example.make(replace(bought[0].rules, verify=False), observation, queries=queries)
        claims.hold("verify", partial(_verify, claims, solver, free, bought))
    for kind in ("missing", "infinite"):
        for rule in dict.fromkeys((first, last)):
            tried = Example.make(rule, observation, signals=kind, queries=queries)
            claims.hold(kind, partial(_stands, claims, solver, tried), str(tried))
    ahead = Example.make(replace(last, pre_query=True), observation, queries=queries)
    claims.hold(
        "pre_query", partial(_stands, claims, PreQueryConditioned(solver), ahead), str(ahead)
    )


@dataclass(frozen=True, eq=False)
class _Tried:
    """A solver's policies on an example, and the histories at which they were asked.

    Attributes:
        example: the example.
        solver: the solver.
        policies: one per price.
        histories: those of each policy's test episodes, in which every other query plays random
            legal actions.
    """

    example: Example
    solver: Solver
    policies: Sequence[Policy | QueryPolicy]
    histories: Sequence[Sequence[History]]

    @property
    def rules(self) -> Rules:
        return self.example.problem.rules


def _play(claims: Claims, solver: Solver, example: Example) -> _Tried:
    """Solves an example and tests the claims that hold under all rules."""
    problem, train = example.problem, example.train
    policies: list[Policy | QueryPolicy] = []
    histories: list[list[History]] = []

    def solves() -> None:
        policies.extend(solved(solver, problem, PRICES, train))

    with untouched(problem=problem, train=train, solver=solver) as faults:
        claims.hold("solves", solves, str(example))
    claims.hold("pure", lambda: faults[0] if faults else None)
    for policy, price in zip(policies, PRICES, strict=True):
        case = f"{example}, price {price:g}"
        asked: list[History] = []
        claims.hold("legal", partial(_legal, policy, example.test, asked), case)
        claims.hold("pure", partial(_pure, policy, example.test, asked), case)
        claims.hold("batch", partial(_batch, policy, example.test, asked), case)
        claims.hold("paid", partial(_paid, policy, example.test, asked), case)
        claims.hold("pickle", partial(_pickle, policy, example.test, asked), case)
        histories.append(asked)
    return _Tried(example, solver, policies, histories)


# -- claims: each function returns what is wrong, None if nothing is -------------------------------


def _settings(solver: Solver) -> str | None:
    if fault := fault_of_settings(solver):
        return fault
    again = pickle.loads(pickle.dumps(solver))
    return None if type(again) is type(solver) else "it is another class once pickled"


def _legal(policy: Policy | QueryPolicy, data: RoutingData, asked: list[History]) -> str | None:
    """Appends the histories to ``asked``; every other query plays random legal actions."""
    playing, rng = for_queries(policy, data), np.random.default_rng(2)
    rules = playing.problem.rules
    if rules.n_models != data.n_models:
        return f"its policy plays {rules.n_models} models of {data.n_models}"
    episodes = Episodes(data, rules)
    while len(episodes):
        history = episodes.history
        asked.append(history.take(np.arange(len(history))))  # a copy: act may change its own
        action = decided(playing, history)
        masks = rules.legal(history)
        for row in range(len(history)):
            if not 0 <= action[row] < rules.n_actions or not masks[row, action[row]]:
                legal = [rules.label(int(a)) for a in np.flatnonzero(masks[row])]
                return (
                    f"it plays {rules.label(int(action[row]))} at {_point(history, row)}, where "
                    f"{', '.join(legal)} are legal"
                )
        chance = np.where(masks, rng.random(masks.shape), -1).argmax(axis=1)
        episodes.step(np.where(history.query % 2, chance, action))
    return None


def _pure(policy: Policy | QueryPolicy, data: RoutingData, asked: list[History]) -> str | None:
    playing = for_queries(policy, data)
    for history in asked:
        with untouched(history=history) as faults:
            playing.act(history)
        if faults:
            return faults[0].replace("it", "act", 1)
    return None


def _batch(policy: Policy | QueryPolicy, data: RoutingData, asked: list[History]) -> str | None:
    playing, rng = for_queries(policy, data), np.random.default_rng(3)
    for history in asked:
        together = decided(playing, history)
        order = rng.permutation(len(history))
        alone = rng.choice(len(history), min(3, len(history)), replace=False)
        for rows in (order, *alone[:, None]):
            again = decided(playing, history.take(rows))
            if (apart := again != together[rows]).any():
                row = int(rows[apart.argmax()])
                return (
                    f"it plays {int(together[row])} among {len(history)} histories and "
                    f"{int(again[apart.argmax()])} among {len(rows)} in another order, at "
                    f"{_point(history, row)}"
                )
        if isinstance(policy, QueryPolicy):
            # The other queries' texts are exchanged.
            kept = history.query % 3 > 0
            other = for_queries(
                policy, _hidden(data, ~np.isin(np.arange(len(data)), history.query[kept]))
            )
            apart = (decided(other, history) != together) & kept
            if apart.any():
                return f"other queries' texts decide at {_point(history, int(apart.argmax()))}"
    return None


def _paid(policy: Policy | QueryPolicy, data: RoutingData, asked: list[History]) -> str | None:
    if not isinstance(policy, QueryPolicy):
        return None  # it sees histories only, which hold nothing that was not paid for
    playing = for_queries(policy, data)
    for history in asked:
        action = decided(playing, history)
        called, verified = np.zeros((2, *data.score.shape), dtype=bool)
        called[history.query], verified[history.query] = history.called, history.verified
        blind = _hidden(data, ~called, ~verified)
        if (apart := decided(for_queries(policy, blind), history) != action).any():
            return (
                "scores, costs, or signals or answers that were not bought decide at "
                f"{_point(history, int(apart.argmax()))}"
            )
    return None


def _pickle(policy: Policy | QueryPolicy, data: RoutingData, asked: list[History]) -> str | None:
    loaded = for_queries(pickle.loads(pickle.dumps(policy)), data)
    return _differs(for_queries(policy, data), loaded, asked, "once pickled and loaded")


def _seed(tried: _Tried) -> str | None:
    example = tried.example
    with own_random_numbers() as faults:
        policies = solved(tried.solver, example.problem, PRICES, example.train)
        for policy, asked in zip(policies, tried.histories, strict=True):
            # A policy may keep state between calls: this one is first asked in another order.
            playing = for_queries(policy, example.test)
            for history in reversed(asked):
                for rows in (np.arange(len(history))[:1], np.arange(len(history))[::-1]):
                    playing.act(history.take(rows))
    if faults:
        return faults[0]
    for before, after, asked in zip(tried.policies, policies, tried.histories, strict=True):
        one, other = for_queries(before, example.test), for_queries(after, example.test)
        if apart := _differs(one, other, asked, "when solved and asked again in another order"):
            return apart
    return None


def _prices(tried: _Tried) -> str | None:
    data = tried.example.test
    cost = [float(_cost(policy, data).mean()) for policy in tried.policies]
    if cost[-1] <= cost[0] + 1e-9:
        return None
    return (
        f"its mean cost is {cost[0]:.4g} at price {PRICES[0]:g} and {cost[-1]:.4g} at price "
        f"{PRICES[-1]:g}: expected no more"
    )


def _verify(claims: Claims, solver: Solver, free: Example, bought: Sequence[_Tried]) -> str | None:
    """Fails if the solver uses signals where verification comes with every call, but never plays
    VERIFY where that is an action."""
    shown = solved(solver, free.problem, PRICES, free.train)
    reads = any(_goes_by_signals(policy, free.test) for policy in shown)
    if not reads:
        return None
    for tried in bought:
        data = tried.example.test
        playing = [for_queries(policy, data) for policy in tried.policies]
        if not all(policy.problem.rules.verify for policy in playing):
            continue
        if any(_verifies(policy, data) for policy in playing):
            continue
        i = PRICES.index(0.3)
        with_it, without = (
            float((_score(p, data) - 0.3 * _cost(p, data) / unit).mean())
            for p, unit in (
                (shown[i], free.problem.costs.unit),
                (tried.policies[i], tried.example.problem.costs.unit),
            )
        )
        claims.case = str(tried.example)
        return (
            "its decisions depend on signals where verification comes with every call, but where "
            "VERIFY is an action it never plays it: there history.signal is NaN until VERIFY is "
            "played, so it decides by NaN (mean return at price 0.3: "
            f"{with_it:.3f} with signals, {without:.3f} here). Play problem.rules.verify_action "
            "where problem.rules.can_verify(history) before reading a signal"
        )
    return None


def _stands(claims: Claims, solver: Solver, example: Example) -> str | None:
    """The claims "legal", "batch" and "paid" on one example."""
    for policy in solved(solver, example.problem, PRICES, example.train):
        asked: list[History] = []
        fault = _legal(policy, example.test, asked) or _batch(policy, example.test, asked)
        if fault := fault or _paid(policy, example.test, asked):
            return fault
    return None


# -- parts -----------------------------------------------------------------------------------------


def _all_rules() -> list[Rules]:
    options = product(("last", "best"), (False, True), (False, True), (False, True))
    return [Rules(3, skip, start, verify, answer) for answer, verify, start, skip in options]  # type: ignore[arg-type]


def _hidden(
    data: RoutingData, called: NDArray[np.bool_], verified: NDArray[np.bool_] | None = None
) -> RoutingData:
    """Routing data in which marked answers and signals are exchanged between queries.

    Args:
        data: the original.
        called: ``(n, N)`` the answers to exchange, or ``(n,)`` the queries whose prompts and
            answers are exchanged.
        verified: ``(n, N)`` the signals to exchange; None for those of ``called``.
    """
    log = data.rollouts
    assert log is not None
    assert log.answer is not None
    assert log.prompt is not None
    mirror = np.stack([mirrored(np.arange(len(data)), column) for column in data.score.T], axis=1)
    model = np.arange(data.n_models)
    whole = called.ndim == 1
    texts = np.broadcast_to(called[:, None], data.score.shape) if whole else called
    unseen = texts if verified is None else verified
    signals = {name: np.where(unseen, s[mirror, model], s) for name, s in log.signals.items()}
    exchanged = replace(
        log,
        score=1 - log.score,
        cost=None if log.cost is None else log.cost[mirror, model] * 2,
        signals=signals,
        answer=np.where(texts, log.answer[mirror, model], log.answer),
        tokens_out=None if log.tokens_out is None else log.tokens_out[mirror, model],
        prompt=np.where(called, log.prompt[mirror[:, 0]], log.prompt) if whole else log.prompt,
    )
    return replace(
        data,
        score=1 - data.score,
        call_cost=data.call_cost[mirror, model] * 2,
        verify_cost=data.verify_cost[mirror, model] * 2,
        signal=np.where(unseen[..., None], data.signal[mirror, model], data.signal),
        rollouts=exchanged,
    )


def _differs(one: Policy, other: Policy, asked: Sequence[History], how: str) -> str | None:
    for history in asked:
        before, after = decided(one, history), decided(other, history)
        if (apart := before != after).any():
            row = int(apart.argmax())
            return f"it plays {before[row]}, and {after[row]} {how}, at {_point(history, row)}"
    return None


def _goes_by_signals(policy: Policy | QueryPolicy, data: RoutingData) -> bool:
    """Whether different signals of the first answer change a decision."""
    playing = for_queries(policy, data)
    episodes = Episodes(data, playing.problem.rules)
    history = episodes.history
    if not history.last_verified.any():
        if playing.problem.rules.free_start and not playing.problem.rules.verify:
            episodes.step(np.ones(len(history), dtype=np.int64))
            history = episodes.history
        else:
            return False
    other = replace(history, signal=history.signal[::-1])
    reverse = replace(history, signal=1 - history.signal)
    before = decided(playing, history)
    return any((decided(playing, changed) != before).any() for changed in (other, reverse))


def _verifies(policy: Policy, data: RoutingData) -> bool:
    episodes, verifies = Episodes(data, policy.problem.rules), False
    while len(episodes):
        action = decided(policy, episodes.history)
        verifies |= bool((action == policy.problem.rules.verify_action).any())
        episodes.step(action)
    return verifies


def _played(
    policy: Policy | QueryPolicy, data: RoutingData
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The model whose answer each query returned, and the cost of its episode, ``(n,)`` each."""
    playing = for_queries(policy, data)
    episodes = Episodes(data, playing.problem.rules)
    answer, cost = np.zeros(len(data), dtype=np.int64), np.zeros(len(data))
    while len(episodes):
        ended, paid = episodes.step(decided(playing, episodes.history))
        answer[ended.query], cost[ended.query] = playing.problem.best_answer(ended), paid
    return answer, cost


def _cost(policy: Policy | QueryPolicy, data: RoutingData) -> NDArray[np.float64]:
    return _played(policy, data)[1]


def _score(policy: Policy | QueryPolicy, data: RoutingData) -> NDArray[np.float64]:
    score: NDArray[np.float64] = data.score[np.arange(len(data)), _played(policy, data)[0]]
    return score


def _point(history: History, row: int) -> str:
    """A history in words, for a message."""
    signal = np.round(history.signal[row, :, 0], 4).tolist()
    return (
        f"query {history.query[row]}, stage {history.stage[row]}, "
        f"called {np.flatnonzero(history.called[row]).tolist()}, "
        f"verified {np.flatnonzero(history.verified[row]).tolist()}, signals {signal}"
    )
