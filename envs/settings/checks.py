"""Checks of settings against their declared types and ranges.

A setting is a dataclass field or a parameter with an annotation such as ``Count``,
``Annotated[int, Range(2, 100)]``, ``Literal["own", "joint"]`` or ``Sequence[Share] | None``. The
same annotation is used for objects made in Python (`check_settings`) and for objects made from a
configuration (`evaluation.configuration.build`).
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import inspect
import math
import sys
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from routing_pomdp.envs.files.secrets import is_secret, masked
from routing_pomdp.envs.settings.ranges import Constraint

Other = Callable[[Any, Any, str], str | None]
"""Checks a value whose type is a class: (value, annotation, key) -> error message or None."""


@dataclass(frozen=True)
class Declared:
    """The settings of a class or function.

    Attributes:
        kinds: name -> annotation; `typing.Any` if there is none that can be evaluated.
        required: names without a default.
        others: whether it also takes settings of any other name.
    """

    kinds: Mapping[str, Any]
    required: frozenset[str]
    others: bool = False


@functools.cache
def declared(target: Callable[..., Any]) -> Declared:
    """The settings that a class or function declares.

    Fields whose names end in ``_`` are no settings: they hold fitted values.
    """
    try:
        parameters = inspect.signature(target).parameters.values()
    except (TypeError, ValueError):
        return Declared({}, frozenset(), others=True)
    kinds, annotations = {}, _annotations(target)
    for parameter in parameters:
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        if not parameter.name.endswith("_"):
            kinds[parameter.name] = annotations.get(parameter.name, Any)
    return Declared(
        kinds,
        frozenset(p.name for p in parameters if p.name in kinds and p.default is p.empty),
        others=any(p.kind is p.VAR_KEYWORD for p in parameters),
    )


def check_settings(settings: Any, group: str) -> None:
    """Raise ValueError unless every declared setting of an object fits its type and range.

    Args:
        settings: a dataclass instance; fields whose types are classes are not checked.
        group: the prefix of its settings in messages, such as "solver".
    """
    fields = {field.name for field in dataclasses.fields(settings)}
    cls: Callable[..., Any] = type(settings)
    for name, kind in declared(cls).kinds.items():
        if name in fields and (problem := fault(getattr(settings, name), kind, f"{group}.{name}")):
            raise ValueError(problem)


def fault(value: Any, kind: Any, key: str, other: Other = lambda *_: None) -> str | None:
    """The error message for a value, with key, value and what is expected; None if it is valid.

    Args:
        value: of a setting.
        kind: its annotation.
        key: its name in the message.
        other: checks values whose types are classes; by default all are valid.
    """
    if kind is Any:
        return None
    plain, constraints = _taken_apart(kind)
    wrong = f"{key} is {shown(value, _of_text(kind, key))}: expected {expected(kind)}"
    origin = get_origin(plain)
    if origin in (Union, types.UnionType):
        return _fault_of_union(value, kind, key, other)
    if origin is Literal:
        words = [word for word in get_args(plain) if isinstance(word, str)]
        ok = any(value == word and type(value) is type(word) for word in get_args(plain))
        return None if ok else wrong + nearest(value, words)
    if plain is None or plain is type(None):
        return None if value is None else wrong
    if plain in _PLAIN:
        if not _PLAIN[plain](value):
            return wrong + _quoting(value, plain, key)
    elif origin in (list, tuple, Sequence) or plain in (list, tuple, Sequence):
        if not isinstance(value, Sequence) or isinstance(value, str | bytes):
            return wrong
        if problem := _fault_of_entries(value, plain, key, other, wrong):
            return problem
    elif origin in (dict, Mapping):
        if not isinstance(value, Mapping):
            return wrong
        of_key, of_value = get_args(plain)
        for name, entry in value.items():
            if problem := fault(name, of_key, f"a name in {key}", other):
                return problem
            if problem := fault(entry, of_value, f"{key}.{name}", other):
                return problem
    else:
        return other(value, plain, key)
    if not all(constraint.holds(value) for constraint in constraints):
        return wrong
    return None


def nearest(name: Any, known: Iterable[str]) -> str:
    """The text `` (did you mean …?)`` if a known name is close, else an empty text."""
    close = difflib.get_close_matches(str(name), list(known), n=1, cutoff=0.55)
    return f" (did you mean {close[0]}?)" if close else ""


def shown(value: Any, key: str = "") -> str:
    """A value as in a configuration, shortened, and masked if its key may be a secret's."""
    if is_secret(key.rpartition(".")[2], value):
        return "*** (not shown)"
    plain = value is None or isinstance(value, bool)
    text = {None: "null", True: "true", False: "false"}[value] if plain else repr(masked(value))
    return text if len(text) <= 80 else f"{text[:77]}..."


def _fault_of_union(value: Any, kind: Any, key: str, other: Other) -> str | None:
    options = [_taken_apart(option)[0] for option in get_args(_taken_apart(kind)[0])]
    faults = [fault(value, option, key, other) for option in get_args(_taken_apart(kind)[0])]
    if None in faults:
        return None
    # If the value's form fits only one option, that option's message says more than the union's.
    meant = [
        problem
        for option, problem in zip(options, faults, strict=True)
        if problem is not None and _is_meant(value, option)
    ]
    if len(meant) == 1 and isinstance(value, Mapping | list | tuple):
        return meant[0]
    return f"{key} is {shown(value, _of_text(kind, key))}: expected {expected(kind)}" + next(
        (each[each.index(" (did you") :] for each in faults if each and " (did you" in each), ""
    )


def _of_text(kind: Any, key: str) -> str:
    """The key if its value may be a text, and so a secret; "" if numbers are declared."""
    plain = _taken_apart(kind)[0]
    if get_origin(plain) in (Union, types.UnionType):
        return key if any(_of_text(option, key) for option in get_args(plain)) else ""
    return "" if plain in (bool, int, float, type(None)) else key


def _is_meant(value: Any, option: Any) -> bool:
    origin = get_origin(option) or option
    if isinstance(value, Mapping):
        return origin in (dict, Mapping) or (
            isinstance(origin, type)
            and origin not in (*_PLAIN, list, tuple, Sequence)
            and origin is not type(None)
        )
    return origin in (list, tuple, Sequence)


def _fault_of_entries(
    value: Sequence[Any], plain: Any, key: str, other: Other, wrong: str
) -> str | None:
    kinds = get_args(plain)
    if not kinds:
        return None
    if get_origin(plain) is tuple and kinds[-1] is not Ellipsis:
        if len(value) != len(kinds):
            return wrong
    else:
        kinds = kinds[:1] * len(value)
    for i, (entry, kind) in enumerate(zip(value, kinds, strict=True)):
        if problem := fault(entry, kind, f"{key}[{i}]", other):
            return problem
    return None


def _taken_apart(kind: Any) -> tuple[Any, tuple[Constraint, ...]]:
    if get_origin(kind) is Annotated:
        plain, *constraints = get_args(kind)
        return plain, tuple(constraints)
    return kind, ()


def _finite(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


_PLAIN: dict[Any, Callable[[Any], bool]] = {
    bool: lambda value: isinstance(value, bool),
    int: lambda value: isinstance(value, Integral) and not isinstance(value, bool),
    float: _finite,
    str: lambda value: isinstance(value, str),
}
_IN_WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}


def expected(kind: Any) -> str:
    """An annotation in words."""
    plain, constraints = _taken_apart(kind)
    origin = get_origin(plain)
    if origin in (Union, types.UnionType):
        return " or ".join(expected(option) for option in get_args(plain))
    if origin is Literal:
        words = [shown(word) for word in get_args(plain)]
        return words[0] if len(words) == 1 else f"one of {', '.join(words)}"
    if plain is None or plain is type(None):
        return "null"
    if whole := [str(one) for one in constraints if getattr(one, "whole", False)]:
        return " and ".join(whole)
    if plain in _IN_WORDS:
        text = _IN_WORDS[plain]
    elif origin is tuple and get_args(plain)[-1] is not Ellipsis:
        text = f"a list [{', '.join(expected(each) for each in get_args(plain))}]"
    elif origin in (list, tuple, Sequence) and get_args(plain):
        text = f"a list of {_plural(expected(get_args(plain)[0]))}"
    elif origin in (dict, Mapping):
        text = f"a mapping from {' to '.join(_plural(expected(k)) for k in get_args(plain))}"
    else:
        text = getattr(plain, "__name__", str(plain))
        text = f"{'an' if text[0] in 'AEIOU' else 'a'} {text}"
    first, *others = [*filter(None, map(str, constraints)), ""]
    return ", ".join([f"{text} {first}".rstrip(), *filter(None, others)])


def _plural(text: str) -> str:
    for one, many in (
        ("a whole number", "whole numbers"),
        ("a number", "numbers"),
        ("a text that is not empty", "texts"),
        ("a text", "texts"),
    ):
        if text.startswith(one):
            return many + text.removeprefix(one)
    return text


def _quoting(value: Any, plain: type, key: str) -> str:
    """A hint how to quote a text that a configuration reads as a number, true or false."""
    if plain is not str or value is None or isinstance(value, Mapping | Sequence):
        return ""
    return f" (as a text: {key.rpartition('[')[0] or key}='\"{shown(value)}\"')"


def _annotations(target: Any) -> dict[str, Any]:
    """Annotations of a class's fields or a function's parameters. Those that cannot be evaluated
    are left out: a plug-in may use names that exist only for type checkers."""
    owners: list[Any]
    if not isinstance(target, type):
        owners = [inspect.unwrap(target)]
    elif dataclasses.is_dataclass(target):
        owners = list(reversed(target.__mro__))
    else:
        owners = [vars(target).get("__init__", object)]
    found: dict[str, Any] = {}
    for owner in owners:
        # A class without annotations of its own would return those of its base.
        held = vars(owner) if isinstance(owner, type) else {"__annotations__": None}
        own = owner.__annotations__ if "__annotations__" in held else {}
        module = sys.modules.get(owner.__module__)
        for name, annotation in own.items():
            alone = types.SimpleNamespace(__annotations__={name: annotation})
            try:
                hints = get_type_hints(alone, vars(module) if module else {}, include_extras=True)
            except (NameError, TypeError, AttributeError, SyntaxError):
                continue
            found[name] = hints[name]
    return found
