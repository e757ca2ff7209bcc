"""The wheel: one package, whose commands work from any folder with a user's own configuration."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from routing_pomdp.envs.lazy import FOLDERS
from tests.support.checkout import CONF, ROOT

QUICK = [
    "rollouts.queries={train: 60, validation: 30, test: 60}",
    "evaluation.prices=[0, 0.1]",
    "evaluation.resamples=5",
]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"  # an earlier build of this checkout is not in the way there
    for part in (*FOLDERS, "conf", "scripts"):
        shutil.copytree(ROOT / part, source / part, ignore=shutil.ignore_patterns("__pycache__"))
    for part in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / part, source)
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir"]
    subprocess.run([*build, folder, source], check=True)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def commands(wheel, tmp_path_factory):
    """The folder of the commands in an environment that has the wheel and this one's packages."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=True)
    binaries = folder / "bin"
    python = binaries / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--no-deps", wheel], check=True)
    own = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        check=True, capture_output=True, text=True,
    ).stdout.strip()  # fmt: skip
    # As a path alone: what this environment has installed as editable is not seen through it.
    Path(own, "packages.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return binaries


def run(commands, folder, name, *arguments, **environment):
    hidden = ("PYTHONPATH", "VIRTUAL_ENV")
    done = subprocess.run(
        [commands / name, *map(str, arguments)],
        cwd=folder,
        capture_output=True,
        text=True,
        env={key: value for key, value in os.environ.items() if key not in hidden} | environment,
    )
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


def test_nothing_of_a_generic_name_is_installed(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"routing_pomdp"}
    for folder in FOLDERS:
        sources = {
            str(path.relative_to(ROOT))
            for path in (ROOT / folder).rglob("*")
            if path.suffix in (".py", ".yaml", ".txt", ".typed")
        }
        packed = {name.removeprefix("routing_pomdp/") for name in names}
        assert sources <= packed
    assert {str(path.relative_to(ROOT)) for path in CONF.rglob("*.yaml")} <= packed


def test_the_commands_work_from_an_empty_folder(commands, tmp_path):
    code = "import routing_pomdp.envs as envs; print(envs.__file__)"
    where = run(commands, tmp_path, "python", "-c", code)
    assert Path(where.strip()).is_relative_to(commands.parent)
    run(commands, tmp_path, "routing-train", "-m", "solver=exact,static", "sweep=first", *QUICK)
    assert "exact" in run(commands, tmp_path, "routing-compare", "runs/first")
    assert "value in the model" in run(
        commands, tmp_path, "routing-pomdp", "show", "solver=exact", *QUICK
    )
    run(commands, tmp_path, "routing-verifiers", "shuffles=1", "likelihoods=false", *QUICK)
    for name in ("collect", "convert-log", "convert-pickle", "export-minari", "fit-profile"):
        assert run(commands, tmp_path, f"routing-{name}", "--help").strip()
    (metrics,) = (tmp_path / "runs/first").glob("*exact*/metrics.json")
    assert json.loads(metrics.read_text())["about"]["commit"] is None


def test_a_users_configurations_and_plug_ins_are_found(commands, tmp_path):
    mine = tmp_path / "mine"
    (mine / "solver").mkdir(parents=True)
    (mine / "my_solver.py").write_text(
        "from dataclasses import dataclass\n"
        "from routing_pomdp.solvers import Static\n\n\n"
        "@dataclass(frozen=True)\nclass Mine(Static):\n    pass\n"
    )
    (mine / "solver/mine.yaml").write_text("_target_: my_solver.Mine\nmodel: 0\n")
    own = ["--config-dir=mine", "solver=mine", *QUICK]
    printed = run(commands, tmp_path, "routing-train", *own, PYTHONPATH=str(mine))
    assert "gap_closed" in printed
