"""`RoutingPOMDP`: the finite decision problem of DESIGN §1, and its exact Bayes filter.

State: which models were called (observed), and the **hidden state**, constant in an episode: a
score vector ``y``, or a query class ``z`` with one. What was observed fits into one integer, the
**history code**: a number in mixed radix with one digit a model that a decision can follow (all but
the last),

- ``0``: not called,
- ``1 + k``: called, verified, symbol ``k``,
- ``K + 1``: called, not verified (a digit only where ``VERIFY`` is an action).

Belief, value and action of every reachable information state are then plain arrays.

A pre-query signal is no digit. It comes before every decision, so a problem with one is as many
problems without as it has symbols, each with a prior of its own: `RoutingPOMDP.given`.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from routing_pomdp.envs.costs.cost_model import Costs
from routing_pomdp.envs.history import History
from routing_pomdp.envs.model.components import Components
from routing_pomdp.envs.model.levels import score_levels, smoothed_prior
from routing_pomdp.envs.model.observation import Observation, draw_symbols
from routing_pomdp.envs.model.pre_signal import PreSignal
from routing_pomdp.envs.model.unbuilt import Unbuilt, too_large
from routing_pomdp.envs.routing_data import RoutingData
from routing_pomdp.envs.rules import Rules

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

_TIE = 1e-12  # posterior means this close are the same


@dataclass(frozen=True, eq=False)
class RoutingPOMDP:
    """A finite routing problem with its costs, price and rules.

    Attributes:
        score: ``(S, N)`` the score vector of each hidden state.
        prior: ``(S,)`` their probabilities.
        likelihood: ``(N - 1, S, K)`` observation likelihoods; the last model is never verified.
        costs: of calls and verifications: their means, and expected in each hidden state where
            they depend on it.
        price: ``λ >= 0``, the score that one most expensive-model call is worth.
        rules: the decisions on offer.
        observation: how raw signals become symbols; None if signals are the symbols themselves.
        shown: ``(N - 1, K)`` which symbols the training queries showed; None if there were none.
        pre: the pre-query signal that the rules buy, if they do.
        member: ``(S,)`` the query class of each hidden state, None where states have none. It
            changes no value: where models are independent within classes, what a history says of
            scores and costs is found faster (`Components`).

    Raises:
        ValueError: shapes that do not fit together, probabilities that do not sum to one,
            a negative cost or price, a most expensive model that costs nothing.
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
            prior_strength: Dirichlet concentration of ``p(y)``, in queries. Its base measure is
                the product of the models' own level frequencies, each with half a count a level:
                independence is what little data falls back to.
            pre: unfitted, of the pre-query signal where the rules buy one, see `PreSignal.fit`.

        Raises:
            ValueError: no queries, or a missing score.
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
        seen = None
        if rules.pre_query:
            if pre is None:
                raise ValueError("the rules buy a pre-query signal: give an observation for it")
            paid = np.zeros(n) if data.pre_cost is None else data.pre_cost
            seen = PreSignal.fit(data.require_pre_signal(), paid, pre, level, vectors)
        return cls(
            score=values[np.arange(n_models), vectors],
            prior=prior,
            likelihood=fitted.likelihood,
            costs=costs,
            price=price,
            rules=rules,
            observation=fitted,
            shown=shown,
            pre=seen,
        )

    @classmethod
    def _without_table(
        cls, n_models: int, levels: int, symbols: int, costs: Costs, price: float, rules: Rules
    ) -> Self:
        """A problem of so many models that no array holds their score vectors: rules, costs and
        price are there, the rest says why it is not.

        Raises:
            ValueError: rules that need the table.
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
        """Whether the score vectors fit into memory; `Unbuilt` stands for them otherwise."""
        return not isinstance(self.score, Unbuilt)

    def at(self, price: float) -> Self:
        """The same problem at another price, which alone is checked; what does not depend on it
        is not found anew."""
        other = copy(self)
        object.__setattr__(other, "price", price)
        other._check_costs()
        other.__dict__.pop("prices_in", None)
        if "_left" in self.__dict__:
            other.__dict__["_left"] = [left.at(price) for left in self._left]
        return other

    # -- before the first call ----------------------------------------------------------------

    def given(self, symbol: int) -> Self:
        """The problem that is left once the pre-query signal showed a symbol: another prior,
        and no such signal. A symbol that the model holds impossible leaves the prior as it is."""
        return self._left[symbol]

    def branches(self) -> list[tuple[float, Self]]:
        """What the pre-query signal leads to: each symbol's probability, and `given` it. Without
        one that is this problem, for certain."""
        if self.pre is None or not self.rules.pre_query:
            return [(1.0, self)]
        shares = self.prior @ self.pre.likelihood
        return list(zip(shares.tolist(), self._left, strict=True))

    @cached_property
    def _left(self) -> list[Self]:
        assert self.pre is not None
        rules = replace(self.rules, pre_query=False)
        posteriors = self.pre.posteriors(self.prior)
        return [replace(self, prior=prior, rules=rules, pre=None) for prior in posteriors]

    @property
    def pre_price(self) -> float:
        """What the pre-query signal takes from the return, where the rules buy it."""
        if self.pre is None or not self.rules.pre_query:
            return 0.0
        return self.price * self.pre.cost / self.costs.unit

    def pre_symbols(self, history: History) -> IntArray:
        """The symbols ``(n,)`` that the pre-query signal showed."""
        if self.pre is None or history.pre is None:
            raise ValueError("the history holds no pre-query signal, which the rules buy")
        return self.pre.symbols(history.pre)

    def first_belief(self, history: History) -> FloatArray:
        """``(n, S)`` what is believed before the first call: the prior, or what the pre-query
        signal left of it."""
        if not self.rules.pre_query:
            return np.tile(self.prior, (len(history), 1))
        assert self.pre is not None
        return self.pre.posteriors(self.prior)[self.pre_symbols(history)]

    def _after(self, history: History) -> Iterator[tuple[IntArray, Self]]:
        """Rows of histories by what their pre-query signals leave."""
        symbol = self.pre_symbols(history)
        for k in np.unique(symbol):
            yield np.flatnonzero(symbol == k), self.given(int(k))

    def require_seen(self) -> None:
        """Raise ValueError where a pre-query signal comes first: beliefs and values of what
        follows are those of the problem `given` its symbol."""
        if self.rules.pre_query:
            raise ValueError(
                "the problem begins with a pre-query signal: solve it with "
                "PreQueryConditioned(solver), or "
                "what is left of it once it is seen, problem.given(symbol)"
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
        """The radix of history codes: ``K + 1``, or ``K + 2`` where ``VERIFY`` is an action."""
        return self.n_symbols + 1 + self.rules.verify

    @property
    def unverified(self) -> int:
        """The digit of an answer that was not verified."""
        return self.n_symbols + 1

    @property
    def n_histories(self) -> int:
        """How many history codes there are, reachable or not."""
        return self.digits ** (self.n_models - 1)

    @cached_property
    def weights(self) -> IntArray:
        """``(N - 1,)`` the weight of each model's digit in a history code."""
        return self.digits ** np.arange(self.n_models - 2, -1, -1, dtype=np.int64)

    @property
    def call_price(self) -> FloatArray:
        """``(N,)`` what a call of each model takes from the return on average, ``λ c_i /
        c_{N-1}``."""
        return self.price * self.costs.call / self.costs.unit

    @property
    def verify_price(self) -> FloatArray:
        """``(N,)`` what a verification takes from the return on average, ``λ v_i / c_{N-1}``."""
        return self.price * self.costs.verify / self.costs.unit

    @cached_property
    def prices_in(self) -> tuple[FloatArray, FloatArray]:
        """What calls and verifications take from the return in each hidden state, two
        ``(S, N)``."""
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
            seen = np.flatnonzero(history.verified[:, model])
            if len(seen):
                digit = 1 + self.symbols(model, history.signal[seen, model])
                code[seen] += weight * (digit - self.unverified * self.rules.verify)
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
        """Histories with these codes, each symbol shown as its representative signal."""
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

        A history that the model holds impossible (only a hand-made model has likelihoods of
        exactly 0) gets the prior: the signals then say that the model is wrong, not what is right.
        """
        joint = self.joint(code)
        mass = joint.sum(1, keepdims=True)
        return np.where(mass > 0, joint / np.where(mass > 0, mass, 1.0), self.prior)

    def mass(self, code: IntArray) -> FloatArray:
        """``(n,)`` the probabilities of the symbols in histories with these codes."""
        return np.asarray(self.components.joint(self.digits_of(code)).sum(axis=1))

    def expected_scores(self, code: IntArray) -> FloatArray:
        """``(n, N)`` every model's expected score after histories with these codes; the prior mean
        where the model holds them impossible, as `belief`."""
        mass, scores = self.mass(code)[:, None], self.components.scores(self.digits_of(code))
        possible = mass > 0
        return np.where(possible, scores / np.where(possible, mass, 1.0), self.prior @ self.score)

    def expected_prices(self, code: IntArray) -> tuple[FloatArray, FloatArray]:
        """What calling, and verifying, each model is expected to take from the return after
        histories with these codes, two ``(n, N)``; of models that were not called, or not verified,
        yet. The mean where the model holds them impossible."""
        components, rate = self.components, self.price / self.costs.unit
        call, verify = components.paid(components.posterior(self.digits_of(code)))
        return rate * call, rate * verify

    @cached_property
    def components(self) -> Components:
        """What makes the models independent: the query classes, or every hidden state."""
        self.require_seen()
        return Components.of(
            self.member, self.prior, self.score, self.likelihood, self.costs, self.digits
        )

    @cached_property
    def has_gaps(self) -> bool:
        """Whether `doubts` can find any history to doubt; what has no table has none."""
        if not self.has_table:
            return False
        if self.rules.pre_query:
            return any(left.has_gaps for left in self._left)
        return bool(self._excluding.any() or self._unshown.any())

    def doubts(self, history: History) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Which histories ``(n,)`` the model holds impossible, and which ``(n,)`` have a symbol
        that no training query showed."""
        if self.rules.pre_query:
            impossible, unshown = np.zeros((2, len(history)), dtype=bool)
            for rows, left in self._after(history):
                impossible[rows], unshown[rows] = left.doubts(history.take(rows))
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
        """``(N - 1, digits)`` digits that prove some component impossible."""
        components = self.components
        return (components.factor[:, :, components.weight > 0] == 0).any(axis=2)

    @cached_property
    def _unshown(self) -> NDArray[np.bool_]:
        """``(N - 1, digits)`` digits of symbols that no training query showed."""
        unshown = np.zeros((self.n_models - 1, self.digits), dtype=bool)
        if self.shown is not None:
            unshown[:, 1 : 1 + self.n_symbols] = ~self.shown
        return unshown

    def joint(self, code: IntArray) -> FloatArray:
        """``P(history, y)`` for history codes ``(n,)``: ``(n, S)``, the belief before it is
        divided by the probability of the history's symbols."""
        digit = self.digits_of(code)
        joint = np.tile(self.prior, (len(digit), 1))
        for model in range(self.n_models - 1):
            joint *= self.factors[model][digit[:, model]]
        return joint

    @cached_property
    def factors(self) -> FloatArray:
        """``(N - 1, digits, S)``: what each digit multiplies ``p(y)`` by; 1 if nothing was seen."""
        self.require_seen()
        factors = np.ones((self.n_models - 1, self.digits, len(self.prior)))
        factors[:, 1 : 1 + self.n_symbols] = self.likelihood.transpose(0, 2, 1)
        return factors

    def best_answer(self, history: History) -> IntArray:
        """Which called model's answer is returned, ``(n,)``, under the rules' answer rule. Ties
        of the posterior mean go to the more expensive model."""
        if self.rules.answer == "last":
            return history.stage
        if self.rules.pre_query:
            answer = np.empty(len(history), dtype=np.int64)
            for rows, left in self._after(history):
                answer[rows] = left.best_answer(history.take(rows))
            return answer
        return self.dearest_best(self.encode(history), history.called)

    def dearest_best(self, code: IntArray, called: NDArray[np.bool_]) -> IntArray:
        """The model of the highest posterior mean, ``(n,)``, among those ``called`` ``(n, N)``,
        after histories with these codes."""
        mean = np.where(called, self.expected_scores(code), -np.inf)
        # A product of matrices rounds differently by the size of the batch: what ties but for
        # rounding must not be answered differently one at a time.
        tied = mean >= mean.max(axis=1, keepdims=True) - _TIE
        return self.n_models - 1 - tied[:, ::-1].argmax(axis=1)

    # -- sampling -----------------------------------------------------------------------------

    def sample(self, n: int, rng: np.random.Generator) -> RoutingData:
        """``n`` queries drawn from the model, signals shown as their representatives."""
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
