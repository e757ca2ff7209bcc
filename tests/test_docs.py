"""The code in docs/ runs as it stands there."""

import asyncio
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from tests.verifiers.clients import Scripted, case_of
from verifiers import SideBySide, Signal, judged, live_parts

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"


def blocks(page, language):
    return re.findall(rf"```{language}\n(.*?)```", (DOCS / page).read_text(), re.DOTALL)


@pytest.mark.parametrize(
    ("page", "group", "name", "log"),
    [
        ("verifier.md", "verifier", "brevity", True),
        ("solver.md", "solver", "myopic", False),
    ],
)
def test_a_plug_in_works_from_its_own_files_alone(page, group, name, log, tmp_path):
    (code,), (config,) = blocks(page, "python"), blocks(page, "yaml")
    module = re.search(r"^# (\w+\.py)", code)[1]
    (tmp_path / module).write_text(code)
    folder = tmp_path / "my_conf" / group
    folder.mkdir(parents=True)
    (folder / f"{name}.yaml").write_text(config)
    arguments = [f"{group}={name}", "evaluation.prices=[0, 0.1, 1]", f"out={tmp_path}/runs"]
    if log:
        lines = ["query_id,model,score,cost,tokens_out"]
        for i in range(200):
            lines += [f"q{i},small,{int(i % 3 == 0)},1,{i % 17}", f"q{i},large,1,20,{i % 5}"]
        (tmp_path / "calls.csv").write_text("\n".join(lines) + "\n")
        arguments += ["rollouts=calls_table", f"rollouts.path={tmp_path}/calls.csv", "costs=logged"]
    done = subprocess.run(
        [
            sys.executable,
            str(ROOT / "scripts" / "train.py"),
            "--config-dir",
            str(tmp_path / "my_conf"),
            *arguments,
        ],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr
    assert "gap_closed" in done.stdout


def test_the_readme_names_files_and_targets_that_exist():
    readme = (ROOT / "README.md").read_text()
    for path in re.findall(r"\]\((docs/[\w.]+)\)", readme):
        assert (ROOT / path).is_file(), path
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"make (\w+)", readme):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_the_readme_lists_every_solver():
    readme = (ROOT / "README.md").read_text()
    table = readme[readme.index("| `solver=` |") :].split("\n\n")[0]
    listed = {name for row in table.splitlines()[2:] for name in re.findall(r"`(\w+)`", row)}
    assert listed == {path.stem for path in (ROOT / "conf" / "solver").glob("*.yaml")}


def test_the_live_verifier_of_the_docs_is_the_example_and_works():
    path = DOCS / "examples" / "live_verifier.py"
    code = path.read_text()
    (shown,) = blocks("verifier.md", "py")
    assert shown in code
    assert len(code.splitlines()) < 25
    found = runpy.run_path(str(path))["SecondOpinion"]()
    judge = Scripted(["The PARIS!", "Rome"])
    case = case_of(None, "Paris", judges={"judge": judge})
    assert asyncio.run(judged(found, case)) == Signal(1.0, {"length": 10.0})
    assert asyncio.run(judged(found, case)) == Signal(0.0, {"length": 4.0})
    assert judge.calls[0]["messages"] == case.messages
    assert live_parts(SideBySide({"mine": found})) == {"second_opinion": found}
