"""Solvers and the interfaces they implement. Each solver is imported when it is first used."""

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
    from routing_pomdp.solvers.baselines import Oracle, RandomMix, Static
    from routing_pomdp.solvers.cascades.cascade_routing import CascadeRouting
    from routing_pomdp.solvers.cascades.frugalgpt import FrugalGPT
    from routing_pomdp.solvers.cascades.margin import Margin
    from routing_pomdp.solvers.cascades.pairwise import PairwiseEnvelope
    from routing_pomdp.solvers.cascades.rational_tuning import RationalTuning
    from routing_pomdp.solvers.cascades.threshold import Threshold
    from routing_pomdp.solvers.checks import check_solver
    from routing_pomdp.solvers.exact.alpha_vectors import AlphaVectorIteration
    from routing_pomdp.solvers.exact.backward_induction import Exact
    from routing_pomdp.solvers.exact.bounds import FIB, QMDP
    from routing_pomdp.solvers.exact.point_based import PointBased
    from routing_pomdp.solvers.exact.robust import Bayes, Pessimist
    from routing_pomdp.solvers.learned.belief_dqn import BeliefDQN
    from routing_pomdp.solvers.learned.belief_fqi import BeliefFQI
    from routing_pomdp.solvers.learned.checkpoint import Restored
    from routing_pomdp.solvers.learned.fitted_q import FittedQ
    from routing_pomdp.solvers.learned.history_net import HistoryNet
    from routing_pomdp.solvers.predictive.bandits import C2MABV, PickLLM
    from routing_pomdp.solvers.predictive.pregeneration import Pregeneration
    from routing_pomdp.solvers.search.pomcp import POMCP
    from routing_pomdp.solvers.solver import (
        FrontierSolver,
        HasBelief,
        OraclePolicy,
        Policy,
        QueryPolicy,
        Solver,
        TablePolicy,
        Training,
    )
else:
    __getattr__, __dir__, __all__ = lazy_face(__name__)
