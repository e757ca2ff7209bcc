"""Pre-query signals: verifiers of queries instead of answers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from routing_pomdp.envs import CostModel, Rollouts, RoutingData
from routing_pomdp.envs.arrays import FloatArray
from routing_pomdp.verifiers.verifier import Verifier, VerifierError, emitted, paid


def signal_of_query(verifier: Verifier, rollouts: Rollouts) -> tuple[FloatArray, FloatArray | None]:
    """A verifier's signal of each query, ``(n, D)``, and its cost, ``(n,)``; None for a free one.

    A log has a column for it as for other signals. It may be logged with one answer of a query or
    with all, but it must be the same. If it is logged with none, it is missing.

    Raises:
        VerifierError: as `emitted`, or a query has several signals.
    """
    signal = emitted(verifier, rollouts)
    present = np.isnan(signal).sum(axis=2) < signal.shape[2]
    name, rows = type(verifier).__name__, np.arange(len(signal))
    first = signal[rows, present.argmax(axis=1)]
    same = (signal == first[:, None]) | (np.isnan(signal) & np.isnan(first[:, None]))
    if (differs := np.any(present & ~same.all(axis=2), axis=1)).any():
        query = rollouts.query_id[int(differs.argmax())]
        raise VerifierError(
            f"verifier {name} gives different signals for the answers to query {str(query)!r}: a "
            "pre-query signal is observed before any answer, so it has to be the same for all"
        )
    cost = paid(verifier, rollouts)
    # It is paid for once, with any of the answers.
    return first, None if cost is None else np.nan_to_num(cost).max(axis=1)


def seen_before(
    data: RoutingData, verifier: Verifier, unit: float, cost_model: CostModel | None = None
) -> RoutingData:
    """Routing data with a pre-query signal.

    Args:
        data: made from a log.
        verifier: fitted.
        unit: the factor from the (priced) log's unit of cost to that of the data.
        cost_model: the one that the data was made with; None for logged costs.
    """
    assert data.rollouts is not None
    log = (cost_model or CostModel()).priced(data.rollouts)
    signal, cost = signal_of_query(verifier, log)
    return replace(data, pre_signal=signal, pre_cost=None if cost is None else unit * cost)
