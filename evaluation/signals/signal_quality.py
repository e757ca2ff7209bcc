"""Quality of a signal on held-out queries: AUROC, AUPRC, Brier score, ECE, mutual information.

A graded score ``y`` counts as ``y`` of a right answer and ``1 − y`` of a wrong one. For scores of 0
and 1 every measure equals scikit-learn's. All measures take query weights ``(R, n)``, so that a
bootstrap of thousands of resamples is a few array operations.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np

from routing_pomdp.envs.arrays import FloatArray, IntArray
from routing_pomdp.envs.model.binning import inner_edges
from routing_pomdp.evaluation.bootstrap import percentile_interval, weight_blocks
from routing_pomdp.evaluation.signals.information import shared_information
from routing_pomdp.verifiers.observation.calibration import Calibrator
from routing_pomdp.verifiers.observation.scale import Scale

# Draws of the figures that chance alone would give.
_CHANCE = 200


@dataclass(frozen=True)
class Estimate:
    """An estimate of a measure on the held-out queries.

    Attributes:
        value: the estimate; NaN where undefined, such as an AUROC without a wrong answer.
        low: lower end of the bootstrap interval.
        high: upper end of the bootstrap interval.
        chance: expected value of an uninformative signal (AUROC, AUPRC) or a perfectly calibrated
            one (ECE) on as many queries; NaN for other measures.
        p: p-value of the permutation test of zero information; NaN for other measures.
    """

    value: float
    low: float = float("nan")
    high: float = float("nan")
    chance: float = float("nan")
    p: float = float("nan")


@dataclass(frozen=True, eq=False)
class Reliability:
    """A reliability diagram, one entry for each quantile bin (fewer bins where confidences tie).

    Attributes:
        confidence: ``(B,)`` mean confidence.
        score: ``(B,)`` mean score.
        count: ``(B,)`` number of queries.
    """

    confidence: FloatArray
    score: FloatArray
    count: IntArray

    @property
    def error(self) -> float:
        """The expected calibration error (ECE), ``Σ_b n_b |score_b − confidence_b| / n``."""
        return float(self.count @ np.abs(self.score - self.confidence) / self.count.sum())


@dataclass(frozen=True, eq=False)
class Quality:
    """Quality of one verifier's signal for one model's answers.

    Attributes:
        queries: number of held-out queries with a signal.
        estimates: by name: ``score`` (mean), ``auroc``, ``auprc`` (for failures), ``brier`` and
            ``ece`` of the raw signal (absent if it is not a probability), ``brier_calibrated`` and
            ``ece_calibrated`` after calibration on training queries, ``mi_own``, and for all models
            but the last ``mi_next`` and ``mi_next_given_own``, in bits.
        as_it_stands: reliability of the raw signal as a probability; None if it is not one.
        calibrated: reliability after calibration.
    """

    queries: int
    estimates: Mapping[str, Estimate]
    as_it_stands: Reliability | None
    calibrated: Reliability


@dataclass(frozen=True, eq=False)
class Answers:
    """One model's answers on some queries.

    Attributes:
        signal: ``(n, D)``; not missing if ``D`` is 1, otherwise with at least one component.
        score: ``(n,)``.
        following: ``(n,)`` scores of the next model; None for the last.
    """

    signal: FloatArray
    score: FloatArray
    following: FloatArray | None


def signal_quality(
    train: Answers,
    test: Answers,
    kind: Scale,
    *,
    levels: int = 2,
    bins: int = 10,
    symbols: int = 8,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Quality:
    """The quality of a signal on test queries.

    A logistic calibration (`Calibrator`) and the bins of the mutual information are fitted on
    training queries. A signal of one component is ranked by its raw value, others by their
    calibrated confidence.

    Sampling noise biases ECE and mutual information upwards, and twice as much in a resample. Their
    resamples are therefore centred on the estimate.

    Args:
        train: training queries.
        test: held-out queries.
        kind: scale of a signal of one component: "probability" and "logprob" are read as
            probabilities.
        levels: number of score levels in the mutual information.
        bins: number of bins of the reliability diagram and the ECE.
        symbols: number of bins of the signal in the mutual information.
        resamples: bootstrap resamples.
        level: coverage of the intervals.
        seed: seed of all draws.
    """
    n, rng = len(test.score), np.random.default_rng(seed)
    whole = np.ones((1, n))
    calibration, held_out = Calibrator(seed=seed).fit(train.signal, train.score)
    calibrated = calibration(test.signal)
    alone = train.signal.shape[1] == 1
    ranked, learned = (test.signal[:, 0], train.signal[:, 0]) if alone else (calibrated, held_out)
    confidence = as_probability(test.signal[:, 0], kind) if alone else None
    figures: dict[str, Callable[[FloatArray], FloatArray]] = {
        "score": partial(_mean, test.score),
        "auroc": partial(auroc, ranked, test.score),
        "auprc": partial(failure_precision, ranked, test.score),
    }
    chance = {"auroc": 0.5, "auprc": float(1 - test.score.mean())}
    diagrams: list[Reliability] = []
    for name, p in (("", confidence), ("_calibrated", calibrated)):
        if p is None:
            continue
        bin_of = confidence_bins(p, bins)
        figures[f"brier{name}"] = partial(_mean, (p - test.score) ** 2)
        figures[f"ece{name}"] = partial(calibration_error, p - test.score, bin_of)
        # The ECE of true probabilities (consistency resampling, Bröcker & Smith 2007).
        true = rng.random((_CHANCE, n)) < p
        chance[f"ece{name}"] = float(calibration_error(p - true, bin_of, whole).mean())
        diagrams.append(_diagram(p, test.score, bin_of))
    symbol = np.searchsorted(
        inner_edges(learned, np.zeros((len(learned), 1), int), symbols, "quantile"),
        ranked,
        side="right",
    )
    own = _levels(test.score, levels)
    information = {"mi_own": shared_information(symbol, own)}
    if test.following is not None:
        after = _levels(test.following, levels)
        information["mi_next"] = shared_information(symbol, after)
        information["mi_next_given_own"] = shared_information(symbol, after, own)
    figures |= {name: shared.resampled for name, shared in information.items()}
    value = {name: float(figure(whole)[0]) for name, figure in figures.items()}
    draws = [
        {name: figure(block) for name, figure in figures.items()}
        for block in weight_blocks(n, resamples, seed)
    ]
    p_value = {}
    for name, shared in information.items():
        noise = shared.shuffled(_CHANCE, rng)
        p_value[name] = float((1 + (noise >= value[name] - 1e-12).sum()) / (1 + _CHANCE))
        value[name] -= float(noise.mean())
    estimates = {}
    for name, found in value.items():
        samples = np.concatenate([draw[name] for draw in draws])
        if name in information or name.startswith("ece"):
            samples = samples - samples.mean() + found
        low, high = percentile_interval(samples, resamples, level)
        missing = float("nan")
        estimates[name] = Estimate(
            found, low, high, chance.get(name, missing), p_value.get(name, missing)
        )
    stands = diagrams[0] if confidence is not None else None
    return Quality(n, estimates, stands, diagrams[-1])


def as_probability(signal: FloatArray, kind: Scale) -> FloatArray | None:
    """Raw signals ``(n,)`` as probabilities; None for real numbers."""
    if kind == "probability":
        return signal
    return np.exp(signal) if kind == "logprob" else None


# -- measures, each for weights (R, n) of the queries ------------------------------------------


def auroc(signal: FloatArray, score: FloatArray, weight: FloatArray) -> FloatArray:
    """``(R,)`` AUROC: the probability that a right answer has a higher signal than a wrong one,
    ties counting half; NaN if all answers are right or all are wrong.

    Args:
        signal: ``(n,)``.
        score: ``(n,)`` in [0, 1].
        weight: ``(R, n)``.
    """
    right, wrong = _by_value(signal, score, weight)
    below = wrong.cumsum(axis=1) - wrong / 2
    return _ratio((right * below).sum(axis=1), right.sum(axis=1) * wrong.sum(axis=1))


def failure_precision(signal: FloatArray, score: FloatArray, weight: FloatArray) -> FloatArray:
    """``(R,)`` AUPRC: average precision for failures, ranked from the lowest signal,
    ``Σ_k (recall_k − recall_{k−1}) precision_k`` over distinct signals; NaN without a failure.

    Arguments as for `auroc`.
    """
    right, wrong = _by_value(signal, score, weight)
    found = wrong.cumsum(axis=1)
    precision = _ratio(found, (right + wrong).cumsum(axis=1))
    # An undefined precision has no weight.
    return _ratio((wrong * np.nan_to_num(precision)).sum(axis=1), found[:, -1])


def calibration_error(excess: FloatArray, bin_of: IntArray, weight: FloatArray) -> FloatArray:
    """The expected calibration error (ECE) ``Σ_b |Σ_{q in b} w_q · excess_q| / Σ_q w_q``, ``(R,)``.

    Args:
        excess: ``(n,)`` or ``(R, n)`` confidences minus scores.
        bin_of: ``(n,)`` the bin of each query.
        weight: ``(R, n)`` or ``(1, n)``.
    """
    gaps = np.abs((weight * excess) @ np.eye(int(bin_of.max()) + 1)[bin_of]).sum(axis=1)
    return gaps / weight.sum(axis=1)


def confidence_bins(confidence: FloatArray, bins: int) -> IntArray:
    """Quantile bins ``(n,)`` of confidences, fewer where they tie."""
    none = np.zeros((len(confidence), 1), dtype=np.int64)
    return np.searchsorted(inner_edges(confidence, none, bins, "quantile"), confidence, "right")


def _diagram(confidence: FloatArray, score: FloatArray, bin_of: IntArray) -> Reliability:
    count = np.bincount(bin_of)
    used = count > 0
    return Reliability(
        np.bincount(bin_of, confidence)[used] / count[used],
        np.bincount(bin_of, score)[used] / count[used],
        count[used],
    )


def _by_value(
    signal: FloatArray, score: FloatArray, weight: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Weights ``(R, V)`` of right and wrong answers at each distinct signal, ascending."""
    order = np.argsort(signal, kind="stable")
    ascending = signal[order]
    first = np.flatnonzero(np.append(True, ascending[1:] > ascending[:-1]))
    weight, score = weight[:, order], score[order]
    right = np.add.reduceat(weight * score, first, axis=1)
    return right, np.add.reduceat(weight * (1 - score), first, axis=1)


def _mean(values: FloatArray, weight: FloatArray) -> FloatArray:
    return weight @ values / weight.sum(axis=1)


def _levels(score: FloatArray, levels: int) -> IntArray:
    return np.rint(score * (levels - 1)).astype(np.int64)


def _ratio(above: FloatArray, below: FloatArray) -> FloatArray:
    return np.divide(above, below, out=np.full(np.shape(above), np.nan), where=below > 0)
