"""The types of all configuration keys, and the check of a whole configuration.

Keys of an object that a configuration builds are declared by its class (`envs.settings.checks`).
Other keys are declared here, one class per group; ``conf/`` holds their defaults. A new key of a
group needs one line here; a new option with a ``_target_`` needs none.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, get_type_hints

from omegaconf import DictConfig, OmegaConf

from routing_pomdp.envs import CostModel, Rollouts
from routing_pomdp.envs.model.observation import Observation
from routing_pomdp.envs.rules import Answer
from routing_pomdp.envs.settings.checks import fault, nearest
from routing_pomdp.envs.settings.ranges import (
    Count,
    Distinct,
    Length,
    NotNegative,
    Pattern,
    Range,
    Seed,
    Text,
)
from routing_pomdp.evaluation.configuration.build import fault_of_target, plain
from routing_pomdp.evaluation.model_fit import Model
from routing_pomdp.evaluation.tracker import Tracker
from routing_pomdp.solvers import Solver
from routing_pomdp.verifiers import Verifier
from routing_pomdp.verifiers.collection.policy import CollectionPolicy
from routing_pomdp.verifiers.collection.scoring import Scoring


@dataclass(frozen=True)
class NewFolder:
    """The path of a folder that exists or can be made."""

    whole = True

    def holds(self, value: str) -> bool:
        path = Path(value).absolute()
        there = next((one for one in (path, *path.parents) if os.path.lexists(one)), path)
        return value > "" and "\0" not in value and there.is_dir() and os.access(there, os.W_OK)

    def __str__(self) -> str:
        return "a folder, or the path of one that can be made and written to"


# "..", an absolute path or an empty part would leave the folder of all runs.
Sweep = Annotated[
    str,
    Pattern(
        r"(?=.{1,200}$)(?!\.{1,2}(/|$))[^/\0\n]+(/(?!\.{1,2}(/|$))[^/\0\n]+)*",
        "the name of a folder below out, such as first or group/first",
    ),
]
Folder = Annotated[str, NewFolder()]
Prices = Annotated[Sequence[Annotated[float, Range(0, 1e9)]], Length(1, 10_000), Distinct()]
Open = Annotated[float, Range(above=0, below=1)]


class Group:
    """Base class of groups of keys, with the type of each."""


class Env(Group):
    skip: bool
    free_start: bool
    verify: bool
    answer: Answer
    levels: Annotated[int, Range(2, 1000)] | None


class PreQuery(Group):
    verifier: Verifier | None
    observation: Observation | None


class Guarantee(Group):
    epsilon: Annotated[float, Range(0, below=1)] | None
    delta: Open
    by_dataset: bool


class Evaluation(Group):
    prices: Prices
    resplit: bool
    validation: Open
    test: Open
    split_seed: Seed
    train_seed: Seed | None
    train_size: Count | None
    resamples: Annotated[int, Range(1, 100_000)]  # more take hours and change no displayed digit
    level: Open
    regret: bool
    budgets: Annotated[Sequence[Annotated[float, Range(above=0, most=1e9)]], Distinct()]
    floors: Annotated[Sequence[Annotated[float, Range(0, 100)]], Distinct()]
    guarantee: Guarantee


class Logs:
    """One or several logs for `evaluation.runs.prepare.load_logs`: ``dataset`` and ``profile`` may
    be lists, and ``dataset: null`` means all data sets."""


class Judged(Group):
    """The keys that train.py and value_verifiers.py share."""

    rollouts: Rollouts
    costs: CostModel
    verifier: Verifier
    observation: Observation
    env: Env
    evaluation: Evaluation
    tracker: Tracker
    seed: Seed
    sweep: Sweep
    out: Folder


class Train(Judged):
    model: Model
    pre_query: PreQuery
    solver: Solver
    force: bool
    threads: Annotated[int, Range(1, 1024)]
    figures: bool


class Study(Judged):
    rollouts: Logs  # type: ignore[assignment]
    verifiers: Mapping[Text, Verifier]
    bins: Annotated[int, Range(1, 10_000)]
    shuffles: Annotated[int, Range(0, 10_000)]
    likelihoods: bool


class Budget(Group):
    usd: NotNegative | None
    tokens: Annotated[int, Range(0, 10**15)] | None


class Collect(Group):
    verifier: Verifier
    scoring: Scoring
    policy: CollectionPolicy
    questions: Text
    limit: Count | None
    models: Text
    judges: Text | None
    prices: Text | None
    out: Folder
    table: Annotated[str, Pattern(r"[^/\0]+\.(parquet|csv|jsonl)", "NAME.parquet, .csv or .jsonl")]
    only_complete: bool
    prompt: Text | None
    verifiers: Mapping[Text, Verifier]
    verify_last: bool
    top_logprobs: Annotated[int, Range(0, 1000)] | None
    budget: Budget
    at_once: Annotated[int, Range(1, 100_000)] | None
    progress: bool
    seed: Seed


def check(config: DictConfig | Mapping[str, Any], schema: type[Group]) -> None:
    """Raise ValueError for the first invalid key of a configuration."""
    for _, wrong in faults(config, schema):
        raise ValueError(wrong)


def faults(
    config: DictConfig | Mapping[str, Any], schema: type[Group]
) -> Iterator[tuple[str, str]]:
    """Every invalid top-level key, with what is wrong."""
    if isinstance(config, DictConfig):
        # Hydra's own node refers to jobs that have not started.
        config = plain(
            OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
        )
    values = {str(key): value for key, value in config.items()}
    yield from _faults(values, schema, "")


def _faults(
    values: Mapping[str, Any], schema: type[Group], prefix: str
) -> Iterator[tuple[str, str]]:
    kinds = get_type_hints(schema, include_extras=True)
    for name in (name for name in kinds if name not in values):
        yield name, f"{prefix}{name} is not set: give {prefix}{name}=VALUE"
    for name, value in values.items():
        if name not in kinds:
            known = ", ".join(kinds)
            yield name, f"{prefix}{name} is no setting: expected {known}" + nearest(name, kinds)
        elif wrong := _fault(value, kinds[name], f"{prefix}{name}"):
            yield name, wrong


def _fault(value: Any, kind: Any, key: str) -> str | None:
    if value == "???":
        return f"{key} is not set: give {key}=VALUE"
    return fault(value, kind, key, _of_group)


def _of_group(value: Any, kind: Any, key: str) -> str | None:
    if isinstance(kind, type) and issubclass(kind, Group):
        if not isinstance(value, Mapping):
            return f"{key} is {value!r}: expected its keys, {', '.join(get_type_hints(kind))}"
        return next((wrong for _, wrong in _faults(value, kind, f"{key}.")), None)
    if kind is Logs:
        found = (fault_of_target(log, Rollouts, key) for log in _single_logs(value))
        return next(filter(None, found), None)
    return fault_of_target(value, kind, key)


def _single_logs(value: Any) -> list[Any]:
    """The nodes of single logs; ``dataset: null`` becomes one node with a stand-in name."""
    if not isinstance(value, Mapping):
        return [value]
    if value.get("dataset", "") is None:
        without = {name: one for name, one in value.items() if name != "dataset"}
        named = {**value, "dataset": "all"}
        value = without if fault_of_target(named, Rollouts, "") else named
    for name in ("dataset", "profile"):
        if isinstance(several := value.get(name), list) and several:
            return [{**value, name: one} for one in several]
    return [value]
