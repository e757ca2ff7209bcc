"""lm-evaluation-harness: the sample logs that ``lm_eval --log_samples`` writes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from routing_pomdp.envs.logs.conversion.records import (
    Calls,
    Record,
    Repeated,
    at,
    chat_text,
    needed,
    records,
    score_of,
)
from routing_pomdp.envs.logs.rollouts import RolloutsError
from routing_pomdp.envs.logs.table_files import listed, shown

_NAME = re.compile(r"samples_(?P<task>.+)_\d{4}-\d\d-\d\dT[\d.:-]+")
# The fields of a sample that are no metrics.
_FIELDS = {
    *("doc_id", "doc", "target", "arguments", "resps", "filtered_resps", "filter", "metrics"),
    *("doc_hash", "prompt_hash", "target_hash"),
}


def lm_eval(
    files: Sequence[Path],
    model: str | None = None,
    metric: str | None = None,
    filter: str | None = None,
    repeated: Repeated = "refuse",
) -> Calls:
    """Sample logs ``MODEL/samples_TASK_TIME.jsonl`` as calls.

    A query's id is ``TASK/doc_id``, its score is a metric of the sample, and the model's name is
    that of the file's folder. For multiple choice, the answer is the index of the most likely
    choice, and its probability among the choices is the signal ``choice_probability``.

    Args:
        files: of any tasks and models.
        model: the model of all these files; None for the names of their folders.
        metric: the metric to use as the score; may be None if the samples have only one.
        filter: the filter whose samples to use; may be None if there is only one.
        repeated: how to treat a second sample of one document.

    Raises:
        RolloutsError: a file or a sample cannot be used; the message names the row.
    """
    calls = Calls(repeated)
    documents: dict[str, tuple[Any, str]] = {}
    filters: set[str] = set()
    for file in files:
        match = _NAME.match(file.name)
        if not match:
            raise RolloutsError(
                f"{file}: the name has no task, expected samples_TASK_TIME.jsonl as the harness "
                "writes it"
            )
        task = match["task"]
        name = model or file.absolute().parent.name.replace("__", "/")
        for where, sample in records(file):
            for key in ("doc_id", "filtered_resps"):
                if key not in sample:
                    needed(sample, where, key)
            filters.add(str(sample.get("filter", "none")))
            if filter is None and len(filters) > 1:
                raise RolloutsError(
                    f"{where}: samples of the filters {listed(sorted(filters))}: name one by "
                    "--filter"
                )
            if filter is not None and str(sample.get("filter", "none")) != filter:
                calls.left_out["of another filter"] += 1
                continue
            query = f"{task}/{sample['doc_id']}"
            hashed = sample.get("doc_hash")
            before = documents.setdefault(query, (hashed, where))
            if hashed is not None and before[0] not in (None, hashed):
                raise RolloutsError(
                    f"{where}: document {sample['doc_id']!r} of {task} is another one than in "
                    f"{before[1]} (doc_hash): the models answered different questions"
                )
            chosen = metric or _only_metric(sample, where)
            if chosen not in sample:
                raise RolloutsError(
                    f"{where} has no metric {shown(chosen)}: it has {listed(_metrics(sample))}"
                )
            answer, probability = _answer(sample["filtered_resps"])
            calls.add(
                where,
                query,
                name,
                score=score_of(sample[chosen], where, chosen),
                dataset=task,
                answer=answer,
                signal_choice_probability=probability,
                prompt=_prompt(sample),
            )
    if filter is not None and filter not in filters:
        raise RolloutsError(f"--filter is {filter!r}: the samples have {listed(sorted(filters))}")
    return calls


def _metrics(sample: Record) -> list[str]:
    names = sample.get("metrics")
    named = names if isinstance(names, list) else [name for name in sample if name not in _FIELDS]
    return [name for name in named if isinstance(sample.get(name), bool | int | float)]


def _only_metric(sample: Record, where: str) -> str:
    names = _metrics(sample)
    if len(names) != 1:
        raise RolloutsError(f"{where} has the metrics {listed(names)}: name one by --metric")
    return names[0]


def _answer(responses: Any) -> tuple[str | None, float | None]:
    """The answer, and for multiple choice its probability among the choices."""
    if not isinstance(responses, list):
        return chat_text(responses), None
    pairs = [r for r in responses if isinstance(r, list) and len(r) == 2]
    if len(responses) < 2 or len(pairs) < len(responses):
        return chat_text(responses[0]) if responses else None, None
    try:
        likely = np.array([float(log) for log, _ in pairs])
    except (TypeError, ValueError):
        return chat_text(responses[0]), None
    best = int(np.argmax(likely))
    if not np.isfinite(likely[best]):
        return str(best), None
    return str(best), float(1 / np.exp(likely - likely[best]).sum())


def _prompt(sample: Record) -> str | None:
    """The context of the first request, in old and new formats of the log."""
    for path in ("arguments.gen_args_0.arg_0", "arguments.0.0", "arguments.0"):
        found = at(sample, path)
        if isinstance(found, str):
            return found
    return None
