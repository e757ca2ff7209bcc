"""Verifiers, which emit signals about answers, and observation models of these signals."""

from typing import TYPE_CHECKING

from routing_pomdp.envs.lazy import lazy_face

if TYPE_CHECKING:
    from routing_pomdp.verifiers.checks import check_verifier
    from routing_pomdp.verifiers.combinators import AffordableFirst, CalibratedMerge, SideBySide
    from routing_pomdp.verifiers.live import Case, LiveVerifier, Signal
    from routing_pomdp.verifiers.observation.beta import Beta
    from routing_pomdp.verifiers.observation.histogram import Histogram
    from routing_pomdp.verifiers.observation.kernel import KernelDensity
    from routing_pomdp.verifiers.observation.merged import Merged
    from routing_pomdp.verifiers.observation.mixture import GaussianMixture
    from routing_pomdp.verifiers.observation.product import Product
    from routing_pomdp.verifiers.serving import judged, live_parts, live_signals, row_of
    from routing_pomdp.verifiers.signals.agreement import Agreement
    from routing_pomdp.verifiers.signals.answer_logprob import AnswerLogprob
    from routing_pomdp.verifiers.signals.before import seen_before, signal_of_query
    from routing_pomdp.verifiers.signals.entailment import Entailment
    from routing_pomdp.verifiers.signals.margin import Margin
    from routing_pomdp.verifiers.signals.p_true import PTrue
    from routing_pomdp.verifiers.signals.pre_query import PreQuery
    from routing_pomdp.verifiers.signals.prompt_ease import PromptEase
    from routing_pomdp.verifiers.signals.self_consistency import SelfConsistency
    from routing_pomdp.verifiers.signals.self_verification import SelfVerification
    from routing_pomdp.verifiers.verifier import (
        LoggedColumn,
        LoggedSignal,
        NoSignal,
        Verifier,
        VerifierError,
        charged,
        emitted,
        fitted,
        make_routing_data,
        paid,
    )
else:
    __getattr__, __dir__, __all__ = lazy_face(__name__)
