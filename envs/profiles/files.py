"""Reading and writing of profiles as YAML files, shipped ones and a user's own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from routing_pomdp.envs.arrays import FloatArray
from routing_pomdp.envs.files.atomic import write_text
from routing_pomdp.envs.files.yaml_files import read_yaml
from routing_pomdp.envs.profiles.marginal import Marginal
from routing_pomdp.envs.profiles.profile import OF_ANSWERS, OF_SIGNALS, Profile

_FOLDER = Path(__file__).parent
_KEYS = ("name", "dataset", "split", "queries", "source", "signal", "models", "correlation")
# Fields of a profile with one mean for each model -> their keys in the file.
_COLUMNS = {
    "answer_cost": "answer_cost",
    "signal_cost": "signal_cost",
    "latency": "latency_ms",
    "tokens_in": "tokens_in",
    "tokens_out": "tokens_out",
    "signal_latency": "signal_latency_ms",
    "signal_tokens_in": "signal_tokens_in",
    "signal_tokens_out": "signal_tokens_out",
}
_ALWAYS = ("answer_cost", "signal_cost", "latency")
_MODEL_KEYS = ("name", *_COLUMNS.values(), "score", "signal", "missing")
_MARGINAL_KEYS = ("levels", "values")
_HEADER = """\
# A statistical profile of a log: no text of any query or answer, and no single answer's record.
# {queries} queries of the split {split!r} were fitted, and no others.
# score, signal: quantile functions, linear between (level, value) knots; two knots of one value
#   are an atom, two of one level a gap. Costs, latencies and tokens are means, costs in the log's
#   unit.
# missing: shares of signals that are missing where the score is below a half, and where it is not.
# correlation: of a Gaussian copula over the scores of all models, then their signals.
"""


def shipped_profiles() -> tuple[str, ...]:
    """Names of the profiles that come with the package."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.yaml")))


def save_profile(profile: Profile, path: str | Path) -> None:
    """Writes a profile as YAML, from which `load_profile` restores it."""
    N = len(profile.models)
    columns = {
        key: getattr(profile, name)
        for name, key in _COLUMNS.items()
        if name in _ALWAYS or getattr(profile, name) is not None
    }
    models: list[dict[str, Any]] = []
    for i in range(N):
        entry: dict[str, Any] = {"name": profile.models[i]}
        for key, column in columns.items():
            entry[key] = None if column is None or np.isnan(column[i]) else float(column[i])
        entry["score"] = _knots(profile.scores[i])
        signal = profile.signals[i]
        entry["signal"] = None if signal is None else _knots(signal)
        if profile.missing is not None:
            entry["missing"] = profile.missing[i].tolist()
        models.append(entry)
    content = {
        "name": profile.name,
        "dataset": profile.dataset,
        "split": profile.split,
        "queries": profile.queries,
        "source": profile.source,
        "signal": profile.signal,
        "models": models,
        "correlation": profile.correlation.tolist(),
    }
    text = yaml.safe_dump(content, sort_keys=False, default_flow_style=None, width=100)
    header = _HEADER.format(queries=profile.queries, split=profile.split)
    write_text(path, header + text)


def load_profile(name_or_path: str | Path) -> Profile:
    """A shipped profile by name, or any profile by the path of its YAML file.

    Raises:
        ValueError: there is no such profile, or the file is none; the message names the key, what
            was found and what was expected.
    """
    if str(name_or_path) in shipped_profiles():
        path = _FOLDER / f"{name_or_path}.yaml"
    else:
        path = Path(name_or_path)
    if not path.is_file():
        raise ValueError(
            f"no profile {str(name_or_path)!r}: give the path of a YAML file, or one of "
            f"{', '.join(shipped_profiles())}"
        )
    content = read_yaml(path)
    try:
        return _profile(content)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _profile(content: object) -> Profile:
    entry = _mapping(content, "the file", _KEYS)
    models = entry["models"]
    if not isinstance(models, list) or not models:
        raise ValueError(f"models is {_short(models)}: expected a list of models")
    rows = [
        _mapping(model, f"models[{i}]", _MODEL_KEYS, required=("name", "score", "signal"))
        for i, model in enumerate(models)
    ]
    queries = entry["queries"]
    if not isinstance(queries, int) or isinstance(queries, bool) or queries < 1:
        raise ValueError(f"queries is {_short(queries)}: expected how many were fitted, >= 1")
    emits = [row["signal"] is not None for row in rows]
    means: dict[str, Any] = {name: _column(rows, _COLUMNS[name]) for name in OF_ANSWERS}
    means |= {name: _column(rows, _COLUMNS[name], emits) for name in OF_SIGNALS}
    texts: Any = {key: str(entry[key]) for key in ("name", "dataset", "split", "source", "signal")}
    return Profile(
        **texts,
        queries=queries,
        models=tuple(str(row["name"]) for row in rows),
        scores=tuple(_marginal(row["score"], f"models[{i}].score") for i, row in enumerate(rows)),
        signals=tuple(
            None if row["signal"] is None else _marginal(row["signal"], f"models[{i}].signal")
            for i, row in enumerate(rows)
        ),
        correlation=_numbers(entry["correlation"], "correlation"),
        missing=_column(rows, "missing"),
        **means,
    )


def _mapping(
    value: object, where: str, keys: tuple[str, ...], required: tuple[str, ...] | None = None
) -> Mapping[str, Any]:
    """``value`` as a mapping with only these keys, of which ``required`` (default: all) exist."""
    if not isinstance(value, dict):
        raise ValueError(f"{where} is {_short(value)}: expected a mapping of {', '.join(keys)}")
    unknown = [str(key) for key in value if key not in keys]
    lacking = [key for key in (keys if required is None else required) if key not in value]
    if unknown or lacking:
        problem = f"has an unknown key {unknown[0]!r}" if unknown else f"lacks {lacking[0]!r}"
        raise ValueError(f"{where} {problem}: expected {', '.join(keys)}")
    return value


def _marginal(value: object, where: str) -> Marginal:
    entry = _mapping(value, where, _MARGINAL_KEYS)
    try:
        return Marginal(*(_numbers(entry[key], key) for key in _MARGINAL_KEYS))
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


def _column(
    rows: list[Mapping[str, Any]], key: str, needed: list[bool] | None = None
) -> FloatArray | None:
    """``(N, ...)`` values under a key, NaN for a model without one; None if no model has one."""
    given = [row.get(key) is not None for row in rows]
    if not any(given):
        return None
    for i, has in enumerate(given):
        if not has and (needed is None or needed[i]):
            raise ValueError(f"models[{i}] has no {key}, but other models do: give all or none")
    return np.array(
        [
            _numbers(row[key], f"models[{i}].{key}") if has else np.nan
            for i, (row, has) in enumerate(zip(rows, given, strict=True))
        ]
    )


def _numbers(value: object, where: str) -> FloatArray:
    """Numbers, or lists of numbers; texts such as 1e-5, which is text in YAML 1.1, are parsed."""
    try:
        return np.array(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where} is {_short(value)}: expected numbers") from error


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _knots(marginal: Marginal) -> dict[str, list[float]]:
    return {"levels": marginal.levels.tolist(), "values": marginal.values.tolist()}
