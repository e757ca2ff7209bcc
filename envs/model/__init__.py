"""The finite POMDP of routing, its estimation from logs, and the ``.pomdp`` file format."""

from typing import TYPE_CHECKING

from routing_pomdp.envs.lazy import lazy_face

if TYPE_CHECKING:
    from routing_pomdp.envs.model.class_model import Settings
    from routing_pomdp.envs.model.components import Components
    from routing_pomdp.envs.model.finite_pomdp import FinitePOMDP
    from routing_pomdp.envs.model.observation import Observation
    from routing_pomdp.envs.model.pomdp_file import PomdpFileError, read_pomdp, write_pomdp
    from routing_pomdp.envs.model.pre_signal import PreSignal
    from routing_pomdp.envs.model.routing_pomdp import RoutingPOMDP
else:
    __getattr__, __dir__, __all__ = lazy_face(__name__)
