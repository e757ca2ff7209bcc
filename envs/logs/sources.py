"""Readers of known logs, named by the configs in ``conf/rollouts/``.

Each reader imports what it needs to read files, so that importing this module does not load
pyarrow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from routing_pomdp.envs.logs.rollouts import SPLIT_NAMES, Rollouts, RolloutsError, concatenate
from routing_pomdp.envs.settings.ranges import Names, Text

Split = Literal["train", "validation", "test"]
_SPLITS = get_args(Split)


def calls_table(
    path: Text | Sequence[Text] | Mapping[Text, Text],
    models: Names | None = None,
    signals: Mapping[Text, Text | None] | None = None,
    columns: Mapping[Text, Text] | None = None,
    complete_only: bool = False,
) -> Rollouts:
    """A calls table (`envs.logs.calls_table`).

    Args:
        path: of a parquet, CSV or JSON-lines file, or of several (`envs.logs.table.Table.of`).
        models: names of those to keep, cheapest first; None for all.
        signals: columns of signals -> the column of each one's cost, or None; None for the
            ``signal_NAME`` columns.
        columns: names of the calls table's columns -> their names in the file.
        complete_only: keep only the queries that all of these models answered.

    Raises:
        RolloutsError: the log cannot be used.
    """
    from routing_pomdp.envs.logs.calls_table import read_calls

    return read_calls(path, signals, columns).chosen(models, complete_only)


def out_of_domain(elsewhere: Rollouts, tested: Rollouts) -> Rollouts:
    """Both logs as one; ids are prefixed by the data set, because they may coincide."""
    parts = [
        replace(log, query_id=np.char.add(np.char.add(log.dataset, "/"), log.query_id))
        for log in (elsewhere, tested)
    ]
    return concatenate(parts)


def rational_cascades(
    path: Text,
    dataset: Text,
    chain: Text = "llama",
    models: Names | None = None,
    train_on: Text | None = None,
    complete_only: bool = False,
) -> Rollouts:
    """The logs published with "Rational Tuning of LLM Cascades" (arXiv 2501.09345).

    Reads ``DATASET.CHAIN.SPLIT.calls.parquet`` for the splits train, validation and test that
    exist, and the prompts from ``….queries.parquet`` if that exists. The signal is
    ``confidence_logprob``, with the cost ``verifier_cost_usd``.

    Args:
        path: the folder.
        dataset: its name in the files' names.
        chain: the family of models in the files' names.
        models: as `calls_table`.
        train_on: another data set, for out-of-domain training: its training queries replace this
            one's. If this one has no test split, all its queries then are test queries.
        complete_only: as `calls_table`.

    Raises:
        RolloutsError: there is no such log, or it cannot be used.
    """

    def read(name: str) -> Rollouts:
        return _rational_cascade(Path(path), name, chain).chosen(models, complete_only)

    log = read(dataset)
    if train_on in (None, dataset):
        return log
    assert train_on is not None
    elsewhere = read(train_on).where("train")
    tested = log.where("test") if (log.split == "test").any() else log
    return out_of_domain(elsewhere, replace(tested, split=np.full(len(tested), "test")))


def rational_cascade_names(path: str, chain: str = "llama") -> list[str]:
    """The data sets of a chain in a folder of `rational_cascades`, sorted.

    Raises:
        RolloutsError: there is none.
    """
    end = f".{chain}"
    found = sorted(name.removesuffix(end) for name in _logs_in(Path(path)) if name.endswith(end))
    if not found:
        raise RolloutsError(f"{path} has no DATASET.{chain}.SPLIT.calls.parquet")
    return found


def _logs_in(folder: Path) -> set[str]:
    """``DATASET.CHAIN`` of every log in a folder."""
    return {
        file.name.removesuffix(".calls.parquet").rpartition(".")[0]
        for file in folder.glob("*.calls.parquet")
    }


def _rational_cascade(folder: Path, dataset: str, chain: str) -> Rollouts:
    from routing_pomdp.envs.logs.calls_table import align
    from routing_pomdp.envs.logs.table import Table

    files = {
        split: file
        for split in _SPLITS
        if (file := folder / f"{dataset}.{chain}.{split}.calls.parquet").is_file()
    }
    if not files:
        found = sorted(_logs_in(folder))
        there = f"it has the logs (DATASET.CHAIN) {found}" if folder.is_dir() else "no such folder"
        raise RolloutsError(f"{folder} has no {dataset}.{chain}.SPLIT.calls.parquet: {there}")
    parts = []
    for split, file in files.items():
        part = align(
            Table.of(file),
            {"confidence_logprob": "verifier_cost_usd"},
            cost="answer_cost_usd",
            per_query={"split": split, "dataset": dataset},
        )
        queries = folder / f"{dataset}.{chain}.{split}.queries.parquet"
        if queries.is_file():
            part = replace(part, prompt=_prompts(queries, part.query_id))
        parts.append(part)
    try:
        return concatenate(parts)
    except RolloutsError as error:
        raise RolloutsError(f"{folder}, {dataset}.{chain}: {error}") from error


def _prompts(file: Path, query_id: NDArray[np.str_]) -> NDArray[np.object_]:
    import pyarrow as pa
    import pyarrow.compute as pc

    from routing_pomdp.envs.logs.table import Table

    table = Table.of(file)
    ids = pa.array(table.texts("query_id"), pa.string())
    rows = pc.index_in(pa.array(query_id.tolist(), pa.string()), value_set=ids)
    if rows.null_count:
        missing = query_id[np.argmax(rows.is_null().to_numpy(zero_copy_only=False))]
        raise RolloutsError(f"{file} has no prompt for query {str(missing)!r}")
    return table.texts("prompt", rows.to_numpy())


def automix(
    path: Text,
    small: Text = "llama13b",
    large: Text = "llama70b",
    confidence: Text = "p_ver_13b",
    small_score: Text | None = None,
    large_score: Text | None = None,
    dataset: Text | None = None,
    models: Names | None = None,
    complete_only: bool = False,
) -> Rollouts:
    """AutoMix's released JSON lines (github.com/automix-llm/automix), one line for each query.

    Columns: both models' scores and the small model's self-verification confidence (the signal
    "confidence"). Optional: ``dataset``, ``split``, ``base_ctx`` and ``question`` (or ``q``),
    ``{model}_pred_ans``, and ``id`` or ``pid``, whichever is unique. The prompt is the context and
    the question, because one question is asked of many contexts. AutoMix reports on its split "val"
    and has no "test"; without a "test" split, "val" becomes "test". There are no logged costs: use
    ``costs.ratio``.

    Args:
        path: of the file.
        small: prefix of the cheaper model's columns, and its name.
        large: prefix of the more expensive model's columns, and its name.
        confidence: the column of the signal.
        small_score: the column of the cheaper model's score; ``{small}_f1`` by default.
        large_score: the column of the more expensive model's score; ``{large}_f1`` by default.
        dataset: keep only the queries of this one; None for all.
        models: as `calls_table`.
        complete_only: as `calls_table`.

    Raises:
        RolloutsError: the log cannot be used.
    """
    from routing_pomdp.envs.logs.calls_table import scores
    from routing_pomdp.envs.logs.table import Table

    table = Table.of(path)
    n = len(table)
    score = [
        scores(table, small_score or f"{small}_f1"),
        scores(table, large_score or f"{large}_f1"),
    ]
    signal = table.numbers(confidence)

    def label(name: str, default: str) -> NDArray[np.str_]:
        return table.labels(name) if name in table else np.full(n, default)

    split = label("split", "train")
    if "test" not in split:
        split = np.where(split == "val", "test", split)
    answers = [f"{model}_pred_ans" for model in (small, large)]
    asked = next((name for name in ("question", "q") if name in table), None)
    prompt = None if asked is None else table.texts(asked)
    if prompt is not None and "base_ctx" in table:
        prompt = table.texts("base_ctx") + "\n\n" + prompt
    try:
        rollouts = Rollouts(
            models=(small, large),
            query_id=table.row_names(("id", "pid")),
            score=np.column_stack(score),
            cost=None,
            signals={"confidence": np.column_stack([signal, np.full(n, np.nan)])},
            # An unknown name is left for `Rollouts` to refuse, which names the query.
            split=np.array([SPLIT_NAMES.get(name, name) for name in split.tolist()]),
            dataset=label("dataset", table.title),
            answer=np.column_stack([table.texts(name) for name in answers])
            if set(answers) <= set(table.names)
            else None,
            prompt=prompt,
        ).of_dataset(dataset)
    except RolloutsError as error:
        raise RolloutsError(f"{table}: {error}") from error
    return rollouts.chosen(models, complete_only)
