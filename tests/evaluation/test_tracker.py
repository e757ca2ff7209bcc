"""Tracking, read back from disk with W&B's own reader; nothing here needs an account or network."""

from __future__ import annotations

import base64
import json
import os
import signal
import time
from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf

from routing_pomdp.evaluation import tracker
from routing_pomdp.evaluation.configuration.build import build
from routing_pomdp.evaluation.tracker import NoTracker, WandbTracker
from tests.support.checkout import CONF
from tests.support.tracked_runs import (
    ABOUT,
    CONFIG,
    POINTS,
    exit_code,
    fail,
    finished,
    history,
    kept,
    python,
    records,
    summary,
)

# One grey pixel.
PICTURE = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNoAAAAggCBd81ytgAAAABJRU5ErkJggg=="
)


@pytest.fixture(scope="module")
def offline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which a process tracked one run offline, below runs/first/exact-mmlu."""
    base = tmp_path_factory.mktemp("offline")
    (base / "frontier.png").write_bytes(PICTURE)
    (base / "policy.pt").write_bytes(b"weights")
    code = f"""
from pathlib import Path
import numpy
from routing_pomdp.evaluation.tracker import WandbTracker
nan = float("nan")
folder = Path("runs/first/exact-mmlu")
with WandbTracker().run(folder=folder, name="exact mmlu", **{ABOUT!r}) as run:
    for step in range(3):
        run.log("train", {{"step": 10 * step, "loss": 1 / (1 + step)}})
    run.frontier({POINTS!r})
    run.summary({{"aiq": 0.625, "gap_closed": None, "drop_at_1": nan, "calls": numpy.int64(7)}})
    run.figure("frontier", Path("frontier.png"))
    run.artifact(Path("policy.pt"), "belief_dqn of my logs: für alle", "model")
"""
    printed = finished(python(code, base / "home"))
    assert printed == ("", "")
    return base


def run_folder(offline: Path) -> Path:
    return offline / "runs" / "first" / "exact-mmlu"


def test_a_run_carries_its_sweep_solver_and_config(offline: Path) -> None:
    (run,) = records(run_folder(offline), "run")
    assert run["run_group"] == "first"
    assert run["job_type"] == "exact"
    assert run["display_name"] == "exact mmlu"
    assert run["project"] == "routing-pomdp"
    config = {key: v for key, v in run["config"]["update"].items() if key != "_wandb"}
    assert config == CONFIG | {"config": {"client": {"api_key": "***", "model": "small"}}}
    assert exit_code(run_folder(offline)) == 0


def test_the_frontier_is_history_over_cost(offline: Path) -> None:
    metrics = records(run_folder(offline), "metric")
    by_name = {metric.get("name", metric.get("glob_name")): metric for metric in metrics}
    assert "frontier/cost" in by_name
    assert by_name["frontier/*"]["step_metric"] == "frontier/cost"
    assert history(run_folder(offline), "frontier") == [
        {"price": 0.2, "cost": 1.5, "score": 0.5},
        {"price": 0.1, "cost": 2.0, "score": 0.6},
        {"price": 0, "cost": 2.5, "score": 0.75, "model_regret": 0.125},
    ]


def test_the_frontier_is_a_table_too(offline: Path) -> None:
    below = run_folder(offline) / "wandb"
    (path,) = below.glob("offline-run-*/files/media/table/operating_points_*.table.json")
    table = json.loads(path.read_text())
    assert table["columns"] == ["price", "cost", "score", "model_regret"]
    assert [row[:3] for row in table["data"]] == [
        [p["price"], p["cost"], p["score"]] for p in POINTS
    ]
    # What W&B uploads the table from is staged beside the run, not in the home folder.
    (entry,) = kept(run_folder(offline), "run_table")["manifest"]["contents"]
    assert Path(entry["local_path"]).is_relative_to(below)
    assert Path(entry["local_path"]).is_file()


def test_a_checkpoint_is_an_artifact_whose_bytes_lie_beside_the_run(offline: Path) -> None:
    artifact = kept(run_folder(offline), "model")
    assert artifact["name"] == "belief_dqn_of_my_logs_f_r_alle"
    (entry,) = artifact["manifest"]["contents"]
    assert entry["path"] == "policy.pt"
    assert Path(entry["local_path"]).is_relative_to(run_folder(offline) / "wandb")
    assert Path(entry["local_path"]).read_bytes() == b"weights"


def test_a_training_curve_is_history_over_its_own_step(offline: Path) -> None:
    metrics = records(run_folder(offline), "metric")
    steps = {metric.get("glob_name"): metric.get("step_metric") for metric in metrics}
    assert steps["train/*"] == "train/step"
    assert history(run_folder(offline), "train") == [
        {"step": 10 * step, "loss": pytest.approx(1 / (1 + step))} for step in range(3)
    ]


def test_the_summary_has_the_defined_measures_and_no_last_frontier_point(offline: Path) -> None:
    found = summary(run_folder(offline))
    assert found["aiq"] == 0.625
    assert found["calls"] == 7
    assert "gap_closed" not in found
    assert "drop_at_1" not in found
    assert not [key for key in found if key.startswith("frontier/")]


def test_a_figure_is_kept(offline: Path) -> None:
    pictures = (run_folder(offline) / "wandb").glob("offline-run-*/files/media/images/*.png")
    assert len(list(pictures)) == 1


def test_nothing_is_written_outside_the_run_folder(offline: Path) -> None:
    assert not list((offline / "home").iterdir())
    assert {path.name for path in offline.iterdir()} == {
        "home",
        "runs",
        "frontier.png",
        "policy.pt",
    }
    assert {path.name for path in run_folder(offline).iterdir()} == {"wandb"}


def test_no_secret_and_nothing_of_the_machine_is_kept(offline: Path) -> None:
    for path in run_folder(offline).rglob("*"):
        assert path.is_dir() or b"LEAKED" not in path.read_bytes(), path
    (run,) = records(run_folder(offline), "run")
    assert run["host"] == "-"
    assert "git" not in run
    uploaded = run_folder(offline).glob("wandb/offline-run-*/files/*")
    assert [path.name for path in uploaded] == ["media"]
    assert not records(run_folder(offline), "environment")


def test_a_killed_run_keeps_its_history(tmp_path: Path) -> None:
    code = f"""
import time
from pathlib import Path
from routing_pomdp.evaluation.tracker import WandbTracker
with WandbTracker().run(folder=Path("killed"), name="killed", **{ABOUT!r}) as run:
    for step in range(5):
        run.log("train", {{"step": step, "loss": 1.0}})
    print("logged", flush=True)
    time.sleep(60)
"""
    process = python(code, tmp_path / "home")
    assert process.stdout is not None
    assert process.stdout.readline() == "logged\n"
    time.sleep(2 * tracker._FLUSH_SECONDS)
    # W&B's service might still write what it holds when its parent dies: read before it can.
    process.send_signal(signal.SIGSTOP)
    kept = (tmp_path / "copy" / "wandb" / "offline-run-copy").resolve()
    kept.mkdir(parents=True)
    (log,) = (tmp_path / "killed").glob("wandb/offline-run-*/run-*.wandb")
    (kept / log.name).write_bytes(log.read_bytes())
    process.kill()
    process.wait()
    assert [row["step"] for row in history(tmp_path / "copy", "train")] == [0, 1, 2, 3, 4]


def test_an_exception_marks_the_run_as_failed_and_goes_on(tmp_path: Path) -> None:
    before = dict(os.environ)
    with pytest.raises(KeyError, match="mine"):
        fail(WandbTracker(), tmp_path)
    assert exit_code(tmp_path) == 1
    assert history(tmp_path, "train") == [{"step": 0, "loss": 1}]
    changed = {key for key in before | os.environ if before.get(key) != os.environ.get(key)}
    assert not changed & {"WANDB_DATA_DIR", "WANDB_CACHE_DIR", "WANDB_SILENT"}


def test_runs_follow_each_other_and_are_known_by_sweep_and_folder(tmp_path: Path) -> None:
    def run_id(base: str, group: str) -> str:
        folder = tmp_path / base / group / "exact: 'a#b?'"
        about = ABOUT | {"group": group}
        with WandbTracker().run(folder=folder, name=folder.name, **about) as run:
            run.log("train", {"step": 0, "loss": 1.0})
        (log,) = folder.glob("wandb/offline-run-*/run-*.wandb")
        return log.stem

    first = run_id("here", "first")
    assert run_id("moved", "first") == first
    assert run_id("here", "second") != first
    assert exit_code(tmp_path / "here" / "second" / "exact: 'a#b?'") == 0


def test_parallel_processes_track_their_own_runs(tmp_path: Path) -> None:
    code = f"""
from pathlib import Path
from joblib import Parallel, delayed
from routing_pomdp.evaluation.tracker import WandbTracker
def track(i):
    with WandbTracker().run(folder=Path(f"run{{i}}"), name=f"run{{i}}", **{ABOUT!r}) as run:
        run.log("train", {{"step": i, "loss": 1.0}})
        run.frontier([{{"cost": 1.0, "score": i}}])
Parallel(n_jobs=2, backend="loky")(delayed(track)(i) for i in range(3))
"""
    finished(python(code, tmp_path / "home"))
    for i in range(3):
        assert history(tmp_path / f"run{i}", "train") == [{"step": i, "loss": 1}]
        assert history(tmp_path / f"run{i}", "frontier") == [{"cost": 1, "score": i}]
        assert exit_code(tmp_path / f"run{i}") == 0


def test_no_tracking_needs_no_wandb(tmp_path: Path) -> None:
    code = f"""
import sys
from pathlib import Path
sys.modules["wandb"] = None  # its import fails
from routing_pomdp.evaluation.tracker import NoTracker, WandbTracker
for tracker in (NoTracker(), WandbTracker(mode="disabled")):
    with tracker.run(folder=Path("run"), name="run", **{ABOUT!r}) as run:
        run.log("train", {{"step": 0, "loss": 1.0}})
        run.frontier([{{"cost": 1.0, "score": 0.5}}])
        run.summary({{"aiq": None}})
        run.figure("frontier", Path("frontier.png"))
try:
    with WandbTracker().run(folder=Path("run"), name="run", **{ABOUT!r}):
        pass
except ImportError:
    print("blocked")
"""
    out, _ = finished(python(code, tmp_path / "home"))
    assert out == "blocked\n"
    assert not list((tmp_path / "run").iterdir())


def config(name: str) -> DictConfig:
    return DictConfig(OmegaConf.load(CONF / "tracker" / f"{name}.yaml"))


def test_the_configs_name_the_trackers() -> None:
    assert build(config("none"), "tracker") == NoTracker()
    assert build(config("wandb"), "tracker") == WandbTracker()


def test_an_unknown_mode_is_refused_by_name() -> None:
    expected = r"tracker\.mode is 'onlin': expected one of 'online', 'offline', 'disabled'"
    with pytest.raises(ValueError, match=expected):
        WandbTracker(mode="onlin")  # type: ignore[arg-type]
    misspelt = config("wandb")
    misspelt.mode = "onlin"
    with pytest.raises(ValueError, match=expected):
        build(misspelt, "tracker")
