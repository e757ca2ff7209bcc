"""Routers that choose from the prompt, and online bandits."""

from typing import TYPE_CHECKING

from routing_pomdp.envs.lazy import lazy_face

if TYPE_CHECKING:
    from routing_pomdp.solvers.predictive.bandits import C2MABV, PickLLM
    from routing_pomdp.solvers.predictive.pregeneration import Pregeneration
else:
    __getattr__, __dir__, __all__ = lazy_face(__name__)
