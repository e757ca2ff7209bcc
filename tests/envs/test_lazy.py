"""Public faces: every name is there, and its module is imported when it is asked for."""

import importlib
import pkgutil
import subprocess
import sys
from pkgutil import ModuleInfo

import pytest
import yaml

from routing_pomdp import envs, evaluation, solvers, verifiers
from tests.support.checkout import CONF

FACES = [
    importlib.import_module(module.name)
    for top in (envs, evaluation, solvers, verifiers)
    for module in (
        ModuleInfo(None, top.__name__, True),
        *pkgutil.walk_packages(top.__path__, f"{top.__name__}."),
    )
    if module.ispkg and hasattr(importlib.import_module(module.name), "__getattr__")
]


@pytest.mark.parametrize("package", FACES, ids=lambda package: package.__name__)
def test_every_public_name_is_there(package):
    everything: dict = {}
    exec(f"from {package.__name__} import *", everything)
    assert set(package.__all__) <= set(everything)
    assert set(package.__all__) <= set(dir(package))
    # A module of the same name would take its place once it is imported.
    assert set(package.__all__).isdisjoint(m.name for m in pkgutil.iter_modules(package.__path__))


def test_a_folder_of_the_checkout_is_no_package_of_its_own():
    done = subprocess.run(
        [sys.executable, "-c", "import solvers"], cwd=CONF.parent, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stderr.endswith("no package 'solvers': import routing_pomdp.solvers\n")


def test_what_the_configurations_name_is_public():
    for group, package in (
        ("solver", solvers),
        ("verifier", verifiers),
        ("observation", verifiers),
    ):
        nodes = [yaml.safe_load(path.read_text()) for path in (CONF / group).glob("*.yaml")]
        targets = {node["_target_"] for node in nodes if "_target_" in node}
        assert targets
        for target in targets:
            module, _, name = target.rpartition(".")
            assert name in package.__all__
            assert getattr(package, name) is getattr(importlib.import_module(module), name)


@pytest.fixture
def face(tmp_path, monkeypatch):
    """A package of a lazy face, of three modules: one that fails, one that does not exist."""
    folder = tmp_path / "some_face"
    folder.mkdir()
    (folder / "__init__.py").write_text(
        "from typing import TYPE_CHECKING\n"
        "from routing_pomdp.envs.lazy import lazy_face\n"
        "if TYPE_CHECKING:\n"
        "    from some_face.full import Thing, Other as Another\n"
        "    from .full import third\n"
        "    from some_face.needy import Needy\n"
        "else:\n"
        "    __getattr__, __dir__, __all__ = lazy_face(__name__)\n"
    )
    (folder / "full.py").write_text("class Thing: ...\nclass Other: ...\nthird = object()\n")
    (folder / "needy.py").write_text("import a_package_of_no_name\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module("some_face")
    for name in [name for name in sys.modules if name.partition(".")[0] == "some_face"]:
        del sys.modules[name]


def test_a_module_is_imported_with_the_first_of_its_names(face):
    assert "some_face.full" not in sys.modules
    assert {"Thing", "Another", "third", "Needy"} <= set(dir(face))
    assert "some_face.full" not in sys.modules  # to list them is not to ask for them
    assert face.Thing is sys.modules["some_face.full"].Thing
    assert face.Another is sys.modules["some_face.full"].Other
    assert face.third is sys.modules["some_face.full"].third
    assert vars(face)["Thing"] is face.Thing  # the next time there is no more to look for


def test_a_name_that_is_not_there_is_refused_as_any_modules(face):
    with pytest.raises(AttributeError, match="module 'some_face' has no attribute 'Thin'"):
        face.Thin  # noqa: B018
    with pytest.raises(ImportError, match="cannot import name 'Thin' from 'some_face'"):
        exec("from some_face import Thin")
    with pytest.raises(ModuleNotFoundError, match="a_package_of_no_name"):
        face.Needy  # noqa: B018
