"""Tracking online where W&B cannot be reached: nothing here needs an account or network."""

from __future__ import annotations

import os
import pty
import warnings
from pathlib import Path
from typing import Any

import pytest

from routing_pomdp.evaluation import tracker
from routing_pomdp.evaluation.tracker import WandbTracker
from tests.support.tracked_runs import (
    ABOUT,
    POINTS,
    exit_code,
    fail,
    finished,
    history,
    python,
    summary,
)

ONLINE = f"""
from pathlib import Path
from routing_pomdp.evaluation import tracker
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
