"""Tracking, read back from disk with W&B's own reader; nothing here needs an account or network."""

from __future__ import annotations

import base64
import functools
import json
import os
import pty
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf

from evaluation import tracker
from evaluation.build import build
from evaluation.tracker import NoTracker, WandbTracker, masked

ROOT = Path(__file__).parents[2]
POINTS: list[dict[str, float | None]] = [
    {"price": 0.2, "cost": 1.5, "score": 0.5, "model_regret": None},
    {"price": 0.1, "cost": 2.0, "score": 0.6, "model_regret": float("nan")},
    {"price": 0.0, "cost": 2.5, "score": 0.75, "model_regret": 0.125},
]
CONFIG = {
    "solver": "exact",
    "costs": "50",
    "dataset": "mmlu",
    "verifier": "logged",
    "seed": 3,
    "commit": "0123abc",
    "config": {"client": {"api_key": "LEAKED", "model": "small"}},
}
# One grey pixel.
PICTURE = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNoAAAAggCBd81ytgAAAABJRU5ErkJggg=="
)
ABOUT: dict[str, Any] = {"group": "first", "job_type": "exact", "config": CONFIG}


def python(
    code: str, home: Path, terminal: int | None = None, **environment: str
) -> subprocess.Popen[str]:
    """Runs code in a process that has an empty home folder, no account and, unless it is given
    one, no terminal.
    """
    home.mkdir(exist_ok=True)
    kept = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("WANDB_", "XDG_")) and key != "NETRC"
    }
    return subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=home.parent,
        env=kept | {"HOME": str(home), "PYTHONPATH": str(ROOT)} | environment,
        stdin=terminal or subprocess.DEVNULL,
        stdout=terminal or subprocess.PIPE,
        stderr=terminal or subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def finished(process: subprocess.Popen[str]) -> tuple[str, str]:
    """Its output and errors, once it has ended well."""
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return out, err


@functools.cache
def read(folder: Path) -> list[dict[str, Any]]:
    """All that W&B's own reader finds in the one offline run below a run's folder."""
    (run,) = (folder / "wandb").glob("offline-run-*")
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(run)]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return [json.loads(line) for line in printed.splitlines()]


def records(folder: Path, kind: str) -> list[dict[str, Any]]:
    return [record[kind] for record in read(folder) if record["type"] == kind]


def history(folder: Path, curve: str) -> list[dict[str, Any]]:
    """The rows of a curve, without its prefix and W&B's own fields."""
    rows = [
        {
            key.removeprefix(f"{curve}/"): value
            for key, value in record["item"].items()
            if key.startswith(f"{curve}/")
        }
        for record in records(folder, "history")
    ]
    return [row for row in rows if row]


def summary(folder: Path) -> dict[str, Any]:
    """The summary that all updates together make."""
    found: dict[str, Any] = {}
    for record in records(folder, "summary"):
        found |= record["update"]
    return found


def kept(folder: Path, kind: str) -> dict[str, Any]:
    """The one artifact of a kind."""
    (found,) = (artifact for artifact in records(folder, "artifact") if artifact["type"] == kind)
    return found


def exit_code(folder: Path) -> int:
    (record,) = records(folder, "exit")
    code: int = record["exit_code"]
    return code


@pytest.fixture(scope="module")
def offline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which a process tracked one run offline, below runs/first/exact-mmlu."""
    base = tmp_path_factory.mktemp("offline")
    (base / "frontier.png").write_bytes(PICTURE)
    (base / "policy.pt").write_bytes(b"weights")
    code = f"""
from pathlib import Path
import numpy
from evaluation.tracker import WandbTracker
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
from evaluation.tracker import WandbTracker
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


def fail(tracked_by: WandbTracker, folder: Path) -> None:
    with tracked_by.run(folder=folder, name="failed", **ABOUT) as run:
        run.log("train", {"step": 0, "loss": 1.0})
        raise KeyError("mine")


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
from evaluation.tracker import WandbTracker
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


ONLINE = f"""
from pathlib import Path
from evaluation import tracker
tracker._REACH_SECONDS = 1.0
for i in range(2):
    with tracker.WandbTracker(mode="online").run(
        folder=Path(f"run{{i}}"), name=f"run{{i}}", **{ABOUT!r}
    ) as run:
        run.log("train", {{"step": i, "loss": 1.0}})
        run.frontier([{{"cost": 1.0, "score": i}}])
        run.summary({{"aiq": 0.5}})
"""
NOBODY_LISTENS = {"WANDB_BASE_URL": "http://127.0.0.1:9", "WANDB_API_KEY": 40 * "a"}


@pytest.mark.parametrize(
    ("environment", "reason"),
    [
        ({}, "wandb login"),
        ({"WANDB_API_KEY": "short"}, "API key"),
        (NOBODY_LISTENS, "connection refused"),
    ],
    ids=["no account", "malformed key", "no network"],
)
def test_online_falls_back_to_offline(
    tmp_path: Path, environment: dict[str, str], reason: str
) -> None:
    _, err = finished(python(ONLINE, tmp_path / "home", None, **environment))
    assert "wandb: " not in err  # W&B's own messages begin so
    for i in range(2):
        folder = tmp_path / f"run{i}"
        (line,) = (line for line in err.splitlines() if str(folder) in line)
        assert reason in line
        assert line.endswith(f"send it later by: wandb sync {folder}/wandb/offline-run-*")
        assert len(list(folder.glob("wandb/offline-run-*/run-*.wandb"))) == 1
    assert history(folder, "train") == [{"step": i, "loss": 1}]
    assert history(folder, "frontier") == [{"cost": 1, "score": i}]
    assert summary(folder)["aiq"] == 0.5
    assert exit_code(folder) == 0
    assert not list((tmp_path / "home").iterdir())


def test_online_asks_nothing_at_a_terminal(tmp_path: Path) -> None:
    leader, follower = pty.openpty()
    process = python(ONLINE, tmp_path / "home", follower, TERM="xterm")
    try:
        assert process.wait(timeout=60) == 0
    finally:
        process.kill()
        os.close(follower)
        os.close(leader)


def test_whatever_online_raises_the_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import wandb

    modes = []

    def start(mode: str, about: Any) -> Any:
        modes.append(mode)
        if mode == "online":
            raise RuntimeError("not one of W&B's own\nerrors")
        return wandb.init(mode="disabled", dir=tmp_path)

    monkeypatch.setattr(tracker, "_start", start)
    with (
        pytest.warns(UserWarning, match="not one of W&B's own errors"),
        WandbTracker(mode="online").run(folder=tmp_path, name="run", **ABOUT),
    ):
        pass
    assert modes == ["online", "offline"]


class LostOnItsWay:
    """A W&B run whose server is gone: what it takes it keeps, but no artifacts, nor an end."""

    def __init__(self) -> None:
        self.logged: list[dict[str, Any]] = []
        self.summary: dict[str, Any] = {}
        self.ended: list[int] = []

    def define_metric(self, *_: Any, **__: Any) -> None:
        pass

    def log(self, row: dict[str, Any]) -> None:
        if "operating_points" in row:
            import wandb

            raise wandb.errors.CommError("the server is gone")
        self.logged.append(row)

    def finish(self, exit_code: int) -> None:
        self.ended.append(exit_code)
        raise TimeoutError


def test_a_run_outlives_the_loss_of_the_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = LostOnItsWay()
    monkeypatch.setattr(tracker, "_start_online", lambda about: lost)
    with warnings.catch_warnings(record=True) as caught:
        with WandbTracker(mode="online").run(folder=tmp_path, name="lost", **ABOUT) as run:
            run.frontier(POINTS)
            run.summary({"aiq": 0.5})
        with pytest.raises(KeyError, match="mine"):
            fail(WandbTracker(mode="online"), tmp_path)
    assert [row["frontier/cost"] for row in lost.logged[:3]] == [1.5, 2.0, 2.5]
    assert lost.summary == {"aiq": 0.5}
    assert lost.ended == [0, 1]
    table, *ends = (str(warning.message) for warning in caught)
    assert "the server is gone" in table
    assert len(ends) == 2
    assert all(f"wandb sync --include-online {tmp_path}/wandb/run-*" in end for end in ends)


def test_no_tracking_needs_no_wandb(tmp_path: Path) -> None:
    code = f"""
import sys
from pathlib import Path
sys.modules["wandb"] = None  # its import fails
from evaluation.tracker import NoTracker, WandbTracker
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
    return DictConfig(OmegaConf.load(ROOT / "conf" / "tracker" / f"{name}.yaml"))


def test_the_configs_name_the_trackers() -> None:
    assert build(config("none"), "tracker") == NoTracker()
    assert build(config("wandb"), "tracker") == WandbTracker()


def test_an_unknown_mode_is_refused_by_name() -> None:
    expected = r"tracker\.mode is 'onlin': expected one of \('online', 'offline', 'disabled'\)"
    with pytest.raises(ValueError, match=expected):
        WandbTracker(mode="onlin")  # type: ignore[arg-type]
    misspelt = config("wandb")
    misspelt.mode = "onlin"
    with pytest.raises(ValueError, match=expected):
        build(misspelt, "tracker")


@pytest.mark.parametrize(
    "name",
    ["api_key", "apiKey", "OPENAI_API_KEY", "x-api-key", "apikey", "password", "db_passwd"]
    + ["token", "hf_token", "accessToken", "auth_tokens", "client_secret", "Authorization", "key"]
    + ["credentials", "private-key", "pwd", "bearer"],
)
def test_secrets_are_masked_at_any_depth(name: str) -> None:
    told = {"a": [{name: "LEAKED"}], "b": {name: {"user": "LEAKED"}}, name: ["LEAKED"]}
    assert masked(told) == {"a": [{name: "***"}], "b": {name: "***"}, name: "***"}
    assert told["a"] == [{name: "LEAKED"}]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("tokens_in", "n_in"),
        ("max_tokens", 512),
        ("price_per_token", 0.5),
        ("keyword", "a"),
        ("monkey", "a"),
        ("author", "a"),
        ("api_key", None),
        ("seed", 0),
    ],
)
def test_what_only_resembles_a_secret_is_kept(name: str, value: Any) -> None:
    assert masked({name: value}) == {name: value}


def test_a_number_may_be_a_password() -> None:
    assert masked({"password": 12345}) == {"password": "***"}
