"""Calibration of a learned belief on the test split, compared with the fitted problem's belief."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from routing_pomdp.envs import RoutingData, RoutingPOMDP
from routing_pomdp.envs.arrays import FloatArray
from routing_pomdp.evaluation.bootstrap import percentile_interval, weight_blocks
from routing_pomdp.solvers import HasBelief
from routing_pomdp.solvers.belief_calibration import Beliefs, FittedBelief

LEARNED, FITTED, DIFFERENCE = "learned", "fitted", "learned - fitted"
ALL = "all"

# Draws for the ECE of a perfectly calibrated belief.
_CHANCE = 100

_SCORE = "score"


@dataclass(frozen=True, eq=False)
class BeliefQuality:
    """Calibration of the learned and the fitted belief, in plain numbers.

    Attributes:
        rows: one row for each belief, and for learned minus fitted, on each model and on "all", the
            mean over models: ``error``, the expected calibration error (ten quantile bins),
            ``log_loss`` in nats and ``brier``, the Brier score, each with the ends of its interval
            ``…_low``, ``…_high``; ``error_chance`` is the expected ECE of a calibrated belief on as
            many queries.
        diagrams: for each belief, a reliability diagram per model: mean prediction, mean score, its
            interval and the number of predictions of each bin.
        measures: the means over models, ``belief_error`` … and ``fitted_belief_error`` ….
        intervals: confidence intervals of ``measures``.
    """

    rows: list[dict[str, Any]]
    diagrams: dict[str, list[dict[str, list[float]]]]
    measures: dict[str, float]
    intervals: dict[str, tuple[float, float]]


def belief_quality(
    policy: HasBelief,
    problem: RoutingPOMDP,
    test: RoutingData,
    model_names: Sequence[str],
    *,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> BeliefQuality:
    """Evaluates both beliefs at every decision point of the rules on every test query.

    Sampling noise biases the ECE upwards, and twice as much in a resample. Its resamples are
    therefore centred on the estimate.

    Args:
        policy: the policy with a learned belief.
        problem: fitted on the training queries.
        test: held-out queries.
        model_names: cheapest first.
        resamples: bootstrap resamples of the queries, the same for both beliefs; the decision
            points of a query stay together.
        level: coverage of the intervals.
        seed: seed of all draws.
    """
    beliefs = {
        LEARNED: Beliefs.of(policy, problem.rules, test),
        FITTED: Beliefs.of(FittedBelief(problem), problem.rules, test),
    }
    n, rng = len(test), np.random.default_rng(seed)
    value = {name: _figures(held, np.ones((1, n))) for name, held in beliefs.items()}
    blocks = [
        {name: _figures(held, block) for name, held in beliefs.items()}
        for block in weight_blocks(n, resamples, seed)
    ]
    draws = {
        name: {key: np.concatenate([block[name][key] for block in blocks]) for key in found}
        for name, found in value.items()
    }
    diagrams = {
        name: _diagrams(held, draws[name].pop(_SCORE), level) for name, held in beliefs.items()
    }
    for of in (value, draws):
        of[DIFFERENCE] = {key: of[LEARNED][key] - of[FITTED][key] for key in draws[LEARNED]}
    rows = []
    for name, figures in draws.items():
        floor = beliefs[name].chance(_CHANCE, rng) if name in beliefs else None
        for i, model in enumerate([*model_names, ALL]):
            row: dict[str, Any] = {"belief": name, "model": model}
            for key, samples in figures.items():
                found = float(_of(value[name][key], i)[0])
                drawn = _of(samples, i)
                if key == "error":
                    drawn = drawn - drawn.mean() + found
                low, high = percentile_interval(drawn, resamples, level)
                row |= {key: found, f"{key}_low": low, f"{key}_high": high}
            row["error_chance"] = None if floor is None else float(_of(floor[None], i)[0])
            rows.append(row)
    measures, intervals = {}, {}
    for row in rows:
        if row["model"] == ALL and row["belief"] != DIFFERENCE:
            prefix = "fitted_" * (row["belief"] == FITTED) + "belief_"
            for key in draws[LEARNED]:
                measures[f"{prefix}{key}"] = row[key]
                intervals[f"{prefix}{key}"] = row[f"{key}_low"], row[f"{key}_high"]
    return BeliefQuality(rows, diagrams, measures, intervals)


def _figures(held: Beliefs, weight: FloatArray) -> dict[str, FloatArray]:
    """The measures ``(R, N)`` and the mean scores of the bins, ``(R, N, 10)``."""
    return {
        "error": held.error(weight),
        "log_loss": held.log_loss(weight),
        "brier": held.brier(weight),
        _SCORE: held.reliability(weight)[2].swapaxes(0, 1),
    }


def _of(figure: FloatArray, model: int) -> FloatArray:
    """``(R,)`` the column of one model of ``(R, N)``, or the mean over models for ``N``."""
    found: FloatArray = figure.mean(axis=1) if model == figure.shape[1] else figure[:, model]
    return found


def _diagrams(held: Beliefs, draws: FloatArray, level: float) -> list[dict[str, list[float]]]:
    count, believed, score = (part[:, 0] for part in held.reliability(np.ones((1, len(held)))))
    diagrams = []
    for model, used in enumerate(count > 0):
        # A resample may leave a bin empty. The sample itself is added as a draw, so that every bin
        # has one.
        drawn = np.concatenate([score[None, model, used], draws[:, model, used]])
        ends = np.nanquantile(drawn, [(1 - level) / 2, (1 + level) / 2], axis=0)
        columns = {
            "believed": believed[model, used],
            "score": score[model, used],
            "score_low": ends[0],
            "score_high": ends[1],
            "count": count[model, used],
        }
        diagrams.append({key: column.tolist() for key, column in columns.items()})
    return diagrams
