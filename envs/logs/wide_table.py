"""Readers of other tables: RouterBench's wide table, and calls tables with sampled answers."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa

from routing_pomdp.envs.logs.answer_text import answer_form
from routing_pomdp.envs.logs.calls_table import (
    align,
    by_cost,
    chargeable,
    is_column,
    scores,
    signal_columns,
)
from routing_pomdp.envs.logs.rollouts import Rollouts, RolloutsError
from routing_pomdp.envs.logs.table import Table
from routing_pomdp.envs.logs.table_files import listed, shown
from routing_pomdp.envs.settings.ranges import Names, Text

_ANSWER, _COST = "|model_response", "|total_cost"
_PICKLES = (".pkl", ".pickle")
_KNOWN = ("prompt", "eval_name", "sample_id")


def routerbench(
    path: Text | Sequence[Text],
    models: Names | None = None,
    dataset: Text | None = None,
    columns: Mapping[Text, Text] | None = None,
    complete_only: bool = False,
) -> Rollouts:
    """RouterBench's wide table (arXiv 2403.12031), one row for each query.

    Columns: ``prompt``, ``eval_name`` (the data set) and, for each model, ``MODEL`` (its score,
    empty if it was not called), ``MODEL|model_response`` and ``MODEL|total_cost`` (USD);
    ``sample_id`` is optional. Models are ordered by mean cost. Without columns of costs they keep
    the order of their columns, or that of ``models``; if there are no columns of answers either,
    ``models`` names the columns of scores. There is no signal: give one of your own
    (docs/verifier.md), or ``verifier=none`` for routers that read prompts.

    Args:
        path: of a CSV or parquet file, or of several; the published pickle has to be converted.
        models: names of those to keep, cheapest first; None for all.
        dataset: keep only the queries of this ``eval_name``; None for all.
        columns: prompt, eval_name or sample_id -> its name in the file.
        complete_only: keep only the queries that all of these models answered.

    Raises:
        RolloutsError: the file is a pickle, lacks columns, or has values that are not allowed.
    """
    for file in [path] if isinstance(path, str | Path) else path:
        refuse_pickle(Path(file))
    table = Table.of(path).renamed(columns, _KNOWN.__contains__)
    found, priced = _models(table, models)
    score = {name: scores(table, name) for name in found}
    cost = None
    if priced:
        paid = {
            name: table.numbers(
                name + _COST, partial(chargeable, due=~np.isnan(score[name])), ">= 0"
            )
            for name in found
        }
        called = [paid[name][~np.isnan(score[name])] for name in found]
        found = [found[i] for i in by_cost(called)]
        cost = np.column_stack([paid[name] for name in found])
    answer = None
    if all(name + _ANSWER in table for name in found):
        answer = np.column_stack([table.texts(name + _ANSWER) for name in found])
    try:
        log = Rollouts(
            models=tuple(found),
            query_id=table.row_names(("sample_id",)),
            score=np.column_stack([score[name] for name in found]),
            cost=cost,
            signals={},
            split=np.full(len(table), "train"),
            dataset=table.labels("eval_name"),
            answer=answer,
            prompt=table.texts("prompt"),
        ).of_dataset(dataset)
    except RolloutsError as error:
        raise RolloutsError(f"{table}: {error}") from error
    return log.chosen(models, complete_only)


def _models(table: Table, chosen: Sequence[str] | None) -> tuple[list[str], bool]:
    """The models to read, and whether the table has their costs."""

    def ending(end: str) -> list[str]:
        return [name.removesuffix(end) for name in table.names if name.endswith(end)]

    priced = ending(_COST)
    found = priced or ending(_ANSWER) or list(chosen or ())
    if len(found) < 2:
        raise RolloutsError(
            f"{table}: found {len(found)} columns MODEL{_COST}, expected at least 2 models "
            "(without costs, rollouts.models names the columns of scores); it has "
            f"{listed(table.names)}"
        )
    if chosen is None:
        return found, bool(priced)
    for name in chosen:
        if name not in found:
            known = name in table and name + _ANSWER in table
            raise RolloutsError(
                f"{table} has no column {shown(name + _COST)}, but others have costs: choose "
                "models that all have them, or none"
                if known
                else f"rollouts.models names {shown(name)}: the log has {listed(found)}"
            )
    return list(chosen), bool(priced)


def refuse_pickle(file: Path) -> None:
    """Raise RolloutsError for a pickle, which can run any code when it is opened."""
    if any(suffix in _PICKLES for suffix in file.suffixes):
        target = file.name.split(".pkl")[0].split(".pickle")[0] + ".parquet"
        raise RolloutsError(
            f"{file} is a pickle, which may run any code when it is opened: convert it by "
            f"python scripts/convert_pickle.py {file} {file.with_name(target)} "
            "(reads tables, and refuses everything else)"
        )


def votes(
    path: Text | Sequence[Text] | Mapping[Text, Text],
    models: Names | None = None,
    column: Text = "votes",
    columns: Mapping[Text, Text] | None = None,
    complete_only: bool = False,
) -> Rollouts:
    """A calls table (`envs.logs.calls_table`) with a list of sampled answers in each row.

    A cell is a list of texts or numbers (parquet, JSON lines) or a JSON list (CSV). Answers are
    compared as live verifiers compare them (`envs.logs.answer_text.answer_form`): 10.0 and "10" are
    one vote. An empty sample is a vote for no answer. The signals are:

    - ``vote_share``: share of the samples that agree with ``answer`` (without that column, with
      the most frequent sample);
    - ``vote_margin``: share of the most frequent sample minus that of the runner-up;
    - ``vote_agreement``: probability that two samples agree, ``Σ share²``.

    The optional column ``VOTES_cost`` is the cost of drawing the samples, and so of each signal.

    Args:
        path: of the file, or of several (`envs.logs.table.Table.of`).
        models: names of those to keep, cheapest first; None for all.
        column: of the lists.
        columns: names of the calls table's columns -> their names in the file.
        complete_only: keep only the queries that all of these models answered.

    Raises:
        RolloutsError: a cell is no list, or as `envs.logs.calls_table`.
    """
    if isinstance(path, str):
        refuse_pickle(Path(path))
    table = Table.of(path).renamed(columns, is_column)
    samples = _lists(table, column)
    given = table.texts("answer") if "answer" in table else None
    rows = [_shares(row, None if given is None else given[i]) for i, row in enumerate(samples)]
    measured = dict(
        zip(("vote_share", "vote_margin", "vote_agreement"), np.array(rows).T, strict=True)
    )
    cost = f"{column}_cost" if f"{column}_cost" in table else None
    signals = signal_columns(table.names)
    for name, values in measured.items():
        if f"signal_{name}" in signals:
            raise RolloutsError(
                f"{table} has a column 'signal_{name}', which votes would overwrite"
            )
        table = table.with_column(f"signal_{name}", values)
        signals[f"signal_{name}"] = cost
    return align(table, signals).chosen(models, complete_only)


def _lists(table: Table, name: str) -> list[list[object]]:
    """The lists of a column; an empty cell is an empty list."""
    found = []
    values = table.column(name)
    listed_there = pa.types.is_list(values.type) or pa.types.is_large_list(values.type)
    cells = values.to_pylist() if listed_there else table.texts(name).tolist()
    for index, value in enumerate(cells):
        samples = [] if value in (None, "") else value
        if isinstance(samples, str):
            with suppress(ValueError, RecursionError):
                samples = json.loads(samples)
        if not isinstance(samples, list):
            raise RolloutsError(
                f"{table}: column {name!r} is {shown(value)} in {table.row(index)}, expected a "
                'list of answers, such as ["Paris", "Lyon"]'
            )
        found.append(samples)
    return found


def _shares(samples: Sequence[object], answer: str | None) -> tuple[float, float, float]:
    """Vote share of the answer, margin of the first over the second, agreement of two samples."""
    if not samples:
        return np.nan, np.nan, np.nan
    forms = (answer_form("" if sample is None else str(sample)) for sample in samples)
    counts = Counter(form for form in forms if form)
    shares = sorted((count / len(samples) for count in counts.values()), reverse=True) or [0.0]
    share = shares[0] if answer is None else counts[answer_form(answer)] / len(samples)
    return share, shares[0] - sum(shares[1:2]), sum(x * x for x in shares)
