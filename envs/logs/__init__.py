"""Logs: `Rollouts`, the calls table on disk, and the readers of other formats."""

from typing import TYPE_CHECKING

from routing_pomdp.envs.lazy import lazy_face

if TYPE_CHECKING:
    from routing_pomdp.envs.logs.calls_table import read_calls, write_calls
    from routing_pomdp.envs.logs.rollouts import Rollouts, RolloutsError, concatenate
else:
    __getattr__, __dir__, __all__ = lazy_face(__name__)
