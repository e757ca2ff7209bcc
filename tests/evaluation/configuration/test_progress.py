"""The bar of a sweep: two launches of one sweep keep apart, and leftovers are cleared away."""

import pickle
import re

import pytest
from hydra.core.utils import JobReturn, JobStatus
from omegaconf import OmegaConf

from routing_pomdp.evaluation.configuration.progress import SweepProgress


@pytest.fixture
def config(tmp_path):
    return OmegaConf.create(
        {
            "hydra": {
                "sweep": {"dir": str(tmp_path / "s")},
                "overrides": {"task": ["seed=1,2"]},
                "sweeper": {},
                "job": {"num": 0},
            }
        }
    )


def job(line):
    return JobReturn(overrides=["seed=1"], status=JobStatus.COMPLETED, _return_value=line)


def test_two_launches_of_one_sweep_each_show_their_own_runs(config, tmp_path, capsys):
    left = tmp_path / "s" / ".progress-killed"
    left.mkdir(parents=True)
    one, two = SweepProgress(), SweepProgress()
    one.on_multirun_start(config)
    two.on_multirun_start(config)
    for launch, line in ((one, "first"), (two, "second")):
        # As a launcher's worker has it.
        pickle.loads(pickle.dumps(launch)).on_job_end(config, job(line))
    one.on_multirun_end(config)
    shown = capsys.readouterr()
    assert "first" in shown.out + shown.err
    assert "second" not in shown.out
    two.on_multirun_end(config)
    assert re.search("second", capsys.readouterr().out)
    assert list((tmp_path / "s").iterdir()) == []


def test_a_single_run_has_no_bar(config, tmp_path):
    SweepProgress().on_job_end(config, job("one"))
    assert list(tmp_path.iterdir()) == []
