"""Exact value iteration by backward induction over the reachable beliefs.

A reachable belief is a history code, so values live in one array of shape ``(digits,) * (N - 1)``.
Everything is kept unnormalised, ``W(h) = P(h) V(h)``: the sum over the next symbol is then a plain
sum over an axis and nothing is ever divided. With the core actions this is DESIGN §1's
``V_i(b) = max(E_b[y_i], -λ(c_{i+1} + v_{i+1})/c_{N-1} + Σ_o P(o|b) V_{i+1}(b_o))``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from envs import ESCALATE, STAY, Replay, RoutingPOMDP
from envs.ranges import Count
from solvers.solver import Solver, TablePolicy

FloatArray = NDArray[np.float64]
Index = tuple[slice | int, ...]


@dataclass(frozen=True)
class Exact(Solver):
    """The optimal policy of the fitted model, for every combination of rules.

    A history that the model holds impossible is worth nothing whatever is done: its answer is
    returned.

    Attributes:
        max_histories: the largest tree it takes on (three floats and a byte a history).
    """

    max_histories: Count = 2**24

    def solve(self, problem: RoutingPOMDP, train: Replay | None = None) -> TablePolicy:
        return self.solve_frontier(problem, [problem.price], train)[0]

    def solve_frontier(
        self, problem: RoutingPOMDP, prices: Sequence[float], train: Replay | None = None
    ) -> list[TablePolicy]:
        """Exact policies for every price; the price-free tables are made once.

        Raises:
            ValueError: the tree of histories is too large.
        """
        if problem.n_histories > self.max_histories:
            raise ValueError(
                f"the exact solver would enumerate {problem.n_histories:,} histories "
                f"({problem.n_models} models, {problem.n_symbols} symbols), more than "
                f"solver.max_histories={self.max_histories:,}: use fewer observation.bins or "
                "rollouts.models, or a solver that copes (solver=pomcp, solver=belief_dqn)"
            )
        tables = Tables.of(problem)
        return [backward_induction(problem.at(price), tables) for price in prices]


@dataclass(frozen=True, eq=False)
class Tables:
    """What does not depend on the price, each of shape ``(digits,) * (N - 1)`` over histories.

    Attributes:
        mass: ``P(h)``.
        stay: ``P(h) E[score of the returned answer | h]``; 0 before the first call.
        final: the same once the last model has been called after ``h``.
    """

    mass: FloatArray
    stay: FloatArray
    final: FloatArray

    @classmethod
    def of(cls, problem: RoutingPOMDP) -> Tables:
        n, digits = problem.n_models, problem.digits
        shape = (digits,) * (n - 1)
        # P(h, y) factorises over models, so each table is one matrix product of two halves.
        half = (n - 1) // 2
        left, right = _products(problem.factors[:half]), _products(problem.factors[half:])

        def expectation(y: FloatArray) -> FloatArray:
            return ((left * (problem.prior * y)) @ right.T).reshape(shape)

        final = expectation(problem.score[:, -1])
        stay = np.zeros(shape)
        if problem.rules.answer == "last":
            for model in range(n - 1):
                at = _last_called(model, n)
                stay[at] = expectation(problem.score[:, model])[at]
        else:
            best = np.full(shape, -np.inf)
            for model in range(n - 1):
                called: Index = (slice(None),) * model + (slice(1, None),)
                np.maximum(
                    best[called], expectation(problem.score[:, model])[called], out=best[called]
                )
            stay, final = np.where(np.isfinite(best), best, 0.0), np.maximum(best, final)
        return cls(expectation(np.ones(len(problem.prior))), stay, final)


def backward_induction(
    problem: RoutingPOMDP, tables: Tables, follow: NDArray[np.integer] | None = None
) -> TablePolicy:
    """The optimal policy at the problem's price. Ties go to the lower action, `STAY` first.

    Args:
        problem: whose price and rules apply.
        tables: of the same problem.
        follow: ``(n_histories,)`` the actions of a policy to be evaluated instead.
    """
    n, symbols, rules = problem.n_models, problem.n_symbols, problem.rules
    call, verify = problem.call_price, problem.verify_price
    value = np.empty_like(tables.mass)
    action = np.zeros(value.shape, dtype=np.int8)
    given = None if follow is None else np.reshape(follow, value.shape)
    for stage in range(n - 2, -2, -1):
        here = _last_called(stage, n)
        mass = tables.mass[here]
        # A forced start is a start with one choice; its action is never asked for.
        forced = stage < 0 and not rules.free_start
        best = tables.stay[here] if stage >= 0 else np.full_like(mass, -np.inf)
        choice = np.full(np.shape(mass), STAY, dtype=np.int8)
        for rungs in range(ESCALATE, ESCALATE + rules.reach(stage)):
            target = stage + rungs
            q = -call[target] * mass
            if target == n - 1:
                q = q + tables.final[here]
            elif rules.verify:
                q = q + value[_then(here, target, problem.unverified)]
            else:
                after = value[_then(here, target, slice(1, 1 + symbols))]
                q = q - verify[target] * mass + after.sum(axis=-1)
            taken = q > best if given is None or forced else given[here] == rungs
            choice = np.where(taken, np.int8(rungs), choice)
            best = np.where(taken, q, best)
        if rules.verify and stage >= 0:
            # The last axis of `here` is this model's digit: K verified ones, then unverified.
            q = -verify[stage] * mass[..., -1] + best[..., :-1].sum(axis=-1)
            taken = q > best[..., -1]
            if given is not None:
                taken = given[here][..., -1] == rules.verify_action
            choice[..., -1] = np.where(taken, rules.verify_action, choice[..., -1])
            best = np.concatenate(
                [best[..., :-1], np.where(taken, q, best[..., -1])[..., None]], -1
            )
        value[here], action[here] = best, choice
    return TablePolicy(problem, action.ravel(), value=float(value[(0,) * (n - 1)]))


def _last_called(stage: int, n_models: int) -> Index:
    """The index of all histories whose last call was ``stage``, its digit on the last axis."""
    if stage < 0:
        return (0,) * (n_models - 1)
    return (slice(None),) * stage + (slice(1, None),) + (0,) * (n_models - 2 - stage)


def _then(here: Index, model: int, digit: slice | int) -> Index:
    """The index of the histories that follow ``here`` when ``model`` is called next."""
    return (*here[:model], digit, *here[model + 1 :])


def _products(factors: FloatArray) -> FloatArray:
    """``(digits ** m, S)`` products over ``m`` models of one factor each; one row if none."""
    product = np.ones((1, factors.shape[2]))
    for factor in factors:
        product = (product[:, None] * factor).reshape(-1, factors.shape[2])
    return product
