"""What the router sees: verifiers, and the observation models that learn their noise."""

from verifiers.beta import Beta
from verifiers.histogram import Histogram
from verifiers.kernel import KernelDensity
from verifiers.mixture import GaussianMixture
from verifiers.verifier import LoggedSignal, Verifier, checked_signal, make_replay

__all__ = [
    "Beta",
    "GaussianMixture",
    "Histogram",
    "KernelDensity",
    "LoggedSignal",
    "Verifier",
    "checked_signal",
    "make_replay",
]
