"""Online bandits: they learn from a stream of queries with bandit feedback.

The stream is the training queries in a seeded random order, repeated to the number of rounds. A
learner observes only the scores and costs of the models that it called. The policy is the learner's
greedy choice at the end of the stream.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from math import comb
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from routing_pomdp.envs import STAY, History, RoutingData, RoutingPOMDP, Rules
from routing_pomdp.envs.arrays import FloatArray, IntArray
from routing_pomdp.envs.settings.ranges import Count, NotNegative, Positive, PositiveShare, Seed
from routing_pomdp.solvers.baselines import FixedChoice, uniform
from routing_pomdp.solvers.settings import check_count
from routing_pomdp.solvers.solver import Actions, FrontierSolver, Log, Policy, Training

Variant = Literal["gradient", "q_learning"]

_MOST_SETS = 2**16
_ROWS = 50  # of a training curve


@dataclass(frozen=True)
class PickLLM(FrontierSolver):
    """A bandit without context that calls one model per query (PickLLM, arXiv 2412.12170).

    The reward is ``score − λ · cost``. "gradient" is the paper's gradient ascent over preferences
    with the mean reward as baseline, "q_learning" its stateless Q-learning with ε-greedy
    exploration. There is one learner per price, all on the same stream.

    Attributes:
        variant: "gradient" or "q_learning".
        rounds: number of queries of the stream.
        learning_rate: learning rate of either update.
        epsilon: share of random calls of q_learning.
        seed: seed of stream and exploration.
        log: records the training curve.
    """

    variant: Variant = "gradient"
    rounds: Count = 10_000
    learning_rate: PositiveShare = 0.05
    epsilon: PositiveShare = 0.1
    seed: Seed = 0
    log: Log | None = field(default=None, repr=False)

    def with_training(self, training: Training) -> PickLLM:
        return replace(self, log=training.log)

    def solve_frontier(
        self, problem: RoutingPOMDP, prices: Sequence[float], train: RoutingData
    ) -> list[Policy]:
        """The greedy model of each price's learner at the end of the stream."""
        rng = np.random.default_rng(self.seed)
        rate = np.asarray(prices, dtype=np.float64) / problem.costs.unit
        learner = np.arange(len(prices))
        value = np.zeros((len(prices), problem.n_models))  # preferences, or Q
        baseline = np.zeros(len(prices))
        curve = Curve(self.rounds, _best_single(train, rate), self.log)
        for step, query in enumerate(stream(len(train), self.rounds, rng)):
            if self.variant == "gradient":
                chance = np.exp(value - value.max(axis=1, keepdims=True))
                chance /= chance.sum(axis=1, keepdims=True)
                draw = rng.random((len(prices), 1))
                arm = np.minimum((draw > chance.cumsum(axis=1)).sum(axis=1), value.shape[1] - 1)
            else:
                explores = rng.random(len(prices)) < self.epsilon
                random = rng.integers(value.shape[1], size=len(prices))
                arm = np.where(explores, random, value.argmax(axis=1))
            reward = train.score[query, arm] - rate * train.call_cost[query, arm]
            if self.variant == "gradient":
                value = ascend(value, chance, arm, reward - baseline, self.learning_rate)
                baseline += (reward - baseline) / (step + 1)
            else:
                value[learner, arm] += self.learning_rate * (reward - value[learner, arm])
            curve.add(reward)
        return [
            FixedChoice.of(problem.at(price), np.array(arm))
            for price, arm in zip(prices, value.argmax(axis=1), strict=True)
        ]


def ascend(
    preference: FloatArray, chance: FloatArray, arm: IntArray, advantage: FloatArray, rate: float
) -> FloatArray:
    """One step of gradient ascent for each learner (Sutton & Barto 2018, eq. 2.12).

    Args:
        preference: ``(M, K)``.
        chance: ``(M, K)`` their softmax.
        arm: ``(M,)`` the models called.
        advantage: ``(M,)`` reward minus baseline.
        rate: step size.
    """
    called = np.eye(preference.shape[1])[arm]
    return preference + rate * advantage[:, None] * (called - chance)


@dataclass(frozen=True)
class C2MABV(FrontierSolver):
    """A set of models, called in turn until one is right (C2MAB-V, arXiv 2405.16587, AWC).

    Rewards are estimated by upper confidence bounds, costs by lower ones. At a price, the learner
    plays the set with the best ``P(any right) − λ · E[cost]``; under a budget, the best mixture of
    sets within it, by a linear program. The paper relaxes and rounds the choice of a set, as large
    pools of models need; here every set is enumerated, for up to about ten models.

    In the stream the learner observes whether an answer was right. The policy does not: it buys the
    verifier's signal and goes on if the fitted model's posterior mean of the answer's score is
    below ``satisfied``.

    Attributes:
        size: the largest number of models of a set.
        budget: a mean cost per query, as a share of the most expensive model's; None uses the
            price.
        satisfied: the smallest score that ends a query.
        confidence: a factor on the confidence radius ``sqrt(ln t / 2 n)``.
        rounds: number of queries of the stream.
        seed: seed of the stream and of draws from a mixture.
        log: records the training curve.
    """

    size: Count = 3
    budget: Positive | None = None
    satisfied: PositiveShare = 0.5
    confidence: NotNegative = 0.3
    rounds: Count = 5_000
    seed: Seed = 0
    log: Log | None = field(default=None, repr=False)

    def with_training(self, training: Training) -> C2MABV:
        return replace(self, log=training.log)

    def solve_frontier(
        self, problem: RoutingPOMDP, prices: Sequence[float], train: RoutingData
    ) -> list[Policy]:
        """The policy of each price's learner at the end of the stream.

        Raises:
            ValueError: the budget buys no model.
        """
        n, unit = problem.n_models, problem.costs.unit
        sets = _sets(n, self.size)
        cheapest = float(train.call_cost.mean(axis=0).min()) / unit
        if self.budget is not None and self.budget < cheapest:
            raise ValueError(
                f"solver.budget is {self.budget}: the cheapest model already costs "
                f"{cheapest:.3g} of the most expensive: raise the budget"
            )
        rate = np.asarray([0.0] if self.budget is not None else prices, dtype=np.float64)
        rng = np.random.default_rng(self.seed)
        learner = np.arange(len(rate))
        count = np.zeros((len(rate), n))
        right, paid = np.zeros((2, len(rate), n))
        curve = Curve(self.rounds, _best_single(train, rate / unit), self.log)
        for step, query in enumerate(stream(len(train), self.rounds, rng)):
            radius = self.confidence * np.sqrt(np.log(step + 1) / (2 * np.maximum(count, 1)))
            tried = np.maximum(count, 1)
            # A model that was never called counts as always right and free.
            hope = np.where(count > 0, np.minimum(right / tried + radius, 1), 1.0)
            least = np.where(count > 0, np.maximum(paid / tried - radius, 0), 0.0)
            share = self._play(sets, hope, least, rate)
            played = sets[_draw(share, rng.random(len(rate)))]
            going = np.ones(len(rate), dtype=bool)
            reward, spent = np.zeros((2, len(rate)))
            for model in range(n):
                called = going & played[:, model]
                score, cost = train.score[query, model], train.call_cost[query, model] / unit
                count[learner, model] += called
                right[learner, model] += called * (score >= self.satisfied)
                paid[learner, model] += called * cost
                reward = np.where(called, score, reward)
                spent += called * cost
                going &= ~(called & (score >= self.satisfied))
            curve.add(reward - rate * spent)
        tried = np.maximum(count, 1)
        share = self._play(sets, right / tried, paid / tried, rate)
        rules = Rules(n, skip=True, free_start=True, verify=True)
        return [
            SetPolicy(
                replace(problem.at(price), rules=rules),
                sets,
                share[0 if self.budget is not None else i],
                self.satisfied,
                self.seed,
            )
            for i, price in enumerate(prices)
        ]

    def _play(
        self, sets: NDArray[np.bool_], right: FloatArray, cost: FloatArray, rate: FloatArray
    ) -> FloatArray:
        """``(M, B)`` the share of rounds in which each learner plays each set."""
        win, spent = any_win(sets, right, cost)
        if self.budget is None:
            return np.eye(len(sets))[(win - rate[:, None] * spent).argmax(axis=1)]
        return np.stack([best_mixture(w, c, self.budget) for w, c in zip(win, spent, strict=True)])


def any_win(
    sets: NDArray[np.bool_], right: FloatArray, cost: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """``P(any right)`` and expected cost of calling each set's models in turn until one is right.

    Args:
        sets: ``(B, N)``.
        right: ``(M, N)`` independent probabilities of being right.
        cost: ``(M, N)`` costs of a call.

    Returns:
        Two arrays ``(M, B)``.
    """
    going = np.ones((len(right), len(sets)))
    spent = np.zeros_like(going)
    for model in range(sets.shape[1]):
        member = sets[:, model]
        spent += going * member * cost[:, model, None]
        going = going * np.where(member, 1 - right[:, model, None], 1.0)
    return 1 - going, spent


def best_mixture(win: FloatArray, cost: FloatArray, budget: float) -> FloatArray:
    """Shares ``(B,)`` of the mixture of sets with the largest mean ``win`` within a mean cost;
    the cheapest set alone if no set is within it."""
    from scipy.optimize import linprog

    found = linprog(-win, A_ub=cost[None], b_ub=[budget], A_eq=np.ones((1, len(win))), b_eq=[1])
    if not found.success:
        return np.eye(len(win))[cost.argmin()]
    share = np.maximum(found.x, 0)
    mixture: FloatArray = share / share.sum()
    return mixture


@dataclass(frozen=True, eq=False)
class SetPolicy:
    """Calls a set's models in turn until the posterior mean of an answer's score is high enough.

    Attributes:
        problem: the problem whose posterior rates answers.
        sets: ``(B, N)``.
        share: ``(B,)`` probability of each set.
        satisfied: the smallest posterior mean that ends an episode.
        seed: seed of the draw for each query.
    """

    problem: RoutingPOMDP
    sets: NDArray[np.bool_]
    share: FloatArray
    satisfied: float
    seed: int

    def act(self, history: History) -> Actions:
        n, stage = history.n_models, history.stage
        played = self.sets[_draw(self.share, uniform(self.seed, history.query))]
        later = played & (np.arange(n) > stage[:, None])
        following = np.where(later.any(axis=1), later.argmax(axis=1), stage)
        action = following - stage  # STAY at the end of the set
        rows = np.flatnonzero((stage >= 0) & (following > stage))
        verified = history.last_verified[rows]
        action[rows[~verified]] = self.problem.rules.verify_action
        judged = rows[verified]
        if len(judged):
            scores = self.problem.expected_scores(self.problem.encode(history.take(judged)))
            mean = scores[np.arange(len(judged)), stage[judged]]
            action[judged[mean >= self.satisfied]] = STAY
        return action


class Curve:
    """A learner's training curve: mean return of each window, and mean regret so far."""

    def __init__(self, rounds: int, best: FloatArray, log: Log | None) -> None:
        self._best, self._log = best, log
        self._window = max(rounds // _ROWS, 1)
        self._rewards: list[float] = []
        self._regret = 0.0

    def add(self, reward: FloatArray) -> None:
        """Adds the returns ``(M,)`` of one round; their mean over prices is logged."""
        self._rewards.append(float(reward.mean()))
        self._regret += float((self._best - reward).mean())
        step = len(self._rewards)
        if self._log and step % self._window == 0:
            recent = np.mean(self._rewards[-self._window :])
            self._log({"step": step, "return": float(recent), "regret": self._regret / step})


def stream(n: int, rounds: int, rng: np.random.Generator) -> IntArray:
    """Rows of ``rounds`` queries, ``(rounds,)``: all ``n`` in one random order after another."""
    passes = [rng.permutation(n) for _ in range(-(-rounds // n))]
    return np.concatenate(passes)[:rounds]


def _best_single(train: RoutingData, rate: FloatArray) -> FloatArray:
    """The mean return of the best single model at each price, ``(M,)``."""
    worth = train.score.mean(axis=0) - rate[:, None] * train.call_cost.mean(axis=0)
    best: FloatArray = worth.max(axis=1)
    return best


def _sets(n: int, size: int) -> NDArray[np.bool_]:
    count = sum(comb(n, k) for k in range(1, min(size, n) + 1))
    check_count("sets of models", count, _MOST_SETS, n)
    members = [chosen for k in range(1, min(size, n) + 1) for chosen in combinations(range(n), k)]
    return np.array([[model in chosen for model in range(n)] for chosen in members])


def _draw(share: FloatArray, uniform: FloatArray) -> IntArray:
    """The set ``(m,)`` drawn by each uniform number; ``share`` is ``(B,)`` or ``(m, B)``."""
    below = uniform[:, None] >= share.cumsum(axis=-1)
    return np.minimum(below.sum(axis=1), share.shape[-1] - 1)
