"""The code in docs/ runs as it stands there."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

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
    assert len(code.splitlines()) < 40
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
