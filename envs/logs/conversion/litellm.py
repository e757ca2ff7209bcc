"""LiteLLM: the spend logs of its proxy (the table LiteLLM_SpendLogs, or ``/spend/logs``)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from routing_pomdp.envs.logs.conversion.records import (
    Calls,
    Record,
    Repeated,
    at,
    chat_text,
    fingerprint,
    first,
    milliseconds,
    needed,
    number,
    optional,
    records,
    score_of,
)
from routing_pomdp.envs.logs.rollouts import RolloutsError
from routing_pomdp.envs.logs.table_files import shown

# Kinds of calls that answer a prompt with a text; asynchronous ones are prefixed with "a".
_ANSWERS = ("completion", "text_completion", "responses", "anthropic_messages", "generate_content")


def litellm(
    files: Sequence[Path],
    query: str | None = None,
    score: str | None = None,
    scores: Path | None = None,
    repeated: Repeated = "refuse",
) -> Calls:
    """Spend logs as calls.

    Left out and counted are failed calls, answers from the cache (they cost nothing), calls that
    answer no prompt (embeddings …), and calls without a score.

    Args:
        files: exported as JSON, JSON lines, CSV or parquet.
        query: path of the field that is equal in all calls of one query, such as
            ``metadata.spend_logs_metadata.query_id``; None for a hash of the messages, which the
            proxy keeps if ``store_prompts_in_spend_logs`` is set.
        score: path of the field that holds the score.
        scores: instead, a table with the columns ``request_id`` and ``score``.
        repeated: how to treat a second call of one model on one query.

    Raises:
        RolloutsError: a file or a record cannot be used; the message names the row.
    """
    if (score is None) == (scores is None):
        raise RolloutsError(
            "spend logs hold no scores: name the field that holds yours by --score, or a table "
            "of request_id and score by --scores"
        )
    judged: dict[str, float] = {}
    for where, row in records(scores) if scores else ():
        judged[str(needed(row, where, "request_id"))] = score_of(
            needed(row, where, "score"), where, "score"
        )
    calls = Calls(repeated)
    for file in files:
        for where, call in records(file):
            request = str(needed(call, where, "request_id"))
            kind = str(needed(call, where, "call_type"))
            found = judged.get(request) if score is None else at(call, score)
            if reason := _unusable(call, kind):
                calls.left_out[reason] += 1
            elif found is None or found == "":
                calls.left_out["without a score"] += 1
            else:
                asked = first(call, "messages", "proxy_server_request.messages")
                calls.add(
                    where,
                    _query(call, query, asked, where),
                    str(needed(call, where, "model_group", "model")),
                    score=score_of(found, where, score or "score"),
                    cost=number(needed(call, where, "spend"), where, "spend"),
                    answer=chat_text(call.get("response")),
                    prompt=chat_text(asked),
                    latency_ms=optional(call.get("request_duration_ms"), where, "the duration")
                    or milliseconds(call.get("startTime"), call.get("endTime"), where),
                    tokens_in=optional(call.get("prompt_tokens"), where, "prompt_tokens"),
                    tokens_out=optional(call.get("completion_tokens"), where, "completion_tokens"),
                )
    return calls


def _unusable(call: Record, kind: str) -> str | None:
    if kind not in _ANSWERS and kind.removeprefix("a") not in _ANSWERS:
        return f"of the type {kind[:40]}"
    if call.get("status") == "failure":
        return "failed"
    if str(call.get("cache_hit")).lower() == "true":
        return "answered by the cache"
    return None


def _query(call: Record, path: str | None, asked: object, where: str) -> str:
    found = asked if path is None else first(call, path)
    if found is None:
        missing = shown(path) if path else "messages (set store_prompts_in_spend_logs, or --query)"
        raise RolloutsError(f"{where} has no {missing}: which query does it answer?")
    return fingerprint(found) if path is None else str(found)
