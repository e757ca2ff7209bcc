"""Run folders under several processes: one writes, others read, wait, or are killed."""

import json
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from shutil import rmtree

import numpy as np
import pytest

from routing_pomdp.evaluation.runs.report import Report
from routing_pomdp.evaluation.runs.run_folder import discard, keep, load, read_sweep, save
from routing_pomdp.evaluation.runs.run_lock import alone_in
from tests.support.outcomes import family_of

MAPS = np.zeros((1, 3, 3, 4), int)


def about(**changed):
    return {
        "solver": "static",
        "dataset": "toy",
        "costs": "10",
        "seed": 0,
        "queries": {"test": 300},
        "finished": "2026-01-01",
        "data": "one",
        "config": {"rollouts": {"path": "a.csv"}, "seed": 0},
    } | changed


def reported(seed):
    return Report({"aiq": float(seed)}, {}, [], [], [], MAPS, family_of(seed=seed, n=60))


def test_whoever_reads_finds_the_old_run_or_the_new_or_none(tmp_path):
    reports = [reported(seed) for seed in range(2)]
    stop, found = threading.Event(), set()

    def write():
        for turn in range(40):
            discard(tmp_path / "s" / "run")
            save(tmp_path / "s" / "run", about(), reports[turn % 2])
        stop.set()

    save(tmp_path / "s" / "other", about(seed=1, config={"seed": 1}), reports[0])
    writer = threading.Thread(target=write)
    writer.start()
    while not stop.is_set():
        runs, left_out = read_sweep(tmp_path / "s")
        assert not left_out
        for run in runs:
            if run.folder.name == "run":
                seed = int(run.measures["aiq"])
                np.testing.assert_array_equal(run.outcomes().score, reports[seed].test.score)
                found.add(seed)
    writer.join()
    assert load(tmp_path / "s" / "run").measures == {"aiq": 1.0}


def test_folders_that_vanish_do_not_disturb_a_comparison(tmp_path):
    save(tmp_path / "run", about(), reported(0))
    stop = threading.Event()

    def churn():
        while not stop.is_set():
            (tmp_path / "a" / "b" / "c").mkdir(parents=True, exist_ok=True)
            rmtree(tmp_path / "a")

    churning = threading.Thread(target=churn)
    churning.start()
    try:
        for _ in range(200):
            assert len(read_sweep(tmp_path)[0]) == 1
    finally:
        stop.set()
        churning.join()


def test_what_is_computed_is_not_finished(tmp_path):
    keep(tmp_path / "run", about(), reported(0), [{"step": 1, "loss": 0.5}])
    assert load(tmp_path / "run") is None
    with pytest.raises(ValueError, match="holds no finished run: none of its folders"):
        read_sweep(tmp_path)


def test_runs_on_an_earlier_state_of_a_log_are_left_out(tmp_path):
    def at(name, day, data, path="a.csv", seed=0):
        config = {"rollouts": {"path": path}, "seed": seed}
        save(tmp_path / name, about(finished=day, data=data, config=config), reported(0))

    at("a", "2026-01-01", "one")
    at("b", "2026-01-02", "two", seed=1)
    at("c", "2026-01-03", "two")  # the same configuration as a
    at("d", "2026-01-01", "one", seed=2)
    at("e", "2026-01-01", "one", path="b.csv")
    runs, (reason,) = read_sweep(tmp_path)
    assert [run.folder.name for run in runs] == ["b", "c", "e"]
    assert reason.startswith(f"{tmp_path}/d: later runs read another state of its log")


def test_runs_of_earlier_versions_are_read_and_their_damage_is_found(tmp_path):
    run = save(tmp_path / "run", about(), reported(0))
    content = json.loads((run.folder / "metrics.json").read_text())
    for key in ("outcomes", "training", "files", "tracked"):
        del content[key]
    (run.folder / "metrics.json").write_text(json.dumps(content))
    assert load(run.folder).measures == run.measures
    (run.folder / "outcomes.npz").write_bytes(b"")
    with pytest.raises(ValueError, match="is no finished run's metrics"):
        load(run.folder)


def test_a_run_says_what_is_missing(tmp_path):
    run = save(tmp_path / "run", about(), reported(0))
    assert run.missing() == []
    assert replace(run, files=["a.png"]).missing() == ["a.png"]


def test_no_two_are_in_a_folder_at_once(tmp_path):
    inside, most = [0], [0]

    def enter(_):
        for _ in range(30):
            with alone_in(tmp_path / "run"):
                inside[0] += 1
                most[0] = max(most[0], inside[0])
                time.sleep(0.0002)
                inside[0] -= 1

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(enter, range(6)))
    assert most == [1]
    assert list(tmp_path.iterdir()) == []


def test_a_kill_lets_go_of_a_folder(tmp_path, capsys):
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        with alone_in(tmp_path / "run"):
            os.write(write, b"in")
            time.sleep(600)
    os.read(read, 2)
    waiting = threading.Timer(0.3, os.kill, (child, signal.SIGKILL))
    waiting.start()
    with alone_in(tmp_path / "run"):
        assert os.waitpid(child, 0)[1] == signal.SIGKILL
    assert "another process runs it; waiting for it" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_what_was_left_in_a_folder_stays(tmp_path):
    with pytest.raises(KeyError), alone_in(tmp_path / "run"):  # noqa: PT012
        (tmp_path / "run" / "kept").write_text("")
        raise KeyError
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["kept"]
