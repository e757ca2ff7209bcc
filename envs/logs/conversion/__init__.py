"""Converters of other tools' logs to calls tables; each counts the records that it leaves out."""

from routing_pomdp.envs.logs.conversion.langfuse import langfuse
from routing_pomdp.envs.logs.conversion.litellm import litellm
from routing_pomdp.envs.logs.conversion.lm_eval import lm_eval
from routing_pomdp.envs.logs.conversion.records import Calls

__all__ = ["Calls", "langfuse", "litellm", "lm_eval"]
