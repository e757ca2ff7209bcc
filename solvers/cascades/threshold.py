"""Threshold cascades: escalate where the signal is low, with thresholds fitted at each price."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from routing_pomdp.envs import STAY, History, RoutingData, RoutingPOMDP, Rules
from routing_pomdp.envs.arrays import FloatArray
from routing_pomdp.envs.settings.ranges import Count
from routing_pomdp.envs.signals import HALF, between
from routing_pomdp.solvers.settings import check_count
from routing_pomdp.solvers.solver import Actions, Policy, Solver

_MOST_CHAINS = 2**14


@dataclass(frozen=True)
class Threshold(Solver):
    """One threshold per model: call the next model of the chain if the signal is below it.

    The chain is every model in turn or, with ``SKIP`` and a free start, the one with the best
    training return among those that the rules allow. Thresholds are fitted by coordinate ascent on
    the training return, from two starts (always and never escalate); each step is an exact line
    search over all cuts between training signals. A rule that escalates always or never needs no
    verification and saves its cost where ``VERIFY`` is an action. Whether a missing signal
    escalates is fitted too, see `best_rule`.

    Attributes:
        sweeps: the largest number of rounds of coordinate ascent; it stops early when nothing
            improves.
    """

    sweeps: Count = 20

    def solve(self, problem: RoutingPOMDP, train: RoutingData) -> Policy:
        """The chain and thresholds with the best return on ``train``.

        Raises:
            ValueError: a signal has several components.
        """
        require_one_signal(train, "threshold")
        return best_chain(problem, train, chains(problem.rules), best_cut, self.sweeps)


@dataclass(frozen=True, eq=False)
class ThresholdPolicy:
    """A fitted chain: escalates where ``floor <= signal < cut``, or where the signal is missing.

    Attributes:
        problem: the problem whose rules it follows.
        start: the first model of the chain.
        target: ``(N,)`` the next model of the chain; the model itself at the end of the chain.
        cut: ``(N,)`` upper end of the signals that escalate; ∞ for any signal.
        floor: ``(N,)`` lower end of the signals that escalate; -∞ except with double thresholds.
        silent: ``(N,)`` whether a missing signal escalates.
    """

    problem: RoutingPOMDP
    start: int
    target: NDArray[np.int64]
    cut: FloatArray
    floor: FloatArray
    silent: NDArray[np.bool_]

    @classmethod
    def of(
        cls,
        problem: RoutingPOMDP,
        chain: Sequence[int],
        cut: ArrayLike,
        floor: ArrayLike = -np.inf,
        silent: ArrayLike | None = None,
    ) -> ThresholdPolicy:
        """The policy of a chain, with a cut, a floor and ``silent`` for each of its models but the
        last, or one for all. By default missing signals escalate where all others do."""
        target = np.arange(problem.n_models)
        target[list(chain[:-1])] = chain[1:]
        cuts, floors = np.full((2, problem.n_models), -np.inf)
        rungs = list(chain[:-1])
        cuts[rungs], floors[rungs] = cut, floor
        absent = (cuts == np.inf) & (floors == -np.inf)
        if silent is not None:
            absent[rungs] = silent
        return cls(problem, chain[0], target, cuts, floors, absent)

    def act(self, history: History) -> Actions:
        stage = history.stage
        cut, floor, silent = self.cut[stage], self.floor[stage], self.silent[stage]
        signal = history.signal[np.arange(len(history)), stage, 0]
        always, looks = _always(cut, floor, silent), needs_signal(cut, floor, silent)
        # NaN of an answer that was not verified is not a missing signal.
        climbs = np.where(history.last_verified, escalates(signal, cut, floor, silent), always)
        action = np.where(climbs, self.target[stage] - stage, STAY)
        if self.problem.rules.verify:
            wanted = looks & ~history.last_verified
            action = np.where(wanted, self.problem.rules.verify_action, action)
        return np.where(stage < 0, self.start + 1, action)


def escalates(
    signal: FloatArray, cut: ArrayLike, floor: ArrayLike, silent: ArrayLike
) -> NDArray[np.bool_]:
    """A mask of the verified signals that escalate, see `ThresholdPolicy`."""
    below = np.less(signal, cut) | np.equal(cut, np.inf)  # a signal of ∞ is not less than ∞
    return np.where(np.isnan(signal), silent, below & np.greater_equal(signal, floor))


def needs_signal(cut: ArrayLike, floor: ArrayLike, silent: ArrayLike) -> NDArray[np.bool_]:
    """Whether a rule depends on the signal: it neither always escalates nor never."""
    never = np.equal(cut, -np.inf) & np.equal(silent, False)
    return ~(_always(cut, floor, silent) | never)


def _always(cut: ArrayLike, floor: ArrayLike, silent: ArrayLike) -> NDArray[np.bool_]:
    return np.equal(cut, np.inf) & np.equal(floor, -np.inf) & np.equal(silent, True)


LineSearch = Callable[[FloatArray, FloatArray, float], tuple[float, float]]
"""A function with the arguments of `best_cut` that returns the best ``(floor, cut)``."""


def require_one_signal(train: RoutingData, solver: str) -> None:
    """Raise ValueError unless the verifier's signal has one component."""
    if train.n_signals != 1:
        raise ValueError(
            f"solver={solver} needs one number an answer, the verifier gives "
            f"{train.n_signals}: choose one of them, or solver=exact with a merged signal"
        )


def best_chain(
    problem: RoutingPOMDP,
    train: RoutingData,
    candidates: Iterable[tuple[int, ...]],
    search: LineSearch,
    sweeps: int = 20,
) -> ThresholdPolicy:
    """The chain and thresholds with the best training return; ties go to the earlier candidate."""
    fits = (
        _fit(problem, train, chain, start, search, sweeps)
        for chain in candidates
        for start in (np.inf, -np.inf)
    )
    return max(fits, key=lambda fit: fit[0])[1]


def _fit(
    problem: RoutingPOMDP,
    train: RoutingData,
    chain: tuple[int, ...],
    start: float,
    search: LineSearch,
    sweeps: int,
) -> tuple[float, ThresholdPolicy]:
    """Training return and policy of one chain, by coordinate ascent from one start."""
    rate, models = problem.price / problem.costs.unit, list(chain)
    score, signal = train.score[:, models], train.signal[:, models, 0]
    call, verify = rate * train.call_cost[:, models], rate * train.verify_cost[:, models]
    bought = problem.rules.verify
    if problem.rules.verified_at_once[chain[-1]]:
        call[:, -1] += verify[:, -1]  # charged there too, though the chain ends
    cut, floor = np.full(len(chain) - 1, start), np.full(len(chain) - 1, -np.inf)
    silent = cut == np.inf

    def climbs(r: int) -> NDArray[np.bool_]:
        return escalates(signal[:, r], cut[r], floor[r], silent[r])

    best = -np.inf
    for _ in range(sweeps):
        # worth[r]: return from the call of the chain's model r on, given the later cuts.
        worth = [score[:, -1] - call[:, -1]]
        for r in reversed(range(len(cut))):
            gain = np.where(climbs(r), worth[0], score[:, r])
            pays = not bought or bool(needs_signal(cut[r], floor[r], silent[r]))
            worth.insert(0, gain - call[:, r] - pays * verify[:, r])
        if worth[0].mean() <= best:
            break
        best = float(worth[0].mean())
        reached = np.ones(len(train), dtype=bool)
        for r in range(len(cut)):
            if reached.any():
                gain = (worth[r + 1] - score[:, r])[reached]
                action_cost = verify[reached, r].sum() if bought else 0.0
                floor[r], cut[r], silent[r] = best_rule(
                    search, gain, signal[reached, r], action_cost
                )
            reached &= climbs(r)
    return best, ThresholdPolicy.of(problem, chain, cut, floor, silent)


def chains(rules: Rules) -> Iterator[tuple[int, ...]]:
    """Every chain of models that the rules allow; without ``SKIP``, every start has one chain."""
    n = rules.n_models
    starts = range(n) if rules.free_start else range(1)
    if rules.skip:
        check_count("chains", sum(2 ** (n - 1 - start) for start in starts), _MOST_CHAINS, n)
    for start in starts:
        later = range(start + 1, n)
        if rules.skip:
            for length in range(n - start):
                yield from ((start, *rest) for rest in combinations(later, length))
        else:
            yield tuple(range(start, n))


def best_rule(
    search: LineSearch, gain: FloatArray, signal: FloatArray, action_cost: float
) -> tuple[float, float, bool]:
    """The best ``(floor, cut, silent)``, see `ThresholdPolicy`; arguments as for `best_cut`, but
    signals may be missing.

    Missing signals escalate if their gain, shrunk towards the mean gain by half a pseudo-query, is
    positive. If no training signal is missing, they do what pays on average.
    """
    known = ~np.isnan(signal)
    floor, cut = search(gain[known], signal[known], action_cost)
    silent = bool(gain[~known].sum() + HALF * gain.mean() > 0)
    if known.all():
        looks = np.isfinite(cut) or np.isfinite(floor)
        return floor, cut, silent if looks else cut == np.inf
    if action_cost:
        floor, cut = search(gain[known], signal[known], 0.0)
    climbs = escalates(signal, cut, floor, silent)
    split = float(gain[climbs].sum()) - action_cost * bool(needs_signal(cut, floor, silent))
    options = [
        (0.0, (-np.inf, -np.inf, False)),
        (float(gain.sum()), (-np.inf, np.inf, True)),
        (split, (floor, cut, silent)),
    ]
    if not action_cost:
        return floor, cut, silent
    return max(options, key=lambda option: option[0])[1]


def best_cut(gain: FloatArray, signal: FloatArray, action_cost: float) -> tuple[float, float]:
    """The cut with the largest sum of ``gain`` over the signals below it.

    Args:
        gain: ``(m,)`` return of escalating minus that of stopping, on each query.
        signal: ``(m,)``, none missing.
        action_cost: total cost of verification, paid if the cut is finite.

    Returns:
        -∞ and the cut.
    """
    total, cuts = running_gain(gain, signal)
    candidates = np.concatenate([[-np.inf], cuts, [np.inf]])[: len(total)]
    value = total - action_cost * np.isfinite(candidates)
    return -np.inf, float(candidates[np.argmax(value)])


def running_gain(gain: FloatArray, signal: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Sums of ``gain`` over the signals below each cut between distinct training signals.

    Returns:
        ``(d + 1,)`` sums over the lowest 0, 1 … d distinct signals, and the ``(d - 1,)`` cuts
        between neighbouring signals.
    """
    order = np.argsort(signal, kind="stable")
    ordered = signal[order]
    if not len(ordered):
        return np.zeros(1), np.empty(0)
    ends = np.flatnonzero(np.append(ordered[1:] > ordered[:-1], True))
    total = np.concatenate([[0.0], np.cumsum(gain[order])[ends]])
    return total, between(ordered[ends[:-1]], ordered[ends[:-1] + 1])
