"""Learners: networks on the belief or the log, and regressions on the log."""

from typing import TYPE_CHECKING

from routing_pomdp.envs.lazy import lazy_face

if TYPE_CHECKING:
    from routing_pomdp.solvers.learned.belief_dqn import BeliefDQN
    from routing_pomdp.solvers.learned.belief_fqi import BeliefFQI
    from routing_pomdp.solvers.learned.checkpoint import Restored
    from routing_pomdp.solvers.learned.fitted_q import FittedQ
    from routing_pomdp.solvers.learned.history_net import HistoryNet
else:
    __getattr__, __dir__, __all__ = lazy_face(__name__)
