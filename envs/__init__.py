"""The problem: logged rollouts, the finite routing POMDP and its Gymnasium environment."""

from typing import TYPE_CHECKING

import gymnasium as _gymnasium

from envs.lazy import lazy_face

if TYPE_CHECKING:
    from envs.costs import CostModel, Costs
    from envs.episodes import Episodes
    from envs.history import History
    from envs.observation import Observation
    from envs.pomdp import RoutingPOMDP
    from envs.pre_signal import PreSignal
    from envs.replay import Replay
    from envs.rollouts import Rollouts
    from envs.routing_env import RoutingEnv
    from envs.rules import ESCALATE, STAY, Rules
    from envs.vector_env import RoutingVectorEnv
else:
    __getattr__, __dir__ = lazy_face(__name__)

__all__ = [
    "ESCALATE",
    "STAY",
    "CostModel",
    "Costs",
    "Episodes",
    "History",
    "Observation",
    "PreSignal",
    "Replay",
    "Rollouts",
    "RoutingEnv",
    "RoutingPOMDP",
    "RoutingVectorEnv",
    "Rules",
]

_gymnasium.register(
    id="Routing-v0",
    entry_point="envs.routing_env:RoutingEnv",
    vector_entry_point="envs.vector_env:RoutingVectorEnv",
)
