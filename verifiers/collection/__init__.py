"""Collection of logs from live endpoints: answers, verifications and scores, paid for once."""

from typing import TYPE_CHECKING

from routing_pomdp.envs.lazy import lazy_face

if TYPE_CHECKING:
    from routing_pomdp.verifiers.collection.answers import AnswerPrompt
    from routing_pomdp.verifiers.collection.call_log import CallLog, LogError
    from routing_pomdp.verifiers.collection.models import (
        ConfigError,
        ModelSpec,
        Price,
        load_models,
        load_prices,
    )
    from routing_pomdp.verifiers.collection.policy import (
        AskAll,
        AskBelow,
        AskSome,
        CollectionPolicy,
    )
    from routing_pomdp.verifiers.collection.queries import Question, load_questions
    from routing_pomdp.verifiers.collection.run import Collected, Plan, collect
    from routing_pomdp.verifiers.collection.scoring import Scoring
    from routing_pomdp.verifiers.collection.stops import (
        BudgetExhaustedError,
        CallError,
        EndpointRefusedError,
        InterruptedCollectionError,
        StoppedError,
    )
else:
    __getattr__, __dir__, __all__ = lazy_face(__name__)
