"""Verifiers, one in each module."""

from typing import TYPE_CHECKING

from routing_pomdp.envs.lazy import lazy_face

if TYPE_CHECKING:
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
else:
    __getattr__, __dir__, __all__ = lazy_face(__name__)
