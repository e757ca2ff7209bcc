"""The page on logs: its examples run as they stand there, on files of the names that they use."""

import csv
import json
import re
import shlex
from glob import glob
from pathlib import Path

import pytest

from tests.support.checkout import DOCS
from tests.support.commands import command, train
from tests.support.other_logs import harness, judgement, lines, observation, sample, spend

PAGE = (DOCS / "log_format.md").read_text()
MODELS = {"small": 0.001, "large": 0.03}
COMMANDS = [
    shlex.split(line)
    for block in re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL)
    for line in block.replace("\\\n", " ").splitlines()
]


def rows(queries, columns, models=MODELS):
    found = []
    for i in queries:
        for model, cost in models.items():
            call = {"id": f"q{i}", "model": model, "right": i % (3 if model == "small" else 9) != 0}
            found.append(call | {"cost": cost, "sure": round(i * 7 % 10 / 10, 1)})
    return [{name: row[of] for name, of in columns.items()} for row in found]


OURS = {"query_id": "id", "model": "model", "score": "right", "cost": "cost",
        "signal_confidence": "sure"}  # fmt: skip


def table(path, found):
    path.parent.mkdir(exist_ok=True)
    if path.suffix == ".csv":
        with path.open("w", newline="") as file:
            out = csv.DictWriter(file, found[0])
            out.writeheader()
            out.writerows(found)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in found))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A user's folder with the files that the page speaks of."""
    monkeypatch.chdir(tmp_path)
    (example,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    exec(compile(example, "log_format.md", "exec"), {})
    table(tmp_path / "mine.csv", rows(range(30), {
        "qid": "id", "model": "model", "correct": "right", "cost": "cost", "sure": "sure",
    }))  # fmt: skip
    table(tmp_path / "monday.csv", rows(range(15), OURS))
    table(tmp_path / "tuesday.jsonl", rows(range(15, 30), OURS))
    used = [call | {"tokens_in": 100.0, "tokens_out": 5.0, "latency_ms": 1e4 * call["cost"]}
            for call in rows(range(30), OURS)]  # fmt: skip
    table(tmp_path / "timed.csv", used)
    (tmp_path / "prices.yaml").write_text(
        "small: {in: 0.05, out: 0.10}\nlarge: {in: 2.50, out: 10.00}\n"
    )
    unnamed = {name: of for name, of in OURS.items() if name != "model"}
    for model, cost in MODELS.items():
        table(tmp_path / "logs" / f"{model}.csv", rows(range(30), unnamed, {model: cost}))
    (tmp_path / "results").mkdir()
    for model in MODELS:
        harness(tmp_path / "results", model, lines=[sample(i) for i in range(3)])
    metadata = {"case": "c", "score": 0.5}
    lines(tmp_path / "spend_logs.jsonl", [spend(1, m, metadata=metadata) for m in MODELS])
    lines(tmp_path / "observations.jsonl", [observation(1, m) for m in MODELS])
    lines(tmp_path / "scores.jsonl", [judgement(1, m) for m in MODELS])
    return tmp_path


def run(arguments):
    """A command of the page, in this process."""
    name = Path(arguments[1]).stem
    if name != "train":
        files = [sorted(glob(a)) if "*" in a else [a] for a in arguments[2:]]
        command(name, *(a for found in files for a in found))
        return None
    return train(*arguments[2:], "evaluation.prices=[0,0.1]", "evaluation.resamples=10")


def test_the_page_has_commands():
    assert len(COMMANDS) == 14


@pytest.mark.parametrize("given", COMMANDS, ids=[" ".join(c)[15:60] for c in COMMANDS])
def test_every_command_of_the_page_runs(folder, given):
    if "rollouts.profile=mine.yaml" in given or given[1].endswith("fit_profile.py"):
        # A profile needs more queries than the example has.
        table(folder / "calls.csv", rows(range(90), OURS))
    if "rollouts.profile=mine.yaml" in given:
        run(COMMANDS[COMMANDS.index(given) - 1])
    done = run(given)
    if done is None:
        written = given[given.index("--out") + 1]
        assert (folder / written).stat().st_size > 0
    else:
        assert done.measures["aiq"] is not None
        models = {"small", "large"} | {"llama-8b", "llama-70b"}
        assert "mine.yaml" in " ".join(given) or set(done.about["models"]) <= models
