"""Rational tuning of cascades (Zellinger & Thomson, arXiv 2501.09345)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np

from routing_pomdp.envs import RoutingData, RoutingPOMDP
from routing_pomdp.envs.arrays import FloatArray
from routing_pomdp.envs.settings.ranges import CountOrZero, Range, Seed
from routing_pomdp.envs.signals import between, shrunk_mean
from routing_pomdp.solvers.cascades.copula_chain import Calibration, CopulaChain, stretched
from routing_pomdp.solvers.cascades.threshold import ThresholdPolicy, chains, require_one_signal
from routing_pomdp.solvers.solver import FrontierSolver, Policy

Chain = tuple[int, ...]


@dataclass(frozen=True)
class RationalTuning(FrontierSolver):
    """Thresholds on calibrated confidence, optimised in a copula model of the chain (§4).

    As in the paper, continuous optimisation minimises expected error plus a multiple of the
    expected cost. The paper tunes one given chain. Here the chain is every model in turn or, with
    ``SKIP`` and a free start, the one of the largest value in the copula model. The paper verifies
    the last model too; here its expected score is a logistic regression on the confidence before
    it. A missing signal is replaced by a calibrated confidence: the mean score of such answers,
    shrunk towards that of all answers by half a pseudo-query.

    Attributes:
        two_sided: whether confidences come from self-verification, which is certain near 0 and near
            1, rather than being an answer's own probability.
        cells: number of grid cells of each confidence.
        starts: number of random starts of each optimisation, beside the previous price's thresholds
            and three fixed starts.
        seed: seed of the random starts.
    """

    two_sided: bool = False
    cells: Annotated[int, Range(4, 10_000)] = 40
    starts: CountOrZero = 2
    seed: Seed = 0

    def solve_frontier(
        self, problem: RoutingPOMDP, prices: Sequence[float], train: RoutingData
    ) -> list[Policy]:
        """Policies, one per price; the copula model is fitted once.

        Raises:
            ValueError: a signal has several components or is not a probability.
        """
        require_one_signal(train, "rational_tuning")
        signal = train.signal[:, :-1, 0]
        known = ~np.isnan(signal)
        x = np.full(signal.shape, np.nan)
        x[known] = stretched(signal[known], self.two_sided)
        confidence = np.empty(x.shape)
        silent = np.empty(problem.n_models - 1)
        for i, (there, score) in enumerate(zip(known.T, train.score.T, strict=False)):
            silent[i] = shrunk_mean(score, ~there)
            confidence[:, i] = silent[i]
            if there.any():
                confidence[there, i] = Calibration.fit(x[there, i], score[there])(x[there, i])
        tuned = [_Tuned(problem, chain, confidence, train, self) for chain in chains(problem.rules)]
        policies: list[Policy] = []
        for price in prices:
            priced = problem.at(price)
            worth = [chain.tune(priced) for chain in tuned]
            best = tuned[int(np.argmax(worth))]
            policies.append(_policy(priced, best.chain, best.cut, confidence, silent, signal))
        return policies


class _Tuned:
    """One chain with its copula model and the thresholds of the previous price."""

    def __init__(
        self,
        problem: RoutingPOMDP,
        chain: Chain,
        confidence: FloatArray,
        train: RoutingData,
        solver: RationalTuning,
    ) -> None:
        self.chain, self._solver = chain, solver
        self._score = float(train.score[:, chain[-1]].mean())
        seen = list(chain[:-1])
        self.cut = np.zeros(len(seen))
        if seen:
            self._model = CopulaChain.fit(confidence[:, seen], solver.cells)
            final = Calibration.fit(confidence[:, seen[-1]], train.score[:, chain[-1]])
            self._last = final(self._model.value(len(seen) - 1))
            edges = [(grid[0], grid[-1] + (grid[-1] - grid[0]) * 1e-3) for grid in self._model.grid]
            self._bounds = np.array(edges)

    def tune(self, problem: RoutingPOMDP) -> float:
        """Finds the thresholds for a price; returns their value in the copula model."""
        call, models = problem.call_price, list(self.chain)
        # Without a VERIFY action, the answer at the end of the chain is verified and paid for too.
        end, idle = models[-1], 0.0
        if problem.rules.verified_at_once[end]:
            idle = float(problem.verify_price[end])
        prices = call[models].copy()
        prices[-1] += idle
        if len(models) == 1:
            return self._score - float(prices[0])
        verify = problem.verify_price[models[:-1]]

        def loss(cut: FloatArray) -> float:
            return -self._model.worth(cut, self._last, prices, verify)

        found = [self._optimum(loss, start) for start in self._starts()]
        self.cut = min(found, key=loss)
        return -loss(self.cut)

    def _starts(self) -> list[FloatArray]:
        low, high = self._bounds.T
        rng = np.random.default_rng(self._solver.seed)
        random = [low + rng.random(len(low)) * (high - low) for _ in range(self._solver.starts)]
        previous = np.clip(self.cut, low, high)
        return [previous, (low + high) / 2, low + 0.1 * (high - low), high, *random]

    def _optimum(self, loss: Callable[[FloatArray], float], start: FloatArray) -> FloatArray:
        from scipy.optimize import minimize

        found: FloatArray = minimize(loss, start, method="L-BFGS-B", bounds=self._bounds).x
        return found


def _policy(
    problem: RoutingPOMDP,
    chain: Chain,
    cut: FloatArray,
    confidence: FloatArray,
    silent: FloatArray,
    signal: FloatArray,
) -> ThresholdPolicy:
    """The policy whose thresholds on raw signals divide the training queries as ``cut`` does.

    Missing signals have the confidence ``silent (N - 1,)``. Calibration is monotone: rising, or
    falling where a signal is worse than chance.
    """
    cuts, floors, absent = [], [], []
    for model, limit in zip(chain[:-1], cut, strict=True):
        there = ~np.isnan(signal[:, model])
        raw, escalated = signal[there, model], confidence[there, model] <= limit
        if escalated.all() or not escalated.any():
            cuts.append(np.inf if escalated.all() else -np.inf)
            floors.append(-np.inf)
        elif raw[escalated].max() < raw[~escalated].min():
            cuts.append(float(between(raw[escalated].max(), raw[~escalated].min())))
            floors.append(-np.inf)
        else:
            cuts.append(np.inf)
            floors.append(float(between(raw[~escalated].max(), raw[escalated].min())))
        # If no training signal is missing, a rule for missing ones is no reason to verify.
        looks = np.isfinite(cuts[-1]) or np.isfinite(floors[-1]) or not there.all()
        absent.append(silent[model] <= limit if looks else cuts[-1] == np.inf)
    return ThresholdPolicy.of(problem, chain, cuts, floors, absent)
