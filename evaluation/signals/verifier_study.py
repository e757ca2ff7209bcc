"""Evaluation of every verifier of a log: the quality of its signal, its cost and its value."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass

import numpy as np

from routing_pomdp.envs import CostModel, Costs, Rollouts, RoutingData, RoutingPOMDP, Rules
from routing_pomdp.envs.arrays import FloatArray
from routing_pomdp.envs.model.routing_pomdp import Observation
from routing_pomdp.evaluation.signals.signal_quality import Answers, Quality, signal_quality
from routing_pomdp.evaluation.signals.verifier_value import (
    Bought,
    Gain,
    Worth,
    gained,
    promised_by_noise,
    shuffled_problems,
    worth,
)
from routing_pomdp.verifiers import (
    Verifier,
    VerifierError,
    charged,
    emitted,
    fitted,
    make_routing_data,
)
from routing_pomdp.verifiers.observation.histogram import count_on_missing
from routing_pomdp.verifiers.observation.scale import LogitScale, Scale


@dataclass(frozen=True)
class Study:
    """Settings of the evaluation of verifiers.

    Attributes:
        cost_model: costs of calls and verifications.
        observation: unfitted observation model; every verifier gets a copy.
        rules: the rules; both values of ``verify`` are evaluated.
        levels: score levels in the finite model, see `RoutingPOMDP.fit`.
        prices: ``λ`` at which the value is computed.
        bins: number of bins of the reliability diagrams and the ECE.
        shuffles: number of fits to shuffled signals, for the value of noise; 0 for none.
        resamples: bootstrap resamples.
        level: coverage of the intervals.
        seed: seed of all draws.

    Raises:
        ValueError: there are fewer than 2 bins or the number of shuffles is negative.
    """

    cost_model: CostModel
    observation: Observation
    rules: Rules
    levels: int | None
    prices: Sequence[float]
    bins: int = 10
    shuffles: int = 20
    resamples: int = 1000
    level: float = 0.95
    seed: int = 0

    def __post_init__(self) -> None:
        if self.bins < 2:
            raise ValueError(f"bins is {self.bins}: expected at least 2")
        if self.shuffles < 0:
            raise ValueError(f"shuffles is {self.shuffles}: expected at least 0")


@dataclass(frozen=True, eq=False)
class Appraisal:
    """The value of a verifier in the model, for shuffled signals, and on logged queries.

    Attributes:
        worth: value in the fitted model.
        noise: ``(M,)`` value by choice for shuffled signals; NaN where not computed.
        gain: gain on held-out queries, by how verification is bought.
        fit: gain on the training queries. If it is below the value in the model too, the cause is
            the model (signals independent given the scores), not a lack of data.
    """

    worth: Worth
    noise: FloatArray
    gain: dict[Bought, Gain]
    fit: dict[Bought, Gain]


@dataclass(frozen=True, eq=False)
class Judgement:
    """The evaluation of one verifier on one log.

    Attributes:
        log: the data set's name.
        verifier: its name.
        models: ``N`` names, cheapest first.
        kind: scale of the signal, see `LogitScale`; "vector" for several components.
        quality: ``N`` entries, None if there are too few answers with a signal.
        costs: mean costs of calls and verifications.
        chain: value if all models' answers can be verified.
        alone: ``N − 1`` entries, value if only one model's answers can be verified.
        problem: the fitted problem.
        train: training queries.
        test: held-out queries.
        unit: unit of the costs.
    """

    log: str
    verifier: str
    models: Sequence[str]
    kind: str
    quality: Sequence[Quality | None]
    costs: Costs
    chain: Appraisal
    alone: Sequence[Appraisal]
    problem: RoutingPOMDP
    train: RoutingData
    test: RoutingData
    unit: str = ""


@dataclass(frozen=True)
class LeftOut:
    """A verifier that failed.

    Attributes:
        log: the data set's name.
        verifier: its name.
        reason: the error.
    """

    log: str
    verifier: str
    reason: str


def judge_all(
    log: Rollouts, verifiers: dict[str, Callable[[], Verifier]], study: Study
) -> tuple[list[Judgement], list[LeftOut]]:
    """Evaluates every verifier on one log; those of the largest value come first, those that fail
    are returned apart.

    Args:
        log: complete, with the splits "train" and "test".
        verifiers: functions that make each verifier, by name.
        study: the settings.
    """
    found, failed = [], []
    for name, make in verifiers.items():
        try:
            found.append(judge(log, name, make(), study))
        except (ValueError, OSError) as error:  # VerifierError among them: a plug-in that raised
            failed.append(LeftOut(log.title, name, str(error)))
    found.sort(key=lambda judged: -_peak(judged))
    return found, failed


def judge(log: Rollouts, name: str, verifier: Verifier, study: Study) -> Judgement:
    """Evaluates one verifier on one log.

    Raises:
        VerifierError: it failed or has too few signals.
        ValueError: the observation model does not accept its signals, or costs are missing.
    """
    train_log, test_log = log.where("train"), log.where("test")
    learned = fitted(verifier, train_log)
    signal = {"train": emitted(learned, train_log), "test": emitted(learned, test_log)}
    kind = _kind(signal)
    levels = study.levels or (2 if np.isin(log.score, (0, 1)).all() else 5)
    quality = []
    for model in range(log.n_models):
        answers = [
            _answers(part, signal[split], model)
            for split, part in (("train", train_log), ("test", test_log))
        ]
        # Calibration and measures need at least two answers.
        enough = all(len(part.score) > 1 for part in answers)
        quality.append(
            signal_quality(
                answers[0],
                answers[1],
                kind or "real",
                levels=levels,
                bins=study.bins,
                resamples=study.resamples,
                level=study.level,
                seed=study.seed,
            )
            if enough
            else None
        )
    if not any(quality):
        raise VerifierError(
            f"verifier {type(verifier).__name__} has no signal for any model on two or more "
            "training and test queries"
        )
    costs = study.cost_model.fit(train_log, charged(learned, train_log, study.cost_model))
    train, test = (
        make_routing_data(part, learned, study.cost_model, costs) for part in (train_log, test_log)
    )
    observation = deepcopy(study.observation)
    if np.isnan(test.signal[:, :-1]).any():
        count_on_missing(observation)
    problem = RoutingPOMDP.fit(train, observation, costs, study.rules, levels=study.levels)
    shuffled = shuffled_problems(problem, train, observation, study.shuffles, study.seed)
    chain, *alone = (
        _appraise(worth(problem, study.prices, only), shuffled, train, test, study, only)
        for only in (None, *range(log.n_models - 1))
    )
    return Judgement(
        log.title, name, log.models, kind or "vector", quality, costs, chain, alone, problem, train,
        test, unit=study.cost_model.unit_name,
    )  # fmt: skip


def _appraise(
    found: Worth,
    shuffled: Sequence[RoutingPOMDP],
    train: RoutingData,
    test: RoutingData,
    study: Study,
    only: int | None,
) -> Appraisal:
    prices, at = found.prices, slice(None)
    noise = np.full(len(prices), np.nan)
    if only is not None:
        at = slice(found.best("choice"), found.best("choice") + 1)
    noise[at] = promised_by_noise(shuffled, prices[at].tolist(), only)

    def gains(data: RoutingData, resamples: int) -> dict[Bought, Gain]:
        # Routing data has verification costs for every model, so "always" applies to all of them.
        ways: tuple[Bought, ...] = ("choice", "always") if only is None else ("choice",)
        return {
            bought: gained(
                found.policies[bought],
                found.policies["without"],
                data,
                resamples,
                study.level,
                study.seed,
            )
            for bought in ways
        }

    return Appraisal(found, noise, gains(test, study.resamples), gains(train, 1))


def _answers(log: Rollouts, signal: FloatArray, model: int) -> Answers:
    rows = ~np.isnan(signal[:, model]).all(axis=1) & ~np.isnan(log.score[:, model])
    following = log.score[rows, model + 1] if model + 1 < log.n_models else None
    return Answers(signal[rows, model], log.score[rows, model], following)


def _kind(signal: dict[str, FloatArray]) -> Scale | None:
    """The scale of a signal of one component; None for several."""
    if signal["train"].shape[2] > 1:
        return None
    return LogitScale.fit(np.concatenate([part.ravel() for part in signal.values()])).kind


def _peak(judged: Judgement) -> float:
    return float(judged.chain.worth.value["choice"].max())
