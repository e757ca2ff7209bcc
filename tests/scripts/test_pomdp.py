"""The script that exports, solves and shows, as a user runs it."""

import re
import subprocess
import sys

import pytest

from tests.support.checkout import SCRIPTS
from tests.support.commands import command
from tests.support.pomdps import TIGER

SMALL = [
    "rollouts.profile=mmlu",
    "rollouts.models=[llama3.2-1b,llama3.1-70b]",
    "observation.bins=3",
    "--price",
    "0.2",
]


def _run(*arguments, **options):
    return command("pomdp", *arguments, **options)


def _number(pattern, text):
    return float(re.search(pattern + r" (-?[\d.]+)", text)[1])


def test_a_problem_is_exported_solved_and_valued_alike(tmp_path):
    exported = _run("export", "r.pomdp", *SMALL, folder=tmp_path)
    exact = _number("exact value:", exported.stdout)
    solved = _run("solve", "r.pomdp", "--horizon", 2, "--out", "r.policy", folder=tmp_path)
    assert _number("value at the start", solved.stdout) == pytest.approx(exact, abs=2e-9)
    valued = _run("value", "r.pomdp", "r.policy", folder=tmp_path)
    assert _number("value at the start", valued.stdout) == pytest.approx(exact, abs=2e-9)
    shown = _run("show", "solver=alpha_vectors", *SMALL, "--figure", "a.png", folder=tmp_path)
    assert _number("value in the model", shown.stdout) == pytest.approx(exact, abs=1e-4)
    assert "call llama3.2-1b  100.0%" in shown.stdout
    assert (tmp_path / "a.png").stat().st_size > 10_000


# Costs of listening so small that exact value iteration takes thousands of backups.
PATIENT = TIGER.replace("discount: 0.95", "discount: 0.9999")


def test_a_time_limit_stops_with_the_bound_there_is(tmp_path):
    (tmp_path / "tiger.pomdp").write_text(PATIENT)
    stopped = _run("solve", "tiger.pomdp", "--seconds", 0.001, folder=tmp_path)
    assert "stopped at the time limit of 0.001 s" in stopped.stdout
    assert _number("value at the start", stopped.stdout) < 0
    assert "first action listen" in stopped.stdout


def test_a_closed_pipe_is_no_error(tmp_path):
    (tmp_path / "tiger.pomdp").write_text(TIGER)
    solve = [sys.executable, "-u", SCRIPTS / "pomdp.py", "solve", "tiger.pomdp"]
    with subprocess.Popen(
        [*solve, "--horizon", "3"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
    ) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.close()  # before anything is printed
        assert process.stderr.read() == ""
    assert process.returncode == 0


@pytest.mark.slow
def test_regret_of_searches_is_drawn(tmp_path):
    few = [
        "--profiles",
        "gsm8k",
        "--simulations",
        10,
        "--prices",
        0.2,
        "--figure",
        "r.png",
    ]
    small = ["rollouts.models=[llama3.2-1b,llama3.1-8b,llama3.1-70b]", "rollouts.queries.train=100"]
    done = _run("regret", *few, *small, "observation.bins=3", folder=tmp_path)
    assert _number("gsm8k, pomcp, 3 bins, worst price:", done.stdout) < 0.1
    assert (tmp_path / "r.png").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["solve", "absent.pomdp"], "absent.pomdp"),
        (["solve", "tiger.pomdp", "--horizon", "0"], "the horizon is 0"),
        (["value", "tiger.pomdp", "three.alpha"], "vectors of 3 states"),
        (["show", "solver=nothing"], "nothing"),
        (["show", "solver=pregeneration"], "pregeneration"),
        (["show", *SMALL, "--figure", "x.png"], "choose solver=alpha_vectors"),
        (["export", "x.pomdp", "--price", "-1"], "--price is -1"),
        (["regret", "--prices", "-1"], "--prices is -1"),
        (["export", "x.pomdp", "--discount", "2"], "discount is 2"),
    ],
)
def test_what_goes_wrong_is_said_in_one_line(tmp_path, arguments, message):
    (tmp_path / "tiger.pomdp").write_text(TIGER)
    (tmp_path / "three.alpha").write_text("0\n1 2 3\n")
    found = _run(*arguments, folder=tmp_path, fails=True)
    assert message in found.stderr
    assert "Traceback" not in found.stderr
