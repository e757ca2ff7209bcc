"""Langfuse: exported observations (blob storage, or the interface) and exported scores."""

from __future__ import annotations

from collections import Counter
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
    optional,
    records,
    score_of,
)
from routing_pomdp.envs.logs.rollouts import RolloutsError
from routing_pomdp.envs.logs.table_files import listed, shown


def langfuse(
    files: Sequence[Path],
    query: str | None = None,
    score: str | None = None,
    scores: Path | None = None,
    repeated: Repeated = "refuse",
) -> Calls:
    """Observations as calls. Field names are those of blob storage (``trace_id``) or of the API
    (``traceId``).

    Left out and counted are observations that are no GENERATION, those of level ERROR, and those
    without a score. The score of a trace counts for its generation if it has only one.

    Args:
        files: exported as JSON, JSON lines, CSV or parquet.
        query: path of the field that is equal in all calls of one query, such as
            ``metadata.query_id``; None for a hash of ``input``.
        score: the name of the score in ``scores``; without that file, the path of the field that
            holds the score.
        scores: exported scores.
        repeated: how to treat a second call of one model on one query.

    Raises:
        RolloutsError: a file or a record cannot be used; the message names the row.
    """
    if score is None and scores is None:
        raise RolloutsError(
            "observations hold no scores: give the exported scores by --scores, or the field that "
            "holds yours by --score"
        )
    judged = _judged(scores, score) if scores else {}
    calls = Calls(repeated)
    kept: list[tuple[str, Record]] = []
    for file in files:
        for where, one in records(file):
            if needed(one, where, "type") != "GENERATION":
                calls.left_out["no GENERATION"] += 1
            elif one.get("level") == "ERROR":
                calls.left_out["of level ERROR"] += 1
            else:
                kept.append((where, one))
    generations = Counter(first(one, "trace_id", "traceId") for _, one in kept)
    for where, one in kept:
        name = str(needed(one, where, "id"))
        trace = first(one, "trace_id", "traceId")
        if scores is None:
            assert score is not None
            found = at(one, score)
        else:
            found = judged.get(("observation", name))
            if found is None and generations[trace] == 1:
                found = judged.get(("trace", str(trace)))
        if found is None or found == "":
            calls.left_out["without a score"] += 1
            continue
        asked = first(one, "input")
        identity = asked if query is None else first(one, query)
        if identity is None:
            raise RolloutsError(
                f"{where} has no {shown(query or 'input')}: which query does it answer? Name the "
                "field by --query"
            )
        calls.add(
            where,
            fingerprint(identity) if query is None else str(identity),
            str(needed(one, where, "provided_model_name", "providedModelName", "model")),
            score=score_of(found, where, score or "score"),
            cost=optional(_cost(one), where, "total_cost"),
            answer=chat_text(one.get("output")),
            prompt=chat_text(asked),
            latency_ms=milliseconds(
                first(one, "start_time", "startTime"), first(one, "end_time", "endTime"), where
            ),
            tokens_in=optional(_used(one, "input"), where, "usage_details.input"),
            tokens_out=optional(_used(one, "output"), where, "usage_details.output"),
        )
    return calls


def _cost(one: Record) -> object:
    return first(
        one,
        *("total_cost", "totalCost", "calculatedTotalCost"),
        *("cost_details.total", "costDetails.total"),
    )


def _used(one: Record, kind: str) -> object:
    return first(one, f"usage_details.{kind}", f"usageDetails.{kind}", f"usage.{kind}")


def _judged(file: Path, chosen: str | None) -> dict[tuple[str, str], float]:
    """The scores of one name, keyed by ("observation" or "trace", its id)."""
    found: dict[tuple[str, str], float] = {}
    names: set[str] = set()
    for where, row in records(file):
        name = str(needed(row, where, "name"))
        names.add(name)
        if chosen is None and len(names) > 1:
            raise RolloutsError(
                f"{where}: the file has the scores {listed(sorted(names))}: name one by --score"
            )
        if chosen is not None and name != chosen:
            continue
        kind = first(row, "data_type", "dataType")
        if kind not in (None, "NUMERIC", "BOOLEAN"):
            raise RolloutsError(
                f"{where}: score {shown(name)} is {kind}, expected NUMERIC or BOOLEAN"
            )
        observation = first(row, "observation_id", "observationId")
        judges = "trace" if observation is None else "observation"
        key = str(observation or needed(row, where, "trace_id", "traceId"))
        value = score_of(needed(row, where, "value"), where, f"score {shown(name)}")
        if found.setdefault((judges, key), value) != value:
            raise RolloutsError(
                f"{where}: score {shown(name)} of {judges} {shown(key)} is {value}, and "
                f"{found[judges, key]} in a row before"
            )
    if chosen is not None and chosen not in names:
        raise RolloutsError(f"{file} has no score {shown(chosen)}: it has {listed(sorted(names))}")
    return found
