"""`Rollouts`: a logged data set as aligned arrays.

In all shapes ``n`` is the number of queries and ``N`` the number of models, cheapest first.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from routing_pomdp.envs.arrays import FloatArray

SPLIT_NAMES: Mapping[str, str] = {
    "train": "train",
    "validation": "validation",
    "val": "validation",
    "valid": "validation",
    "dev": "validation",
    "test": "test",
}
"""Names of splits in logs -> the canonical name."""


class RolloutsError(ValueError):
    """A log cannot be used as it is; the message says what is wrong and where."""


def canonical_split(name: str) -> str:
    """The canonical name of a split: "train", "validation" or "test".

    Raises:
        RolloutsError: an unknown name.
    """
    if name not in SPLIT_NAMES:
        raise RolloutsError(f"the split is {name[:80]!r}, expected {SPLITS_EXPECTED}")
    return SPLIT_NAMES[name]


SPLITS_EXPECTED = "train, validation (also val, valid or dev) or test"


@dataclass(frozen=True, eq=False)
class Rollouts:
    """Answers, scores, costs and signals of every model on every query.

    A cell ``(q, i)`` that was never called is NaN in ``score``. Ids and names are numpy's
    fixed-width strings; answers and prompts are Python strings.

    Raises:
        RolloutsError: no queries, fewer than two models, a repeated model or query id, arrays of
            other shapes, an empty or unknown split, or, where a model was called, a score outside
            [0, 1] or a cost that is missing, negative or infinite.

    Attributes:
        models: ``N`` model names, cheapest first.
        query_id: ``(n,)`` strings, unique.
        score: ``(n, N)`` in [0, 1]; NaN where the model was never called on the query.
        cost: ``(n, N)`` cost of the answers in the log's own unit, or None if none was logged.
        signals: name -> ``(n, N)`` verifier signal, see `envs.signals`: -∞ is the log of
            probability 0, NaN a signal that was not emitted.
        signal_costs: name -> ``(n, N)`` cost of emitting that signal, in the unit of ``cost``.
        split: ``(n,)`` strings: "train", "validation" or "test".
        dataset: ``(n,)`` strings.
        answer: ``(n, N)`` strings, or None.
        latency: ``(n, N)`` milliseconds, or None.
        tokens_in: ``(n, N)``, or None.
        tokens_out: ``(n, N)``, or None.
        prompt: ``(n,)`` strings, or None.
        signal_latency: name -> ``(n, N)`` milliseconds that emitting that signal took.
        signal_tokens_in: name -> ``(n, N)`` tokens that emitting it read.
        signal_tokens_out: name -> ``(n, N)`` tokens that emitting it generated.
    """

    models: tuple[str, ...]
    query_id: NDArray[np.str_]
    score: FloatArray
    cost: FloatArray | None
    signals: Mapping[str, FloatArray]
    split: NDArray[np.str_]
    dataset: NDArray[np.str_]
    signal_costs: Mapping[str, FloatArray] = field(default_factory=dict)
    answer: NDArray[np.object_] | None = None
    latency: FloatArray | None = None
    tokens_in: FloatArray | None = None
    tokens_out: FloatArray | None = None
    prompt: NDArray[np.object_] | None = None
    signal_latency: Mapping[str, FloatArray] = field(default_factory=dict)
    signal_tokens_in: Mapping[str, FloatArray] = field(default_factory=dict)
    signal_tokens_out: Mapping[str, FloatArray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        n, n_models = len(self.query_id), len(self.models)
        if n == 0:
            raise RolloutsError("the log has no queries")
        if n_models < 2:
            raise RolloutsError(f"routing needs at least 2 models, the log has {self.models}")
        if len(np.unique(self.query_id)) < n:
            ids, counts = np.unique(self.query_id, return_counts=True)
            raise RolloutsError(f"query {str(ids[np.argmax(counts > 1)])!r} is there twice")
        if len(set(self.models)) < n_models:
            raise RolloutsError(f"a model is named twice: {list(self.models)}")
        for name, array in self._arrays():
            expected = (n,) if name in _PER_QUERY else (n, n_models)
            if array.shape != expected:
                raise RolloutsError(f"{name} has shape {array.shape}, expected {expected}")
        if (blank := self.split == "").any():
            raise RolloutsError(
                f"the split of query {str(self.query_id[np.argmax(blank)])!r} is empty, expected a "
                "name"
            )
        for name in set(self.split.tolist()):
            if name not in SPLIT_NAMES.values():
                query = str(self.query_id[np.argmax(self.split == name)])
                raise RolloutsError(
                    f"the split of query {query[:80]!r} is {str(name)[:80]!r}, expected train, "
                    "validation or test"
                )
        for name in ("signal_costs", "signal_latency", "signal_tokens_in", "signal_tokens_out"):
            if unknown := sorted(set(getattr(self, name)) - set(self.signals)):
                raise RolloutsError(
                    f"{name} names {unknown[0]!r}: the log has the signals {sorted(self.signals)}"
                )
        called = ~np.isnan(self.score)
        self._check("score", self.score, (self.score >= 0) & (self.score <= 1) | ~called, "[0, 1]")
        charged = [
            (f"cost of {name}", cost, ~np.isnan(self.signals[name]))
            for name, cost in self.signal_costs.items()
        ]
        if self.cost is not None:
            charged.append(("cost", self.cost, called))
        for name, cost, due in charged:
            self._check(name, cost, (cost >= 0) & (cost < np.inf) | ~due, ">= 0")

    def _check(self, name: str, array: FloatArray, valid: NDArray[np.bool_], wanted: str) -> None:
        bad = np.argwhere(~valid)
        if len(bad):
            row, model = bad[0]
            raise RolloutsError(
                f"{name} of {self.models[model]!r} on query {str(self.query_id[row])!r} is "
                f"{array[row, model]}: expected {wanted}"
            )

    def __len__(self) -> int:
        return len(self.query_id)

    @property
    def n_models(self) -> int:
        return len(self.models)

    @property
    def title(self) -> str:
        """The data sets' names; "a→b" if training and test queries come from different ones."""
        titles = []
        for rows in (self.split != "test", self.split == "test"):
            names = list(dict.fromkeys(self.dataset[rows].tolist()))
            titles.append("+".join(names) if len(names) < 4 else f"{len(names)}-datasets")
        return "→".join(dict.fromkeys(filter(None, titles)))

    def take(self, rows: NDArray[np.int64] | NDArray[np.bool_]) -> Self:
        """The queries of some rows."""
        return self._map(lambda array, per_query: array[rows])

    def where(self, split: str) -> Self:
        """The queries of one split.

        Raises:
            RolloutsError: there is no such split.
        """
        rows = self.split == split
        if not rows.any():
            present = sorted(map(str, set(self.split.tolist())))
            raise RolloutsError(f"the log has no split {split!r}: it has {present}")
        return self.take(rows)

    def of_dataset(self, name: str | None) -> Self:
        """The queries of one data set, or all for None.

        Raises:
            RolloutsError: there are none.
        """
        if name is None:
            return self
        rows = self.dataset == name
        if not rows.any():
            present = np.unique(self.dataset).tolist()
            raise RolloutsError(f"rollouts.dataset is {name!r}: it has {present}")
        return self.take(rows)

    def select(self, models: Sequence[str] | None) -> Self:
        """Some models by name, in the order given; None for all.

        Raises:
            RolloutsError: a name that the log does not have.
        """
        if models is None:
            return self
        if isinstance(models, str):
            raise RolloutsError(f"rollouts.models is {models!r}: expected a list of names")
        unknown = [name for name in models if name not in self.models]
        if unknown:
            raise RolloutsError(
                f"rollouts.models names {unknown[0]!r}: the log has {list(self.models)}"
            )
        columns = [self.models.index(name) for name in models]
        return self._map(
            lambda array, per_query: array if per_query else array[:, columns], tuple(models)
        )

    def require(self, name: str) -> NDArray[Any]:
        """An optional column, such as "tokens_out" or "prompt".

        Raises:
            RolloutsError: the log does not have it; the message lists the columns that it has.
        """
        columns = [item.name for item in fields(self) if item.name in _OPTIONAL]
        if name not in columns:
            raise RolloutsError(f"no log has a column {name!r}: expected one of {columns}")
        found: NDArray[Any] | None = getattr(self, name)
        if found is None:
            present = [column for column in columns if getattr(self, column) is not None]
            raise RolloutsError(
                f"the log has no {name}: log a column {name!r}, of its optional columns it has "
                + (", ".join(present) or "none")
            )
        return found

    def require_complete(self) -> Self:
        """This log, if every model was called on every query.

        Raises:
            RolloutsError: otherwise; names the models with gaps, and the complete ones to select.
        """
        gaps = np.isnan(self.score).sum(axis=0)
        if not gaps.any():
            return self
        missing = ", ".join(
            f"{name} ({count} of {len(self)} queries without it)"
            for name, count in zip(self.models, gaps, strict=True)
            if count
        )
        whole = [name for name, count in zip(self.models, gaps, strict=True) if not count]
        remedy = (
            f"select the complete ones: rollouts.models=[{','.join(map(_quoted, whole))}]"
            if len(whole) > 1
            else "log the missing calls: fewer than two models are complete"
        )
        if keep := int((~np.isnan(self.score)).all(axis=1).sum()):
            queries = "the complete query" if keep == 1 else f"the {keep} complete queries"
            remedy = f"keep {queries} by rollouts.complete_only=true, or {remedy}"
        raise RolloutsError(f"not every query called {missing}: {remedy}")

    def chosen(self, models: Sequence[str] | None, complete_only: bool = False) -> Self:
        """Some models, as `select`; with ``complete_only`` only the queries that called all of
        them.

        Raises:
            RolloutsError: the log lacks a model, or no query is complete.
        """
        log = self.select(models)
        complete = np.flatnonzero(~np.isnan(log.score).any(axis=1))
        if not complete_only or len(complete) == len(log):
            return log
        if not len(complete):
            raise RolloutsError(
                f"rollouts.complete_only: none of {len(log)} queries called each of "
                f"{list(log.models)}: choose fewer by rollouts.models"
            )
        _log.warning(
            "rollouts.complete_only: %d of %d queries left out, which some model did not answer",
            len(log) - len(complete),
            len(log),
        )
        return log.take(complete)

    def with_split(self, name: str, fraction: float, seed: int) -> Self:
        """The log with a share of its "train" queries moved into another split, unless it has that
        split already.

        The choice depends only on each query's prompt (its id if that is empty) and the seed, not
        on the order or number of rows. A prompt that occurs twice is never on both sides.

        Args:
            name: of the new split.
            fraction: expected share, in (0, 1).
            seed: of the choice.

        Raises:
            RolloutsError: a fraction outside (0, 1), no training queries, or too few to split.
        """
        if (self.split == name).any():
            return self
        if not 0 < fraction < 1:
            raise RolloutsError(f"evaluation.{name} is {fraction}: expected a share in (0, 1)")
        train = np.flatnonzero(self.split == "train")
        if not len(train):
            self.where("train")
        identity = self.query_id
        if self.prompt is not None:
            identity = np.where(self.prompt == "", self.query_id, self.prompt)
        drawn = np.array([_uniform(f"{name}/{seed}/{identity[i]}") for i in train])
        if len(np.unique(drawn)) < 2:
            count = "1 query is" if len(train) == 1 else f"{len(train)} queries of one prompt are"
            raise RolloutsError(
                f"{count} too few to split: none is left to train on beside {name!r}; a log of "
                "queries with 3 different prompts can be split, or name the splits in a column "
                "'split'"
            )
        # At least one query is on each side.
        chosen = (drawn < fraction) & (drawn < drawn.max()) | (drawn == drawn.min())
        split = self.split.astype(np.result_type(self.split, np.array(name)))
        split[train[chosen]] = name
        return replace(self, split=split)

    def thinned(self, split: str, queries: int | None, seed: int) -> Self:
        """The log with only some queries of one split; the other splits stay whole.

        The choice depends only on the query ids and the seed. A smaller choice is a subset of a
        larger one, so the points of a learning curve are nested.

        Args:
            split: its name.
            queries: how many to keep; None for all.
            seed: of the choice.

        Raises:
            RolloutsError: ``queries`` is below 1, or more than there are.
        """
        if queries is None:
            return self
        rows = np.flatnonzero(self.split == split)
        if not 1 <= queries <= len(rows):
            raise RolloutsError(
                f"evaluation.{split}_size is {queries}: expected 1 … {len(rows)}, the log's "
                f"{split} queries, or null for all"
            )
        order = np.argsort([_uniform(f"{split}_size/{seed}/{self.query_id[i]}") for i in rows])
        keep = np.ones(len(self), dtype=bool)
        keep[rows[order[queries:]]] = False
        return self.take(keep)

    def _arrays(self) -> list[tuple[str, NDArray[Any]]]:
        named: list[tuple[str, NDArray[Any]]] = []
        for item in fields(self):
            value = getattr(self, item.name)
            if isinstance(value, Mapping):
                named += [(f"{item.name}[{key!r}]", array) for key, array in value.items()]
            elif item.name != "models" and value is not None:
                named.append((item.name, value))
        return named

    def _map(
        self,
        change: Callable[[NDArray[Any], bool], NDArray[Any]],
        models: tuple[str, ...] | None = None,
    ) -> Self:
        """The log with ``change(array, per_query)`` applied to every array; ``per_query`` is true
        for arrays of shape ``(n,)``."""
        changed: dict[str, Any] = {"models": self.models if models is None else models}
        for item in fields(self):
            value = getattr(self, item.name)
            if isinstance(value, Mapping):
                changed[item.name] = {key: change(array, False) for key, array in value.items()}
            elif item.name != "models" and value is not None:
                changed[item.name] = change(value, item.name in _PER_QUERY)
        return replace(self, **changed)


_log = logging.getLogger(__name__)

_PER_QUERY = ("query_id", "split", "dataset", "prompt")
_OPTIONAL = ("cost", "answer", "latency", "tokens_in", "tokens_out", "prompt")


def _uniform(text: str) -> float:
    """A number in [0, 1) that depends only on the text, the same on every machine."""
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2.0**64


def _quoted(name: str) -> str:
    """A model's name as an element of a list on Hydra's command line."""
    if re.fullmatch(r"[A-Za-z][\w./:@+-]*", name):
        return name
    return "'" + name.replace("'", "\\'") + "'"


def concatenate(parts: Sequence[Rollouts]) -> Rollouts:
    """The concatenation of logs with the same models and columns.

    Raises:
        RolloutsError: they differ in models or columns, or share a query id.
    """
    first = parts[0]
    for part in parts[1:]:
        if part.models != first.models:
            raise RolloutsError(f"logs differ in models: {first.models} and {part.models}")
        odd = {name for name, _ in part._arrays()} ^ {name for name, _ in first._arrays()}
        if odd:
            raise RolloutsError(
                f"logs differ in columns: {sorted(odd)[0]!r} is in one and missing in another"
            )
    joined: dict[str, Any] = {"models": first.models}
    for item in fields(Rollouts):
        value = getattr(first, item.name)
        if isinstance(value, Mapping):
            joined[item.name] = {
                key: np.concatenate([getattr(part, item.name)[key] for part in parts])
                for key in value
            }
        elif item.name != "models" and value is not None:
            joined[item.name] = np.concatenate([getattr(part, item.name) for part in parts])
    return Rollouts(**joined)
