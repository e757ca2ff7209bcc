"""The data of figures as plain values: solvers' curves, single models, panels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from routing_pomdp.envs.arrays import FloatArray
from routing_pomdp.evaluation.frontier import Frontier


@dataclass(frozen=True, eq=False)
class Curve:
    """One solver's frontier and its operating points.

    Attributes:
        label: label of the solver.
        frontier: vertices ``(k,)``.
        cost: ``(M,)`` mean costs of the operating points.
        score: ``(M,)`` mean scores.
        band: ``(3, Q)`` costs with the lower and upper end of the frontier's confidence band.
    """

    label: str
    frontier: Frontier
    cost: FloatArray
    score: FloatArray
    band: FloatArray | None = None


@dataclass(frozen=True)
class ModelPoint:
    """A single model: its name, mean cost and mean score."""

    name: str
    cost: float
    score: float


@dataclass(frozen=True, eq=False)
class Panel:
    """One cell of a sweep: the data of a ``frontier_figure`` and its position in the grid.

    Attributes:
        row: name of its row, such as the data set.
        column: name of its column, such as the cost ratio.
        curves: one per solver.
        static: hull of the single models.
        oracle: the oracle's frontier.
        models: the single models, cheapest first.
        unit: unit of costs.
    """

    row: str
    column: str
    curves: Sequence[Curve]
    static: Frontier
    oracle: Frontier
    models: Sequence[ModelPoint]
    unit: str = "cost unit of the log"

    @property
    def window(self) -> tuple[float, float]:
        """``(C_SLM, C_LLM)``: the costs that the figure spans."""
        return self.models[0].cost, self.models[-1].cost


def check_panels(panels: Sequence[Panel], log_cost: bool) -> None:
    """Raise ValueError for no panel, two for one cell, or one that cannot be drawn.

    A panel needs models, the last more expensive than the first, and on a logarithmic cost axis
    every cost has to be positive.
    """
    if not panels:
        raise ValueError("figure: no panels; expected at least one")
    seen: set[tuple[str, str]] = set()
    for panel in panels:
        cell = (panel.row, panel.column)
        where = f"figure: panel {' · '.join(cell)}: " if any(cell) else "figure: "
        if cell in seen:
            raise ValueError(
                f"{where}two panels for one cell; expected one for each row and column"
            )
        seen.add(cell)
        if not panel.models:
            raise ValueError(f"{where}no models; expected the single models, cheapest first")
        low, high = panel.window
        if not high > low:
            raise ValueError(
                f"{where}the last model costs {high:g} and the first {low:g}; the figure spans the "
                "costs between them: order the models cheapest first"
            )
        cheapest = min(
            [model.cost for model in panel.models]
            + [float(np.min(curve.cost)) for curve in panel.curves]
        )
        if log_cost and cheapest <= 0:
            raise ValueError(
                f"{where}a cost of {cheapest:g} cannot be drawn on a logarithmic axis; expected "
                "positive costs: set log_cost=False"
            )
