"""The command line: single runs, sweeps, resuming, failing, and what bad input says."""

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from routing_pomdp.envs.logs.calls_table import write_calls
from routing_pomdp.envs.profiles import load_profile, simulate
from routing_pomdp.evaluation.runs.run_folder import load_all
from routing_pomdp.evaluation.sweeps.comparison import run_table
from routing_pomdp.solvers.learned.checkpoint import LEARNERS
from tests.support.checkout import CONF, SCRIPTS, environment
from tests.support.commands import command, train, unrendered
from tests.support.texts import log_with_texts

PRICES = "evaluation.prices=[0, 0.1, 1]"
FEW = [PRICES, "model=joint", "evaluation.resamples=50"]
QUERIES = [
    "rollouts.profile=mmlu",
    "rollouts.models=[llama3.2-1b,llama3.1-8b,llama3.1-405b]",
    "rollouts.queries={train: 150, validation: 80, test: 150}",
]
QUICK = [*QUERIES, *FEW]


def run(*arguments, **options):
    """The command, but for the rendering of its figures."""
    with unrendered():
        return command("train", *arguments, **options)


def folders(sweep):
    return sorted(path.parent for path in Path(sweep).rglob("metrics.json"))


# What some solvers need beside the embedded profile's queries, and less work for some.
CONFIDENCE = ["verifier.transform=exp"]
PAIR = [*CONFIDENCE, "solver.models=[0,2]"]
NEEDS = {
    "belief_fqi": ["solver.pretraining=20", "solver.simulations=500"],
    "history_net": ["solver.pretraining=20", "solver.simulations=500"],
    "belief_dqn": ["solver.steps=20", "solver.episodes=200"],
    "pomcp": ["solver.simulations=10"],
    "pickllm": ["solver.rounds=100"],
    "c2mab_v": ["solver.rounds=100"],
    "rational_tuning": ["solver.starts=0", "solver.cells=4"],
    "self_consistency": CONFIDENCE,
    "automix_simple": PAIR,
    "automix_greedy": PAIR,
    "automix_union": PAIR,
}
READ_TEXTS = ("frugalgpt", "hybrid_llm", "pregeneration", "pregeneration_knn")


# One that was trained before needs that training first.
SOLVERS = sorted({path.stem for path in (CONF / "solver").glob("*.yaml")} - {"checkpoint"})


@pytest.mark.parametrize("solver", SOLVERS)
def test_every_solver_runs_and_leaves_its_numbers(solver, tmp_path):
    """With every option of the problem; which actions are legal under which: test_checks.py."""
    queries = QUERIES
    if solver in READ_TEXTS:
        write_calls(log_with_texts(150, 0).rollouts, tmp_path / "texts.parquet")
        queries = ["rollouts=calls_table", f"rollouts.path={tmp_path}/texts.parquet"]
    given = [f"solver={solver}", "env=full", *queries, *FEW, f"out={tmp_path}"]
    draws = solver in ("exact", "history_net", "frugalgpt")
    with unrendered():
        done = train(*given, *NEEDS.get(solver, []), draws=draws)
    (folder,) = folders(tmp_path)
    metrics = json.loads((folder / "metrics.json").read_text())
    for name in ("aiq", "aiq_static", "aiq_oracle"):
        shown = re.search(rf"^{name} +(\S+)", run_table(done), re.MULTILINE)[1]
        assert float(shown) == pytest.approx(metrics["measures"][name], abs=5e-5)
    assert len(metrics["points"]) == 3
    believes = solver == "history_net"
    drawn = ["frontier", "policies", *["beliefs"] * believes] * draws
    assert {path.name for path in folder.iterdir()} - {"checkpoints"} == {
        *(f"{name}.{kind}" for name in drawn for kind in ("png", "svg")),
        "config.yaml",
        "metrics.json",
        "outcomes.npz",
    }
    assert (folder / "checkpoints" / "policy.pt").is_file() == (solver in LEARNERS)
    assert ("beliefs" in metrics) == ("belief_error" in metrics["measures"]) == believes


def test_your_own_log_runs_from_one_command(tmp_path):
    log = simulate(load_profile("medmcqa"), {"train": 400}, seed=0)
    write_calls(log, tmp_path / "calls.csv")
    done = command(
        "train",
        "rollouts=calls_table",
        f"rollouts.path={tmp_path}/calls.csv",
        "costs=logged",
        PRICES,
        f"out={tmp_path}/runs",
    )
    assert "gap_closed" in done.stdout
    (found,) = load_all(tmp_path / "runs")
    assert found.about["costs"] == "logged"
    assert (found.folder / "frontier.png").read_bytes().startswith(b"\x89PNG")
    # No split column: half of the queries are set aside for test, a quarter of the rest.
    counts = found.about["queries"]
    assert sum(counts.values()) == 400
    assert 150 < counts["test"] < 250
    assert 25 < counts["validation"] < 75


def test_a_real_log_runs(shared_logs, tmp_path):
    found = train(
        "rollouts=rational_cascades",
        f"rollouts.path={shared_logs}",
        "rollouts.dataset=mmlu",
        "costs.ratio=50",
        *FEW,
        f"out={tmp_path}",
    )
    assert found.about["queries"]["test"] == 1531
    assert found.measures["aiq_static"] < found.measures["aiq_oracle"]


def test_a_finished_run_is_recognised_and_not_repeated(tmp_path):
    run(*QUICK, f"out={tmp_path}")
    (folder,) = folders(tmp_path)
    before = (folder / "metrics.json").stat().st_mtime_ns
    again = run(*QUICK, f"out={tmp_path}")
    assert "aiq" in again.stdout
    assert (folder / "metrics.json").stat().st_mtime_ns == before
    run(*QUICK, f"out={tmp_path}", "force=true")
    assert (folder / "metrics.json").stat().st_mtime_ns > before
    run(*QUICK, f"out={tmp_path}", "seed=1")
    assert len(folders(tmp_path)) == 2


def test_the_same_seed_gives_the_same_numbers(tmp_path):
    quick = [*QUICK, "solver=belief_dqn", "solver.steps=30", "solver.episodes=200"]
    one, two = (train(*quick, f"out={tmp_path / out}") for out in ("one", "two"))
    assert one.measures == two.measures
    assert one.intervals == two.intervals
    assert one.points == two.points
    checkpoint = one.folder / "checkpoints" / "policy.pt"
    given = ["solver=checkpoint", f"solver.path={checkpoint}", f"out={tmp_path / 'again'}"]
    assert train(*QUICK, *given).points == one.points


def test_a_failing_job_does_not_stop_the_rest_of_a_sweep(tmp_path):
    # A hundred bins of five models are too many for the exact solver.
    done = run(
        "-m",
        "solver=exact",
        "observation.bins=100,8",
        *QUICK,
        "rollouts.models=null",
        f"out={tmp_path}",
        "sweep=s",
        "hydra.launcher.n_jobs=1",
        fails=True,
    )
    assert len(folders(tmp_path / "s")) == 1
    assert "FAILED solver=exact observation.bins=100" in done.stderr + done.stdout
    assert "the exact solver would enumerate" in done.stderr + done.stdout


def test_an_interrupted_sweep_picks_up_where_it_stopped(tmp_path):
    sweep = [
        "-m",
        "costs.ratio=10,20,30,40",
        "solver=pomcp",
        "solver.simulations=20",
        "env=core",
        *QUICK,
        f"out={tmp_path}",
        "sweep=s",
        "hydra/launcher=basic",
    ]
    process = subprocess.Popen(
        [sys.executable, SCRIPTS / "train.py", *sweep],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environment(),
    )
    deadline = time.monotonic() + 60
    while not folders(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    first = {folder: (folder / "metrics.json").stat().st_mtime_ns for folder in folders(tmp_path)}
    assert 1 <= len(first) < 4
    run(*sweep)
    assert len(folders(tmp_path)) == 4
    for folder, written in first.items():
        assert (folder / "metrics.json").stat().st_mtime_ns == written


def test_tracking_needs_no_wandb_when_it_is_off(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)  # to import it is an error
    train(*QUICK, f"out={tmp_path}")


def test_a_tracked_sweep_is_grouped_by_its_name(tmp_path):
    command("train", "tracker=wandb", "sweep=grouped", *QUICK, f"out={tmp_path}")
    (folder,) = folders(tmp_path)
    (log,) = folder.glob("wandb/offline-run-*/run-*.wandb")
    wandb = Path(sys.executable).with_name("wandb")
    read = subprocess.run(
        [wandb, "leet", "inspect", "--json", log], capture_output=True, text=True, check=True
    )
    for expected in ("grouped", "frontier/cost", "gap_closed", "fingerprint"):
        assert expected in read.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["costs.ratio=0.5"], "costs.ratio is 0.5: expected a number from 1"),
        (["evaluation.prices=[-1]"], "evaluation.prices[0] is -1: expected a number"),
        (["observation.bins=0"], "observation.bins is 0"),
        (["env.answer=first"], "env.answer is 'first'"),
        (["rollouts.profile=nonesuch"], "nonesuch"),
        (["rollouts.models=[llama3.2-1b,gpt]"], "rollouts.models names 'gpt'"),
        (["tracker=wandb", "tracker.mode=loud"], "tracker.mode"),
        (["rollouts=calls_table"], "rollouts.path is not set: give rollouts.path=VALUE"),
        (["rollouts=calls_table", "rollouts.path=no.csv"], "no.csv"),
        (["rollouts.models=null", "observation.bins=64"], "use fewer observation.bins"),
        (["costs.ratio=1"], "the last model costs 1 on average and the first 1"),
    ],
)
def test_bad_input_gets_one_line_that_names_it(arguments, message, tmp_path):
    quick = FEW if "rollouts=calls_table" in arguments else QUICK
    if arguments[0].startswith("evaluation.prices"):
        quick = QUERIES
    done = run(*quick, *arguments, f"out={tmp_path}", fails=True)
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("costs.rato=10", "costs.rato is no setting (did you mean ratio?)"),
        ("solver=pomcpo", "solver=pomcpo: no such option (did you mean pomcp?)"),
    ],
)
def test_unknown_keys_and_options_are_refused(argument, message, tmp_path):
    done = run(argument, f"out={tmp_path}", fails=True)
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr


def test_help_explains_the_groups():
    shown = run("--help").stdout
    for group in ("rollouts", "costs", "verifier", "observation", "env", "solver", "tracker"):
        assert re.search(rf"^ +{group} ", shown, re.MULTILINE)
    assert "wandb sync" in shown
