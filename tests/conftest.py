"""One thread a process; and where real logs are, if this machine has them."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

from tests.support.checkout import ROOT

# Tests run side by side, each process on one thread: threads that wait for work burn a core. Set
# before numpy and torch are imported, and inherited by the processes that tests start.
for _library in ("OMP", "OPENBLAS", "MKL"):
    os.environ[f"{_library}_NUM_THREADS"] = "1"

# The same examples every time, however long one takes: --hypothesis-profile=default tries others.
settings.register_profile("suite", max_examples=25, deadline=None, derandomize=True, database=None)
settings.load_profile("suite")

# Programs that take minutes, run by hand: python -m tests.trials.NAME.
collect_ignore = ["trials"]

_BESIDE_THE_CHECKOUT = ROOT.parent / "shared" / "data" / "rational_cascades"


@pytest.fixture(scope="session")
def shared_logs() -> Path:
    """The folder of real logged rollouts, beside the checkout or named by ROUTING_LOGS."""
    folder = Path(os.environ.get("ROUTING_LOGS", _BESIDE_THE_CHECKOUT))
    if not folder.is_dir():
        pytest.skip(f"no real logs at {folder}: set ROUTING_LOGS to a rational_cascades folder")
    return folder


@pytest.fixture(scope="session")
def public_logs(shared_logs: Path) -> Path:
    """The folder of public evaluation logs, beside that of the other real ones."""
    folder = shared_logs.parent / "public_logs"
    if not folder.is_dir():
        pytest.skip(f"no public logs at {folder}, beside the folder of ROUTING_LOGS")
    return folder
