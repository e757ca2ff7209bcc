"""The problem as Gymnasium environments, and bridges to other reinforcement-learning libraries."""

from typing import TYPE_CHECKING

from routing_pomdp.envs.lazy import lazy_face

if TYPE_CHECKING:
    from routing_pomdp.envs.gym.env_config import EnvConfig
    from routing_pomdp.envs.gym.episodes import Episodes
    from routing_pomdp.envs.gym.routing_env import RoutingEnv
    from routing_pomdp.envs.gym.vector_env import RoutingVectorEnv
    from routing_pomdp.envs.gym.wrappers import (
        BeliefObservation,
        StackedSignals,
        VectorBeliefObservation,
        VectorStackedSignals,
    )
else:
    __getattr__, __dir__, __all__ = lazy_face(__name__)
