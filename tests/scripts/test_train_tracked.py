"""What a learner's run leaves in W&B, and what one whose training breaks does."""

import json
import math
from pathlib import Path

import pytest
import torch

from routing_pomdp.evaluation.runs.run_folder import load, load_all
from routing_pomdp.solvers.learned.checkpoint import load as load_checkpoint
from tests.support.commands import command
from tests.support.tracked_runs import exit_codes, history, kept, records, summary

RUN = [
    "evaluation.prices=[0, 0.1, 1]",
    "evaluation.resamples=100",
    "model=joint",
    "env=full",
    "tracker=wandb",
    "sweep=s",
]
QUICK = [
    "rollouts.profile=mmlu",
    "rollouts.models=[llama3.2-1b,llama3.1-70b]",
    "rollouts.queries={train: 150, validation: 80, test: 150}",
    *RUN,
]
FEW = ["solver.pretraining=20", "solver.simulations=500", "solver.steps=20"]
# Decay by 1e4 times the rate turns weights round and makes them nine times larger, step by step.
BREAKS, WELL = "10000.0", "0"

# A training that breaks says so in numbers too.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default::RuntimeWarning")]


def learn(out):
    """A sweep of two trainings, the first of which breaks."""
    decay = f"solver.weight_decay={BREAKS},{WELL}"
    given = ("-m", "solver=history_net", decay, *QUICK, *FEW, f"out={out}", "hydra/launcher=basic")
    return command("train", *given, fails=True)


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs")
    return out / "s", learn(out)


@pytest.fixture(scope="module")
def broken(learned):
    """The folder of the run that broke."""
    (folder,) = (path for path in learned[0].glob("history_net-*") if load(path) is None)
    return folder


@pytest.fixture(scope="module")
def well(learned):
    """The run that did not."""
    (run,) = load_all(learned[0])
    return run


def test_a_training_that_breaks_says_so_and_the_sweep_goes_on(learned, broken, well):
    _, done = learned
    said = (done.stdout + done.stderr).splitlines()
    (failed,) = (line for line in said if "FAILED" in line)
    assert f"solver.weight_decay={BREAKS}" in failed
    assert "history_net: the " in failed
    assert "is no finite number at step" in failed
    assert str(broken / "checkpoints" / "tuning.pt") in failed
    assert well.about["config"]["solver"]["weight_decay"] == float(WELL)


def test_of_a_training_that_broke_the_last_good_checkpoint_stays(broken):
    saved = load_checkpoint(broken / "checkpoints" / "tuning.pt")
    assert 0 < saved["step"] < 20
    assert math.isfinite(saved["loss"])
    for state in (saved["modules"]["network"], saved["best"]["network"]):
        assert all(torch.isfinite(tensor).all() for tensor in state.values())
    assert not (broken / "checkpoints" / "policy.pt").exists()
    assert not (broken / "metrics.json").exists()


def test_in_wandb_it_failed_with_its_curve_so_far(broken, well):
    assert exit_codes(broken) == [1]
    assert exit_codes(well.folder) == [0]
    rows = history(broken, "train")
    assert rows
    assert all(math.isfinite(row["loss"]) for row in rows if row["step"])
    assert not history(broken, "frontier")


def test_a_learners_curves_beliefs_policies_and_checkpoint_are_in_wandb(well):
    folder = well.folder
    metrics = records(folder, "metric")
    steps = {metric.get("glob_name"): metric.get("step_metric") for metric in metrics}
    assert steps["train/*"] == "train/step"
    assert steps["frontier/*"] == "frontier/cost"
    rows = history(folder, "train")
    assert len([row for row in rows if "loss" in row]) >= 10
    judged = [row for row in rows if "validation" in row]
    assert {"belief_error", "belief_log_loss", "belief_brier"} <= judged[-1].keys()
    assert len(judged) >= 2
    assert len(history(folder, "frontier")) == 3
    told = summary(folder)
    for name in ("error", "log_loss", "brier"):
        for key in (f"belief_{name}", f"fitted_belief_{name}"):
            assert told[key] == pytest.approx(well.measures[key])
    logged = {
        key.removesuffix("._type"): value
        for record in records(folder, "history")
        for key, value in record["item"].items()
        if key.endswith("._type")
    }
    assert logged == dict.fromkeys(
        ("frontier", "policies", "beliefs"), "image-file"
    ) | dict.fromkeys(("operating_points", "chosen", "belief_calibration"), "table-file")
    media = folder / "wandb"
    for figure in ("beliefs", "policies", "frontier"):
        (picture,) = media.glob(f"offline-run-*/files/media/images/{figure}_*.png")
        assert picture.read_bytes() == (folder / f"{figure}.png").read_bytes()
    (path,) = media.glob("offline-run-*/files/media/table/belief_calibration_*.table.json")
    table = json.loads(path.read_text())
    assert table["columns"] == list(well.beliefs["rows"][0])
    assert len(table["data"]) == 3 * (len(well.about["models"]) + 1)
    (entry,) = kept(folder, "model")["manifest"]["contents"]
    checkpoint = folder / "checkpoints" / "policy.pt"
    assert Path(entry["local_path"]).read_bytes() == checkpoint.read_bytes()


def test_started_again_what_broke_is_repeated_and_what_is_finished_is_not(learned, broken, well):
    before = (well.folder / "metrics.json").stat().st_mtime_ns
    again = learn(learned[0].parent)
    assert "is no finite number at step" in again.stdout
    assert exit_codes(broken) == [1, 1]
    assert not (broken / "metrics.json").exists()
    assert (well.folder / "metrics.json").stat().st_mtime_ns == before
    assert exit_codes(well.folder) == [0]


def test_restored_it_reports_the_same_beliefs_and_all_are_compared(learned, well):
    out = learned[0].parent
    checkpoint = well.folder / "checkpoints" / "policy.pt"
    for solver in (["checkpoint", f"solver.path={checkpoint}"], ["threshold"]):
        command("train", f"solver={solver[0]}", *solver[1:], *QUICK, f"out={out}")
    runs = {run.about["solver"]: run for run in load_all(learned[0])}
    assert runs["checkpoint"].beliefs == well.beliefs
    assert (runs["checkpoint"].folder / "beliefs.png").is_file()
    assert runs["threshold"].beliefs is None
    assert not (runs["threshold"].folder / "beliefs.png").exists()
    command("compare", learned[0])
    rows = (learned[0] / "tables" / "belief_calibration.csv").read_text().splitlines()
    assert len(rows) == 1 + 2 * 3


def test_no_prompt_and_no_answer_of_a_log_goes_to_wandb(tmp_path):
    log = ["query_id,model,score,cost,signal_confidence,prompt,answer,dataset"]
    for i in range(90):
        for model, cost, score in (("small", 1, i % 2), ("large", 9, 1)):
            text = f"PROMPTED {i} zebra,ANSWERED {i} zebra"
            log.append(f"q{i},{model},{score},{cost},{(i * 7 % 10) / 10},{text},mine")
    (tmp_path / "calls.csv").write_text("\n".join(log) + "\n")
    command(
        *("train", "rollouts=calls_table", f"rollouts.path={tmp_path}/calls.csv"),
        *("costs=logged", "solver=threshold", "pre_query=prompt", *RUN, f"out={tmp_path}"),
    )
    (folder,) = (tmp_path / "s").glob("threshold*")
    sent = [path.read_bytes() for path in (folder / "wandb").rglob("*") if path.is_file()]
    assert any(b"delta_ibc" in content for content in sent)  # figures do
    assert not any(b"PROMPTED" in content or b"ANSWERED" in content for content in sent)
    assert not any(b"zebra" in content for content in sent)
