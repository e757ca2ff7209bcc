"""Construction of the object that a config node describes; every error names its key."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any, get_origin

import hydra
from hydra.errors import InstantiationException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from routing_pomdp.envs.settings.checks import declared, fault, nearest, shown

_OWN = ("_target_", "_args_", "_convert_", "_recursive_", "_partial_")


def build(config: DictConfig, group: str, role: Any = object) -> Any:
    """Instantiates ``config._target_`` with its other keys.

    Args:
        config: the node.
        group: its key, for messages.
        role: the class or protocol of the object.

    Raises:
        ValueError: the target cannot be imported or has another role, a key is unknown, a value has
            the wrong type or is out of range, or the target itself refuses it; the message names
            the key.
    """
    values = plain(config)
    if wrong := fault_of_target(values, role, group):
        raise ValueError(wrong)
    if _is_itself(_found(values["_target_"]), role):
        return hydra.utils.instantiate(config, _convert_="all", _partial_=True)
    try:
        built = hydra.utils.instantiate(config, _convert_="all")
    except InstantiationException as error:
        # Hydra wraps the target's error in a message of its own.
        if isinstance(error.__cause__, Exception):
            raise error.__cause__ from None
        raise ValueError(f"{group}: {error}") from error
    if isinstance(role, type) and not _plays(type(built), role):
        raise ValueError(
            _not_of(values["_target_"], f"gives a {type(built).__name__}", role, group)
        )
    return built


def plain(config: DictConfig) -> dict[Any, Any]:
    """A config node as plain containers.

    Raises:
        ValueError: an interpolation refers to a missing key.
    """
    try:
        container = OmegaConf.to_container(config, resolve=True)
    except OmegaConfBaseException as error:
        raise ValueError(f"{error.full_key}: {str(error).splitlines()[0]}") from error
    assert isinstance(container, dict)
    return container


def fault_of_target(value: Any, role: Any, key: str) -> str | None:
    """The fault of a plain node that names a class or function to build; None if there is none.

    Args:
        value: the node.
        role: the class or protocol of the object; ``object`` for any.
        key: the node's key, for the message.
    """
    kind = getattr(role, "__name__", "object")
    if value == "???":
        return f"{key} is not set: give {key}=VALUE"
    if not isinstance(value, Mapping) or not isinstance(value.get("_target_"), str):
        return f"{key} is {shown(value, key)}: expected a {kind}, by its class as _target_"
    name = value["_target_"]
    if name == "???":
        return f"{key}._target_ is not set: give {key}._target_=CLASS"
    try:
        target = _found(name)
    except ValueError as error:
        return f"{key}._target_ is {name!r}: {error}"
    if wrong := _miscast(target, role):
        return _not_of(name, wrong, role, key)
    settings = declared(target)
    for setting in settings.kinds:
        if value.get(setting) == "???":
            return f"{key}.{setting} is not set: give {key}.{setting}=VALUE"
    for setting, given in value.items():
        if setting in settings.kinds:
            if wrong := fault(given, settings.kinds[setting], f"{key}.{setting}", fault_of_target):
                return wrong
        elif setting not in _OWN and not settings.others:
            return (
                f"{key}.{setting} is no setting of {name}, which has "
                f"{', '.join(settings.kinds) or 'none'}" + nearest(setting, settings.kinds)
            )
    if value.get("_partial_") or value.get("_args_") or _is_itself(target, role):
        return None
    for setting in sorted(settings.required - set(value)):
        return f"{key}.{setting} is not set: give {key}.{setting}=VALUE"
    return None


def targets(node: Any) -> Iterator[str]:
    """Every ``_target_`` of a plain configuration."""
    if isinstance(node, Mapping):
        for key, value in node.items():
            if key == "_target_":
                yield str(value)
            else:
                yield from targets(value)
    elif isinstance(node, list):
        for value in node:
            yield from targets(value)


def _miscast(target: Any, role: Any) -> str | None:
    """Why a target cannot build an object of a role; None if no reason is known."""
    if not callable(target):
        return f"is a {type(target).__name__}"
    if not isinstance(role, type) or _is_itself(target, role):
        return None
    if isinstance(target, type):
        return None if _plays(target, role) else f"is no {role.__name__}"
    try:
        returned = inspect.get_annotations(inspect.unwrap(target), eval_str=True).get("return")
    except Exception:  # annotations that cannot be evaluated are ignored
        return None
    returned = get_origin(returned) or returned
    if isinstance(returned, type) and not _plays(returned, role):
        return f"gives a {returned.__name__}"
    if inspect.isbuiltin(target):
        return "is a builtin function"
    return None


def _plays(cls: type, role: type) -> bool:
    """Whether a class has a role: it derives from it or, for a protocol, has its methods."""
    if not getattr(role, "_is_protocol", False):
        return issubclass(cls, role)
    there = {
        name
        for base in cls.__mro__
        for name in (*vars(base), *vars(base).get("__annotations__", ()))
    }
    return there.issuperset(_methods(role))


def _methods(role: Any) -> list[str]:
    return [name for name in vars(role) if not name.startswith("_") or name == "__call__"]


def _is_itself(target: Any, role: Any) -> bool:
    """Whether a target is itself the object of the role, a function, instead of building one."""
    return (
        "__call__" in vars(role) if inspect.isroutine(target) and isinstance(role, type) else False
    )


def _not_of(name: str, wrong: str, role: Any, key: str) -> str:
    if getattr(role, "_is_protocol", False):
        expected = f"a {role.__name__}: a class with {', '.join(_methods(role))}"
    else:
        where = role.__module__.partition(".")[0]
        expected = f"a class derived from {where}.{role.__name__}, or a function that gives one"
    return f"{key}._target_ is {name!r}, which {wrong}: expected {expected}"


def _found(name: str) -> Any:
    """The object of a dotted name.

    Raises:
        ValueError: there is none, with the nearest name; or its module cannot be imported.
    """
    parts = name.split(".")
    if len(parts) < 2 or not all(part.isidentifier() for part in parts):
        raise ValueError("expected MODULE.CLASS")
    module, found = parts[0], None
    for i, part in enumerate(parts):
        path = ".".join(parts[: i + 1])
        try:
            if i and hasattr(found, part):  # this may import the part's own module
                found = getattr(found, part)
                module = path if isinstance(found, ModuleType) else module
                continue
            if i == 0 or isinstance(found, ModuleType):
                found, module = importlib.import_module(path), path
                continue
        except ModuleNotFoundError as missing:
            if missing.name != path:
                raise ValueError(f"{path} needs {missing.name}, which is not installed") from None
            if not i:
                raise ValueError(f"there is no module {path!r} (PYTHONPATH finds yours)") from None
            raise ValueError(f"{module} has no {part!r}" + nearest(part, _names(found))) from None
        except Exception as error:  # a user's module may raise anything
            reason = f"{type(error).__name__}: {error}"
            raise ValueError(f"importing {path} fails: {reason}") from error
        raise ValueError(f"{module} has no {part!r}" + nearest(part, dir(found)))
    return found


def _names(module: Any) -> list[str]:
    below = pkgutil.iter_modules(getattr(module, "__path__", ()))
    return [*dir(module), *(one.name for one in below)]
