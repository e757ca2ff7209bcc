"""Exact value iteration by backward induction over the reachable beliefs.

A reachable belief is a history code, so values are one array of shape ``(digits,) * (N - 1)``.
Values are unnormalised, ``W(h) = P(h) V(h)``: the expectation over the next symbol is then a plain
sum over an axis, without division. With the core actions this is DESIGN §1's
``V_i(b) = max(E_b[y_i], -λ(c_{i+1} + v_{i+1})/c_{N-1} + Σ_o P(o|b) V_{i+1}(b_o))``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from routing_pomdp.envs import ESCALATE, STAY, RoutingData, RoutingPOMDP
from routing_pomdp.envs.arrays import FloatArray
from routing_pomdp.envs.settings.ranges import Count
from routing_pomdp.solvers.solver import Solver, TablePolicy

Index = tuple[slice | int, ...]


@dataclass(frozen=True)
class Exact(Solver):
    """The optimal policy of the fitted model, for every combination of rules.

    At a history of probability 0 inside the model, it returns the current answer.

    Attributes:
        max_histories: the largest number of histories (three floats and a byte each).
    """

    max_histories: Count = 2**24

    def solve(self, problem: RoutingPOMDP, train: RoutingData | None = None) -> TablePolicy:
        return self.solve_frontier(problem, [problem.price], train)[0]

    def solve_frontier(
        self, problem: RoutingPOMDP, prices: Sequence[float], train: RoutingData | None = None
    ) -> list[TablePolicy]:
        """Optimal policies, one per price; the tables that do not depend on it are made once.

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
    """Tables that do not depend on the price, of shape ``(digits,) * (N - 1)`` over histories.

    Attributes:
        mass: ``P(h)``.
        stay: ``P(h) E[score of the returned answer | h]``; 0 before the first call.
        final: the same after the last model is called at ``h``.
        call: ``P(h) E[cost of calling model i | h]`` for each model ``i`` and the histories of the
            models before it, ``(digits,) * i``; None if costs are the same in every state.
        verify: the same for the verification of its answer.
    """

    mass: FloatArray
    stay: FloatArray
    final: FloatArray
    call: Sequence[FloatArray] | None = None
    verify: Sequence[FloatArray] | None = None

    @classmethod
    def of(cls, problem: RoutingPOMDP) -> Tables:
        n, shape = problem.n_models, (problem.digits,) * (problem.n_models - 1)
        table = problem.components.table
        final = table(n - 1, value=problem.components.score[-1, 0])
        stay = np.zeros(shape)
        if problem.rules.answer == "last":
            for model in range(n - 1):
                stay[_last_called(model, n)] = table(model + 1, scored=model, called=True)
        else:
            best = np.full(shape, -np.inf)
            for model in range(n - 1):
                called: Index = (slice(None),) * model + (slice(1, None),)
                found = table(n - 1, scored=model, called=True)
                np.maximum(best[called], found, out=best[called])
            stay, final = np.where(np.isfinite(best), best, 0.0), np.maximum(best, final)
        return cls(table(n - 1), stay, final, *cls._paid(problem))

    @staticmethod
    def _paid(problem: RoutingPOMDP) -> Iterator[list[FloatArray] | None]:
        costs, table = problem.components.costs, problem.components.table
        for by_component in (costs.call_in, costs.verify_in):
            if by_component is None:
                yield None
            else:
                yield [
                    table(model, value=by_component[:, model]) for model in range(len(costs.call))
                ]


def backward_induction(
    problem: RoutingPOMDP, tables: Tables, follow: NDArray[np.integer] | None = None
) -> TablePolicy:
    """The optimal policy at the problem's price. Ties go to the lower action, `STAY` first.

    Args:
        problem: the problem with its price and rules.
        tables: tables of the same problem.
        follow: ``(n_histories,)`` actions of a policy to evaluate instead.
    """
    n, symbols, rules = problem.n_models, problem.n_symbols, problem.rules
    rate = problem.price / problem.costs.unit

    def paid(model: int, here: Index, verified: bool = False) -> FloatArray:
        """The action cost of a call or a verification of ``model`` times ``P(h)``, for the
        histories ``here``; models after ``model`` were not called."""
        tables_of = tables.verify if verified else tables.call
        if tables_of is not None:
            return rate * tables_of[model][here[:model]]
        costs = problem.costs.verify if verified else problem.costs.call
        before = here[:model] + (0,) * (n - 1 - model)
        return rate * costs[model] * tables.mass[before]

    value = np.empty_like(tables.mass)
    action = np.zeros(value.shape, dtype=np.int8)
    given = None if follow is None else np.reshape(follow, value.shape)
    for stage in range(n - 2, -2, -1):
        here = _last_called(stage, n)
        mass = tables.mass[here]
        # Without a free start, the start has one choice; the policy is never asked for it.
        forced = stage < 0 and not rules.free_start
        best = tables.stay[here] if stage >= 0 else np.full_like(mass, -np.inf)
        choice = np.full(np.shape(mass), STAY, dtype=np.int8)
        for rungs in range(ESCALATE, ESCALATE + rules.reach(stage)):
            target = stage + rungs
            q = -paid(target, here)
            if target == n - 1:
                q = q + tables.final[here]
            elif rules.verified_at_once[target]:
                after = value[_then(here, target, slice(1, 1 + symbols))]
                q = q - paid(target, here, verified=True) + after.sum(axis=-1)
            else:
                q = q + value[_then(here, target, problem.unverified)]
            taken = q > best if given is None or forced else given[here] == rungs
            choice = np.where(taken, np.int8(rungs), choice)
            best = np.where(taken, q, best)
        if rules.verify and stage >= 0:
            # The last axis of `here` is this model's digit: K verified ones, then unverified.
            q = -paid(stage, here, verified=True) + best[..., :-1].sum(axis=-1)
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
