"""The measures of a family once: what each is called, how it is shown and how it is read.

Tables of reports and comparisons draw on this list; `info` finds an entry. A name with
``{e}`` stands for one measure a tolerance, in points of 0.01 score.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

Direction = Literal["up", "down", "none"]


@dataclass(frozen=True)
class MeasureInfo:
    """How one measure is shown and read.

    Attributes:
        title: of its table.
        form: of its numbers.
        better: whether larger is better ("up"), smaller ("down"), or neither.
        note: how to read it.
        short: its title in a narrow column; None for its title.
    """

    title: str
    form: str
    better: Direction
    note: str
    short: str | None = None


_SHARE, _POINTS = "{:.3f}", "{:+.1f}"
_BEST = "the best single model, chosen on validation"

MEASURES: dict[str, MeasureInfo] = {
    "aiq": MeasureInfo(
        "AIQ",
        "{:.4f}",
        "up",
        "Mean score of the frontier between the costs of the cheapest and the last model.",
    ),
    "aiq_by_largest_cost": MeasureInfo(
        "AIQ by the largest cost",
        "{:.4f}",
        "up",
        "The same area divided by the largest cost alone, as RouterBench's code does.",
    ),
    "aiq_static": MeasureInfo(
        "AIQ of single models",
        "{:.4f}",
        "none",
        "AIQ of the best random mixing of single models, in hindsight on test.",
    ),
    "aiq_oracle": MeasureInfo(
        "AIQ of the oracle",
        "{:.4f}",
        "none",
        "AIQ of the cheapest right answer of each query.",
    ),
    "gap_closed": MeasureInfo(
        "Gap closed",
        "{:+.3f}",
        "up",
        "0 is random mixing of the single models, 1 the oracle.",
        "gap closed",
    ),
    "gain_over_static": MeasureInfo(
        "Gain over static, points",
        "{:+.2f}",
        "up",
        "Points of score above mixing single models, mean over budgets between the costs of the "
        "cheapest and the most expensive model; both mixtures are chosen on validation.",
        "gain over static",
    ),
    "delta_ibc": MeasureInfo(
        "ΔIBC, %",
        "{:+.1f}",
        "up",
        "Incremental benefit per cost relative to mixing single models, mean of five cost regions.",
        "ΔIBC %",
    ),
    "saving_vs_best_at_{e}": MeasureInfo(
        "Saving against the best single model at {e} points",
        _SHARE,
        "up",
        f"Share of the cost of {_BEST}, that is saved on test by the cheapest policy that loses at "
        "most {e} points to it on validation.",
        "saving@{e}",
    ),
    "drop_vs_best_at_{e}": MeasureInfo(
        "Loss on test at {e} points, in points",
        _POINTS,
        "down",
        f"The loss of that policy on test to {_BEST}.",
        "lost@{e}",
    ),
    "saving_vs_most_expensive_at_{e}": MeasureInfo(
        "Saving against the most expensive model at {e} points",
        _SHARE,
        "up",
        "The same against the most expensive model, which may be worse than a cheaper one.",
    ),
    "drop_vs_most_expensive_at_{e}": MeasureInfo(
        "Loss to the most expensive model on test at {e} points, in points",
        _POINTS,
        "down",
        "The loss of that policy on test to the most expensive model.",
    ),
    "certified_saving": MeasureInfo(
        "Certified saving",
        _SHARE,
        "up",
        "Share of the reference's cost saved on test by the policy that is certified to lose at "
        "most ε with probability 1 − δ; 0 where only the reference is.",
        "certified saving",
    ),
    "certified_loss": MeasureInfo(
        "Loss of the certified policy, points",
        _POINTS,
        "down",
        "What that policy loses to the reference on test.",
        "its loss",
    ),
    "certified_loss_bound": MeasureInfo(
        "Certified loss, points",
        "{:.1f}",
        "down",
        "What its true loss is at most, with probability 1 − δ.",
    ),
    "perf_gain": MeasureInfo(
        "PerfGain",
        "{:+.3f}",
        "up",
        "LLMRouterBench: the best operating point's score over the best single model's, minus 1; "
        "both in hindsight on test.",
    ),
    "cost_save": MeasureInfo(
        "CostSave",
        "{:+.3f}",
        "up",
        "LLMRouterBench: share of the best single model's cost saved by the cheapest operating "
        "point that scores no less; in hindsight on test, undefined where none does.",
    ),
    "router_arena": MeasureInfo(
        "RouterArena score",
        "{:.4f}",
        "up",
        "RouterArena: accuracy weighed with cost on its logarithmic scale, of the operating point "
        "that is best by it on validation; for costs in USD.",
    ),
    "model_regret": MeasureInfo(
        "Model regret",
        "{:.4f}",
        "down",
        "Optimal value minus the policy's value inside the fitted model, mean over prices.",
        "regret",
    ),
}


def info(name: str) -> MeasureInfo:
    """How to show the measure of a name such as "saving_vs_best_at_1".

    Raises:
        KeyError: no such measure.
    """
    if name in MEASURES:
        return MEASURES[name]
    kind, at, tolerance = name.rpartition("_at_")
    found = MEASURES[kind + at + "{e}"]
    texts = {key: getattr(found, key) for key in ("title", "note", "short")}
    return replace(
        found, **{key: text and text.replace("{e}", tolerance) for key, text in texts.items()}
    )
