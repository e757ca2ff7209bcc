"""How well a signal tells right answers from wrong ones, query by query on held-out queries.

A graded score ``y`` counts as ``y`` of a right answer and ``1 − y`` of a wrong one, as everywhere
in this project; for scores of 0 and 1 every figure is the usual one, equal to scikit-learn's.
All of them take weights of the queries with a leading dimension, ``(R, n)``, so that a bootstrap
of thousands of resamples is a handful of array operations.
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
    """A figure on the held-out queries.

    Attributes:
        value: NaN where it is undefined, such as an AUROC without a wrong answer.
        low: of the bootstrap interval.
        high: of the bootstrap interval.
        chance: what an uninformative signal (AUROC, AUPRC), or a perfectly calibrated one (ECE),
            would show on as many queries; NaN where there is no such figure.
        p: of the permutation test that the information is zero; NaN elsewhere.
    """

    value: float
    low: float = float("nan")
    high: float = float("nan")
    chance: float = float("nan")
    p: float = float("nan")


@dataclass(frozen=True, eq=False)
class Reliability:
    """A reliability diagram, one entry a bin of equally many queries (fewer bins where they tie).

    Attributes:
        confidence: ``(B,)`` mean confidence.
        score: ``(B,)`` mean score.
        count: ``(B,)`` queries.
    """

    confidence: FloatArray
    score: FloatArray
    count: IntArray

    @property
    def error(self) -> float:
        """The expected calibration error, ``Σ_b n_b |score_b − confidence_b| / n``."""
        return float(self.count @ np.abs(self.score - self.confidence) / self.count.sum())


@dataclass(frozen=True, eq=False)
class Quality:
    """What one verifier's signal says of one model's answers.

    Attributes:
        queries: held-out ones with a signal.
        estimates: by name: ``score`` (mean), ``auroc``, ``auprc`` (for failures), ``brier`` and
            ``ece`` of the signal as it stands (absent for one that is no probability),
            ``brier_calibrated`` and ``ece_calibrated`` once calibrated on training queries,
            ``mi_own``, and unless it is the last model ``mi_next`` and ``mi_next_given_own``, in
            bits.
        as_it_stands: reliability of the signal as a probability, None where it is none.
        calibrated: reliability once calibrated.
    """

    queries: int
    estimates: Mapping[str, Estimate]
    as_it_stands: Reliability | None
    calibrated: Reliability


@dataclass(frozen=True, eq=False)
class Answers:
    """One model's answers on some queries.

    Attributes:
        signal: ``(n, D)``; of one number, none missing; of several, not all.
        score: ``(n,)``.
        following: ``(n,)`` scores of the next model, or None after the last.
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
    """Judges a signal on test queries.

    What has to be learned is learned on training queries: a logistic calibration (`Calibrator`),
    and the bins of the mutual information. A signal of one number is ranked as it stands; several
    are ranked by their calibrated confidence.

    The two figures that noise biases upward, ECE and mutual information, have that noise twice in
    a resample, so their resamples are centred on the estimate.

    Args:
        train: training queries.
        test: held-out ones.
        kind: of a signal of one number: "probability" and "logprob" are read as probabilities.
        levels: of a score, in the mutual information.
        bins: of the reliability diagram and the ECE.
        symbols: bins of the signal in the mutual information.
        resamples: of the bootstrap.
        level: of its intervals.
        seed: of all that is drawn.
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
        place = confidence_bins(p, bins)
        figures[f"brier{name}"] = partial(_mean, (p - test.score) ** 2)
        figures[f"ece{name}"] = partial(calibration_error, p - test.score, place)
        # Were the confidences true, right answers would still not come in those very shares
        # (consistency resampling, Bröcker & Smith 2007).
        true = rng.random((_CHANCE, n)) < p
        chance[f"ece{name}"] = float(calibration_error(p - true, place, whole).mean())
        diagrams.append(_diagram(p, test.score, place))
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
    """Signals ``(n,)`` read as probabilities, as they stand; None for real numbers."""
    if kind == "probability":
        return signal
    return np.exp(signal) if kind == "logprob" else None


# -- figures, each for weights (R, n) of the queries -------------------------------------------


def auroc(signal: FloatArray, score: FloatArray, weight: FloatArray) -> FloatArray:
    """``(R,)`` the probability that a right answer has the higher signal than a wrong one, ties
    counting half; NaN where all are right or all are wrong.

    Args:
        signal: ``(n,)``.
        score: ``(n,)`` in [0, 1].
        weight: ``(R, n)``.
    """
    right, wrong = _by_value(signal, score, weight)
    below = wrong.cumsum(axis=1) - wrong / 2
    return _ratio((right * below).sum(axis=1), right.sum(axis=1) * wrong.sum(axis=1))


def failure_precision(signal: FloatArray, score: FloatArray, weight: FloatArray) -> FloatArray:
    """``(R,)`` average precision for failures, the lowest signal the most suspicious one:
    ``Σ_k (recall_k − recall_{k−1}) precision_k`` over distinct signals; NaN without a failure.

    Arguments as `auroc`.
    """
    right, wrong = _by_value(signal, score, weight)
    found = wrong.cumsum(axis=1)
    precision = _ratio(found, (right + wrong).cumsum(axis=1))
    # Where nothing has come yet, nothing comes: its precision does not count.
    return _ratio((wrong * np.nan_to_num(precision)).sum(axis=1), found[:, -1])


def calibration_error(excess: FloatArray, place: IntArray, weight: FloatArray) -> FloatArray:
    """The expected calibration error ``Σ_b |Σ_{q in b} w_q · excess_q| / Σ_q w_q``, ``(R,)``.

    Args:
        excess: ``(n,)`` or ``(R, n)`` confidences minus scores.
        place: ``(n,)`` the bin of each query.
        weight: ``(R, n)`` or ``(1, n)``.
    """
    gaps = np.abs((weight * excess) @ np.eye(int(place.max()) + 1)[place]).sum(axis=1)
    return gaps / weight.sum(axis=1)


def confidence_bins(confidence: FloatArray, bins: int) -> IntArray:
    """Bins ``(n,)`` with equally many queries, fewer where confidences tie."""
    none = np.zeros((len(confidence), 1), dtype=np.int64)
    return np.searchsorted(inner_edges(confidence, none, bins, "quantile"), confidence, "right")


def _diagram(confidence: FloatArray, score: FloatArray, place: IntArray) -> Reliability:
    count = np.bincount(place)
    used = count > 0
    return Reliability(
        np.bincount(place, confidence)[used] / count[used],
        np.bincount(place, score)[used] / count[used],
        count[used],
    )


def _by_value(
    signal: FloatArray, score: FloatArray, weight: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Weights ``(R, V)`` of right and of wrong answers at each distinct signal, ascending."""
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
