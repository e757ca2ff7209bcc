"""Observation models: likelihoods of signals given scores, estimated from logs."""

from typing import TYPE_CHECKING

from routing_pomdp.envs.lazy import lazy_face

if TYPE_CHECKING:
    from routing_pomdp.verifiers.observation.beta import Beta
    from routing_pomdp.verifiers.observation.histogram import Histogram
    from routing_pomdp.verifiers.observation.kernel import KernelDensity
    from routing_pomdp.verifiers.observation.merged import Merged
    from routing_pomdp.verifiers.observation.mixture import GaussianMixture
    from routing_pomdp.verifiers.observation.product import Product
else:
    __getattr__, __dir__, __all__ = lazy_face(__name__)
