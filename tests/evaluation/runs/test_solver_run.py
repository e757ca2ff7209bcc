"""A run that is stopped anywhere is made up by the next, and never taken for a finished one."""

import json
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch

from routing_pomdp.envs.files.atomic import PART, write_bytes
from routing_pomdp.envs.logs.calls_table import read_calls, write_calls
from routing_pomdp.evaluation.configuration.command_line import explained
from routing_pomdp.evaluation.runs import solver_run
from routing_pomdp.evaluation.runs.run_folder import load, read_sweep
from routing_pomdp.solvers.baselines import Static
from tests.support import commands
from tests.support.logs import log_of
from tests.support.recorder import NAME

CHOICES = dict.fromkeys(
    ("solver", "verifier", "observation", "model", "env", "pre_query"), "static"
)
SMALL = ["rollouts.queries={train: 40, validation: 20, test: 30}"]
QUICK = [
    "solver=static",
    "model=joint",
    "evaluation.prices=[0, 1]",
    "evaluation.resamples=10",
    "evaluation.regret=false",
    "+tracker.keeps=true",
    "tracker._target_=tests.support.recorder.Recorder",
]
WHOLE = {"metrics.json", "outcomes.npz", "config.yaml", "frontier.png", "frontier.svg", NAME}


@cache
def composed(*overrides):
    small = [] if "rollouts=calls_table" in overrides else SMALL
    return commands.composed("train", *QUICK, *small, *overrides)


def config_of(out, *overrides):
    """Keys that are there already are set; another choice in a group takes a composition."""
    late = {"force", "seed", "tracker.keeps"}
    config = composed(*(option for option in overrides if option.split("=")[0] not in late)).copy()
    config.merge_with_dotlist([o for o in overrides if o.split("=")[0] in late])
    config.out, config.sweep = str(out), "s"
    return config


def run(out, *overrides):
    return solver_run.run(config_of(out, *overrides), CHOICES)


@pytest.fixture(autouse=True)
def quick_figures(monkeypatch):
    """Figures that are drawn at once."""

    def draw(run):
        paths = tuple(run.folder / f"frontier.{kind}" for kind in ("png", "svg"))
        for path in paths:
            write_bytes(path, run.about["fingerprint"].encode())
        return {"frontier": paths}

    monkeypatch.setattr(solver_run, "draw", draw)


@pytest.fixture
def solved(monkeypatch):
    """How often a solver was at work."""
    count = Counter()
    solve = Static.solve_frontier

    def counted(self, *arguments):
        count["solved"] += 1
        return solve(self, *arguments)

    monkeypatch.setattr(Static, "solve_frontier", counted)
    return count


class Kill(BaseException):
    """Stops a run at once."""


@pytest.fixture
def killing(monkeypatch):
    """Stops whatever replaces a file for the k-th time, before or after it does."""
    replace, state = Path.replace, {"left": 0, "after": False}

    def replaced(self, target):
        state["left"] -= 1
        if state["left"] == 0 and not state["after"]:
            raise Kill
        moved = replace(self, target)
        if state["left"] == 0:
            raise Kill
        return moved

    monkeypatch.setattr(Path, "replace", replaced)

    def kill_at(k, after):
        state.update(left=k, after=after)

    return kill_at


def numbers(run):
    return {"measures": run.measures, "intervals": run.intervals, "points": run.points}


def assert_whole(found):
    names = {path.name for path in found.folder.iterdir()}
    assert names - {"checkpoints"} == WHOLE
    told = json.loads((found.folder / NAME).read_text())
    assert told["summary"] == found.measures
    assert sorted(map(str, told["frontier"])) == sorted(map(str, found.points))
    assert told["figures"] == ["frontier"]


REPLACED = 7  # outcomes, computed, config, two of a figure, computed as finished, its new name


@pytest.mark.parametrize("force", [False, True], ids=["new", "forced"])
def test_stopped_at_any_write_a_run_is_whole_after_the_next(tmp_path, killing, solved, force):
    first = run(tmp_path / "first")
    run(tmp_path / "compared", "seed=1")
    for k in range(1, REPLACED + 1):
        out = tmp_path / ("compared" if force else str(k))
        if force:
            run(out)
        solved.clear()
        killing(k, False)
        with pytest.raises(Kill):
            run(out, f"force={force}")
        killing(0, False)
        assert load(out / "s" / first.folder.name) is None
        # A comparison sees the finished ones, and no damage.
        found, left_out = read_sweep(tmp_path / "compared")
        assert (len(found), left_out) == (1, [])
        again = run(out)
        assert numbers(again) == numbers(first)
        assert_whole(again)
        # What was computed is not computed again.
        assert solved["solved"] == (1 if k > 2 else 2), k


def test_stopped_after_its_last_write_a_run_is_finished(tmp_path, killing, solved):
    killing(REPLACED, True)
    with pytest.raises(Kill):
        run(tmp_path)
    killing(1, False)  # there is nothing left to write
    assert_whole(run(tmp_path))
    assert solved["solved"] == 1


def test_what_is_finished_is_not_touched(tmp_path, solved):
    first = run(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in first.folder.rglob("*")}
    again = run(tmp_path)
    assert {path: path.stat().st_mtime_ns for path in first.folder.rglob("*")} == before
    assert numbers(again) == numbers(first)
    assert solved["solved"] == 1
    run(tmp_path, "force=true")
    assert solved["solved"] == 2


@pytest.mark.parametrize("name", ["config.yaml", "frontier.png", "frontier.svg"])
def test_what_went_missing_later_is_made_up(tmp_path, solved, name):
    first = run(tmp_path)
    (first.folder / name).unlink()
    (first.folder / NAME).unlink()
    again = run(tmp_path)
    assert (again.folder / name).is_file()
    assert not (again.folder / NAME).exists()  # its tracker has it already
    assert solved["solved"] == 1
    assert again.about == first.about


def test_a_tracker_that_is_asked_for_later_gets_what_is_there(tmp_path, solved):
    first = run(tmp_path, "tracker.keeps=false")
    (first.folder / NAME).unlink()
    run(tmp_path, "tracker.keeps=false")
    assert not (first.folder / NAME).exists()
    assert_whole(run(tmp_path))
    assert solved["solved"] == 1
    (first.folder / NAME).unlink()
    run(tmp_path)
    assert not (first.folder / NAME).exists()


def test_the_training_curve_is_made_up_too(tmp_path, killing):
    quick = ["solver=belief_dqn", "solver.steps=20", "solver.episodes=100"]
    killing(1000, False)
    first = run(tmp_path / "first", *quick)
    curves = json.loads((first.folder / NAME).read_text())["curves"]
    assert len(curves) > 2

    def stop(run):
        raise Kill

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(solver_run, "draw", stop)
        with pytest.raises(Kill):
            run(tmp_path / "second", *quick)
    second = run(tmp_path / "second", *quick)
    told = json.loads((second.folder / NAME).read_text())
    assert told["curves"] == curves
    assert told["artifact"] == str(second.folder / "checkpoints" / "policy.pt")


def cut(path):
    path.write_bytes(path.read_bytes()[:-20])


def test_forced_to_it_a_run_is_trained_anew(tmp_path):
    quick = ["solver=belief_dqn", "solver.steps=20", "solver.episodes=100"]
    first = run(tmp_path, *quick)
    kept = first.folder / "checkpoints" / "policy.pt"
    weights = torch.load(kept, weights_only=True)
    cut(kept)
    assert numbers(run(tmp_path, *quick, "force=true")) == numbers(first)
    assert str(torch.load(kept, weights_only=True)) == str(weights)


DAMAGE = {
    "outcomes.npz is empty": lambda run, other: (run / "outcomes.npz").write_bytes(b""),
    "outcomes.npz is torn": lambda run, other: cut(run / "outcomes.npz"),
    "outcomes.npz is missing": lambda run, other: (run / "outcomes.npz").unlink(),
    "outcomes.npz is another run's": lambda run, other: (run / "outcomes.npz").write_bytes(
        (other / "outcomes.npz").read_bytes()
    ),
    "metrics.json is empty": lambda run, other: (run / "metrics.json").write_text(""),
    "metrics.json is torn": lambda run, other: cut(run / "metrics.json"),
    "metrics.json is no text": lambda run, other: (run / "metrics.json").write_bytes(b"\xff\xfe"),
    "metrics.json is a list": lambda run, other: (run / "metrics.json").write_text("[]"),
    "metrics.json is another's": lambda run, other: (run / "metrics.json").write_text('{"a": 1}'),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_run_is_named_left_out_and_run_anew(tmp_path, kind, solved, capsys):
    first, other = run(tmp_path), run(tmp_path, "seed=1")
    DAMAGE[kind](first.folder, other.folder)
    found, (reason,) = read_sweep(tmp_path / "s")
    assert [each.folder for each in found] == [other.folder]
    assert str(first.folder / "metrics.json") in reason
    again = run(tmp_path)
    assert numbers(again) == numbers(first)
    assert solved["solved"] == 3
    assert f"damaged, and run anew: {first.folder}" in capsys.readouterr().err
    found, left_out = read_sweep(tmp_path / "s")
    assert (len(found), left_out) == (2, [])


def test_two_that_run_the_same_at_once_run_it_once(tmp_path, monkeypatch, capfd):
    started, solved = threading.Event(), []
    solve = Static.solve_frontier

    def slow(self, *arguments):
        solved.append(1)
        started.set()
        # Until the other has said that it waits.
        for _ in range(1000):
            if "waiting for it" in capfd.readouterr().err:
                break
            threading.Event().wait(0.01)
        return solve(self, *arguments)

    monkeypatch.setattr(Static, "solve_frontier", slow)
    config = config_of(tmp_path)
    with ThreadPoolExecutor(2) as pool:
        one = pool.submit(solver_run.run, config, CHOICES)
        assert started.wait(60)
        two = pool.submit(solver_run.run, config, CHOICES)
        assert numbers(one.result()) == numbers(two.result())
        assert one.result().about == two.result().about
    assert solved == [1]
    assert_whole(two.result())


@pytest.mark.parametrize(
    ("key", "option"),
    [
        ("verifier", "verifier._target_=routing_pomdp.verifiers.Nothing"),
        ("verifier", "verifier._target_=no_such_module.Mine"),
        ("observation", "observation._target_=routing_pomdp.verifiers.Nothing"),
        ("pre_query.verifier", "pre_query.verifier._target_=routing_pomdp.verifiers.Nothing"),
    ],
)
def test_a_target_that_is_not_there_is_named_by_its_key(tmp_path, key, option):
    choice = "pre_query=logged" if key.startswith("pre_query") else "pre_query=none"
    with pytest.raises(ValueError, match=rf"{key}._target_ is '"):
        run(tmp_path, choice, option)
    assert not list((tmp_path / "s").iterdir())


def test_leftovers_of_a_kill_are_cleared_away(tmp_path):
    first = run(tmp_path)
    for folder in (first.folder, first.folder / "checkpoints"):
        folder.mkdir(exist_ok=True)
        (folder / f"{PART}0123").write_text("half")
    run(tmp_path)
    assert not list(first.folder.rglob(f"{PART}*"))


@pytest.fixture
def log(tmp_path):
    path = tmp_path / "calls.csv"
    write_calls(log_of(60), path)
    return path


def test_another_cost_of_a_signal_is_another_run_and_the_old_one_is_left_out(tmp_path, log):
    own = ["costs=logged", "verifier=logged", "verifier.name=sharp", "solver=exact", "env=full"]
    own += ["rollouts=calls_table", f"rollouts.path={log}"]

    def asked(*options):
        return run(tmp_path, *own, *options)

    first, other = asked(), asked("seed=1")
    loaded = read_calls(log)
    dearer = {name: 0.1 * cost for name, cost in loaded.signal_costs.items()}
    write_calls(replace(loaded, signal_costs=dearer), log)
    second = asked()
    assert second.folder != first.folder
    assert second.points != first.points
    found, (reason,) = read_sweep(tmp_path / "s")
    assert [each.folder for each in found] == [second.folder]
    assert str(other.folder) in reason
    assert "another state of its log" in reason


def test_a_solver_that_returns_nothing_is_named_and_is_no_fault_of_this_program(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(Static, "solve", lambda *_: None)
    with pytest.raises(ValueError, match=r"^solver Static returned None: expected a pol") as error:
        run(tmp_path)
    assert explained(error.value) == str(error.value)


def test_a_guarantee_is_kept_tracked_and_the_same_when_asked_again(tmp_path):
    asked = ["evaluation.guarantee.epsilon=0.3", "solver=threshold"]
    first = run(tmp_path, *asked)
    assert first.guarantee["epsilon"] == 0.3
    assert first.guarantee["queries"] == 20
    assert first.measures["certified_loss_bound"] in (0, 30)
    told = json.loads((first.folder / NAME).read_text())
    assert "guarantee" in told["tables"]
    assert told["summary"]["certified_saving"] == first.measures["certified_saving"]
    again = run(tmp_path, *asked)
    assert again.guarantee == first.guarantee
    assert run(tmp_path).guarantee is None
