"""The source files behind plug-ins: their modules, and what these import of the user's own.

Imports are read from the source, those inside functions too; nothing is imported or run.
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
    """Module name -> source file, of the modules that ``_target_`` names, and of all that they
    import from outside the standard library and installed packages.

    A target that does not exist adds nothing: whoever builds it says so. Of this project's own
    packages nothing is named either.
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
    """Version of the installed packages that targets name, by distribution."""
    tops = {target.partition(".")[0] for target in targets}
    installed = {top for top in tops if top != OURS and _installed_module(top)}
    if not installed:
        return {}
    providers = metadata.packages_distributions()
    return {name: metadata.version(name) for top in installed for name in providers.get(top, ())}


def _prefixes(dotted: str) -> list[str]:
    """ "a.b.C" -> "a", "a.b", "a.b.C": importing the last one runs them all."""
    parts = dotted.split(".")
    return [".".join(parts[: i + 1]) for i in range(len(parts))]


def _spec(name: str) -> ModuleSpec | None:
    """Where a module is, found without importing it or its parents."""
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
    """Full names of what a source file may import; some of them are no modules."""
    try:
        tree = ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return  # importing it fails, and says why
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
