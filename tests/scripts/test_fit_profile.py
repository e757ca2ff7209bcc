"""The script that turns a user's log into a profile."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from routing_pomdp.envs.profiles import load_profile, simulate
from tests.support.commands import command


def fit(*arguments) -> str:
    """What the script printed."""
    return command("fit_profile", *arguments).stdout


def write_calls(path: Path, rollouts, name: str = "signal_vote") -> Path:
    """The documented calls table, written without the package."""
    (signal,) = rollouts.signals.values()
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["query_id", "model", "score", "cost", name, "split"])
        for row, query in enumerate(rollouts.query_id):
            for rank, model in enumerate(rollouts.models):
                cells = (rollouts.score, rollouts.cost, signal)
                values = ["" if np.isnan(x[row, rank]) else x[row, rank] for x in cells]
                table.writerow([query, model, *values, rollouts.split[row]])
    return path


@pytest.fixture
def log():
    return simulate(load_profile("mmlu"), {"train": 400, "test": 200}, seed=1)


def test_help_says_what_leaves_the_machine():
    shown = command("fit_profile", "--help").stdout
    assert "--signal" in shown
    assert "without text of queries or answers" in " ".join(shown.split())


def test_a_calls_table_becomes_a_profile_of_its_train_split_alone(tmp_path, log):
    path = write_calls(tmp_path / "mine.csv", log)
    printed = fit("--path", path, "--out", tmp_path / "own.yaml", "--source", "my gateway")
    profile = load_profile(tmp_path / "own.yaml")
    train = log.where("train")
    assert (profile.name, profile.signal, profile.source) == ("own", "vote", "my gateway")
    assert (profile.split, profile.queries) == ("train", 400)
    assert profile.accuracy == pytest.approx(train.score.mean(axis=0), abs=1e-5)
    for model, accuracy in zip(log.models, train.score.mean(axis=0), strict=True):
        (line,) = (line for line in printed.splitlines() if line.startswith(model))
        assert float(line.split()[1]) == pytest.approx(accuracy, abs=6e-4)
        assert float(line.split()[2]) == pytest.approx(accuracy, abs=0.01)
    assert "AUROC, other model" in printed
    assert "own.yaml" in printed


def test_all_of_a_log_is_fitted_only_when_asked_for(tmp_path, log):
    path = write_calls(tmp_path / "mine.csv", log)
    fit("--path", path, "--split", "all", "--name", "both", "--out", tmp_path / "own.yaml")
    profile = load_profile(tmp_path / "own.yaml")
    assert (profile.name, profile.split, profile.queries) == ("both", "test+train", 600)


def test_a_model_without_a_signal_and_one_always_right_are_shown_as_undefined(tmp_path, log):
    score, signal = log.score.copy(), next(iter(log.signals.values())).copy()
    score[:, 3], signal[:, 4] = 1, np.nan
    changed = replace(log, score=score, signals={"vote": signal}, signal_costs={})
    printed = fit(
        "--path", write_calls(tmp_path / "mine.csv", changed), "--out", tmp_path / "own.yaml"
    )
    for model in log.models[3:]:
        (line,) = (line for line in printed.splitlines() if line.startswith(model))
        assert line.split()[3:] == ["-", "-"]
    assert "nan" not in printed


def test_a_shipped_profile_can_be_made_again(shared_logs, tmp_path):
    shipped = load_profile("mmlu")
    out = tmp_path / "mmlu.yaml"
    fit("--path", shared_logs, "--dataset", "mmlu", "--source", shipped.source, "--out", out)
    again = load_profile(out)
    assert (again.queries, again.models) == (shipped.queries, shipped.models)
    assert np.abs(again.correlation - shipped.correlation).max() < 2e-3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--split", "dev"], "no split 'dev'"),
        (["--signal", "votes"], "no signal 'votes'"),
        (["--path", "nowhere.csv"], "nowhere.csv"),
        (["--name", "my log"], "name is 'my log'"),
        (["--dataset", "mmlu"], "no mmlu.llama"),
        (["--out", "mine.csv"], "expected a name that ends in .yaml"),
    ],
)
def test_a_wrong_argument_ends_in_one_sentence(tmp_path, log, arguments, message):
    path = write_calls(tmp_path / "mine.csv", log)
    given = ("--path", path, "--out", tmp_path / "own.yaml", *arguments)
    said = command("fit_profile", *given, fails=True).stderr
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    assert message in said
    assert not (tmp_path / "own.yaml").exists()


def test_a_log_of_two_signals_asks_which(tmp_path, log):
    path = write_calls(tmp_path / "mine.csv", log)
    lines = path.read_text().splitlines()
    both = [lines[0] + ",signal_margin", *(line + ",0.5" for line in lines[1:])]
    path.write_text("\n".join(both))
    done = command("fit_profile", "--path", path, "--out", tmp_path / "own.yaml", fails=True)
    assert "['margin', 'vote']: name one with --signal" in done.stderr
    fit("--path", path, "--signal", "vote", "--out", tmp_path / "own.yaml")
    assert load_profile(tmp_path / "own.yaml").signal == "vote"
