"""What the router sees: verifiers, and the observation models that learn their noise."""

from verifiers.beta import Beta
from verifiers.combinators import AffordableFirst, CalibratedMerge, SideBySide
from verifiers.histogram import Histogram
from verifiers.kernel import KernelDensity
from verifiers.live import Case, LiveVerifier, Signal
from verifiers.merged import Merged
from verifiers.mixture import GaussianMixture
from verifiers.product import Product
from verifiers.verifier import (
    LoggedColumn,
    LoggedSignal,
    NoSignal,
    Verifier,
    VerifierError,
    checked_signal,
    emitted,
    fitted,
    make_replay,
    paid,
)

__all__ = [
    "AffordableFirst",
    "Beta",
    "CalibratedMerge",
    "Case",
    "GaussianMixture",
    "Histogram",
    "KernelDensity",
    "LiveVerifier",
    "LoggedColumn",
    "LoggedSignal",
    "Merged",
    "NoSignal",
    "Product",
    "SideBySide",
    "Signal",
    "Verifier",
    "VerifierError",
    "checked_signal",
    "emitted",
    "fitted",
    "make_replay",
    "paid",
]
