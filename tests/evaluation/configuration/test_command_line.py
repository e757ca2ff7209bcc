"""What a user reads when something fails: one line that says what, where and what was expected."""

import errno
from pathlib import Path

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from routing_pomdp.evaluation.configuration.command_line import explained, failed_run, reported
from tests.support.checkout import CONF

PLUG_IN = """
def fail():
    raise KeyError("mine")

def refuse():
    raise ValueError("I will not")
"""


def said(action, log=None):
    """What `reported` ends the process with."""
    with pytest.raises(SystemExit) as ended, reported(log):
        action()
    return ended.value.code


def test_a_kept_traceback_is_the_users_alone_and_passes_the_gate(tmp_path):
    log = tmp_path / "out" / "collect.log"
    with pytest.raises(SystemExit) as ended, reported(log, lambda s: s.replace("KEY", "***")):
        raise KeyError("KEY")
    assert "KEY" not in ended.value.code + log.read_text()
    assert "***" in log.read_text()
    assert log.stat().st_mode & 0o077 == log.parent.stat().st_mode & 0o077 == 0


@pytest.fixture
def plug_in(tmp_path, monkeypatch):
    import importlib

    (tmp_path / "plug_in_of_mine.py").write_text(PLUG_IN)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    module = importlib.import_module("plug_in_of_mine")
    return importlib.reload(module)


def test_an_error_of_a_plug_in_names_its_function_file_and_line(plug_in, tmp_path):
    log = tmp_path / "runs" / "train.log"
    line = said(plug_in.fail, log)
    assert line == (
        "error: fail (plug_in_of_mine.py:3): KeyError: 'mine' (traceback in runs/train.log)"
    )
    assert "Traceback (most recent call last)" in log.read_text()
    line = said(plug_in.refuse, log)
    assert line.startswith("error: refuse (plug_in_of_mine.py:6): ValueError: I will not")
    assert log.read_text().count("Traceback") == 2


def test_an_expected_error_is_its_message_alone(tmp_path):
    def refuse():
        # Raised where the project's own code would.
        np.load(tmp_path / "nothing.npz")

    assert explained(ValueError("a is 3: expected 4")) == "a is 3: expected 4"
    failed = failed_run(ValueError("a is 3"), tmp_path / "log", "seed=1")
    assert failed == "a is 3"
    assert "seed=1" in (tmp_path / "log").read_text()
    assert str(tmp_path / "nothing.npz") in said(refuse)


def test_a_full_disk_names_the_file():
    def fill():
        with Path("/dev/full").open("w") as file:
            file.write("x")
            file.flush()

    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full on this system")
    assert "No space left on device: /dev/full" in said(fill)


def test_a_full_disk_names_the_path_that_a_library_was_writing_to(tmp_path):
    def save(folder):
        path = folder / "outcomes.npz"
        assert not path.exists()
        raise OSError(errno.ENOSPC, "No space left on device")

    assert f"No space left on device: {tmp_path / 'outcomes.npz'}" in said(lambda: save(tmp_path))


def test_an_interruption_is_one_line(capsys):
    def interrupt():
        raise KeyboardInterrupt

    assert said(interrupt) == 130
    assert capsys.readouterr().err == "interrupted\n"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "solver=exat",
            "solver=exat: no such option (did you mean exact?), expected",
        ),
        (
            "costs.rato=1",
            "costs.rato is no setting (did you mean ratio?); to add one, write",
        ),
        ("sead=1", "sead is no setting (did you mean seed?)"),
        ("+seed=1", "seed is set already: write seed=VALUE, without +"),
        ("a=[1", "a=[1: cannot be read, "),
        ("solver=null", "a group was given no option"),
        ("experiment=nope", "experiment=nope: no such option, expected one of automix"),
    ],
)
def test_hydras_own_errors_are_one_readable_line(override, message):
    def run():
        GlobalHydra.instance().clear()
        with initialize_config_dir(str(CONF), version_base="1.3"):
            compose("train", [override])

    line = said(run)
    assert message in line
    assert "\n" not in line


def test_a_repeated_key_of_a_users_configuration_is_refused(tmp_path):
    (tmp_path / "mine.yaml").write_text("seed: 1\nseed: 2\n")

    def run():
        GlobalHydra.instance().clear()
        with initialize_config_dir(str(tmp_path), version_base="1.3"):
            compose("mine")

    line = said(run)
    assert "found duplicate key seed" in line
    assert "mine.yaml" in line
    assert "\n" not in line


def test_a_fault_of_the_program_says_where_it_is():
    from routing_pomdp.evaluation.frontier import height

    line = said(lambda: height(None, None))
    assert "Error: " in line
    assert ", at evaluation/frontier.py:" in line
    assert "a fault of this program" in line
