"""Significance of differences between solvers, over settings and seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from routing_pomdp.envs.arrays import FloatArray
from routing_pomdp.evaluation.bootstrap import percentile_interval, two_sided, weight_blocks
from routing_pomdp.evaluation.frontier_outcomes import FrontierOutcomes
from routing_pomdp.evaluation.measures import frontier_measures


@dataclass(frozen=True)
class Difference:
    """A solver's measure minus the reference's on the same queries.

    Attributes:
        difference: estimate on the test queries.
        low: lower end of the percentile interval.
        high: upper end.
        p_value: two-sided, without adjustment.
        p_holm: adjusted for all comparisons of the setting.
    """

    difference: float
    low: float
    high: float
    p_value: float
    p_holm: float


@dataclass(frozen=True)
class SeedSummary:
    """A measure over runs that differ in their seed only.

    Attributes:
        mean: mean over seeds.
        deviation: standard deviation over seeds; NaN for one seed.
        low: lower end of the interval over queries and seeds.
        high: upper end.
    """

    mean: float
    deviation: float
    low: float
    high: float


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment (Scandinavian Journal of Statistics, 1979), at most 1.

    NaN, a comparison that could not be made, stays NaN and is not counted.
    """
    p = np.asarray(p_values, dtype=np.float64)
    adjusted = np.full(len(p), np.nan)
    made = np.flatnonzero(~np.isnan(p))
    order = made[np.argsort(p[made], kind="stable")]
    steps = p[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    found: list[float] = adjusted.tolist()
    return found


def resamples_for(comparisons: int, alpha: float = 0.05) -> int:
    """The number of resamples needed for a number of comparisons, at least 1,000.

    The smallest p-value of a bootstrap is ``2/(R + 1)``; Holm multiplies it by the number of
    comparisons, and the product must be able to fall below ``alpha``.
    """
    return max(1000, int(np.ceil(2 * comparisons / alpha)) + 100)


class Resampled:
    """One measure of several solvers in one setting, on the same queries and resamples.

    The measure of a solver with several seeds is the mean over them.

    Attributes:
        point: the measure of each solver.
        samples: ``(R,)`` resampled measures of each solver, paired.
    """

    def __init__(
        self,
        families: Mapping[str, FrontierOutcomes | Sequence[FrontierOutcomes]],
        measure: str,
        resamples: int = 1000,
        seed: int = 0,
    ) -> None:
        """Resamples all solvers together.

        Args:
            families: outcomes of each solver, or of each of its seeds.
            measure: name of a measure of a frontier.
            resamples: ``R``.
            seed: seed of the resampling.

        Raises:
            ValueError: the outcomes are on different queries, models or costs.
        """
        by_seed = {
            label: [found] if isinstance(found, FrontierOutcomes) else list(found)
            for label, found in families.items()
        }
        first = next(iter(by_seed.values()))[0]
        for label, found in by_seed.items():
            for name in ("model_score", "model_cost"):
                if not all(np.array_equal(getattr(f, name), getattr(first, name)) for f in found):
                    raise ValueError(
                        f"{label}: {name} differs from the other families'; expected the same "
                        "queries in the same order, models and costs: evaluate all on one log"
                    )
        self.point = {
            label: float(np.mean([frontier_measures(f.means())[measure] for f in found]))
            for label, found in by_seed.items()
        }
        parts: dict[str, list[FloatArray]] = {label: [] for label in by_seed}
        for weights in weight_blocks(len(first), resamples, seed):
            for label, found in by_seed.items():
                total = np.zeros(len(weights))
                for family in found:
                    draws = family.means(weights)
                    defined = draws.llm.cost > draws.slm.cost
                    total[~defined] = np.nan
                    total[defined] += frontier_measures(draws.select(defined))[measure]
                parts[label].append(total / len(found))
        self.samples = {label: np.concatenate(part) for label, part in parts.items()}

    def against(self, reference: str, level: float = 0.95) -> dict[str, Difference]:
        """Every other solver minus the reference, with Holm's adjustment.

        Raises:
            ValueError: there is no such solver.
        """
        if reference not in self.point:
            raise ValueError(
                f"the reference {reference!r} is none of the solvers {sorted(self.point)}"
            )
        others = [label for label in self.point if label != reference]
        p_values = [self.p_value(label, reference) for label in others]
        found = {}
        for label, p, adjusted in zip(others, p_values, holm(p_values), strict=True):
            samples = self.samples[label] - self.samples[reference]
            low, high = percentile_interval(samples, len(samples), level)
            difference = self.point[label] - self.point[reference]
            found[label] = Difference(difference, low, high, p, adjusted)
        return found

    def best(self) -> str:
        """The solver with the largest measure; the first one of ties."""
        return max(self.point, key=lambda label: self.point[label])

    def p_value(self, first: str, second: str) -> float:
        """Two-sided p-value of the difference of two solvers; 1 if they never differ."""
        samples = self.samples[first] - self.samples[second]
        if np.isnan(samples).all():
            return float("nan")
        return two_sided(samples)


def win_tie_loss(
    settings: Sequence[Resampled], alpha: float = 0.05
) -> dict[tuple[str, str], tuple[int, int, int]]:
    """Numbers of settings in which each solver is significantly better than each other one, not
    different, and worse.

    Args:
        settings: the same measure in each setting.
        alpha: level of significance, after Holm over all pairs of a setting.

    Returns:
        (solver, other) -> (wins, ties, losses) over the settings that have both.
    """
    count: dict[tuple[str, str], list[int]] = {}
    for resampled in settings:
        labels = list(resampled.point)
        pairs = [(a, b) for i, a in enumerate(labels) for b in labels[i + 1 :]]
        adjusted = holm([resampled.p_value(a, b) for a, b in pairs])
        for (a, b), p in zip(pairs, adjusted, strict=True):
            better = 1 if resampled.point[a] > resampled.point[b] else -1
            outcome = better if p < alpha else 0
            for pair, index in (((a, b), 1 - outcome), ((b, a), 1 + outcome)):
                count.setdefault(pair, [0, 0, 0])[index] += 1
    return {pair: (wins, ties, losses) for pair, (wins, ties, losses) in count.items()}


def across_seeds(
    families: Sequence[FrontierOutcomes],
    measure: str,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> SeedSummary:
    """One solver's measure over runs that differ in their seed.

    The interval pools the resamples of all seeds: it is for a new seed on new queries.

    Args:
        families: outcomes of each seed.
        measure: name of a measure of a frontier.
        resamples: resamples of each seed.
        level: coverage.
        seed: seed of the resampling.
    """
    points = [float(frontier_measures(family.means())[measure]) for family in families]
    pooled = np.concatenate(
        [
            Resampled({"": family}, measure, resamples, seed + i).samples[""]
            for i, family in enumerate(families)
        ]
    )
    low, high = percentile_interval(pooled, len(pooled), level)
    deviation = float(np.std(points, ddof=1)) if len(points) > 1 else float("nan")
    return SeedSummary(float(np.mean(points)), deviation, low, high)
