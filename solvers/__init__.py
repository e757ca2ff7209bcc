"""How to decide. Solvers are named by their configs; the heavy ones are imported where used."""

from solvers.baselines import Oracle, RandomMix, Static
from solvers.checks import check_solver
from solvers.exact import Exact
from solvers.solver import Believing, Clairvoyant, Policy, Solver, TablePolicy, Training, Unbound
from solvers.threshold import Threshold

__all__ = [
    "Believing",
    "Clairvoyant",
    "Exact",
    "Oracle",
    "Policy",
    "RandomMix",
    "Solver",
    "Static",
    "TablePolicy",
    "Threshold",
    "Training",
    "Unbound",
    "check_solver",
]
