"""Readers of logs in other shapes: RouterBench's wide table, and tables of sampled votes."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from envs.answer_text import answer_form
from envs.calls_table import align, in_unit_interval, signal_columns
from envs.rollouts import FloatArray, Rollouts, RolloutsError
from envs.table_files import column, numbers, read_table, row_names, texts

_ANSWER, _COST = "|model_response", "|total_cost"
_PICKLES = (".pkl", ".pickle")


def routerbench(
    path: str, models: Sequence[str] | None = None, dataset: str | None = None
) -> Rollouts:
    """RouterBench's wide table (arXiv 2403.12031), one row a query.

    Columns: ``prompt``, ``eval_name`` (the data set) and, for each model, ``MODEL`` (its score),
    ``MODEL|model_response`` and ``MODEL|total_cost`` (USD); ``sample_id`` where it is there.
    Models are ordered by mean cost. There is no signal: give one of your own (docs/verifier.md),
    or ``verifier=none`` for routers that read prompts.

    Args:
        path: of a CSV or parquet file; the published pickle has to be converted.
        models: names of those to keep, cheapest first; None for all.
        dataset: keep only the queries of this ``eval_name``; None for all.

    Raises:
        RolloutsError: a pickle, no such columns, or values that are not allowed.
    """
    file = Path(path)
    refuse_pickle(file)
    table = read_table(file)
    names = table.column_names
    found = [name.removesuffix(_COST) for name in names if name.endswith(_COST)]
    if len(found) < 2:
        raise RolloutsError(
            f"{file}: found {len(found)} columns MODEL{_COST}, expected at least 2 models; it has "
            f"{names}"
        )
    score = [numbers(table, name, file, in_unit_interval, "in [0, 1]") for name in found]
    cost = [numbers(table, name + _COST, file, _chargeable, ">= 0") for name in found]
    mean = [float(paid.mean()) for paid in cost]
    order = sorted(range(len(found)), key=mean.__getitem__)
    answers = [name + _ANSWER for name in found]
    answer = None
    if set(answers) <= set(names):
        answer = np.column_stack([texts(table, answers[i], file) for i in order])
    try:
        log = Rollouts(
            models=tuple(found[i] for i in order),
            query_id=row_names(table, ("sample_id",), file),
            score=np.column_stack([score[i] for i in order]),
            cost=np.column_stack([cost[i] for i in order]),
            signals={},
            split=np.full(table.num_rows, "train"),
            dataset=texts(table, "eval_name", file).astype(str),
            answer=answer,
            prompt=texts(table, "prompt", file),
        ).of_dataset(dataset)
    except RolloutsError as error:
        raise RolloutsError(f"{file}: {error}") from error
    return log.select(models)


def refuse_pickle(file: Path) -> None:
    """Raise RolloutsError for a pickle, which runs code of its writer's when it is opened."""
    if any(suffix in _PICKLES for suffix in file.suffixes):
        target = file.name.split(".pkl")[0].split(".pickle")[0] + ".parquet"
        raise RolloutsError(
            f"{file} is a pickle, which may run any code when it is opened: convert it by "
            f"python scripts/convert_pickle.py {file} {file.with_name(target)} "
            "(reads tables, and refuses everything else)"
        )


def _chargeable(costs: FloatArray) -> NDArray[np.bool_]:
    return (costs >= 0) & (costs < np.inf)


def votes(path: str, models: Sequence[str] | None = None, column: str = "votes") -> Rollouts:
    """A calls table (`envs.calls_table`) with a list of sampled answers in each row.

    The list is one of texts or numbers (parquet, JSON lines) or a JSON list (CSV). Answers are
    compared as live verifiers compare them (`envs.answer_text.answer_form`): 10.0 and "10" are one
    vote. An empty sample is a vote for nothing: it counts against all. Signals that come of it:

    - ``vote_share``: share of the samples that agree with ``answer`` (without that column, with
      the most frequent sample);
    - ``vote_margin``: share of the most frequent sample minus that of the runner-up;
    - ``vote_agreement``: probability that two samples agree, ``Σ share²``.

    ``VOTES_cost``, where it is there, is what drawing the samples cost, and so each signal's.

    Args:
        path: of the file.
        models: names of those to keep, cheapest first; None for all.
        column: of the lists.

    Raises:
        RolloutsError: a list that is none or empty, or as `envs.calls_table`.
    """
    file = Path(path)
    refuse_pickle(file)
    table = read_table(file)
    samples = _lists(table, column, file)
    given = texts(table, "answer", file) if "answer" in table.column_names else None
    rows = [_shares(row, None if given is None else given[i]) for i, row in enumerate(samples)]
    measured = dict(
        zip(("vote_share", "vote_margin", "vote_agreement"), np.array(rows).T, strict=True)
    )
    cost = f"{column}_cost" if f"{column}_cost" in table.column_names else None
    signals = signal_columns(table.column_names)
    for name, values in measured.items():
        if f"signal_{name}" in signals:
            raise RolloutsError(f"{file} has a column 'signal_{name}', which votes would make anew")
        table = table.append_column(f"signal_{name}", pa.array(values, from_pandas=True))
        signals[f"signal_{name}"] = cost
    return align(table, file, signals).select(models)


def _lists(table: pa.Table, name: str, file: Path) -> list[list[str]]:
    """The lists of a column; an empty cell is an empty list."""
    found = []
    for row, value in enumerate(column(table, name, file).to_pylist(), start=1):
        samples = [] if value in (None, "") else value
        if isinstance(samples, str):
            with suppress(ValueError):
                samples = json.loads(samples)
        if not isinstance(samples, list):
            raise RolloutsError(
                f"{file}: column {name!r} is {value!r} in row {row}, expected a list of answers, "
                'such as ["Paris", "Lyon"]'
            )
        found.append(samples)
    return found


def _shares(samples: Sequence[object], answer: str | None) -> tuple[float, float, float]:
    """Share of the answer, margin of the first over the second, and chance agreement of two."""
    if not samples:
        return np.nan, np.nan, np.nan
    forms = (answer_form("" if sample is None else str(sample)) for sample in samples)
    counts = Counter(form for form in forms if form)
    shares = sorted((count / len(samples) for count in counts.values()), reverse=True) or [0.0]
    share = shares[0] if answer is None else counts[answer_form(answer)] / len(samples)
    return share, shares[0] - sum(shares[1:2]), sum(x * x for x in shares)
