"""Measures of a solver's operating points: IBC, AIQ, gap closed, gain, saving at a tolerance.

Every measure is a function of *mean* outcomes and takes leading batch dimensions ``...``, so that
the same code gives the estimate and its bootstrap.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from routing_pomdp.envs.arrays import FloatArray
from routing_pomdp.evaluation.frontier import Frontier, Point, aiq, frontier, height
from routing_pomdp.evaluation.frontier_outcomes import FrontierMeans, FrontierOutcomes

SAVING_POINTS = (0.0, 1.0, 2.0)
"""The tolerated losses, in points of 0.01 score, at which savings are reported."""

# RouterArena's scale: USD of 1,000 queries.
_ARENA_LEAST, _ARENA_MOST = 0.0044, 200.0

# Means of the same outcomes, summed in a different order, differ by about this much.
_ROUNDING = 1e-12


@dataclass(frozen=True)
class Saving:
    """What a policy picked on validation saves on test, against one single model.

    Attributes:
        epsilon: tolerated loss on validation, in points (0.01 score).
        index: the operating point picked, or -1 for the single model itself.
        saving: share of the model's cost saved on test.
        drop: score of the model minus score of the picked policy on test, in points.
    """

    epsilon: float
    index: int
    saving: float
    drop: float


@dataclass(frozen=True)
class Measures:
    """All measures of one solver on one test split; NaN where undefined.

    Attributes:
        aiq: mean height of the solver's frontier between ``C_SLM`` and ``C_LLM``.
        aiq_by_largest_cost: the same area divided by ``C_LLM``, as in RouterBench's code.
        aiq_static: the same for random mixing of the single models.
        aiq_oracle: the same for the oracle.
        gap_closed: share of the way from static to oracle.
        gain_over_static: points above single models chosen on validation, see `gain_over_static`.
        delta_ibc: mean of ``delta_ibc_regions``, in percent.
        delta_ibc_regions: ΔIBC at the centre of each cost region, in percent.
        perf_gain: LLMRouterBench's, see `perf_gain_and_cost_save`.
        cost_save: likewise.
        reference: the best single model on validation.
        savings: against it, one for each of ``SAVING_POINTS``.
        savings_vs_most_expensive: the same against the most expensive model.
    """

    aiq: float
    aiq_by_largest_cost: float
    aiq_static: float
    aiq_oracle: float
    gap_closed: float
    gain_over_static: float
    delta_ibc: float
    delta_ibc_regions: tuple[float, ...]
    perf_gain: float
    cost_save: float
    reference: int
    savings: tuple[Saving, ...]
    savings_vs_most_expensive: tuple[Saving, ...]

    def as_dict(self) -> dict[str, float | int | None]:
        """Flat scalars ready for JSON: NaN becomes None."""
        flat: dict[str, float | int] = {name: getattr(self, name) for name in SCALARS}
        for number, value in enumerate(self.delta_ibc_regions, start=1):
            flat[f"delta_ibc_region_{number}"] = value
        flat["reference"] = self.reference
        for against, savings in (
            ("best", self.savings),
            ("most_expensive", self.savings_vs_most_expensive),
        ):
            for saving in savings:
                at = f"vs_{against}_at_{saving.epsilon:g}"
                flat[f"saving_{at}"] = saving.saving
                flat[f"drop_{at}"] = saving.drop
                flat[f"index_{at}"] = saving.index
        return {name: None if math.isnan(value) else value for name, value in flat.items()}


FRONTIER_SCALARS = (
    "aiq", "aiq_by_largest_cost", "aiq_static", "aiq_oracle", "gap_closed", "delta_ibc",
    "perf_gain", "cost_save",
)  # fmt: skip
"""Names of the measures of a frontier that are one number each."""

SCALARS = (*FRONTIER_SCALARS, "gain_over_static")
"""The same, and those that look at validation too."""


def aiq_by_largest_cost(aiq: ArrayLike, low: ArrayLike, high: ArrayLike) -> FloatArray:
    """AIQ as RouterBench's code normalises it: the area divided by the largest cost.

    The paper (arXiv 2403.12031, §3) divides by the span of costs, which gives a mean height. The
    code divides by the largest cost, which counts the height left of the cheapest model as 0.

    Args:
        aiq: ``(...)`` AIQ as in the paper.
        low: ``(...)`` cost of the cheapest model.
        high: ``(...)`` cost of the most expensive model.
    """
    low, high = np.asarray(low, dtype=np.float64), np.asarray(high, dtype=np.float64)
    return np.asarray(aiq) * (high - low) / high


def ibc(P: ArrayLike, C: ArrayLike, P_slm: ArrayLike, C_slm: ArrayLike) -> FloatArray:
    """Incremental benefit per cost, ``(P − P_SLM)/(C − C_SLM)`` (AutoMix, arXiv 2310.12963, §4).

    All arguments broadcast. NaN where ``C <= C_SLM``: there is no extra cost to divide by, and a
    negative one would turn a loss into a positive slope.
    """
    benefit, extra = np.subtract(P, P_slm, dtype=np.float64), np.subtract(C, C_slm)
    benefit, extra = np.broadcast_arrays(benefit, np.asarray(extra, dtype=np.float64))
    return np.divide(benefit, extra, out=np.full(extra.shape, np.nan), where=extra > 0)


def delta_ibc(ibc: ArrayLike, base: ArrayLike) -> FloatArray:
    """``100 · (IBC − base)/base``, in percent (AutoMix, arXiv 2310.12963, §4).

    NaN where the base is not positive (the more expensive model is not better) or where either
    slope is NaN.
    """
    value, base = np.broadcast_arrays(
        np.asarray(ibc, dtype=np.float64), np.asarray(base, dtype=np.float64)
    )
    ratio = np.divide(value, base, out=np.full(base.shape, np.nan), where=base > 0)
    return 100.0 * (ratio - 1.0)


def regional_delta_ibc(
    frontier: Frontier, static_frontier: Frontier, slm: Point, llm: Point, regions: int = 5
) -> tuple[FloatArray, FloatArray]:
    """ΔIBC at the centres of equal cost regions between SLM and LLM, and its mean.

    AutoMix's table (arXiv 2310.12963) averages over five regions. The base line of a region is the
    static hull there: with two models the SLM–LLM line, with more the best pairwise line.

    Args:
        frontier: the solver's frontier, ``(..., k)``.
        static_frontier: hull of the single models, ``(..., k')``.
        slm: always ``M_0``, ``(...)``.
        llm: always ``M_{N-1}``, ``(...)``.
        regions: number of regions.

    Returns:
        ΔIBC of each region ``(..., regions)`` and their mean ``(...)``, in percent. NaN where no
        single model beats the SLM; the mean is then NaN too.
    """
    centre = (np.arange(regions) + 0.5) / regions
    P_slm, C_slm = np.asarray(slm.score)[..., None], np.asarray(slm.cost)[..., None]
    cost = C_slm + centre * (np.asarray(llm.cost)[..., None] - C_slm)
    base_gain = height(static_frontier, cost) - P_slm
    base = np.where(base_gain > _ROUNDING, ibc(base_gain, cost, 0.0, C_slm), np.nan)
    values = delta_ibc(ibc(height(frontier, cost), cost, P_slm, C_slm), base)
    return values, values.mean(axis=-1)


def gap_closed(aiq: ArrayLike, aiq_static: ArrayLike, aiq_oracle: ArrayLike) -> FloatArray:
    """``(AIQ − AIQ_static)/(AIQ_oracle − AIQ_static)``: 0 is random mixing, 1 the oracle.

    Negative for a solver below random mixing. NaN where the oracle is not better than mixing.
    """
    gain, gap = np.broadcast_arrays(
        np.subtract(aiq, aiq_static), np.subtract(aiq_oracle, aiq_static)
    )
    return np.divide(gain, gap, out=np.full(gap.shape, np.nan), where=gap > _ROUNDING)


def gain_over_static(test: FrontierMeans, validation: FrontierMeans) -> FloatArray:
    """Points of score above mixing single models, mean over budgets, both chosen on validation.

    For a budget between the cheapest and the most expensive model's mean cost, validation chooses
    the mixture of two neighbours on its hull: of the family's operating points, and of the single
    models. What each scores on test is compared. Unlike the zero of `gap_closed`, neither hull is
    drawn in hindsight.

    Args:
        test: means ``(..., M)``.
        validation: means ``(M,)``.

    Returns:
        ``(...)``; NaN where the most expensive model costs no more than the cheapest on validation.
    """
    slm, llm = validation.slm, validation.llm
    if not llm.cost > slm.cost:
        return np.full(test.score.shape[:-1], np.nan)

    def scored(cost: FloatArray, score: FloatArray, on_test: FloatArray) -> FloatArray:
        hull = frontier(cost, score)
        at = [int(np.flatnonzero((cost == x) & (score == y))[0])
              for x, y in zip(hull.cost, hull.score, strict=True)]  # fmt: skip
        vertices = len(at)
        shares = aiq(
            Frontier(np.broadcast_to(hull.cost, (vertices, vertices)), np.eye(vertices)),
            np.full(vertices, slm.cost),
            np.full(vertices, llm.cost),
        )
        found: FloatArray = on_test[..., at] @ shares
        return found

    def anchored(means: FrontierMeans) -> FloatArray:
        return np.concatenate([means.slm.score[..., None], means.score], axis=-1)

    family = scored(np.append(slm.cost, validation.cost), anchored(validation), anchored(test))
    static = scored(validation.model_cost, validation.model_score, test.model_score)
    return 100.0 * (family - static)


def perf_gain_and_cost_save(means: FrontierMeans) -> tuple[FloatArray, FloatArray]:
    """LLMRouterBench's PerfGain and CostSave (arXiv 2601.07206, §6), in hindsight.

    ``PerfGain = P(θ*)/P(B) − 1`` and ``CostSave = 1 − C(θ†)/C(B)``: ``B`` is the best single model,
    ``θ*`` the operating point of the best score, ``θ†`` the cheapest that scores no less than
    ``B``. Means are over queries, where the paper averages over its data sets.

    Returns:
        ``(...)`` each; the second is NaN where no operating point scores as well as ``B``.
    """
    best = np.lexsort((means.model_cost, -means.model_score), axis=-1)[..., :1]
    score, cost = (
        np.take_along_axis(values, best, -1)[..., 0]
        for values in (means.model_score, means.model_cost)
    )
    enough = means.score >= score[..., None] - _ROUNDING
    cheapest = np.where(enough, means.cost, np.inf).min(axis=-1)
    saved = np.where(np.isfinite(cheapest), 1.0 - cheapest / cost, np.nan)
    top = means.score.max(axis=-1)
    gain = np.divide(top, score, out=np.full_like(score, np.nan), where=score > 0) - 1.0
    return gain, saved


def router_arena_score(accuracy: ArrayLike, usd: ArrayLike) -> FloatArray:
    """RouterArena's score (arXiv 2510.00202): ``S = 1.1·A·C/(0.1·A + C)``.

    ``C = (log2 200 − log2 c)/(log2 200 − log2 0.0044)`` with ``c`` the USD of 1,000 queries, as in
    its published evaluation.

    Args:
        accuracy: ``(...)`` mean scores.
        usd: ``(...)`` mean cost of a query in USD.

    Returns:
        ``(...)``; NaN where a query is free or 1,000 cost more than USD 200: off the scale.
    """
    accuracy, cost = np.broadcast_arrays(
        np.asarray(accuracy, dtype=np.float64), 1000.0 * np.asarray(usd, dtype=np.float64)
    )
    on_scale = (cost > 0) & (cost <= _ARENA_MOST)
    log = np.log2(cost, out=np.full(cost.shape, np.nan), where=on_scale)
    cheap = (np.log2(_ARENA_MOST) - log) / (np.log2(_ARENA_MOST) - np.log2(_ARENA_LEAST))
    below = 0.1 * accuracy + cheap
    return np.divide(1.1 * accuracy * cheap, below, out=np.zeros_like(below), where=below != 0)


def frontier_measures(means: FrontierMeans) -> dict[str, FloatArray]:
    """Measures of a solver's frontier, each ``(...)``, by the names of ``Measures``.

    ``delta_ibc_regions`` is ``(..., 5)``.

    Raises:
        ValueError: ``C_LLM <= C_SLM`` somewhere.
    """
    check_models(means)
    slm, llm = means.slm, means.llm
    router, static = means.router_frontier(), means.static_frontier()
    heights = [aiq(f, slm.cost, llm.cost) for f in (router, static, means.oracle_frontier())]
    regions, mean = regional_delta_ibc(router, static, slm, llm)
    gain, saved = perf_gain_and_cost_save(means)
    return {
        "aiq": heights[0],
        "aiq_by_largest_cost": aiq_by_largest_cost(heights[0], slm.cost, llm.cost),
        "aiq_static": heights[1],
        "aiq_oracle": heights[2],
        "gap_closed": gap_closed(*heights),
        "delta_ibc": mean,
        "delta_ibc_regions": regions,
        "perf_gain": gain,
        "cost_save": saved,
    }


def best_single_model(score: ArrayLike, cost: ArrayLike) -> int:
    """The model of the largest mean score ``(N,)``; of equally good ones the cheapest."""
    return int(np.lexsort((np.asarray(cost), -np.asarray(score)))[0])


def pick_for_saving(validation: FrontierMeans, epsilon: float, model: int = -1) -> int:
    """The cheapest operating point whose score is within ``epsilon`` points of a single model's.

    Of equally cheap ones the best. -1, the model itself, where no point that qualifies is cheaper
    than it.

    Args:
        validation: means ``(M,)`` on the validation split.
        epsilon: tolerated loss in points (0.01 score), >= 0.
        model: that losses are counted against; the most expensive by default.
    """
    if not epsilon >= 0:
        raise ValueError(f"epsilon is {epsilon}; expected a tolerated loss in points, 0 or more")
    floor = validation.model_score[model] - epsilon / 100.0 - _ROUNDING
    cheaper = validation.cost < validation.model_cost[model]
    candidates = np.flatnonzero((validation.score >= floor) & cheaper)
    if len(candidates) == 0:
        return -1
    order = np.lexsort((-validation.score[candidates], validation.cost[candidates]))
    return int(candidates[order[0]])


def saving_of(test: FrontierMeans, index: int, model: int = -1) -> tuple[FloatArray, FloatArray]:
    """Saving ``1 − C/C_model`` and score lost to a single model in points, of an operating point.

    Args:
        test: means ``(..., M)``.
        index: operating point, or -1 for the model itself, which saves and loses nothing.
        model: that both are counted against; the most expensive by default.

    Returns:
        ``(...)`` and ``(...)``.

    Raises:
        ValueError: ``C_LLM <= C_SLM`` somewhere.
    """
    check_models(test)
    score, cost = test.model_score[..., model], test.model_cost[..., model]
    if index < 0:
        return np.zeros_like(cost), np.zeros_like(score)
    return 1.0 - test.cost[..., index] / cost, 100.0 * (score - test.score[..., index])


def saving_at(
    test: FrontierMeans, validation: FrontierMeans, epsilon: float, model: int = -1
) -> Saving:
    """Saving@ε: the operating point is picked on validation and scored on test.

    Raises:
        ValueError: ``epsilon < 0``, the splits have different operating points, or
            ``C_LLM <= C_SLM``.
    """
    check_same_points(test, validation)
    index = pick_for_saving(validation, epsilon, model)
    saving, drop = saving_of(test, index, model)
    return Saving(epsilon, index, float(saving), float(drop))


def check_models(means: FrontierMeans) -> None:
    """Raise ValueError unless the last model costs more than the first, on average."""
    last, first = np.atleast_1d(means.llm.cost), np.atleast_1d(means.slm.cost)
    if not np.all(last > first):
        at = np.argmin(last - first)
        raise ValueError(
            f"model_cost: the last model costs {last[at]:g} on average and the first {first[at]:g};"
            " every measure compares costs between the two: order the models cheapest first, or "
            "choose two that differ in cost"
        )


def check_same_points(test: FrontierMeans, validation: FrontierMeans) -> None:
    """Raise ValueError unless both splits have the same numbers of points and models."""
    for what, name in (("operating points", "cost"), ("models", "model_cost")):
        found = [getattr(means, name).shape[-1] for means in (test, validation)]
        if found[0] != found[1]:
            raise ValueError(
                f"saving: the test split has {found[0]} {what} and validation {found[1]}; "
                "evaluate the same policies on both"
            )


def measure(test: FrontierOutcomes, validation: FrontierOutcomes) -> Measures:
    """All measures of a family on ``test``; savings and the gain look at ``validation`` too.

    Raises:
        ValueError: the splits have different operating points or models, or ``C_LLM <= C_SLM``.
    """
    means, chosen_on = test.means(), validation.means()
    check_same_points(means, chosen_on)
    values = frontier_measures(means)
    values["gain_over_static"] = gain_over_static(means, chosen_on)
    reference = best_single_model(chosen_on.model_score, chosen_on.model_cost)
    savings, vs_most_expensive = (
        tuple(saving_at(means, chosen_on, epsilon, model) for epsilon in SAVING_POINTS)
        for model in (reference, -1)
    )
    return Measures(
        **{name: float(values[name]) for name in SCALARS},
        delta_ibc_regions=tuple(float(value) for value in values["delta_ibc_regions"]),
        reference=reference,
        savings=savings,
        savings_vs_most_expensive=vs_most_expensive,
    )
