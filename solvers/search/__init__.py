"""Monte Carlo tree search: POMCP and PO-UCT through pomdp-py."""

from typing import TYPE_CHECKING

from routing_pomdp.envs.lazy import lazy_face

if TYPE_CHECKING:
    from routing_pomdp.solvers.search.pomcp import POMCP
else:
    __getattr__, __dir__, __all__ = lazy_face(__name__)
