"""Cascades: models are called in order of cost until the score of an answer is high enough."""

from typing import TYPE_CHECKING

from routing_pomdp.envs.lazy import lazy_face

if TYPE_CHECKING:
    from routing_pomdp.solvers.cascades.cascade_routing import CascadeRouting
    from routing_pomdp.solvers.cascades.frugalgpt import FrugalGPT
    from routing_pomdp.solvers.cascades.margin import Margin
    from routing_pomdp.solvers.cascades.pairwise import PairwiseEnvelope
    from routing_pomdp.solvers.cascades.rational_tuning import RationalTuning
    from routing_pomdp.solvers.cascades.threshold import Threshold
else:
    __getattr__, __dir__, __all__ = lazy_face(__name__)
