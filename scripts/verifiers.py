"""What the verifiers of a log are worth to a router: one table, one figure."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from omegaconf import DictConfig


def main() -> None:
    # Nothing heavier is imported than this: --help must answer at once.
    import hydra

    hydra.main(version_base="1.3", config_path="../conf", config_name="verifiers")(judge)()


def judge(config: DictConfig) -> None:
    """Runs the configuration as composed from ``conf/verifiers.yaml``."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    job = HydraConfig.get()
    if job.mode == RunMode.MULTIRUN:
        sys.exit("error: no sweeps here: give a list, such as rollouts.dataset=[gsm8k,mmlu]")
    from evaluation.command_line import choices_of, reported

    with reported(Path(job.runtime.output_dir) / f"{job.job.name}.log"):
        from evaluation.verifier_run import run

        run(config, choices_of(job)["verifier"])


# Python looks for modules first in the folder of the script that runs. So whichever script here
# asks for the package `verifiers` is given this file, which hands over to the package.
if __name__ in ("__main__", "verifiers"):
    _here, _path = Path(__file__).resolve().parent, list(sys.path)
    sys.path[:] = [folder for folder in _path if Path(folder).resolve() != _here]
    if __name__ == "__main__":
        from evaluation.command_line import reported

        with reported():
            main()
    else:
        del sys.modules["verifiers"]
        importlib.import_module("verifiers")
        sys.path[:] = _path
