"""Public names of packages that import their modules on first use (PEP 562).

A package lists its public names as plain imports, which type checkers and editors follow:

    if TYPE_CHECKING:
        from routing_pomdp.envs.costs.cost_model import CostModel
    else:
        __getattr__, __dir__, __all__ = lazy_face(__name__)

At run time the same lines say which module defines each name.
"""

from __future__ import annotations

import ast
import importlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

FOLDERS = ("envs", "solvers", "verifiers", "evaluation")


def lazy_face(package: str) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """``__getattr__``, ``__dir__``, ``__all__`` of a package, from its imports for type checkers.

    Raises:
        ImportError: a folder of a checkout is imported by its bare name, which would load each
            module a second time.
    """
    if package in FOLDERS:
        raise ImportError(f"no package {package!r}: import routing_pomdp.{package}", name=package)
    module = sys.modules[package]
    homes = dict(_homes(getattr(module.__loader__, "get_source")(package)))  # noqa: B009 (untyped)

    def found(name: str) -> Any:
        if name not in homes:
            raise AttributeError(
                f"module {package!r} has no attribute {name!r}", name=name, obj=module
            )
        home, attribute = homes[name]
        value = getattr(importlib.import_module(home, package), attribute)
        setattr(module, name, value)  # Python calls __getattr__ only for names that are not set
        return value

    def listed() -> list[str]:
        return sorted({*vars(module), *homes})

    return found, listed, sorted(homes)


def _homes(source: str) -> Iterator[tuple[str, tuple[str, str]]]:
    """Public name -> the module that ``if TYPE_CHECKING:`` imports it from, and its name there."""
    for block in ast.parse(source).body:
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING":
            for node in block.body:
                if isinstance(node, ast.ImportFrom):
                    home = "." * node.level + (node.module or "")
                    for alias in node.names:
                        yield alias.asname or alias.name, (home, alias.name)
