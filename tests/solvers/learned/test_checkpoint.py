"""Checkpoints: what they refuse, and that opening one runs nothing."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch

from routing_pomdp.envs import Rules
from routing_pomdp.solvers import Training
from routing_pomdp.solvers.learned.checkpoint import (
    FORMAT,
    CheckpointError,
    Restored,
    about,
    load,
    require_fit,
    save,
)
from tests.support.problems import random_problem

CORE = Rules(3)


def problem_of(rules=CORE, symbols=3):
    return random_problem(rules, np.random.default_rng(0), symbols)


def content(problem, training=None, **changed):
    said = about("belief_dqn", {"hidden": 8}, problem, training or Training())
    return {"about": said | changed}


def test_tensors_and_values_come_back_as_they_were(tmp_path):
    path = tmp_path / "deep" / "policy.pt"
    saved = content(problem_of()) | {"weights": {"w": torch.arange(3.0)}, "best": None}
    save(path, saved)
    found = load(path)
    assert torch.equal(found["weights"]["w"], torch.arange(3.0))
    assert found["about"] == saved["about"]
    assert [p.name for p in path.parent.iterdir()] == ["policy.pt"]


class Bomb:
    def __reduce__(self):
        return (open, ("boom", "w"))


def test_opening_one_runs_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"about": {"format": 1}, "bomb": Bomb()}, tmp_path / "policy.pt")
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(Bomb(), protocol=2))
    for name in ("policy.pt", "plain.pt"):
        with pytest.raises(CheckpointError, match=f"{name}: no checkpoint of tensors"):
            load(tmp_path / name)
    assert not (tmp_path / "boom").exists()


@pytest.mark.parametrize(
    ("bytes_of", "message"),
    [(lambda whole: whole[: len(whole) // 2], "no checkpoint"), (lambda whole: b"", "no check")],
    ids=["torn", "empty"],
)
def test_broken_files_are_refused(tmp_path, bytes_of, message):
    path = tmp_path / "policy.pt"
    save(path, content(problem_of()))
    path.write_bytes(bytes_of(path.read_bytes()))
    with pytest.raises(CheckpointError, match=message):
        load(path)


def test_missing_foreign_and_other_versions_files_are_refused(tmp_path):
    with pytest.raises(CheckpointError, match="there is no such checkpoint"):
        load(tmp_path / "none.pt")
    torch.save({"weights": torch.zeros(2)}, tmp_path / "foreign.pt")
    with pytest.raises(CheckpointError, match="does not say what it is"):
        load(tmp_path / "foreign.pt")
    save(tmp_path / "old.pt", content(problem_of(), format=99))
    with pytest.raises(CheckpointError, match=f"format 99, this version reads {FORMAT}"):
        load(tmp_path / "old.pt")


VERIFIER = {"_target_": "routing_pomdp.verifiers.LoggedSignal", "name": "p_true"}


@pytest.mark.parametrize(
    ("problem", "source", "message"),
    [
        (problem_of(Rules(4)), {}, "trained for n_models = 3, this problem has 4"),
        (problem_of(symbols=5), {}, "trained for n_symbols = 3, this problem has 5"),
        (problem_of(Rules(3, skip=True)), {}, r"trained for rules = .*'skip': False"),
        (problem_of(), {"verifier": {"_target_": "x.Other"}}, "trained for verifier = .*p_true"),
        (problem_of(), {"models": ["a", "b", "d"]}, r"models = \['a', 'b', 'c'\], this problem"),
    ],
    ids=["models", "symbols", "rules", "verifier", "names"],
)
def test_another_problem_is_refused(tmp_path, problem, source, message):
    path = tmp_path / "policy.pt"
    trained = Training(source={"verifier": VERIFIER, "models": ["a", "b", "c"]})
    save(path, content(problem_of(), trained))
    solver = Restored(str(path)).with_training(replace(trained, source=source))
    with pytest.raises(CheckpointError, match=message):
        solver.solve_frontier(problem, [0.1], problem.sample(2, np.random.default_rng(0)))


def test_what_only_one_side_names_is_not_compared(tmp_path):
    problem = problem_of()
    saved = content(problem, Training(source={"models": ["a", "b", "c"]}))
    require_fit(tmp_path, saved["about"], problem, {"verifier": VERIFIER})


@pytest.mark.parametrize("name", ["os.system", "belief_ppo"])
def test_a_file_names_a_learner_of_this_version(name, tmp_path):
    problem = problem_of()
    save(tmp_path / "policy.pt", content(problem, solver=name))
    message = rf"of solver '{name}', which this version does not restore: expected one of \['belief"
    with pytest.raises(CheckpointError, match=message):
        Restored(str(tmp_path / "policy.pt")).solve(
            problem, problem.sample(1, np.random.default_rng(0))
        )
