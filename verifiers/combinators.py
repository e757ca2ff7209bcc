"""Combinations of verifiers: side by side, merged to one confidence, an affordable one first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from routing_pomdp.envs import Rollouts
from routing_pomdp.envs.arrays import FloatArray
from routing_pomdp.envs.settings.ranges import Seed, Share
from routing_pomdp.verifiers.observation.calibration import Calibration, Calibrator, Kind
from routing_pomdp.verifiers.verifier import Verifier, emitted, fitted, paid


@dataclass(frozen=True)
class SideBySide(Verifier):
    """Several verifiers' signals as one vector; all of them are paid for.

    Attributes:
        verifiers: by name, at least one.

    Raises:
        ValueError: there is none.
    """

    verifiers: Mapping[str, Verifier]

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_parts(self.verifiers)

    def parts(self) -> Sequence[Verifier]:
        return list(self.verifiers.values())

    def fit(self, train: Rollouts) -> SideBySide:
        return replace(self, verifiers=_fitted_parts(self.verifiers, train))

    def signal(self, rollouts: Rollouts) -> FloatArray:
        """``(n, N, D)``, the verifiers' signals in their order."""
        return _stacked(self.verifiers, rollouts)

    def compared(self, rollouts: Rollouts) -> Mapping[int, FloatArray]:
        """Those of its parts, with their indices shifted."""
        found: dict[int, FloatArray] = {}
        first = 0
        for verifier in self.verifiers.values():
            of_part = verifier.compared(rollouts)
            found |= {first + number: agrees for number, agrees in of_part.items()}
            first += emitted(verifier, rollouts).shape[2]
        return found

    def cost(self, rollouts: Rollouts) -> FloatArray | None:
        return _total([paid(verifier, rollouts) for verifier in self.verifiers.values()])


@dataclass(frozen=True)
class CalibratedMerge(Verifier):
    """Several verifiers merged to one calibrated confidence, learned on training queries.

    Attributes:
        verifiers: by name, at least one; a single one is calibrated.
        kind: "logistic" or "isotonic", see `Calibrator`.
        seed: of the folds for the held-out confidences of training queries.
        merge_: fitted.

    Raises:
        ValueError: there is none, or an unknown kind.
    """

    verifiers: Mapping[str, Verifier]
    kind: Kind = "logistic"
    seed: Seed = 0
    merge_: _Merge | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_parts(self.verifiers)

    def parts(self) -> Sequence[Verifier]:
        return list(self.verifiers.values())

    def fit(self, train: Rollouts) -> CalibratedMerge:
        parts = _fitted_parts(self.verifiers, train)
        merge = _Merge.fit(_stacked(parts, train), train, Calibrator(self.kind, seed=self.seed))
        return replace(self, verifiers=parts, merge_=merge)

    def signal(self, rollouts: Rollouts) -> FloatArray:
        """Confidences ``(n, N)``; training queries' are predicted without their own fold."""
        return _require_fitted(self.merge_)(_stacked(self.verifiers, rollouts), rollouts)

    def cost(self, rollouts: Rollouts) -> FloatArray | None:
        return _total([paid(verifier, rollouts) for verifier in self.verifiers.values()])


@dataclass(frozen=True)
class AffordableFirst(Verifier):
    """A cheap verifier, and an expensive one only where the cheap one is in doubt.

    Both are calibrated on training queries. If the cheap one's confidence lies outside
    ``[low, high]``, it is the signal. Otherwise the expensive one is bought too, and the signal is
    the confidence given both.

    Attributes:
        first: the cheap verifier.
        then: the expensive verifier.
        low: lower bound of confidences in doubt.
        high: upper bound of confidences in doubt.
        kind: of the calibrations.
        seed: of their folds.
        alone_: fitted to the first verifier.
        both_: fitted to both verifiers.

    Raises:
        ValueError: not ``0 <= low <= high <= 1``, or an unknown kind.
    """

    first: Verifier
    then: Verifier
    low: Share = 0.2
    high: Share = 0.8
    kind: Kind = "logistic"
    seed: Seed = 0
    alone_: _Merge | None = field(default=None, repr=False, compare=False)
    both_: _Merge | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.low > self.high:
            raise ValueError(
                f"verifier.low and verifier.high are {self.low} and {self.high}: expected "
                "low <= high"
            )

    def parts(self) -> Sequence[Verifier]:
        return [self.first, self.then]

    def doubts(self, rollouts: Rollouts) -> NDArray[np.bool_] | None:
        """``(n, N)`` where the expensive verifier is bought; None before the fit."""
        return None if self.alone_ is None else self._first_look(rollouts)[1]

    def fit(self, train: Rollouts) -> AffordableFirst:
        first, then = fitted(self.first, train), fitted(self.then, train)
        calibrator = Calibrator(self.kind, seed=self.seed)
        both = _stacked({"first": first, "then": then}, train)
        alone = _Merge.fit(emitted(first, train), train, calibrator)
        return replace(
            self, first=first, then=then, alone_=alone, both_=_Merge.fit(both, train, calibrator)
        )

    def signal(self, rollouts: Rollouts) -> FloatArray:
        """Confidences ``(n, N)``; training queries' are predicted without their own fold."""
        confidence, doubt = self._first_look(rollouts)
        if not doubt.any():
            return confidence  # a live answer may not have the second signal
        both = _stacked({"first": self.first, "then": self.then}, rollouts)
        return np.where(doubt, _require_fitted(self.both_)(both, rollouts), confidence)

    def cost(self, rollouts: Rollouts) -> FloatArray | None:
        """Costs of the first verifier, plus those of the second where it is bought."""
        second = paid(self.then, rollouts)
        if second is not None:
            second = np.where(self._first_look(rollouts)[1], second, 0.0)
        return _total([paid(self.first, rollouts), second])

    def _first_look(self, rollouts: Rollouts) -> tuple[FloatArray, NDArray[np.bool_]]:
        confidence = _require_fitted(self.alone_)(emitted(self.first, rollouts), rollouts)
        # A missing confidence counts as doubt.
        called = ~np.isnan(rollouts.score)
        return confidence, called & ~((confidence < self.low) | (confidence > self.high))


@dataclass(frozen=True, eq=False)
class _Merge:
    """A calibration for each model, and the held-out confidences of training queries.

    Attributes:
        models: ``N`` calibrations, None for a model without training signals.
        query_id: ``(n,)`` training queries, sorted.
        held_out: ``(n, N)`` confidences.
    """

    models: Sequence[Calibration | None]
    query_id: NDArray[np.str_]
    held_out: FloatArray

    @classmethod
    def fit(cls, signal: FloatArray, train: Rollouts, calibrator: Calibrator) -> _Merge:
        """Fits to signals ``(n, N, D)``; queries without signals or a score are left out."""
        models: list[Calibration | None] = []
        held_out = np.full(train.score.shape, np.nan)
        for model in range(train.n_models):
            score = train.score[:, model]
            rows = ~np.isnan(signal[:, model]).all(axis=1) & ~np.isnan(score)
            if not rows.any():
                models.append(None)
                continue
            calibration, held_out[rows, model] = calibrator.fit(signal[rows, model], score[rows])
            models.append(calibration)
        order = np.argsort(train.query_id)
        return cls(models, train.query_id[order], held_out[order])

    def __call__(self, signal: FloatArray, rollouts: Rollouts) -> FloatArray:
        """Confidences ``(n, N)`` of signals ``(n, N, D)``, NaN where there is no signal."""
        found = np.full(signal.shape[:2], np.nan)
        for model, calibration in enumerate(self.models):
            rows = ~np.isnan(signal[:, model]).all(axis=1)
            if calibration is not None and rows.any():
                found[rows, model] = calibration(signal[rows, model])
        row = np.minimum(np.searchsorted(self.query_id, rollouts.query_id), len(self) - 1)
        held_out = self.held_out[row]
        trained = (self.query_id[row] == rollouts.query_id)[:, None] & ~np.isnan(held_out)
        return np.where(trained & ~np.isnan(found), held_out, found)

    def __len__(self) -> int:
        return len(self.query_id)


def _require_fitted(merge: _Merge | None) -> _Merge:
    if merge is None:
        raise ValueError("this verifier learns: call fit(training rollouts) before it is used")
    return merge


def _check_parts(verifiers: Mapping[str, Verifier]) -> None:
    if not isinstance(verifiers, Mapping) or not verifiers:
        raise ValueError("verifier.verifiers is empty: expected a verifier for at least one name")


def _fitted_parts(verifiers: Mapping[str, Verifier], train: Rollouts) -> dict[str, Verifier]:
    return {name: fitted(verifier, train) for name, verifier in verifiers.items()}


def _stacked(verifiers: Mapping[str, Verifier], rollouts: Rollouts) -> FloatArray:
    return np.concatenate([emitted(verifier, rollouts) for verifier in verifiers.values()], axis=2)


def _total(costs: Sequence[FloatArray | None]) -> FloatArray | None:
    """Sums of costs; None if all are free. Missing costs count as 0."""
    charged = [np.nan_to_num(cost) for cost in costs if cost is not None]
    return np.sum(charged, axis=0) if charged else None
