"""Readers of known logs, named by the configs in ``conf/rollouts/``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from envs.calls_table import align, column, read_calls, read_table
from envs.profiles import load_profile, simulate
from envs.rollouts import Rollouts, RolloutsError, concatenate

_SPLITS = ("train", "validation", "test")


def calls_table(path: str, models: Sequence[str] | None = None) -> Rollouts:
    """A calls table (`envs.calls_table`).

    Args:
        path: of a parquet, CSV or JSON-lines file.
        models: names of those to keep, cheapest first; None for all.

    Raises:
        RolloutsError: a log that cannot be used.
    """
    return read_calls(path).select(models)


def profile(
    profile: str, queries: Mapping[str, int], seed: int, models: Sequence[str] | None = None
) -> Rollouts:
    """Queries simulated from a profile.

    Args:
        profile: the name of a shipped one, or the path of a YAML file.
        queries: how many for each split.
        seed: of the simulation.
        models: as `calls_table`.
    """
    return simulate(load_profile(profile), queries, seed).select(models)


def rational_cascades(
    path: str, dataset: str, chain: str = "llama", models: Sequence[str] | None = None
) -> Rollouts:
    """The logs published with "Rational Tuning of LLM Cascades" (arXiv 2501.09345).

    Reads ``DATASET.CHAIN.SPLIT.calls.parquet`` and, for the prompts, ``….queries.parquet`` where it
    is there; splits are train, validation and test, as many as there are. The signal is
    ``confidence_logprob``, with the cost ``verifier_cost_usd``.

    Args:
        path: the folder.
        dataset: its name in the files' names.
        chain: the family of models, of any number of models.
        models: as `calls_table`.

    Raises:
        RolloutsError: no such log, or one that cannot be used.
    """
    folder = Path(path)
    files = {
        split: file
        for split in _SPLITS
        if (file := folder / f"{dataset}.{chain}.{split}.calls.parquet").is_file()
    }
    if not files:
        found = sorted({".".join(f.name.split(".")[:2]) for f in folder.glob("*.calls.parquet")})
        raise RolloutsError(
            f"{folder} has no {dataset}.{chain}.SPLIT.calls.parquet: it has the logs "
            f"(DATASET.CHAIN) {found}"
        )
    parts = []
    for split, file in files.items():
        part = align(
            read_table(file),
            file,
            {"confidence_logprob": "confidence_logprob"},
            {"confidence_logprob": "verifier_cost_usd"},
            cost="answer_cost_usd",
            per_query={"split": split, "dataset": dataset},
        )
        queries = folder / f"{dataset}.{chain}.{split}.queries.parquet"
        if queries.is_file():
            part = replace(part, prompt=_prompts(queries, part.query_id))
        parts.append(part)
    return concatenate(parts).select(models)


def _prompts(file: Path, query_id: NDArray[np.str_]) -> NDArray[np.object_]:
    table = read_table(file)
    ids = column(table, "query_id", file).to_pylist()
    prompt = dict(zip(ids, column(table, "prompt", file).to_pylist(), strict=True))
    if missing := [query for query in query_id.tolist() if query not in prompt]:
        raise RolloutsError(f"{file} has no prompt for query {missing[0]!r}")
    return np.array([prompt[query] for query in query_id.tolist()], dtype=object)


def automix(
    path: str,
    small: str = "llama13b",
    large: str = "llama70b",
    confidence: str = "p_ver_13b",
    dataset: str | None = None,
    models: Sequence[str] | None = None,
) -> Rollouts:
    """AutoMix's released JSON lines (github.com/automix-llm/automix), one line a query.

    Columns: ``{small}_f1``, ``{large}_f1``, the small model's self-verification confidence, and
    where they are there ``dataset``, ``split``, ``question``, ``{model}_pred_ans`` and ``id``.
    AutoMix reports on its split "val" and has no "test": without one, "val" becomes "test". There
    are no logged costs: use ``costs.ratio``.

    Args:
        path: of the file.
        small: prefix of the cheaper model's columns.
        large: prefix of the dearer model's columns.
        confidence: the column of the signal, named "confidence" here.
        dataset: keep only the queries of this one; None for all.
        models: as `calls_table`.

    Raises:
        RolloutsError: a log that cannot be used.
    """
    file = Path(path)
    table = read_table(file)
    names = table.column_names
    if dataset is not None:
        values = column(table, "dataset", file).to_pylist()
        if dataset not in values:
            raise RolloutsError(
                f"{file}: rollouts.dataset is {dataset!r}: it has {sorted(set(values))}"
            )
        table = table.filter(pa.array([value == dataset for value in values]))
    n = table.num_rows
    if "id" in names and len(set(table["id"].to_pylist())) == n:
        identity = table["id"].cast(pa.string())
    else:
        identity = pa.array([f"row-{i + 1}" for i in range(n)])
    calls = []
    for rank, model in enumerate((small, large)):
        answers = f"{model}_pred_ans"
        columns = {
            "query_id": identity,
            "model": pa.array(np.full(n, model)),
            "model_rank": pa.array(np.full(n, rank)),
            "score": column(table, f"{model}_f1", file),
            "signal": column(table, confidence, file) if rank == 0 else pa.nulls(n, pa.float64()),
        }
        columns |= {new: table[old] for new, old in _KEPT.items() if old in names}
        if answers in names:
            columns["answer"] = table[answers]
        calls.append(pa.table(columns))
    both = pa.concat_tables(calls, promote_options="permissive")
    rollouts = align(both, file, {"confidence": "signal"}, {})
    if "test" not in rollouts.split:
        split = np.where(rollouts.split == "val", "test", rollouts.split)
    else:
        split = np.where(rollouts.split == "val", "validation", rollouts.split)
    return replace(rollouts, split=split).select(models)


_KEPT = {"dataset": "dataset", "split": "split", "prompt": "question"}
"""Columns of the calls table -> AutoMix's."""
