"""Logs of other tools as calls tables: a reader for each tool, which says what it left out."""

from envs.conversion.langfuse import langfuse
from envs.conversion.litellm import litellm
from envs.conversion.lm_eval import lm_eval
from envs.conversion.records import Calls

__all__ = ["Calls", "langfuse", "litellm", "lm_eval"]
