"""From a config node to the object that it describes, with errors that name the key."""

from __future__ import annotations

import types
from collections.abc import Sequence
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import hydra
from hydra.errors import InstantiationException
from omegaconf import DictConfig, OmegaConf


def build(config: DictConfig, group: str) -> Any:
    """Instantiates ``config._target_`` with its other keys.

    Raises:
        ValueError: a target that cannot be imported, a value of the wrong type, or whatever the
            target itself refuses; the message names the key.
    """
    missing = [f"{group}.{key!s}" for key in config if OmegaConf.is_missing(config, key)]
    if missing:
        raise ValueError(f"{missing[0]} is not set: give {missing[0]}=VALUE")
    try:
        target = hydra.utils.get_object(config._target_)
    except Exception as error:  # Hydra raises many kinds here
        raise ValueError(f"{group}._target_ is {config._target_!r}: {error}") from error
    values = OmegaConf.to_container(config, resolve=True)
    assert isinstance(values, dict)
    for key, expected in _expected_types(target).items():
        if key in values and not _fits(values[key], expected):
            raise ValueError(f"{group}.{key} is {values[key]!r}: expected {_named(expected)}")
    try:
        return hydra.utils.instantiate(config, _convert_="all")
    except InstantiationException as error:
        # Hydra wraps the target's own error in a text about itself.
        cause = error.__cause__
        if isinstance(cause, ValueError | OSError):
            raise cause from None
        raise ValueError(f"{group}: {cause or error}") from error


def plain(config: DictConfig) -> dict[Any, Any]:
    """A config node as plain containers."""
    container = OmegaConf.to_container(config, resolve=True)
    assert isinstance(container, dict)
    return container


def check_prices(prices: Sequence[Any]) -> None:
    """Raise ValueError unless the prices of a frontier are at least one number >= 0, each once."""
    if not prices:
        raise ValueError("evaluation.prices is empty: expected at least one price")
    for price in prices:
        if isinstance(price, bool) or not isinstance(price, int | float) or not 0 <= price < 1e300:
            raise ValueError(f"evaluation.prices has {price!r}: expected numbers >= 0")
    if len(set(prices)) < len(prices):
        raise ValueError(f"evaluation.prices names a price twice: {list(prices)}")


def _expected_types(target: Any) -> dict[str, Any]:
    try:
        return get_type_hints(vars(target)["__init__"] if isinstance(target, type) else target)
    except (KeyError, NameError, TypeError):
        return {}  # a plug-in may annotate with names that exist for type checkers only


def _fits(value: Any, expected: Any) -> bool:
    """Whether a plain config value fits an annotation; kinds that config cannot hold pass."""
    origin = get_origin(expected)
    if origin in (Union, types.UnionType):
        return any(_fits(value, option) for option in get_args(expected))
    if origin is Literal:
        return True  # the target names the allowed values itself
    if expected in (None, type(None)):
        return value is None
    if expected is bool:
        return isinstance(value, bool)
    if expected is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if expected is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if expected is str:
        return isinstance(value, str)
    return True


def _named(expected: Any) -> str:
    if get_origin(expected) in (Union, types.UnionType):
        return " or ".join(_named(option) for option in get_args(expected))
    if expected is type(None):
        return "null"
    return {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}.get(
        expected, str(expected)
    )
