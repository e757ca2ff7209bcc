"""Evaluation of a policy: its outcomes on logged queries, and its value inside the fitted model."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from routing_pomdp.envs import STAY, Episodes, History, RoutingData, RoutingPOMDP
from routing_pomdp.envs.arrays import FloatArray, IntArray
from routing_pomdp.solvers.solver import Policy, QueryPolicy, decided, for_queries

# Small enough for a chunk's arrays to stay in the processor's cache.
_CHUNK = 2**14


@dataclass(frozen=True, eq=False)
class Outcome:
    """A policy's outcomes on ``n`` queries.

    Attributes:
        score: ``(n,)`` score of the returned answer.
        cost: ``(n,)`` cost paid, in the unit of the data.
        answer: ``(n,)`` the model whose answer was returned.
        calls: ``(n,)`` number of models called.
        verifications: ``(n,)`` number of answers verified.
        decisions: total number of decisions.
        impossible: number of decisions after a history of probability 0 in the policy's model;
            policies then use the prior (`RoutingPOMDP.belief`), tables return the answer.
        unseen: number of decisions after a symbol that no training query has.
    """

    score: FloatArray
    cost: FloatArray
    answer: IntArray
    calls: IntArray
    verifications: IntArray
    decisions: int
    impossible: int = 0
    unseen: int = 0


def evaluate(policy: Policy | QueryPolicy, data: RoutingData) -> Outcome:
    """Plays ``policy`` on every query of ``data``, exactly as `RoutingEnv` would step it."""
    policy = for_queries(policy, data)
    problem, n = policy.problem, len(data)
    cost = np.empty(n)
    answer, calls, verifications = (np.empty(n, dtype=np.int64) for _ in range(3))
    decisions = impossible = unseen = 0
    doubtful = problem.has_gaps
    for begin in range(0, n, _CHUNK):
        episodes = Episodes(data, problem.rules, slice(begin, begin + _CHUNK))
        while len(episodes):
            decisions += len(episodes)
            if doubtful:
                doubts = problem.doubts(episodes.history)
                impossible, unseen = (
                    impossible + int(doubts[0].sum()),
                    unseen + int(doubts[1].sum()),
                )
            ended, paid = episodes.step(decided(policy, episodes.history))
            cost[ended.query] = paid
            answer[ended.query] = problem.best_answer(ended)
            calls[ended.query] = _count(ended.called)
            verifications[ended.query] = _count(ended.verified)
    score = data.score[np.arange(n), answer]
    return Outcome(score, cost, answer, calls, verifications, decisions, impossible, unseen)


def _count(mask: NDArray[np.bool_]) -> IntArray:
    """Number of true entries in each row."""
    # Contiguous columns make the sum several times faster.
    return np.ascontiguousarray(mask.T).sum(axis=0)


def model_value(policy: Policy, problem: RoutingPOMDP | None = None) -> float:
    """The exact expected return of a policy inside a fitted model.

    It enumerates every history that the policy can reach, without sampling. A policy on raw signals
    gets the representative signal of each symbol.

    Args:
        policy: a policy that depends on histories only.
        problem: the model, with the policy's rules; None for the policy's own problem.
    """
    if problem is None:
        problem = policy.problem
    if policy.problem.rules.pre_query:
        branches = zip(problem.branches(), _conditional(policy), strict=True)
        return sum(share * model_value(after, left) for (share, left), after in branches) - (
            problem.pre_price
        )
    rules, answers = policy.problem.rules, policy.problem.best_answer
    weight, symbols = problem.weights, np.arange(1, 1 + problem.n_symbols)
    last, total = problem.n_models - 1, 0.0

    def verified(code: IntArray, model: IntArray, digit: int) -> IntArray:
        """The histories in which ``model``'s digit changes from ``digit`` to each symbol."""
        return (code[:, None] + weight[model][:, None] * (symbols - digit)).ravel()

    def paid(code: IntArray, model: IntArray, bought: int) -> float:
        """Expected cost of calls (0) or verifications (1) of ``model`` at histories ``code``."""
        price = problem.expected_prices(code)[bought]
        return float(problem.mass(code) @ price[np.arange(len(code)), model])

    def earned(code: IntArray, answer: IntArray) -> float:
        scores = problem.components.scores(problem.digits_of(code))
        return float(scores[np.arange(len(code)), answer].sum())

    def climb(code: IntArray, model: IntArray, history: History) -> IntArray:
        """Pays for the calls of ``model`` at ``code``, adds the scores of episodes that end, and
        returns the histories that follow."""
        nonlocal total
        total -= paid(code, model, 0)
        final = model == last
        if final.any():
            ended = history.take(np.flatnonzero(final))
            ended.called[:, last] = True
            ended.stage[:] = last
            total += earned(code[final], answers(ended))
        code, model = code[~final], model[~final]
        if rules.verify:
            return code + weight[model] * problem.unverified
        total -= paid(code, model, 1)
        return verified(code, model, 0)

    code = np.zeros(1, dtype=np.int64)
    if not rules.free_start:
        code = climb(code, np.zeros(1, dtype=np.int64), problem.decode(code))
    while len(code):
        following = []
        for chunk in np.array_split(code, -(-len(code) // _CHUNK)):
            history = problem.decode(chunk)
            action = policy.act(history)
            stays, verifies = action == STAY, action == rules.verify_action
            climbs = ~stays & ~verifies
            total += earned(chunk[stays], answers(history.take(np.flatnonzero(stays))))
            stage = history.stage
            total -= paid(chunk[verifies], stage[verifies], 1)
            following.append(verified(chunk[verifies], stage[verifies], problem.unverified))
            following.append(
                climb(
                    chunk[climbs],
                    stage[climbs] + action[climbs],
                    history.take(np.flatnonzero(climbs)),
                )
            )
        code = np.concatenate(following)
    return float(total)


@dataclass(frozen=True, eq=False)
class _Conditional:
    """A policy given a pre-query signal.

    Attributes:
        problem: the policy's problem, given the symbol.
        policy: the policy, which reads the signal.
        signal: ``(P,)`` the signal.
    """

    problem: RoutingPOMDP
    policy: Policy
    signal: FloatArray

    def act(self, history: History) -> IntArray:
        pre = np.broadcast_to(self.signal, (len(history), len(self.signal)))
        return self.policy.act(replace(history, pre=pre))


def _conditional(policy: Policy) -> list[_Conditional]:
    """A policy given each symbol's representative pre-query signal."""
    problem = policy.problem
    assert problem.pre is not None
    return [
        _Conditional(problem.given(symbol), policy, signal)
        for symbol, signal in enumerate(problem.pre.representative)
    ]


def returns(outcome: Outcome, problem: RoutingPOMDP) -> FloatArray:
    """The return of each query, ``(n,)``: ``score - λ · cost / c_{N-1}`` (DESIGN §1)."""
    return outcome.score - problem.price * outcome.cost / problem.costs.unit
