"""`Profile`: a statistical description of a log, and `simulate`, which draws rollouts from it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from routing_pomdp.envs.arrays import FloatArray
from routing_pomdp.envs.logs.rollouts import Rollouts
from routing_pomdp.envs.profiles.copula import uniforms
from routing_pomdp.envs.profiles.marginal import Marginal

# A matrix rounded to 4 decimals may lie this little outside of the positive semidefinite ones.
_PSD_SLACK = 1e-3


# Fields with each model's mean -> the fields of `Rollouts`: of answers, and of signals.
OF_ANSWERS = {
    "answer_cost": "cost",
    "latency": "latency",
    "tokens_in": "tokens_in",
    "tokens_out": "tokens_out",
}
OF_SIGNALS = {
    "signal_cost": "signal_costs",
    "signal_latency": "signal_latency",
    "signal_tokens_in": "signal_tokens_in",
    "signal_tokens_out": "signal_tokens_out",
}
MEANS = (*OF_ANSWERS, *OF_SIGNALS)


@dataclass(frozen=True, eq=False)
class Profile:
    """The statistics of a log, without any of its queries or answers.

    The copula's ``d`` variables are the ``N`` scores, in the order of the models, then the signals
    of those models that have one.

    Attributes:
        name: a short name; simulated queries are called ``NAME-sim-0000000``.
        dataset: the data set that was logged.
        split: the part of the log that was fitted; no test split in the shipped ones, which serve
            for training.
        queries: how many queries were fitted.
        source: the origin of the log.
        models: ``N`` model names, cheapest first.
        signal: the name of the verifier's signal.
        scores: ``N`` score distributions.
        signals: ``N`` signal distributions; None for a model without logged signals.
        correlation: ``(d, d)`` latent correlation matrix of the Gaussian copula.
        answer_cost: ``(N,)`` mean cost of an answer, in the log's unit, or None.
        signal_cost: ``(N,)`` mean cost of a signal, NaN for a model without one, or None.
        latency: ``(N,)`` mean milliseconds, or None.
        tokens_in: ``(N,)`` mean tokens that an answer reads, or None.
        tokens_out: ``(N,)`` mean tokens of an answer, or None.
        signal_latency: ``(N,)`` mean milliseconds of a signal, NaN for a model without one, or
            None.
        signal_tokens_in: the same for the tokens that a signal reads.
        signal_tokens_out: the same for the tokens that a signal generates.
        missing: ``(N, 2)`` shares of missing signals where the score is below 0.5 and where it is
            not; None if no signal is missing.

    Raises:
        ValueError: the name does not fit into an id, lengths disagree, a score is outside [0, 1], a
            cost is negative, or the matrix is no correlation matrix.
    """

    name: str
    dataset: str
    split: str
    queries: int
    source: str
    models: tuple[str, ...]
    signal: str
    scores: tuple[Marginal, ...]
    signals: tuple[Marginal | None, ...]
    correlation: FloatArray
    answer_cost: FloatArray | None = None
    signal_cost: FloatArray | None = None
    latency: FloatArray | None = None
    missing: FloatArray | None = None
    tokens_in: FloatArray | None = None
    tokens_out: FloatArray | None = None
    signal_latency: FloatArray | None = None
    signal_tokens_in: FloatArray | None = None
    signal_tokens_out: FloatArray | None = None

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9._-]+", self.name):
            raise ValueError(
                f"name is {self.name!r}: expected letters, digits, '.', '_' and '-', because it "
                "begins every simulated query's id"
            )
        N = len(self.models)
        if N == 0 or len(set(self.models)) != N:
            raise ValueError(f"models are {list(self.models)}: expected at least one, all distinct")
        for label, column in (
            ("scores", self.scores),
            ("signals", self.signals),
            *((name, getattr(self, name)) for name in MEANS),
            ("missing", self.missing),
        ):
            if column is not None and len(column) != N:
                raise ValueError(f"{label} has {len(column)} entries for {N} models")
        for model, score in zip(self.models, self.scores, strict=True):
            if score.values[0] < 0 or score.values[-1] > 1:
                raise ValueError(
                    f"scores of model {model!r} run from {score.values[0]:g} to "
                    f"{score.values[-1]:g}: expected [0, 1]"
                )
        for label, costs in ((name, getattr(self, name)) for name in MEANS):
            # NaN is an unknown cost.
            if costs is not None and ((costs < 0) | np.isinf(costs)).any():
                i = int(np.argmax((costs < 0) | np.isinf(costs)))
                raise ValueError(
                    f"{label} of model {self.models[i]!r} is {costs[i]:g}: expected a "
                    "finite number >= 0"
                )
        if self.missing is not None and not (
            self.missing.shape == (N, 2) and ((self.missing >= 0) & (self.missing <= 1)).all()
        ):
            raise ValueError(
                f"missing is {self.missing.tolist()}: expected two shares in [0, 1] a model"
            )
        _check_correlation(self.correlation, N + sum(one is not None for one in self.signals))

    @property
    def accuracy(self) -> FloatArray:
        """``(N,)`` mean scores."""
        return np.array([score.mean for score in self.scores])


def simulate(profile: Profile, n: int | Mapping[Any, int], seed: int) -> Rollouts:
    """Draw queries from a profile: scores and signals vary, costs are their means. Their data set
    is the profile's name.

    The draws of a split depend only on the seed and the split's name: the size of "train" does not
    change "test", and a shorter draw is the beginning of a longer one.

    Args:
        profile: the profile.
        n: how many queries of each split, such as ``{"train": 300, "test": 1000}``; a number is the
            size of the split "test".
        seed: any integer >= 0.

    Raises:
        ValueError: there is no split, a size is below 1, or the seed is negative.
    """
    sizes = dict(n) if isinstance(n, Mapping) else {"test": n}
    if not sizes or min(sizes.values()) < 1:
        raise ValueError(f"n is {n}: expected at least one query of every split")
    if seed < 0:
        raise ValueError(f"seed is {seed}: expected an integer >= 0")
    total, N = sum(sizes.values()), len(profile.models)
    score, signal = np.empty((total, N)), np.full((total, N), np.nan)
    ends = np.cumsum(list(sizes.values()))
    for split, size, end in zip(sizes, sizes.values(), ends, strict=True):
        # Bytes of the name, not hash(), which differs from one run to the next.
        rng = np.random.default_rng([seed, *split.encode()])
        level = uniforms(profile.correlation, size, rng)
        rows = slice(end - size, end)
        for i, marginal in enumerate(profile.scores):
            score[rows, i] = marginal.quantile(level[i])
        emitted = [(i, one) for i, one in enumerate(profile.signals) if one is not None]
        for row, (i, marginal) in enumerate(emitted, start=N):
            signal[rows, i] = marginal.quantile(level[row])
        if profile.missing is not None:
            right = (score[rows] >= 0.5).astype(np.int64)
            share = profile.missing[np.arange(N), right]
            signal[rows][rng.random((size, N)) < share] = np.nan
    drawn: dict[str, Any] = {
        held: _repeated(getattr(profile, name), total) for name, held in OF_ANSWERS.items()
    }
    for name, held in OF_SIGNALS.items():
        means = _repeated(getattr(profile, name), total)
        drawn[held] = {} if means is None else {profile.signal: means}
    return Rollouts(
        models=profile.models,
        query_id=np.char.mod(f"{profile.name}-sim-%07d", np.arange(total)),
        score=score,
        signals={profile.signal: signal},
        split=np.repeat(list(sizes), list(sizes.values())),
        dataset=np.full(total, profile.name),
        **drawn,
    )


def _repeated(means: FloatArray | None, n: int) -> FloatArray | None:
    return None if means is None else np.tile(means, (n, 1))


def _check_correlation(matrix: FloatArray, d: int) -> None:
    if matrix.shape != (d, d):
        raise ValueError(
            f"correlation has shape {matrix.shape}: expected {(d, d)}, a row for each score and "
            "for each signal"
        )
    if not np.isfinite(matrix).all() or not np.allclose(matrix, matrix.T, atol=1e-9, rtol=0):
        raise ValueError("correlation must be finite and symmetric")
    if not np.allclose(np.diag(matrix), 1, atol=1e-9, rtol=0):
        raise ValueError("correlation must have 1 all along its diagonal")
    smallest = float(np.linalg.eigvalsh(matrix)[0])
    if smallest < -_PSD_SLACK:
        raise ValueError(
            f"correlation has the eigenvalue {smallest:.4f}: no variables correlate like that "
            "(it must be positive semidefinite); was an entry edited by hand?"
        )
