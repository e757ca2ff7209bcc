"""What the router sees: verifiers, and the observation models that learn their noise."""

from verifiers.histogram import Histogram
from verifiers.verifier import LoggedSignal, Verifier, checked_signal, make_replay

__all__ = [
    "Histogram",
    "LoggedSignal",
    "Verifier",
    "checked_signal",
    "make_replay",
]
