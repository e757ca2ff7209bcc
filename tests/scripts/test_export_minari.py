"""The script that exports episodes, as a user runs it."""

import re

import pytest

from tests.support.commands import command

minari = pytest.importorskip("minari", reason="minari is not installed: pip install '.[rl]'")

SMALL = [
    "rollouts.profile=mmlu",
    "rollouts.models=[llama3.2-1b,llama3.1-70b]",
    "observation.bins=3",
    "rollouts.queries.train=60",
]


def test_a_solvers_episodes_become_a_data_set(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    sets = tmp_path / "sets"
    arguments = ("toy/exact-v0", "--path", sets, "--policy", "solver", "--price", "0.2", *SMALL)
    done = command("export_minari", *arguments, "env=full", "solver=exact", folder=tmp_path)
    dataset = minari.MinariDataset(sets / "toy" / "exact-v0" / "data")
    assert dataset.storage.metadata["algorithm_name"] == "Exact"
    mean = sum(read.rewards.sum() for read in dataset.iterate_episodes()) / len(dataset)
    assert float(re.search(r"mean return (-?[\d.]+)", done.stdout)[1]) == pytest.approx(
        mean, abs=1e-4
    )
    assert [path.name for path in tmp_path.iterdir()] == ["sets"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("toy-v0", "--price", "-1"), "--price is -1.0: expected a number >= 0"),
        (("toy-v0", "--repeats", "0"), "--repeats is 0: expected at least 1"),
    ],
)
def test_bad_arguments_are_one_line(arguments, message, tmp_path):
    done = command("export_minari", *arguments, "--path", tmp_path, fails=True)
    assert done.stderr.strip() == f"error: {message}"
