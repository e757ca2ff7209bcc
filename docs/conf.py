"""The documentation site: `make docs` builds it with Sphinx and takes any warning for an error."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from sphinx.application import Sphinx

project = html_title = "LLM routing as a POMDP"
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["conf.py", "examples"]

html_theme = "furo"
html_static_path, html_css_files = ["_static"], ["site.css"]
html_show_copyright = html_show_sphinx = False

# The tutorial is a notebook in percent format; building the site runs it.
nb_custom_formats = {".py": ["jupytext.reads", {"fmt": "py:percent"}]}
nb_execution_mode = "force"
nb_execution_in_temp = True
nb_execution_raise_on_error = True

myst_heading_anchors = 4

add_module_names = False
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
autodoc_inherit_docstrings = False  # other packages write theirs in other markup
# Attributes are listed in the text of their class, once.
napoleon_use_ivar = True
napoleon_attr_annotations = False
# Docstrings put names between single backquotes; those that are documented become links.
default_role = "py:obj"

# The API reference has a page for each package, with its modules; this file writes them.
_PACKAGES = ("envs", "solvers", "verifiers", "evaluation")
_PAGES = Path(__file__).parent / "api"


def setup(app: Sphinx) -> None:
    app.connect("builder-inited", write_api_pages)
    app.connect("autodoc-skip-member", skipped)


def skipped(app: Sphinx, what: str, name: str, thing: object, skip: bool, options: object) -> bool:
    """Whether to leave a member out: fields of named tuples, which their class documents, and
    what a module imports from another package under a decorator of that package."""
    field = type(thing).__name__ == "_tuplegetter"
    return skip or field or str(getattr(thing, "__module__", "")).startswith("scipy.")


def write_api_pages(app: Sphinx) -> None:
    """Writes the pages that changed, so that building again is quick."""
    names = [name for top in _PACKAGES for name in packages(f"routing_pomdp.{top}")]
    heads = {name: summary(importlib.import_module(name)) for name in names}
    rows = [f"| [{short(name)}]({name}.md) | {head} |" for name, head in heads.items()]
    index = ["# API reference", "", "Packages of `routing_pomdp`.", ""]
    index += ["| package | |", "|---|---|", *rows, ""]
    index += ["```{toctree}", ":hidden:", "", *names, "```", ""]
    pages = {_PAGES / f"{name}.md": "\n".join(page(name)) for name in names}
    pages[_PAGES / "index.md"] = "\n".join(index)
    _PAGES.mkdir(exist_ok=True)
    for stale in set(_PAGES.iterdir()) - set(pages):
        stale.unlink()
    for path, text in pages.items():
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def packages(name: str) -> Iterator[str]:
    """A package and those inside it."""
    yield name
    for found in pkgutil.iter_modules(importlib.import_module(name).__path__):
        if found.ispkg:
            yield from packages(f"{name}.{found.name}")


def page(name: str) -> list[str]:
    """A package's public names, then each of its modules."""
    package = importlib.import_module(name)
    lines = [f"# {short(name)}", "", *automodule(name)]
    if public := getattr(package, "__all__", []):
        lines += ["| public name | |", "|---|---|"]
        for one in public:
            thing = getattr(package, one)
            home = getattr(thing, "__module__", "")
            target = f"{home}.{one}" if home.startswith("routing_pomdp.") else f"{name}.{one}"
            lines.append(f"| {{py:obj}}`{one} <{target}>` | {summary(thing)} |")
        lines.append("")
    for found in pkgutil.iter_modules(package.__path__):
        if not found.ispkg:
            lines += [f"## {found.name}", "", *automodule(f"{name}.{found.name}", ":members:")]
    return lines


def short(name: str) -> str:
    return name.removeprefix("routing_pomdp.")


def automodule(name: str, *options: str) -> list[str]:
    return ["```{eval-rst}", f".. automodule:: {name}", *(f"   {o}" for o in options), "```", ""]


def summary(thing: object) -> str:
    """The first line of what a module, class or function says of itself."""
    if not isinstance(thing, ModuleType | type) and not inspect.isroutine(thing):
        return ""
    text = (inspect.getdoc(thing) or "").split("\n\n")[0].replace("\n", " ")
    return text.replace("``", "`").replace("|", r"\|")
