"""The cheapest policy whose loss holds: choosing an operating point with a guarantee.

Learn then Test (Angelopoulos, Bates, Candès, Jordan & Lei, arXiv 2110.01052): each operating point
is a null hypothesis, "its true loss against the reference exceeds ε". They are tested in an order
that the calibration queries had no part in, each at level δ, until the first that is not rejected
(fixed-sequence testing). The probability that any rejected one is true is at most δ, so whichever
of them is taken, its loss is at most ε with probability at least 1 − δ over the calibration
queries. Several solvers share δ equally (Bonferroni); all groups of queries must pass at level δ
each, which needs no share (an intersection–union test).

What must hold: policies, reference and order were made without the calibration queries, these are
drawn independently from the population that the statement is about, and ε and δ were fixed before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from routing_pomdp.envs.arrays import FloatArray
from routing_pomdp.evaluation.loss_tests import betting_p_value, loss_p_value, queries_needed


@dataclass(frozen=True, eq=False)
class Calibration:
    """One solver's operating points and the reference on the calibration queries.

    Attributes:
        score: ``(n, M)`` in [0, 1], of each operating point.
        cost: ``(n, M)``.
        reference_score: ``(n,)`` of the single model that losses are counted against.
        reference_cost: ``(n,)``.
        order: the operating points to test, least lossy first, as `order_of_tests` finds it; those
            that are left out are never chosen.
        group: ``(n,)`` what each query is of, for a guarantee in every group; None for one over
            all queries.

    Raises:
        ValueError: shapes that do not fit, or a score outside [0, 1].
    """

    score: FloatArray
    cost: FloatArray
    reference_score: FloatArray
    reference_cost: FloatArray
    order: Sequence[int]
    group: NDArray[Any] | None = None

    def __post_init__(self) -> None:
        n = len(self.reference_score)
        one = (n,)
        found = (self.score.shape[:1], self.cost.shape, self.reference_cost.shape)
        if found != (one, self.score.shape, one) or (
            self.group is not None and self.group.shape != one
        ):
            raise ValueError(
                f"calibration: score {self.score.shape}, cost {self.cost.shape}, reference "
                f"{one} and {self.reference_cost.shape}; expected (n, M), (n, M), (n,) and (n,)"
            )
        for name in ("score", "reference_score"):
            values = getattr(self, name)
            if not np.all((values >= 0) & (values <= 1)):  # NaN fails too
                raise ValueError(f"calibration: {name} has values outside [0, 1]: rescale them")
        if not set(self.order) <= set(range(self.score.shape[1])):
            raise ValueError(
                f"calibration: order {list(self.order)} names points outside 0 … "
                f"{self.score.shape[1] - 1}"
            )

    def __len__(self) -> int:
        return len(self.reference_score)

    @property
    def binary(self) -> bool:
        """Whether all scores are 0 or 1: then the exact test applies."""
        return all(bool(np.isin(s, (0, 1)).all()) for s in (self.score, self.reference_score))

    def loss(self, point: int) -> FloatArray:
        """``(n,)`` what an operating point loses to the reference, query by query."""
        return self.reference_score - self.score[:, point]

    def saving(self, point: int) -> float:
        """Share of the reference's cost that an operating point saves here."""
        whole = float(self.reference_cost.mean())
        return 1 - float(self.cost[:, point].mean()) / whole if whole > 0 else 0.0

    def parts(self, values: FloatArray) -> list[FloatArray]:
        """Values of each group."""
        if self.group is None:
            return [values]
        return [values[self.group == group] for group in np.unique(self.group)]


@dataclass(frozen=True)
class Guarantee:
    """A policy, or the reference, with the loss that it is certified for.

    Attributes:
        epsilon: tolerated loss, in score.
        delta: probability that the statement may be false.
        solver: whose operating point was taken; None for the reference.
        index: which operating point; −1 for the reference.
        queries: calibration queries.
        candidates: operating points that could have been certified.
        certified: how many of them were.
        loss_bound: what the loss is at most: ``epsilon``, or 0 for the reference itself. A bound
            of the chosen point alone may be lower, but holds no longer once it is chosen.
        loss: mean on the calibration queries; negative where the policy is better.
        saving: share of the reference's mean cost saved on the calibration queries.
        queries_needed: about how many calibration queries would certify something at ``epsilon``,
            if nothing is, or the same policy at half of it, if queries went on like these. None
            for more than 100,000, or none at all.
    """

    epsilon: float
    delta: float
    solver: str | None
    index: int
    queries: int
    candidates: int
    certified: int
    loss_bound: float
    loss: float
    saving: float
    queries_needed: int | None

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        most = f"{100 * self.epsilon:g} points"
        sure = f"with probability {1 - self.delta:g}"
        if self.solver is not None:
            needed = _about(self.queries_needed)
            return (
                f"{self.solver}, operating point {self.index}: loses at most {most} {sure} "
                f"({self.certified} of {self.candidates} candidates certified on {self.queries} "
                f"queries) and saves {100 * self.saving:.1f} % of the reference's cost there; half "
                f"the tolerance needs {needed}"
            )
        if not self.candidates:
            return "the reference: no operating point costs less than it does"
        if self.certified:
            return "the reference: what was certified saves nothing on the calibration queries"
        return (
            f"the reference: {self.queries} calibration queries certify no cheaper policy for a "
            f"loss of {most} {sure}; that needs {_about(self.queries_needed)}"
        )


def order_of_tests(
    prices: Sequence[float], cost: FloatArray, reference_cost: float
) -> tuple[int, ...]:
    """Operating points in the order of their prices, lowest first, from the first that costs less
    than the reference on.

    A policy gives up more score the more a call costs, so this is the order of the losses, and the
    calibration queries have no part in it.

    Args:
        prices: of each operating point.
        cost: ``(M,)`` mean costs on queries other than the calibration's, such as the training's.
        reference_cost: of the reference on the same queries.
    """
    ranked = np.argsort(np.asarray(prices), kind="stable")
    return tuple(int(point) for point in ranked if cost[point] < reference_cost)


def certify(
    calibrations: Mapping[str, Calibration], epsilon: float, delta: float = 0.1
) -> Guarantee:
    """The cheapest policy of one or several solvers that is certified to lose at most ``epsilon``.

    Args:
        calibrations: solver -> its operating points; queries may differ between solvers, the
            reference must be the same model.
        epsilon: tolerated loss to the reference, in score, in [0, 1).
        delta: probability that the statement may be false, in (0, 1).

    Returns:
        The certified policy that saves most on its calibration queries; the reference where none is
        certified, or none saves anything.

    Raises:
        ValueError: ``epsilon`` or ``delta`` out of range, or no solver.
    """
    _check(epsilon, delta)
    if not calibrations:
        raise ValueError("certify: no solver given; expected at least one calibration")
    level = delta / len(calibrations)
    passed = {
        name: rejected_in_order(each.order, partial(_p, each, epsilon=epsilon, level=level), level)
        for name, each in calibrations.items()
    }
    savings = [
        (calibrations[name].saving(point), name, point)
        for name, points in passed.items()
        for point in points
    ]
    saving, solver, index = max(savings, key=lambda found: found[0], default=(0.0, "", -1))
    shared: dict[str, Any] = {
        "epsilon": epsilon,
        "delta": delta,
        "queries": min(map(len, calibrations.values())),
        "candidates": sum(len(each.order) for each in calibrations.values()),
        "certified": len(savings),
    }
    if saving > 0:
        chosen = calibrations[solver]
        return Guarantee(
            solver=solver,
            index=index,
            loss_bound=epsilon,
            loss=float(chosen.loss(index).mean()),
            saving=saving,
            queries_needed=_needed(chosen, index, epsilon / 2, level),
            **(shared | {"queries": len(chosen)}),
        )
    needed = None
    if not savings:
        each = [_needed(c, c.order[0], epsilon, level) for c in calibrations.values() if c.order]
        needed = min((n for n in each if n is not None), default=None)
    return Guarantee(
        solver=None, index=-1, loss_bound=0.0, loss=0.0, saving=0.0, queries_needed=needed, **shared
    )


def certify_budget(
    calibration: Calibration, budget: float, cap: float, delta: float = 0.1
) -> int | None:
    """The best operating point whose true mean cost is certified to be at most a budget.

    Points are tested from the end of the order, the cheapest first. Costs have no natural bound, so
    the statement is about costs cut at ``cap``: give the largest that a query can cost.

    Args:
        calibration: whose reference is not looked at.
        budget: a mean cost a query, in the unit of the costs.
        cap: the largest cost of one query.
        delta: probability that the statement may be false, in (0, 1).

    Returns:
        Of the certified points, the one of the best mean score; None where none is certified.

    Raises:
        ValueError: ``delta`` out of range, or a cap that is not positive.
    """
    _check(0.0, delta)
    if not cap > 0:
        raise ValueError(f"cap is {cap}: expected the largest cost of one query, more than 0")

    def p_value(point: int) -> float:
        paid = np.minimum(calibration.cost[:, point], cap)
        return max(betting_p_value(v, budget, delta, 0.0, cap) for v in calibration.parts(paid))

    passed = rejected_in_order(list(calibration.order)[::-1], p_value, delta)
    return max(passed, key=lambda point: float(calibration.score[:, point].mean()), default=None)


def rejected_in_order(
    order: Sequence[int], p_value: Callable[[int], float], level: float
) -> list[int]:
    """The points before the first whose p-value is above the level: fixed-sequence testing."""
    passed = []
    for point in order:
        if p_value(point) > level:
            break
        passed.append(point)
    return passed


def _p(calibration: Calibration, point: int, epsilon: float, level: float) -> float:
    losses, binary = calibration.parts(calibration.loss(point)), calibration.binary
    return max(loss_p_value(loss, epsilon, level, binary) for loss in losses)


def _needed(calibration: Calibration, point: int, epsilon: float, level: float) -> int | None:
    """Queries in all that certify a point and those before it, in every group."""
    total, binary = len(calibration), calibration.binary
    needed = [0]
    for before in calibration.order[: list(calibration.order).index(point) + 1]:
        for loss in calibration.parts(calibration.loss(before)):
            if not len(loss) or (n := queries_needed(loss, epsilon, level, binary)) is None:
                return None
            needed.append(-(-n * total // len(loss)))
    return max(needed)


def _about(queries: int | None) -> str:
    return (
        "more than 100,000 queries, or better policies"
        if queries is None
        else (f"about {queries:,} queries")
    )


def _check(epsilon: float, delta: float) -> None:
    if not 0 <= epsilon < 1:
        raise ValueError(f"epsilon is {epsilon}: expected a tolerated loss of score in [0, 1)")
    if not 0 < delta < 1:
        raise ValueError(f"delta is {delta}: expected a probability in (0, 1), such as 0.1")
