"""A command loads torch, scikit-learn and matplotlib where it learns or draws, and not before."""

import json
import subprocess
import sys

import pytest

from tests.support.checkout import ROOT
from tests.support.collecting import sums, write_questions
from tests.support.commands import train
from tests.support.heavy_imports import HEAVY
from tests.support.loopback import Loopback

QUERIES = "rollouts.queries={train: 60, validation: 30, test: 60}"
QUICK = [QUERIES, "evaluation.prices=[0, 0.1]", "evaluation.resamples=5", "observation.bins=3"]


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """Each command's outcome where no heavy package can be imported, and who needs which."""
    folder = tmp_path_factory.mktemp("light")
    train("solver=static", *QUICK, f"out={folder}", "sweep=drawn_later")
    write_questions(folder / "questions.jsonl", sums(2))
    with Loopback() as server:
        models = [
            {"name": name, "base_url": server.url, "price": {"in": price, "out": price}}
            for name, price in (("small", 1), ("large", 30))
        ]
        (folder / "models.yaml").write_text(json.dumps(models))
        given = [f"questions={folder}/questions.jsonl", f"models={folder}/models.yaml"]
        commands = {
            "collect": ["collect.py", *given, "scoring=number", "progress=false"],
            "compare": ["compare.py", f"{folder}/drawn_later"],
            "verifiers": ["value_verifiers.py", QUERIES, *QUICK[1:], "shuffles=1"],
            "exact": ["train.py", "solver=exact", *QUICK],
            "belief_fqi": ["train.py", "solver=belief_fqi", *QUICK],
        }
        for name, command in commands.items():
            if name != "compare":
                command.append(f"out={folder}/{name}")
        done = subprocess.run(
            [sys.executable, "-m", "tests.support.heavy_imports"],
            input=json.dumps(list(commands.values())),
            capture_output=True,
            text=True,
            cwd=ROOT,
        )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    return folder, dict(zip(commands, told["commands"], strict=True)), told["needs"]


def test_collecting_needs_no_heavy_package(found):
    folder, commands, _ = found
    assert commands["collect"]["asked"] == []
    assert commands["collect"]["status"] == 0
    assert (folder / "collect" / "calls.parquet").is_file()


def test_a_run_is_computed_before_matplotlib_is_asked_for(found):
    folder, commands, _ = found
    assert commands["exact"]["asked"] == [["matplotlib", "evaluation/runs/run_figures.py:draw"]]
    (computed,) = (folder / "exact").rglob("computed.json")
    assert json.loads(computed.read_text())["measures"]["model_regret"] == pytest.approx(0)


def test_a_comparison_is_printed_before_matplotlib_is_asked_for(found):
    folder, commands, _ = found
    assert commands["compare"]["asked"] == [
        ["matplotlib", "evaluation/sweeps/sweep_report.py:_figures"]
    ]
    assert "static" in commands["compare"]["printed"]
    assert (folder / "drawn_later" / "comparison.csv").is_file()


def test_verifiers_are_judged_before_matplotlib_is_asked_for(found):
    _, commands, _ = found
    assert commands["verifiers"]["asked"] == [
        ["matplotlib", "evaluation/signals/verifier_run.py:draw"]
    ]


def test_what_learns_with_torch_says_that_it_is_missing(found):
    _, commands, _ = found
    assert [name for name, _ in commands["belief_fqi"]["asked"]] == ["torch"]
    assert commands["belief_fqi"]["status"] == (
        "error: solver._target_ is 'routing_pomdp.solvers.BeliefFQI': "
        "routing_pomdp.solvers.BeliefFQI needs torch, which is not installed"
    )


def test_a_module_that_needs_torch_learns_and_one_that_needs_matplotlib_draws(found):
    needs = found[2]
    needing = {package: {name for name in needs if needs[name] == package} for package in HEAVY}
    assert needing["sklearn"] == set()
    assert needing["pomdp_py"] == {
        "routing_pomdp.solvers.search.pomcp",
        "routing_pomdp.solvers.search.pomcp_model",
    }
    assert {name.split(".")[1] for name in needing["matplotlib"]} == {"evaluation"}
    learning = needing["torch"] - {
        "routing_pomdp.envs.gym.stable_baselines"
    }  # for other people's learners
    assert {name.split(".")[1] for name in learning} == {"solvers"}
    assert {
        "routing_pomdp.solvers.learned.belief_dqn",
        "routing_pomdp.solvers.learned.belief_fqi",
        "routing_pomdp.solvers.learned.history_net",
    } <= learning
