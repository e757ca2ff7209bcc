"""The code in docs/ runs as it stands there."""

import asyncio
import importlib
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from routing_pomdp.envs.profiles import shipped_profiles
from routing_pomdp.evaluation.measures import SCALARS
from routing_pomdp.solvers.checks import CLAIMS as SOLVER
from routing_pomdp.verifiers import SideBySide, Signal, judged, live_parts
from routing_pomdp.verifiers.checks import CLAIMS as VERIFIER
from tests.support.checkout import CONF, DOCS, ROOT
from tests.support.clients import Scripted, case_of
from tests.support.commands import command, unrendered


def blocks(page, language):
    return re.findall(rf"```{language}\n(.*?)```", (DOCS / page).read_text(), re.DOTALL)


def write_log(path):
    lines = ["query_id,model,score,cost,tokens_out,signal_own"]
    for i in range(200):
        lines += [
            f"q{i},small,{int(i % 3 == 0)},1,{i % 17},{(i * 7 % 10) / 10}",
            f"q{i},large,1,20,{i % 5},0.5",
        ]
    path.write_text("\n".join(lines) + "\n")
    return ["rollouts=calls_table", f"rollouts.path={path}", "costs=logged"]


QUICK = ["evaluation.prices=[0, 0.1, 1]", "model=joint"]


@pytest.mark.parametrize(
    ("page", "code", "config"),
    [
        ("solver.md", "my_solvers.py", "solver/neighbours.yaml"),
        ("verifier.md", "my_verifiers.py", "verifier/brevity.yaml"),
    ],
)
def test_a_page_shows_its_example_as_it_stands(page, code, config):
    code, config = ((DOCS / "examples" / name).read_text() for name in (code, config))
    assert code in blocks(page, "python")
    assert len(code.splitlines()) < 50
    assert config in blocks(page, "yaml")


@pytest.mark.parametrize(
    ("page", "module"), [("solver", "my_solvers"), ("verifier", "my_verifiers")]
)
def test_the_example_keeps_every_claim_as_the_page_says(page, module, monkeypatch):
    monkeypatch.syspath_prepend(DOCS / "examples")
    (check,) = (code for code in blocks(f"{page}.md", "py") if "check_" in code)
    exec(check, vars(importlib.import_module(module)))


@pytest.mark.parametrize(("page", "known"), [("solver.md", SOLVER), ("verifier.md", VERIFIER)])
def test_the_pages_list_every_claim(page, known):
    table = (DOCS / page).read_text().split("| claim |")[1].split("\n\n")[0]
    listed = [re.findall(r"`(\w+)`", row.split("|")[1]) for row in table.splitlines()[2:]]
    assert {name for row in listed for name in row} == set(known)


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """A user's folder, away from this repository, whose modules can be imported."""
    folder = Path(shutil.copytree(DOCS / "examples", tmp_path / "mine"))
    monkeypatch.syspath_prepend(folder)
    return folder


def test_the_example_of_a_solver_routes(mine, tmp_path):
    given = ("solver=neighbours", "env=full", *QUICK, f"out={tmp_path}/runs")
    with unrendered():
        done = command("train", "--config-dir", mine, *given)
    assert "gap_closed" in done.stdout


def test_the_example_of_a_verifier_routes(mine, tmp_path):
    log = write_log(tmp_path / "calls.csv")
    given = ("verifier=brevity", *QUICK, *log, f"out={tmp_path}/runs")
    with unrendered():
        done = command("train", "--config-dir", mine, *given)
    assert "gap_closed" in done.stdout


def test_the_example_of_a_verifier_is_judged_beside_the_logs_own_and_a_broken_one(mine, tmp_path):
    (mine / "broken.py").write_text(
        "from routing_pomdp.verifiers import Verifier\n\n\n"
        "class Broken(Verifier):\n"
        "    def signal(self, rollouts):\n"
        "        return rollouts.tokens_out[:, :1]\n"
    )
    done = command("value_verifiers", "--config-dir", mine, "verifier=brevity", QUICK[0],
               "+verifiers.mine={_target_: broken.Broken}", "shuffles=1",
               "evaluation.resamples=20", *write_log(tmp_path / "calls.csv"),
               f"out={tmp_path}/runs")  # fmt: skip
    assert re.search(r"^calls +brevity +\(all\)", done.stdout, re.MULTILINE)
    assert re.search(r"^calls +own +\(all\)", done.stdout, re.MULTILINE)
    assert done.stderr.startswith("left out: mine on calls: verifier Broken returned signals of")
    assert len(done.stderr.splitlines()) == 1
    written = {path.name for path in (tmp_path / "runs" / "verifiers").rglob("*.*")}
    assert written == {
        "verifiers.csv", "values.csv", "verifiers.md", "verifiers.png", "verifiers.svg",
        "calls.own.png", "calls.brevity.png",
    }  # fmt: skip


def test_the_readme_names_files_and_targets_that_exist():
    readme = (ROOT / "README.md").read_text()
    for path in re.findall(r"\]\((docs/[\w.]+)\)", readme):
        assert (ROOT / path).is_file(), path
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"make (\w+)", readme):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_a_page_lists_every_solver():
    page = (DOCS / "solvers.md").read_text()
    table = page[page.index("| `solver=` |") :].split("\n\n")[0]
    names = (row.split("|")[1] for row in table.splitlines()[2:])
    listed = {name for row in names for name in re.findall(r"`(\w+)`", row)}
    assert listed == {path.stem for path in (CONF / "solver").glob("*.yaml")}


def test_a_page_explains_every_measure_of_a_run():
    """But for bounds of intervals and indices of operating points."""
    page = (DOCS / "measures.md").read_text()
    explained = set(re.findall(r"`(\w+)`", page))
    for name in (
        *SCALARS,
        "model_regret",
        "blind_value",
        "qmdp_bound",
        "promise_excess",
        "impossible_decisions",
    ):
        assert name in explained, name


def test_the_figure_of_the_readme_names_a_solver_and_a_profile_that_exist():
    """`make figure`, which CI runs, writes what it drew into the PNG."""
    with Image.open(DOCS / "demo.png") as figure:
        solver, _, profile, *_ = figure.text["Description"].split(" ")
    assert (CONF / "solver" / f"{solver}.yaml").is_file()
    assert profile in shipped_profiles()


def test_the_live_verifier_of_the_docs_is_the_example_and_works():
    path = DOCS / "examples" / "live_verifier.py"
    code = path.read_text()
    (shown,) = (code for code in blocks("verifier.md", "py") if "SecondOpinion" in code)
    assert shown in code
    assert len(code.splitlines()) < 25
    found = runpy.run_path(str(path))["SecondOpinion"]()
    judge = Scripted(["The PARIS!", "Rome"])
    case = case_of(None, "Paris", judges={"judge": judge})
    assert asyncio.run(judged(found, case)) == Signal(1.0, {"length": 10.0})
    assert asyncio.run(judged(found, case)) == Signal(0.0, {"length": 4.0})
    assert judge.calls[0]["messages"] == case.messages
    assert live_parts(SideBySide({"mine": found})) == {"second_opinion": found}


def test_the_guarantee_of_the_docs_is_given():
    (code,) = blocks("guarantee.md", "python")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    certified, within_budget = done.stdout.splitlines()
    assert certified.startswith("mine, operating point 0: loses at most 3 points with probability")
    assert within_budget == "0"
