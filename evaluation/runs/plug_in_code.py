"""The source files of plug-ins: their modules and the user's modules that these import.

Imports are read from the source, inside functions too; no module is imported or run.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Iterator
from importlib import metadata
from importlib.machinery import ModuleSpec
from pathlib import Path

OURS = "routing_pomdp"


def code_of(targets: Iterable[str]) -> dict[str, Path]:
    """Module name -> source file of the modules that ``_target_`` names and of the modules they
    import, without the standard library, installed packages and this project.

    A target that does not exist adds nothing; building it raises the error.
    """
    found: dict[str, Path] = {}
    waiting = [module for target in targets for module in _prefixes(target)]
    while waiting:
        name = waiting.pop()
        if name in found or name.partition(".")[0] in {OURS, *sys.stdlib_module_names}:
            continue
        spec = _spec(name)
        if spec is None or not spec.has_location or spec.origin is None:
            continue
        found[name] = file = Path(spec.origin)
        if file.suffix == ".py" and not _installed(file):
            waiting += [
                module
                for imported in _imports(file, name, spec.submodule_search_locations is not None)
                for module in _prefixes(imported)
                if not _installed_module(module)
            ]
    return found


def versions_of(targets: Iterable[str]) -> dict[str, str]:
    """Versions of the installed packages that targets name, by distribution."""
    tops = {target.partition(".")[0] for target in targets}
    installed = {top for top in tops if top != OURS and _installed_module(top)}
    if not installed:
        return {}
    providers = metadata.packages_distributions()
    return {name: metadata.version(name) for top in installed for name in providers.get(top, ())}


def _prefixes(dotted: str) -> list[str]:
    """ "a.b.C" -> "a", "a.b", "a.b.C": importing the last one runs all of them."""
    parts = dotted.split(".")
    return [".".join(parts[: i + 1]) for i in range(len(parts))]


def _spec(name: str) -> ModuleSpec | None:
    """The spec of a module, found without importing it or its parents."""
    if name in sys.modules:
        return getattr(sys.modules[name], "__spec__", None)
    if not all(part.isidentifier() for part in name.split(".")):
        return None
    parent, path = name.rpartition(".")[0], None
    if parent:
        above = _spec(parent)
        if above is None or above.submodule_search_locations is None:
            return None
        path = list(above.submodule_search_locations)
    for finder in sys.meta_path:
        found = finder.find_spec(name, path)
        if found is not None:
            return found
    return None


def _installed_module(name: str) -> bool:
    spec = _spec(name)
    return spec is not None and spec.origin is not None and _installed(Path(spec.origin))


def _installed(file: Path) -> bool:
    return not {"site-packages", "dist-packages"}.isdisjoint(file.parts)


def _imports(file: Path, module: str, is_package: bool) -> Iterator[str]:
    """Full names that a source file may import; some of them are not modules."""
    try:
        tree = ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return  # importing it raises the error
    package = module.split(".") if is_package else module.split(".")[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: max(0, len(package) - node.level + 1)] if node.level else []
            base = [*above, *filter(None, [node.module])]
            yield from (".".join([*base, alias.name]) for alias in node.names)
        elif isinstance(node, ast.Call) and node.args:
            called = getattr(node.func, "attr", getattr(node.func, "id", None))
            first = node.args[0]
            if called in ("import_module", "__import__") and isinstance(first, ast.Constant):
                yield str(first.value)
