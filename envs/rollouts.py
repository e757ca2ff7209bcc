"""`Rollouts`: a logged data set as aligned arrays, the one record that everything reads.

Shapes use the same letters everywhere: ``n`` queries, ``N`` models, cheapest first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Rollouts:
    """What every model answered, scored, cost and signalled on every query.

    A cell ``(q, i)`` that was never called is NaN in ``score``.

    Attributes:
        models: ``N`` model names, cheapest first.
        query_id: ``(n,)`` strings, unique.
        score: ``(n, N)`` in [0, 1]; NaN where the model was never called on the query.
        cost: ``(n, N)`` cost of the answers in the log's own unit, or None where none was logged.
        signals: name -> ``(n, N)`` verifier signal; NaN where it was not emitted.
        signal_costs: name -> ``(n, N)`` cost of emitting that signal, in the unit of ``cost``.
        split: ``(n,)`` strings such as "train", "validation", "test".
        dataset: ``(n,)`` strings.
        answer: ``(n, N)`` strings, or None.
        latency: ``(n, N)`` milliseconds, or None.
        tokens_in: ``(n, N)``, or None.
        tokens_out: ``(n, N)``, or None.
        prompt: ``(n,)`` strings, or None.
    """

    models: tuple[str, ...]
    query_id: NDArray[np.str_]
    score: FloatArray
    cost: FloatArray | None
    signals: Mapping[str, FloatArray]
    split: NDArray[np.str_]
    dataset: NDArray[np.str_]
    signal_costs: Mapping[str, FloatArray] = field(default_factory=dict)
    answer: NDArray[np.object_] | None = None
    latency: FloatArray | None = None
    tokens_in: FloatArray | None = None
    tokens_out: FloatArray | None = None
    prompt: NDArray[np.object_] | None = None

    def __len__(self) -> int:
        return len(self.query_id)
