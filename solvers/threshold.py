"""Threshold cascades: escalate where the signal is low, with the thresholds fitted to the price."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from envs import STAY, History, Replay, RoutingPOMDP, Rules
from solvers.solver import Actions, Policy, Solver

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Threshold(Solver):
    """One threshold a model: go on to the next model of the chain if the signal is below it.

    The chain is every model in turn, or with ``SKIP`` and a free start whichever of the chains
    that the rules allow has the best training return. Thresholds are fitted by coordinate ascent
    on that return, each step an exact line search over all cuts between training signals, from
    two starts (always and never escalate). A threshold of ±∞ needs no verification, which is
    saved where ``VERIFY`` is an action.

    Attributes:
        sweeps: the most rounds of coordinate ascent; it stops when nothing improves.
    """

    sweeps: int = 20

    def solve(self, problem: RoutingPOMDP, train: Replay) -> Policy:
        """Fits chain and thresholds on ``train``.

        Raises:
            ValueError: a signal of more than one number.
        """
        if train.n_signals != 1:
            raise ValueError(
                f"solver=threshold needs one number an answer, the verifier gives "
                f"{train.n_signals}: choose one of them, or solver=exact with a merged signal"
            )
        fits = (
            self._fit(problem, train, chain, start)
            for chain in _chains(problem.rules)
            for start in (np.inf, -np.inf)
        )
        _, policy = max(fits, key=lambda fit: fit[0])
        return policy

    def _fit(
        self, problem: RoutingPOMDP, train: Replay, chain: tuple[int, ...], start: float
    ) -> tuple[float, ThresholdPolicy]:
        """Training return and policy of one chain, by coordinate ascent from one start."""
        rate, models = problem.price / problem.costs.unit, list(chain)
        score, signal = train.score[:, models], train.signal[:, models, 0]
        call, verify = rate * train.call_cost[:, models], rate * train.verify_cost[:, models]
        bought = problem.rules.verify
        if not bought and chain[-1] < problem.n_models - 1:
            call[:, -1] += verify[:, -1]  # charged there too, though the chain ends
        cut = np.full(len(chain) - 1, start)
        best = -np.inf
        for _ in range(self.sweeps):
            # worth[r]: what rung r returns from its call on, given the cuts from r upwards.
            worth = [score[:, -1] - call[:, -1]]
            for r in reversed(range(len(cut))):
                gain = np.where(signal[:, r] < cut[r], worth[0], score[:, r])
                pays = not bought or np.isfinite(cut[r])
                worth.insert(0, gain - call[:, r] - pays * verify[:, r])
            if worth[0].mean() <= best:
                break
            best = float(worth[0].mean())
            reached = np.ones(len(train), dtype=bool)
            for r in range(len(cut)):
                if reached.any():
                    gain = (worth[r + 1] - score[:, r])[reached]
                    toll = verify[reached, r].sum() if bought else 0.0
                    cut[r] = _best_cut(gain, signal[reached, r], toll)
                reached &= signal[:, r] < cut[r]
        return best, ThresholdPolicy.of(problem, chain, cut)


@dataclass(frozen=True, eq=False)
class ThresholdPolicy:
    """A fitted chain.

    Attributes:
        problem: the problem whose rules it plays by.
        start: the first model of the chain.
        target: ``(N,)`` the next model of the chain after each; its own index where it ends.
        cut: ``(N,)`` escalate from a model where its signal is below this.
    """

    problem: RoutingPOMDP
    start: int
    target: NDArray[np.int64]
    cut: FloatArray

    @classmethod
    def of(cls, problem: RoutingPOMDP, chain: tuple[int, ...], cut: FloatArray) -> ThresholdPolicy:
        target, cuts = np.arange(problem.n_models), np.full(problem.n_models, -np.inf)
        target[list(chain[:-1])] = chain[1:]
        cuts[list(chain[:-1])] = cut
        return cls(problem, chain[0], target, cuts)

    def act(self, history: History) -> Actions:
        stage, cut = history.stage, self.cut[history.stage]
        signal = history.signal[np.arange(len(history)), stage, 0]
        # An answer that was not verified has no signal: NaN is below no finite cut.
        climbs = (signal < cut) | (cut == np.inf)
        action = np.where(climbs, self.target[stage] - stage, STAY)
        if self.problem.rules.verify:
            wanted = np.isfinite(cut) & ~history.last_verified
            action = np.where(wanted, self.problem.rules.verify_action, action)
        return np.where(stage < 0, self.start + 1, action)


def _chains(rules: Rules) -> Iterator[tuple[int, ...]]:
    """Every chain of models that the rules allow; a core chain may stop climbing anywhere."""
    n = rules.n_models
    starts = range(n) if rules.free_start else range(1)
    for start in starts:
        later = range(start + 1, n)
        if rules.skip:
            for length in range(n - start):
                yield from ((start, *rest) for rest in combinations(later, length))
        else:
            yield tuple(range(start, n))


def _best_cut(gain: FloatArray, signal: FloatArray, toll: float) -> float:
    """The cut with the largest sum of ``gain`` over the signals below it.

    Args:
        gain: ``(m,)`` what escalating adds on each query.
        signal: ``(m,)``.
        toll: what a finite cut costs in all, since only ±∞ needs no verification.
    """
    order = np.argsort(signal, kind="stable")
    ordered = signal[order]
    total = np.cumsum(gain[order])
    between = np.flatnonzero(ordered[1:] > ordered[:-1])
    candidates = np.concatenate(
        [[-np.inf], (ordered[between] + ordered[between + 1]) / 2, [np.inf]]
    )
    value = np.concatenate([[0.0], total[between] - toll, [total[-1]]])
    return float(candidates[np.argmax(value)])
