"""Exact solvers of the fitted model, bounds on its value, and policies robust to its errors."""

from typing import TYPE_CHECKING

from routing_pomdp.envs.lazy import lazy_face

if TYPE_CHECKING:
    from routing_pomdp.solvers.exact.alpha_vectors import AlphaVectorIteration
    from routing_pomdp.solvers.exact.backward_induction import Exact
    from routing_pomdp.solvers.exact.bounds import FIB, QMDP
    from routing_pomdp.solvers.exact.point_based import PointBased
    from routing_pomdp.solvers.exact.robust import Bayes, Pessimist
else:
    __getattr__, __dir__, __all__ = lazy_face(__name__)
