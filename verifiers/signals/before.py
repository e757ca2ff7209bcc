"""Verifiers of queries instead of answers: what is seen before the first call."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from routing_pomdp.envs import CostModel, Rollouts, RoutingData
from routing_pomdp.envs.arrays import FloatArray
from routing_pomdp.verifiers.verifier import Verifier, VerifierError, emitted, paid


def signal_of_query(verifier: Verifier, rollouts: Rollouts) -> tuple[FloatArray, FloatArray | None]:
    """A verifier's signal of each query, ``(n, D)``, and what it cost, ``(n,)``; None if nothing.

    A log has a column for it like for every other signal. It may stand with the answer that it was
    asked with or with all of them, but it must be the same. Where it stands with none, it is
    missing.

    Raises:
        VerifierError: as `emitted`; or a query with several.
    """
    signal = emitted(verifier, rollouts)
    there = np.isnan(signal).sum(axis=2) < signal.shape[2]
    name, rows = type(verifier).__name__, np.arange(len(signal))
    first = signal[rows, there.argmax(axis=1)]
    same = (signal == first[:, None]) | (np.isnan(signal) & np.isnan(first[:, None]))
    if (differs := np.any(there & ~same.all(axis=2), axis=1)).any():
        query = rollouts.query_id[int(differs.argmax())]
        raise VerifierError(
            f"verifier {name} says different things of the answers to query {str(query)!r}: a "
            "pre-query signal is seen before there is any answer, so it is the same for all"
        )
    cost = paid(verifier, rollouts)
    # It is asked once, with whatever answer it is logged.
    return first, None if cost is None else np.nan_to_num(cost).max(axis=1)


def seen_before(
    data: RoutingData, verifier: Verifier, unit: float, cost_model: CostModel | None = None
) -> RoutingData:
    """Routing data with a pre-query signal.

    Args:
        data: of a log.
        verifier: fitted.
        unit: what one unit of the (priced) log's costs is in those of the data.
        cost_model: that the data was made with; None for logged costs.
    """
    assert data.rollouts is not None
    log = (cost_model or CostModel()).priced(data.rollouts)
    signal, cost = signal_of_query(verifier, log)
    return replace(data, pre_signal=signal, pre_cost=None if cost is None else unit * cost)
