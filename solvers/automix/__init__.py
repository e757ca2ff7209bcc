"""AutoMix's routers (arXiv 2310.12963): thresholds, POMDP, and the heuristics of its release."""

from typing import TYPE_CHECKING

from routing_pomdp.envs.lazy import lazy_face

if TYPE_CHECKING:
    from routing_pomdp.solvers.automix.pomdp import AutoMixPOMDP
    from routing_pomdp.solvers.automix.released import AutoMixGreedy, AutoMixSimple, AutoMixUnion
    from routing_pomdp.solvers.automix.thresholds import (
        AutoMixDoubleThreshold,
        AutoMixThreshold,
        SelfConsistency,
    )
else:
    __getattr__, __dir__, __all__ = lazy_face(__name__)
