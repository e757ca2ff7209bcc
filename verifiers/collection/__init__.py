"""Collecting logs from live endpoints: answers, verifications and scores, nothing paid twice."""

from typing import TYPE_CHECKING

from envs.lazy import lazy_face

if TYPE_CHECKING:
    from verifiers.collection.answers import AnswerPrompt
    from verifiers.collection.call_log import CallLog, LogError
    from verifiers.collection.models import ConfigError, ModelSpec, Price, load_models, load_prices
    from verifiers.collection.policy import AskAll, AskBelow, AskSome, CollectionPolicy
    from verifiers.collection.queries import Question, load_questions
    from verifiers.collection.run import Collected, Plan, collect
    from verifiers.collection.scoring import Scoring
    from verifiers.collection.stops import (
        BudgetExhaustedError,
        CallError,
        EndpointRefusedError,
        InterruptedCollectionError,
        StoppedError,
    )
else:
    __getattr__, __dir__ = lazy_face(__name__)

__all__ = [
    "AnswerPrompt",
    "AskAll",
    "AskBelow",
    "AskSome",
    "BudgetExhaustedError",
    "CallError",
    "CallLog",
    "Collected",
    "CollectionPolicy",
    "ConfigError",
    "EndpointRefusedError",
    "InterruptedCollectionError",
    "LogError",
    "ModelSpec",
    "Plan",
    "Price",
    "Question",
    "Scoring",
    "StoppedError",
    "collect",
    "load_models",
    "load_prices",
    "load_questions",
]
