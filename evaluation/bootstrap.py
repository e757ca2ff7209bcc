"""Paired bootstrap over queries, for all resamples at once.

A resample of the queries is a vector of counts, so all resampled means are one matrix product and
every measure is one call with a leading dimension ``R``. Outcomes resampled with the same seed use
the same queries, which pairs them.

Intervals are percentile intervals over the resamples in which the measure is defined. If it is
undefined in more than ``1 − level`` of them (a most expensive model that is hardly better than the
cheapest, an oracle that is hardly better than mixing), the interval is NaN: the remaining resamples
would give a biased one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields

import numpy as np

from routing_pomdp.envs.arrays import FloatArray
from routing_pomdp.evaluation.frontier import height
from routing_pomdp.evaluation.frontier_outcomes import FrontierMeans, FrontierOutcomes
from routing_pomdp.evaluation.measures import (
    FRONTIER_SCALARS,
    SAVING_POINTS,
    best_single_model,
    check_models,
    check_same_points,
    frontier_measures,
    gain_over_static,
    pick_for_saving,
    saving_of,
)

# Entries of one block of weights, 32 MB, so that a million queries fit in memory.
_BLOCK = 1 << 22


def bootstrap_weights(n: int, resamples: int, seed: int) -> FloatArray:
    """Counts of each query in each resample of ``n`` queries with replacement.

    Returns:
        ``(R, n)`` counts as floats; every row sums to ``n``.

    Raises:
        ValueError: ``n`` or ``resamples`` is below 1.
    """
    return np.concatenate(list(weight_blocks(n, resamples, seed)))


def resampled_means(outcomes: FrontierOutcomes, resamples: int, seed: int) -> FrontierMeans:
    """Mean outcomes in every resample: arrays ``(R, M)``, ``(R, N)``, ``(R, M_o)``."""
    blocks = [outcomes.means(w) for w in weight_blocks(len(outcomes), resamples, seed)]
    return FrontierMeans(
        *(
            np.concatenate([getattr(block, f.name) for block in blocks])
            for f in fields(FrontierMeans)
        )
    )


def intervals(
    test: FrontierOutcomes,
    validation: FrontierOutcomes,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> dict[str, tuple[float, float]]:
    """Percentile intervals of the measures on ``test``.

    ``validation`` fixes the operating point whose saving is reported: the interval covers the
    sampling of test queries, not the choice.

    Args:
        test: the outcomes that are resampled.
        validation: the outcomes that pick the points for the savings.
        resamples: R.
        level: coverage, in (0, 1).
        seed: seed of the resampling.

    Returns:
        (low, high) by the keys of ``Measures.as_dict``: the scalars, ``delta_ibc_region_1`` …,
        ``saving_vs_best_at_0`` … and ``drop_vs_best_at_0`` …, the same ``vs_most_expensive``.

    Raises:
        ValueError: the level is outside (0, 1), there is no resample, the splits have different
            operating points, or ``C_LLM <= C_SLM``.
    """
    means, chosen_on = test.means(), validation.means()
    check_models(means)
    check_same_points(means, chosen_on)
    draws = resampled_means(test, resamples, seed)
    defined = draws.llm.cost > draws.slm.cost
    draws = draws.select(defined)
    values = frontier_measures(draws)
    samples = {name: values[name] for name in FRONTIER_SCALARS}
    samples["gain_over_static"] = gain_over_static(draws, chosen_on)
    for number, region in enumerate(values["delta_ibc_regions"].T, start=1):
        samples[f"delta_ibc_region_{number}"] = region
    best = best_single_model(chosen_on.model_score, chosen_on.model_cost)
    for against, model in (("best", best), ("most_expensive", -1)):
        for epsilon in SAVING_POINTS:
            saving, drop = saving_of(draws, pick_for_saving(chosen_on, epsilon, model), model)
            samples[f"saving_vs_{against}_at_{epsilon:g}"] = saving
            samples[f"drop_vs_{against}_at_{epsilon:g}"] = drop
    return {name: percentile_interval(value, resamples, level) for name, value in samples.items()}


def frontier_band(
    outcomes: FrontierOutcomes,
    cost: FloatArray,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[FloatArray, FloatArray]:
    """A pointwise confidence band of the frontier's height at given mean costs.

    Args:
        outcomes: outcomes of one solver.
        cost: ``(Q,)`` mean costs.
        resamples: R.
        level: coverage at each cost, in (0, 1).
        seed: seed of the resampling.

    Returns:
        Lower and upper heights, ``(Q,)``; NaN where fewer than half of the resampled frontiers
        reach so low a cost.
    """
    draws = resampled_means(outcomes, resamples, seed)
    heights = height(draws.router_frontier(), np.broadcast_to(cost, (resamples, len(cost))))
    reached = np.isfinite(heights).mean(axis=0) >= 0.5
    band = np.full((2, len(cost)), np.nan)
    edges = [(1 - level) / 2, (1 + level) / 2]
    band[:, reached] = np.nanquantile(heights[:, reached], edges, axis=0)
    return band[0], band[1]


def weight_blocks(n: int, resamples: int, seed: int) -> Iterator[FloatArray]:
    """`bootstrap_weights` in blocks of rows that fit in memory."""
    if n < 1 or resamples < 1:
        raise ValueError(
            f"bootstrap: {resamples} resamples of {n} queries; expected at least one of each"
        )
    rng = np.random.default_rng(seed)
    size = max(1, _BLOCK // n)
    for start in range(0, resamples, size):
        rows = min(size, resamples - start)
        # Counting drawn indices is several times faster than multinomial draws.
        drawn = rng.integers(0, n, (rows, n)) + n * np.arange(rows)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=rows * n)
        yield counts.reshape(rows, n).astype(np.float64)


def percentile_interval(samples: FloatArray, resamples: int, level: float) -> tuple[float, float]:
    """The percentile interval of resampled values; NaN if too few are defined (see above)."""
    if not 0 < level < 1:
        raise ValueError(f"level is {level}; expected a coverage between 0 and 1, such as 0.95")
    defined = samples[np.isfinite(samples)]
    if len(defined) < level * resamples:
        return float("nan"), float("nan")
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def two_sided(samples: FloatArray) -> float:
    """Two-sided p-value ``2 · min(P*(d <= 0), P*(d >= 0))`` of resampled differences, at most 1,
    with one added to each count (Davison & Hinkley 1997, §4.4)."""
    defined = samples[np.isfinite(samples)]
    below, above = int((defined <= 0).sum()), int((defined >= 0).sum())
    return min(1.0, 2.0 * (min(below, above) + 1) / (len(defined) + 1))
