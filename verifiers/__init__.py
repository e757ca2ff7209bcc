"""What the router sees: verifiers, and the observation models that learn their noise."""

from typing import TYPE_CHECKING

from envs.lazy import lazy_face

if TYPE_CHECKING:
    from verifiers.agreement import Agreement
    from verifiers.answer_logprob import AnswerLogprob
    from verifiers.before import seen_before, signal_of_query
    from verifiers.beta import Beta
    from verifiers.checks import check_verifier
    from verifiers.combinators import AffordableFirst, CalibratedMerge, SideBySide
    from verifiers.entailment import Entailment
    from verifiers.histogram import Histogram
    from verifiers.kernel import KernelDensity
    from verifiers.live import Case, LiveVerifier, Signal
    from verifiers.margin import Margin
    from verifiers.merged import Merged
    from verifiers.mixture import GaussianMixture
    from verifiers.p_true import PTrue
    from verifiers.pre_query import PreQuery
    from verifiers.product import Product
    from verifiers.prompt_ease import PromptEase
    from verifiers.self_consistency import SelfConsistency
    from verifiers.self_verification import SelfVerification
    from verifiers.serving import judged, live_parts, live_signals, row_of
    from verifiers.verifier import (
        LoggedColumn,
        LoggedSignal,
        NoSignal,
        Verifier,
        VerifierError,
        charged,
        emitted,
        fitted,
        make_replay,
        paid,
    )
else:
    __getattr__, __dir__ = lazy_face(__name__)

__all__ = [
    "AffordableFirst",
    "Agreement",
    "AnswerLogprob",
    "Beta",
    "CalibratedMerge",
    "Case",
    "Entailment",
    "GaussianMixture",
    "Histogram",
    "KernelDensity",
    "LiveVerifier",
    "LoggedColumn",
    "LoggedSignal",
    "Margin",
    "Merged",
    "NoSignal",
    "PTrue",
    "PreQuery",
    "Product",
    "PromptEase",
    "SelfConsistency",
    "SelfVerification",
    "SideBySide",
    "Signal",
    "Verifier",
    "VerifierError",
    "charged",
    "check_verifier",
    "emitted",
    "fitted",
    "judged",
    "live_parts",
    "live_signals",
    "make_replay",
    "paid",
    "row_of",
    "seen_before",
    "signal_of_query",
]
