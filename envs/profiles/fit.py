"""`fit_profile`: the profile of a log."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from routing_pomdp.envs.arrays import FloatArray
from routing_pomdp.envs.logs.rollouts import Rollouts, RolloutsError
from routing_pomdp.envs.profiles.copula import fit_correlation
from routing_pomdp.envs.profiles.marginal import fit_marginal
from routing_pomdp.envs.profiles.profile import OF_ANSWERS, OF_SIGNALS, Profile
from routing_pomdp.envs.profiles.statistics import Statistics, describe
from routing_pomdp.envs.signals import SignalRange

# How far a simulation may be from its log: the units in which the copula's misfit is counted.
_PHI = 0.05
_SPEARMAN = 0.05
_OWN_AUROC = 0.02
_OTHER_AUROC = 0.03
_FEWEST_QUERIES = 20


def fit_profile(rollouts: Rollouts, signal: str, name: str, source: str = "") -> Profile:
    """The profile of a log: its marginals and one Gaussian copula.

    All rollouts are used. If other splits serve for evaluation, pass only the training split,
    ``rollouts.where("train")``.

    Missing signals are described by their shares, infinite ones as a number beyond all others.

    Args:
        rollouts: with every model called on every query; a model's signal may be missing on all (a
            most expensive model that is never verified).
        signal: which of ``rollouts.signals``.
        name: the profile's name.
        source: the origin of the log, for the file.

    Raises:
        RolloutsError: the signal is unknown, a cell is missing, there are fewer than 20 queries, or
            no model has a signal.
    """
    if signal not in rollouts.signals:
        raise RolloutsError(f"no signal {signal!r} in the log: it has {sorted(rollouts.signals)}")
    if len(rollouts) < _FEWEST_QUERIES:
        raise RolloutsError(
            f"{len(rollouts)} queries are too few to fit a profile: expected at least "
            f"{_FEWEST_QUERIES}"
        )
    absent = np.isnan(rollouts.signals[signal])
    emitted = _filled(rollouts, signal)
    everyone = np.full(len(rollouts.models), True)
    emits: NDArray[np.bool_] = np.asarray(~np.isnan(emitted).all(axis=0))
    if not emits.any():
        raise RolloutsError(f"signal {signal!r} is missing on every query of every model")
    _check_complete(rollouts, "score", rollouts.score, everyone)
    scores = tuple(fit_marginal(column) for column in rollouts.score.T)
    signals = tuple(
        fit_marginal(column) if has else None for column, has in zip(emitted.T, emits, strict=True)
    )
    measured = describe(replace(rollouts, signals={**rollouts.signals, signal: emitted}), signal)
    # Imputation keeps a signal's correlation with its own model's score, but weakens that of two
    # signals. So the latter is measured on the queries that have both.
    target, N = measured.correlation.copy(), len(rollouts.models)
    target[N:, N:] = describe(rollouts, signal).spearman
    keep = np.concatenate([everyone, emits])
    correlation = fit_correlation(
        [*scores, *(marginal.midranks() for marginal in signals if marginal is not None)],
        target[np.ix_(keep, keep)],
        _tolerances(measured)[np.ix_(keep, keep)],
    )
    return Profile(
        name=name,
        dataset="+".join(np.unique(rollouts.dataset)),
        split="+".join(np.unique(rollouts.split)),
        queries=len(rollouts),
        source=source,
        models=rollouts.models,
        signal=signal,
        scores=scores,
        signals=signals,
        correlation=correlation,
        missing=_missing(rollouts.score, absent & emits),
        **{name: _means(getattr(rollouts, held), everyone) for name, held in OF_ANSWERS.items()},
        **{
            name: _means(getattr(rollouts, held).get(signal), emits)
            for name, held in OF_SIGNALS.items()
        },
    )


def _filled(rollouts: Rollouts, signal: str) -> FloatArray:
    """``(n, N)`` finite signals on every query for each model that has any. A missing signal is
    imputed from a random query on which the model was likewise right or wrong; an infinite one is
    replaced by a number beyond all others."""
    raw, rng = rollouts.signals[signal], np.random.default_rng(0)
    found = SignalRange.fit(raw).finite(raw)
    for column, score in zip(found.T, rollouts.score.T, strict=True):
        emitted = ~np.isnan(column)
        if not emitted.any():
            continue
        for right in (False, True):
            alike = (score >= 0.5) == right
            pool = column[emitted & alike] if (emitted & alike).any() else column[emitted]
            gap = ~emitted & alike
            column[gap] = rng.choice(pool, size=int(gap.sum()))
    return found


def _missing(score: FloatArray, absent: NDArray[np.bool_]) -> FloatArray | None:
    """``(N, 2)`` shares of missing signals where the score is below 0.5 and where it is not, to 6
    decimals; None if no signal is missing."""
    if not absent.any():
        return None
    shares = [
        (absent & of).sum(axis=0) / np.maximum(of.sum(axis=0), 1)
        for of in (score < 0.5, score >= 0.5)
    ]
    return np.round(np.stack(shares, axis=1), 6)


def _tolerances(measured: Statistics) -> FloatArray:
    """``(2N, 2N)`` tolerances of the correlations; an AUROC's is scaled by sd(score)/sd(rank)."""
    N = len(measured.accuracy)
    tolerance = np.full((2 * N, 2 * N), _PHI)
    tolerance[N:, N:] = _SPEARMAN
    auroc = np.where(np.eye(N, dtype=bool), _OWN_AUROC, _OTHER_AUROC)
    across = auroc * measured.spread[:N, None] / measured.spread[None, N:]
    tolerance[:N, N:], tolerance[N:, :N] = across, across.T
    return tolerance


def _means(cells: FloatArray | None, of: NDArray[np.bool_]) -> FloatArray | None:
    """``(N,)`` means of logged values, to 6 significant digits; NaN for models not in ``of``.

    None without cells, or if one of these models has none.
    """
    if cells is None:
        return None
    logged = [column[~np.isnan(column)] for column in cells.T]
    if any(has and not len(column) for column, has in zip(logged, of, strict=True)):
        return None
    return np.array(
        [
            float(f"{column.mean():.6g}") if has else np.nan
            for column, has in zip(logged, of, strict=True)
        ]
    )


def _check_complete(
    rollouts: Rollouts, label: str, cells: FloatArray, of: NDArray[np.bool_]
) -> None:
    missing = np.isnan(cells) & of
    if missing.any():
        row, model = np.argwhere(missing)[0]
        raise RolloutsError(
            f"{label} of model {rollouts.models[model]!r} is missing on "
            f"{missing[:, model].sum()} of {len(rollouts)} queries, first on "
            f"{str(rollouts.query_id[row])!r}: fit on the queries and models that are complete"
        )
