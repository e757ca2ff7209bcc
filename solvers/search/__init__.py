"""Monte Carlo tree search: POMCP and PO-UCT through pomdp-py, POMCPOW on raw signals."""

from typing import TYPE_CHECKING

from routing_pomdp.envs.lazy import lazy_face

if TYPE_CHECKING:
    from routing_pomdp.solvers.search.pomcp import POMCP
    from routing_pomdp.solvers.search.pomcpow import POMCPOW
else:
    __getattr__, __dir__, __all__ = lazy_face(__name__)
