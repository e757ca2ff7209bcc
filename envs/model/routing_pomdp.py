"""`RoutingPOMDP`: the finite decision problem of DESIGN §1, and its exact Bayes filter.

State: which models were called (observed), and the **hidden state**, constant in an episode: a
score vector ``y``, or a pair of a query class ``z`` and a score vector. A history is encoded as one
integer, its **history code**, with one digit for each model but the last:

- ``0``: not called,
- ``1 + k``: called, verified, symbol ``k``,
- ``K + 1``: called, not verified (only if ``VERIFY`` is an action).

Beliefs, values and actions of all information states are then plain arrays.

A pre-query signal is not part of the code. It precedes every decision, so a problem with one is a
collection of problems without, one for each symbol, that differ in their prior:
`RoutingPOMDP.given`.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from routing_pomdp.envs.arrays import FloatArray, IntArray
from routing_pomdp.envs.costs.cost_model import Costs
from routing_pomdp.envs.history import History
from routing_pomdp.envs.model.components import Components
from routing_pomdp.envs.model.levels import score_levels, smoothed_prior
from routing_pomdp.envs.model.observation import Observation, draw_symbols
from routing_pomdp.envs.model.pre_signal import PreSignal
from routing_pomdp.envs.model.unbuilt import Unbuilt, too_large
from routing_pomdp.envs.routing_data import RoutingData
from routing_pomdp.envs.rules import Rules

T = TypeVar("T")

_TIE = 1e-12  # posterior means this close are the same


@dataclass(frozen=True, eq=False)
class RoutingPOMDP:
    """A finite routing problem with its costs, price and rules.

    Attributes:
        score: ``(S, N)`` the score vector of each hidden state.
        prior: ``(S,)`` their probabilities.
        likelihood: ``(N - 1, S, K)`` observation likelihoods; the last model is never verified.
        costs: mean costs of calls and verifications, and expected costs in each hidden state if
            they depend on it.
        price: ``λ >= 0``, the score that one call of the most expensive model is worth.
        rules: the decisions on offer.
        observation: turns raw signals into symbols; None if signals are the symbols themselves.
        shown: ``(N - 1, K)`` which symbols occurred in training; None without training queries.
        pre: the pre-query signal, if the rules buy one.
        member: ``(S,)`` the query class of each hidden state, None without classes. It changes no
            result: if models are independent within classes, expected scores and costs are computed
            faster (`Components`).

    Raises:
        ValueError: shapes do not fit together, probabilities do not sum to one, a cost or the price
            is negative, or the most expensive model costs nothing.
    """

    score: FloatArray
    prior: FloatArray
    likelihood: FloatArray
    costs: Costs
    price: float
    rules: Rules
    observation: Observation | None = None
    shown: NDArray[np.bool_] | None = None
    pre: PreSignal | None = None
    member: IntArray | None = None

    def __post_init__(self) -> None:
        if isinstance(self.score, Unbuilt):
            self._check_costs()
            return
        n_vectors, n_models = self.score.shape
        if n_models != self.rules.n_models:
            raise ValueError(f"score has {n_models} models, the rules {self.rules.n_models}")
        if not np.isfinite(self.score).all():
            raise ValueError("score has values that are not finite: expected numbers in [0, 1]")
        if self.prior.shape != (n_vectors,):
            raise ValueError(f"prior has shape {self.prior.shape}, expected ({n_vectors},)")
        if self.likelihood.ndim != 3 or self.likelihood.shape[:2] != (n_models - 1, n_vectors):
            raise ValueError(
                f"likelihood has shape {self.likelihood.shape}, "
                f"expected ({n_models - 1}, {n_vectors}, K)"
            )
        if self.shown is not None and self.shown.shape != (n_models - 1, self.likelihood.shape[2]):
            raise ValueError(
                f"shown has shape {self.shown.shape}, "
                f"expected ({n_models - 1}, {self.likelihood.shape[2]})"
            )
        for name, rows in (("prior", self.prior), ("likelihood", self.likelihood)):
            if not (np.all(rows >= 0) and np.allclose(rows.sum(-1), 1, rtol=0, atol=1e-9)):
                raise ValueError(f"{name} must be non-negative and sum to one along its last axis")
        self._check_costs()
        for name, by_state in (("call", self.costs.call_in), ("verify", self.costs.verify_in)):
            if by_state is not None and not (
                by_state.shape == self.score.shape and np.all((by_state >= 0) & (by_state < np.inf))
            ):
                raise ValueError(
                    f"costs.{name}_in must have a finite number >= 0 for each of {n_vectors} "
                    f"states and {n_models} models; its shape is {by_state.shape}"
                )
        if self.member is not None and self.member.shape != (n_vectors,):
            raise ValueError(f"member has shape {self.member.shape}, expected ({n_vectors},)")
        if self.pre is None and self.rules.pre_query:
            raise ValueError("the rules buy a pre-query signal, but no likelihood of it is given")
        if self.pre is not None and len(self.pre.likelihood) != n_vectors:
            raise ValueError(
                f"the pre-query signal has likelihoods of {len(self.pre.likelihood)} hidden "
                f"states, expected {n_vectors}"
            )

    def _check_costs(self) -> None:
        n_models = self.n_models
        for name, cost in (("call", self.costs.call), ("verify", self.costs.verify)):
            if cost.shape != (n_models,) or not np.all((cost >= 0) & (cost < np.inf)):
                raise ValueError(
                    f"costs.{name} is {cost.tolist()}: expected {n_models} finite numbers >= 0"
                )
        if not (0 <= self.price < np.inf):
            raise ValueError(f"price is {self.price}: expected a finite number >= 0")
        if not self.costs.unit > 0:
            raise ValueError(
                "the most expensive model costs nothing, but the price counts its calls"
            )

    # -- making one ---------------------------------------------------------------------------

    @classmethod
    def fit(
        cls,
        data: RoutingData,
        observation: Observation,
        costs: Costs,
        rules: Rules,
        price: float = 0.0,
        levels: int | None = None,
        prior_strength: float = 4.0,
        pre: Observation | None = None,
    ) -> Self:
        """Estimates the problem from training queries.

        Args:
            data: ``n`` training queries with every model's score.
            observation: unfitted; it is fitted here.
            costs: fitted mean costs.
            rules: the decisions on offer.
            price: see the class; `at` changes it.
            levels: ``L``, how many values a score is rounded to; None for 2 if all scores are
                0 or 1, else 5. Each level's value is the mean of the scores rounded to it.
            prior_strength: Dirichlet concentration of ``p(y)``, in queries. Its base measure is the
                product of the models' own level frequencies, with half a count added to each level,
                so that ``p(y)`` is shrunk toward independence.
            pre: unfitted, of the pre-query signal if the rules buy one, see `PreSignal.fit`.

        Raises:
            ValueError: there are no queries, or a score is missing.
        """
        score = data.score
        if len(data) == 0:
            raise ValueError("cannot fit a problem to no queries")
        if np.isnan(score).any():
            raise ValueError("cannot fit a problem to missing scores: select complete models")
        level, values = score_levels(score, levels)
        n, n_models = score.shape
        if too_large(n_models, values.shape[1], observation.n_symbols):
            return cls._without_table(
                n_models, values.shape[1], observation.n_symbols, costs, price, rules
            )
        vectors, prior = smoothed_prior(level, values.shape[1], prior_strength)
        fitted = observation.fit(data.signal[:, :-1], level, vectors)
        shown = np.zeros((n_models - 1, fitted.n_symbols), dtype=bool)
        for model in range(n_models - 1):
            shown[model, fitted.symbols(model, data.signal[:, model])] = True
        pre_signal = None
        if rules.pre_query:
            if pre is None:
                raise ValueError("the rules buy a pre-query signal: give an observation for it")
            paid = np.zeros(n) if data.pre_cost is None else data.pre_cost
            pre_signal = PreSignal.fit(data.require_pre_signal(), paid, pre, level, vectors)
        return cls(
            score=values[np.arange(n_models), vectors],
            prior=prior,
            likelihood=fitted.likelihood,
            costs=costs,
            price=price,
            rules=rules,
            observation=fitted,
            shown=shown,
            pre=pre_signal,
        )

    @classmethod
    def _without_table(
        cls, n_models: int, levels: int, symbols: int, costs: Costs, price: float, rules: Rules
    ) -> Self:
        """A problem with too many models for arrays of score vectors: it has rules, costs and
        price, and `Unbuilt` in place of the arrays.

        Raises:
            ValueError: the rules need the arrays.
        """
        vectors = levels**n_models

        def table(*shape: int) -> Any:
            return Unbuilt(shape, levels, n_models)

        if rules.pre_query or rules.answer == "best":
            table().refuse()
        return cls(
            score=table(vectors, n_models),
            prior=table(vectors),
            likelihood=table(n_models - 1, vectors, symbols),
            costs=costs,
            price=price,
            rules=rules,
        )

    @property
    def has_table(self) -> bool:
        """Whether the score vectors fit into memory; otherwise `Unbuilt` replaces them."""
        return not isinstance(self.score, Unbuilt)

    def at(self, price: float) -> Self:
        """The same problem at another price; what does not depend on the price is kept."""
        other = with_fields(self, price=price)
        other._check_costs()
        other.__dict__.pop("prices_in", None)
        if "_given" in self.__dict__:
            other.__dict__["_given"] = [after.at(price) for after in self._given]
        return other

    # -- before the first call ----------------------------------------------------------------

    def given(self, symbol: int) -> Self:
        """The problem after a symbol of the pre-query signal: without the signal, and with the
        posterior as its prior. An impossible symbol leaves the prior unchanged."""
        return self._given[symbol]

    def branches(self) -> list[tuple[float, Self]]:
        """Probability of each pre-query symbol, and the problem `given` it; without a pre-query
        signal, 1 and this problem."""
        if self.pre is None or not self.rules.pre_query:
            return [(1.0, self)]
        shares = self.prior @ self.pre.likelihood
        return list(zip(shares.tolist(), self._given, strict=True))

    @cached_property
    def _given(self) -> list[Self]:
        assert self.pre is not None
        rules = replace(self.rules, pre_query=False)
        posteriors = self.pre.posteriors(self.prior)
        return [replace(self, prior=prior, rules=rules, pre=None) for prior in posteriors]

    @property
    def pre_price(self) -> float:
        """Cost of the pre-query signal in score; 0 if the rules buy none."""
        if self.pre is None or not self.rules.pre_query:
            return 0.0
        return self.price * self.pre.cost / self.costs.unit

    def pre_symbols(self, history: History) -> IntArray:
        """Symbols ``(n,)`` of the pre-query signals in histories."""
        if self.pre is None or history.pre is None:
            raise ValueError("the history holds no pre-query signal, which the rules buy")
        return self.pre.symbols(history.pre)

    def _after(self, history: History) -> Iterator[tuple[IntArray, Self]]:
        """Rows of histories grouped by pre-query symbol, each with the problem `given` it."""
        symbol = self.pre_symbols(history)
        for k in np.unique(symbol):
            yield np.flatnonzero(symbol == k), self.given(int(k))

    def require_seen(self) -> None:
        """Raise ValueError if the problem begins with a pre-query signal: beliefs and values are
        those of the problem `given` its symbol."""
        if self.rules.pre_query:
            raise ValueError(
                "the problem begins with a pre-query signal: solve it with "
                "PreQueryConditioned(solver), or solve problem.given(symbol) for each symbol"
            )

    # -- sizes --------------------------------------------------------------------------------

    @property
    def n_models(self) -> int:
        return self.score.shape[1]

    @property
    def n_symbols(self) -> int:
        return self.likelihood.shape[2]

    @property
    def digits(self) -> int:
        """The radix of history codes: ``K + 1``, or ``K + 2`` if ``VERIFY`` is an action."""
        return self.n_symbols + 1 + self.rules.verify

    @property
    def unverified(self) -> int:
        """The digit of an answer that was not verified."""
        return self.n_symbols + 1

    @property
    def n_histories(self) -> int:
        """The number of history codes, reachable or not."""
        return self.digits ** (self.n_models - 1)

    @cached_property
    def weights(self) -> IntArray:
        """``(N - 1,)`` the weight of each model's digit in a history code."""
        return self.digits ** np.arange(self.n_models - 2, -1, -1, dtype=np.int64)

    @property
    def call_price(self) -> FloatArray:
        """``(N,)`` mean cost of a call of each model in score, ``λ c_i / c_{N-1}``."""
        return self.price * self.costs.call / self.costs.unit

    @property
    def verify_price(self) -> FloatArray:
        """``(N,)`` mean cost of a verification in score, ``λ v_i / c_{N-1}``."""
        return self.price * self.costs.verify / self.costs.unit

    @cached_property
    def prices_in(self) -> tuple[FloatArray, FloatArray]:
        """Costs of calls and of verifications in score in each hidden state, two ``(S, N)``."""
        call, verify = self.costs.in_states(np.arange(len(self.prior)))
        rate = self.price / self.costs.unit
        return rate * call, rate * verify

    # -- histories and their codes ------------------------------------------------------------

    def encode(self, history: History) -> IntArray:
        """History codes ``(n,)`` of histories that a decision can follow."""
        self.require_seen()
        code = np.zeros(len(history), dtype=np.int64)
        for model, weight in enumerate(self.weights):
            if self.rules.verify:
                code += (weight * self.unverified) * history.called[:, model]
            rows = np.flatnonzero(history.verified[:, model])
            if len(rows):
                digit = 1 + self.symbols(model, history.signal[rows, model])
                code[rows] += weight * (digit - self.unverified * self.rules.verify)
        return code

    def symbols(self, model: int, signal: FloatArray) -> IntArray:
        """Symbols ``(n,)`` of one model's signals ``(n, D)``."""
        if self.observation is None:
            return signal[:, 0].astype(np.int64)
        return self.observation.symbols(model, signal)

    @property
    def representative(self) -> FloatArray:
        """``(N - 1, K, D)``: a typical raw signal of each symbol."""
        if self.observation is None:
            symbol = np.arange(self.n_symbols, dtype=float)[None, :, None]
            return np.repeat(symbol, self.n_models - 1, axis=0)
        return self.observation.representative

    def decode(self, code: IntArray) -> History:
        """Histories with these codes; each symbol is replaced by its representative signal."""
        digit = self.digits_of(code)
        n, typical = len(code), self.representative
        called = np.zeros((n, self.n_models), dtype=bool)
        called[:, :-1] = digit > 0
        verified = np.zeros_like(called)
        verified[:, :-1] = (digit > 0) & (digit <= self.n_symbols)
        signal = np.full((n, self.n_models, typical.shape[2]), np.nan)
        row, model = np.nonzero(verified)
        signal[row, model] = typical[model, digit[row, model] - 1]
        reversed_called = called[:, ::-1]
        stage = np.where(called.any(1), self.n_models - 1 - reversed_called.argmax(1), -1)
        return History(np.arange(n), stage, called, verified, signal)

    def digits_of(self, code: IntArray) -> IntArray:
        """The digits ``(n, N - 1)`` of history codes ``(n,)``."""
        return np.asarray(code)[:, None] // self.weights % self.digits

    # -- the Bayes filter ---------------------------------------------------------------------

    def belief(self, code: IntArray) -> FloatArray:
        """Exact posteriors ``(n, S)`` of the hidden state, ``b(y) ∝ p(y) Π_j Z_j(o_j | y)``.

        A history that the model holds impossible gets the prior (only hand-made models have
        likelihoods of exactly 0).
        """
        joint = self.joint(code)
        mass = joint.sum(1, keepdims=True)
        return np.where(mass > 0, joint / np.where(mass > 0, mass, 1.0), self.prior)

    def mass(self, code: IntArray) -> FloatArray:
        """``(n,)`` probabilities of the symbols in histories with these codes."""
        return np.asarray(self.components.joint(self.digits_of(code)).sum(axis=1))

    def expected_scores(self, code: IntArray) -> FloatArray:
        """``(n, N)`` every model's expected score after histories with these codes; the prior mean
        for impossible histories, as in `belief`."""
        mass, scores = self.mass(code)[:, None], self.components.scores(self.digits_of(code))
        possible = mass > 0
        return np.where(possible, scores / np.where(possible, mass, 1.0), self.prior @ self.score)

    def expected_prices(self, code: IntArray) -> tuple[FloatArray, FloatArray]:
        """Expected costs in score of calling and of verifying each model after histories with these
        codes, two ``(n, N)``; for models not called, or not verified, so far. The mean for
        impossible histories."""
        components, rate = self.components, self.price / self.costs.unit
        call, verify = components.paid(components.posterior(self.digits_of(code)))
        return rate * call, rate * verify

    @cached_property
    def components(self) -> Components:
        """The components given which models are independent: query classes, or hidden states."""
        self.require_seen()
        return Components.of(
            self.member, self.prior, self.score, self.likelihood, self.costs, self.digits
        )

    @cached_property
    def has_gaps(self) -> bool:
        """Whether `doubts` can be true of any history; False without a table."""
        if not self.has_table:
            return False
        if self.rules.pre_query:
            return any(problem.has_gaps for problem in self._given)
        return bool(self._excluding.any() or self._unshown.any())

    def doubts(self, history: History) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Which histories ``(n,)`` the model holds impossible, and which ``(n,)`` have a symbol
        that did not occur in training."""
        if self.rules.pre_query:
            impossible, unshown = np.zeros((2, len(history)), dtype=bool)
            for rows, problem in self._after(history):
                impossible[rows], unshown[rows] = problem.doubts(history.take(rows))
            return impossible, unshown
        code = self.encode(history)
        digit, model = self.digits_of(code), np.arange(self.n_models - 1)
        excluding, unshown = self._excluding[model, digit], self._unshown[model, digit]
        impossible = np.asarray(excluding.any(axis=1))
        rows = np.flatnonzero(impossible)
        impossible[rows] = self.mass(code[rows]) == 0
        return impossible, np.asarray(unshown.any(axis=1))

    @cached_property
    def _excluding(self) -> NDArray[np.bool_]:
        """``(N - 1, digits)`` digits that have probability 0 in some component."""
        components = self.components
        return (components.factor[:, :, components.weight > 0] == 0).any(axis=2)

    @cached_property
    def _unshown(self) -> NDArray[np.bool_]:
        """``(N - 1, digits)`` digits of symbols that did not occur in training."""
        unshown = np.zeros((self.n_models - 1, self.digits), dtype=bool)
        if self.shown is not None:
            unshown[:, 1 : 1 + self.n_symbols] = ~self.shown
        return unshown

    def joint(self, code: IntArray) -> FloatArray:
        """``P(history, y)`` ``(n, S)`` for history codes ``(n,)``: the unnormalised belief."""
        digit = self.digits_of(code)
        joint = np.tile(self.prior, (len(digit), 1))
        for model in range(self.n_models - 1):
            joint *= self.factors[model][digit[:, model]]
        return joint

    @cached_property
    def factors(self) -> FloatArray:
        """``(N - 1, digits, S)`` likelihood of each digit; 1 for no observation."""
        self.require_seen()
        factors = np.ones((self.n_models - 1, self.digits, len(self.prior)))
        factors[:, 1 : 1 + self.n_symbols] = self.likelihood.transpose(0, 2, 1)
        return factors

    def best_answer(self, history: History) -> IntArray:
        """The models ``(n,)`` whose answers are returned under the answer rule. Ties of the
        posterior mean go to the more expensive model."""
        if self.rules.answer == "last":
            return history.stage
        if self.rules.pre_query:
            answer = np.empty(len(history), dtype=np.int64)
            for rows, problem in self._after(history):
                answer[rows] = problem.best_answer(history.take(rows))
            return answer
        return self.best_called(self.encode(history), history.called)

    def best_called(self, code: IntArray, called: NDArray[np.bool_]) -> IntArray:
        """The models ``(n,)`` of the highest posterior mean among those ``called`` ``(n, N)``,
        after histories with these codes."""
        mean = np.where(called, self.expected_scores(code), -np.inf)
        # Matrix products round differently with the batch size, so ties are taken with a tolerance:
        # the answer must not depend on the batch.
        tied = mean >= mean.max(axis=1, keepdims=True) - _TIE
        return self.n_models - 1 - tied[:, ::-1].argmax(axis=1)

    # -- sampling -----------------------------------------------------------------------------

    def sample(self, n: int, rng: np.random.Generator) -> RoutingData:
        """``n`` queries drawn from the model; each symbol is replaced by its representative."""
        vector = rng.choice(len(self.prior), size=n, p=self.prior)
        signal = np.full((n, self.n_models, self.representative.shape[2]), np.nan)
        for model in range(self.n_models - 1):
            symbol = draw_symbols(self.likelihood[model], vector, rng)
            signal[:, model] = self.representative[model, symbol]
        call_cost, verify_cost = self.costs.in_states(vector)
        data = RoutingData(self.score[vector], call_cost, verify_cost, signal)
        if self.pre is None or not self.rules.pre_query:
            return data
        pre_signal = self.pre.sample(vector, rng)
        return replace(data, pre_signal=pre_signal, pre_cost=np.full(n, self.pre.cost))


def with_fields(thing: T, **fields: object) -> T:
    """A copy of a frozen dataclass with some fields replaced, which keeps cached properties."""
    other = copy(thing)
    for name, value in fields.items():
        object.__setattr__(other, name, value)
    return other
