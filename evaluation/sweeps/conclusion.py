"""What a sweep found, in a few sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from routing_pomdp.evaluation.bootstrap import percentile_interval, resampled_means
from routing_pomdp.evaluation.frontier_outcomes import FrontierMeans
from routing_pomdp.evaluation.measures import frontier_measures
from routing_pomdp.evaluation.runs.run_folder import Run
from routing_pomdp.evaluation.sweeps.comparison import ComparisonCell
from routing_pomdp.evaluation.sweeps.sections import name_of, solver_labels

# These are what routers are compared with.
BASELINES = ("static", "random_mix", "oracle")

_RESAMPLES = 1000

Settings = Mapping[ComparisonCell, Mapping[str, Run]]


@dataclass(frozen=True)
class Gain:
    """Mean height of a frontier above that of random mixing of the single models, in points of
    0.01 score, with its paired bootstrap interval."""

    points: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.points:+.1f} points [{self.low:+.1f}, {self.high:+.1f}]"


def gain_over_mixing(run: Run) -> Gain:
    """How much better a run's router scores than random mixing at the same mean cost: a mean over
    the costs between the cheapest and the most expensive model."""
    outcomes, level = run.outcomes(), run.about["config"]["evaluation"]["level"]

    def gain(means: FrontierMeans) -> np.ndarray:
        found = frontier_measures(means)
        return np.asarray(100.0 * (found["aiq"] - found["aiq_static"]))

    draws = resampled_means(outcomes, _RESAMPLES, seed=0)
    defined = draws.llm.cost > draws.slm.cost
    low, high = percentile_interval(gain(draws.select(defined)), _RESAMPLES, level)
    return Gain(float(gain(outcomes.means())), low, high)


def routers(settings: Settings) -> list[str]:
    """Labels of the solvers that are no baselines, by the gap closed, mean over settings."""
    return [label for label in solver_labels(settings) if label not in BASELINES]


def middle_settings(settings: Settings) -> list[ComparisonCell]:
    """The setting in the middle of each row: of its cost ratios, say."""
    rows = dict.fromkeys(setting.row for setting in settings)
    return [same[len(same) // 2] for row in rows if (same := [s for s in settings if s.row == row])]


def conclusion(settings: Settings) -> str:
    """Which router led, by how much, and where routing does not pay: one sentence a line."""
    ranked = routers(settings)
    if not ranked:
        return (
            "No router was run: static, random_mix and oracle are what routers are compared with."
        )
    first = ranked[0]
    means = {label: _mean_gap(settings, label) for label in ranked}
    others = ", ".join(f"{label} {means[label]:.3f}" for label in ranked[1:])
    lines = [
        f"{first} leads: it closes {means[first]:.3f} of the gap between random mixing of single "
        f"models (0) and the oracle (1), mean over {len(settings)} settings"
        + (f"; then come {others}." if others else ".")
    ]
    for setting in middle_settings(settings):
        run = settings[setting].get(first)
        if run is None or run.measures["gap_closed"] is None:
            continue
        lines.append(
            f"{name_of(setting)}: at the same mean cost, {first} scores {gain_over_mixing(run)} "
            f"against random mixing{_saving(run)}."
        )
    lines.append(_where_not(settings, ranked))
    return "\n".join(lines)


def _mean_gap(settings: Settings, label: str) -> float:
    gaps = [runs[label].measures["gap_closed"] for runs in settings.values() if label in runs]
    known = [gap for gap in gaps if gap is not None]
    return float(np.mean(known)) if known else float("nan")


def _saving(run: Run) -> str:
    """What the policy picked on validation to lose nothing saves and scores on test."""
    saving, drop = run.measures["saving_vs_best_at_0"], run.measures["drop_vs_best_at_0"]
    if not saving:
        return ""
    low, high = (100 * share for share in _bounds(run))
    more = f"{abs(drop):.1f} points {'less' if drop > 0 else 'more'}"
    best = run.models[run.measures["reference"]]["name"]
    return (
        f"; picked on validation to lose nothing to {best}, the best single model, it saves "
        f"{100 * saving:.0f}% [{low:.0f}, {high:.0f}] of its cost and scores {more} on test"
    )


def _bounds(run: Run) -> tuple[float, float]:
    low, high = run.intervals.get("saving_vs_best_at_0", (None, None))
    return float("nan") if low is None else low, float("nan") if high is None else high


def _where_not(settings: Settings, labels: Sequence[str]) -> str:
    """Where no router, and where some router, is not certainly better than random mixing."""
    lost: dict[str, list[str]] = {label: [] for label in labels}
    nowhere = []
    for setting, runs in settings.items():
        failed = [label for label in labels if label in runs and not _pays(runs[label])]
        for label in failed:
            lost[label].append(name_of(setting))
        if len(failed) == sum(label in runs for label in labels):
            nowhere.append(name_of(setting))
    shown = [f"{label} in {len(found)}" for label, found in lost.items() if found]
    if not shown:
        return "Every router is better than random mixing in every setting (95% intervals)."
    text = (
        f"No router is certainly better than random mixing on {', '.join(nowhere)}: do not route "
        "there. "
        if nowhere
        else "In every setting some router is better than random mixing. "
    )
    return text + f"Not certainly better: {', '.join(shown)} of {len(settings)} settings."


def _pays(run: Run) -> bool:
    low, _ = run.intervals.get("gap_closed", (None, None))
    return low is not None and low > 0
