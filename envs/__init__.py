"""The problem: logged rollouts, the finite routing POMDP and its Gymnasium environment."""

from typing import TYPE_CHECKING

import gymnasium as _gymnasium

from routing_pomdp.envs.lazy import lazy_face

if TYPE_CHECKING:
    from routing_pomdp.envs.costs.cost_model import CostModel, Costs
    from routing_pomdp.envs.gym.episodes import Episodes
    from routing_pomdp.envs.gym.routing_env import RoutingEnv
    from routing_pomdp.envs.gym.vector_env import RoutingVectorEnv
    from routing_pomdp.envs.history import History
    from routing_pomdp.envs.logs.rollouts import Rollouts
    from routing_pomdp.envs.model.observation import Observation
    from routing_pomdp.envs.model.pre_signal import PreSignal
    from routing_pomdp.envs.model.routing_pomdp import RoutingPOMDP
    from routing_pomdp.envs.routing_data import RoutingData
    from routing_pomdp.envs.rules import ESCALATE, STAY, Rules
else:
    __getattr__, __dir__, __all__ = lazy_face(__name__)

_gymnasium.register(
    id="Routing-v0",
    entry_point="routing_pomdp.envs.gym.routing_env:RoutingEnv",
    vector_entry_point="routing_pomdp.envs.gym.vector_env:RoutingVectorEnv",
)
