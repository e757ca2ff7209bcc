"""How to decide: every solver, and the roles that they play. Each is imported where it is used."""

from typing import TYPE_CHECKING

from envs.lazy import lazy_face

if TYPE_CHECKING:
    from solvers.alpha_vectors import AlphaVectorIteration
    from solvers.automix import AutoMixDoubleThreshold, AutoMixThreshold, SelfConsistency
    from solvers.automix_pomdp import AutoMixPOMDP
    from solvers.automix_released import AutoMixGreedy, AutoMixSimple, AutoMixUnion
    from solvers.bandits import C2MABV, PickLLM
    from solvers.baselines import Oracle, RandomMix, Static
    from solvers.belief_dqn import BeliefDQN
    from solvers.belief_fqi import BeliefFQI
    from solvers.belief_ppo import BeliefPPO
    from solvers.bounds import FIB, QMDP
    from solvers.cascade_routing import CascadeRouting
    from solvers.checkpoint import Restored
    from solvers.checks import check_solver
    from solvers.exact import Exact
    from solvers.fitted_q import FittedQ
    from solvers.frugalgpt import FrugalGPT
    from solvers.history_net import HistoryNet
    from solvers.margin import Margin
    from solvers.pairwise import PairwiseEnvelope
    from solvers.point_based import PointBased
    from solvers.pomcp import POMCP
    from solvers.pomcpow import POMCPOW
    from solvers.pregeneration import Pregeneration
    from solvers.rational_tuning import RationalTuning
    from solvers.robust import Bayes, Pessimist
    from solvers.solver import (
        Believing,
        Clairvoyant,
        FrontierSolver,
        Policy,
        Solver,
        TablePolicy,
        Training,
        Unbound,
    )
    from solvers.threshold import Threshold
else:
    __getattr__, __dir__ = lazy_face(__name__)

__all__ = [
    "C2MABV",
    "FIB",
    "POMCP",
    "POMCPOW",
    "QMDP",
    "AlphaVectorIteration",
    "AutoMixDoubleThreshold",
    "AutoMixGreedy",
    "AutoMixPOMDP",
    "AutoMixSimple",
    "AutoMixThreshold",
    "AutoMixUnion",
    "Bayes",
    "BeliefDQN",
    "BeliefFQI",
    "BeliefPPO",
    "Believing",
    "CascadeRouting",
    "Clairvoyant",
    "Exact",
    "FittedQ",
    "FrontierSolver",
    "FrugalGPT",
    "HistoryNet",
    "Margin",
    "Oracle",
    "PairwiseEnvelope",
    "Pessimist",
    "PickLLM",
    "PointBased",
    "Policy",
    "Pregeneration",
    "RandomMix",
    "RationalTuning",
    "Restored",
    "SelfConsistency",
    "Solver",
    "Static",
    "TablePolicy",
    "Threshold",
    "Training",
    "Unbound",
    "check_solver",
]
