"""The value of a log's verifiers to a router: one table and one figure."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from routing_pomdp.evaluation.configuration.command_line import choices_of, reported

if TYPE_CHECKING:
    from omegaconf import DictConfig


@reported()
def main() -> None:
    # Heavy imports are inside functions so that --help is fast.
    import hydra

    hydra.main(
        version_base="1.3", config_path="pkg://routing_pomdp.conf", config_name="value_verifiers"
    )(judge)()


def judge(config: DictConfig) -> None:
    """Runs a configuration composed from ``conf/value_verifiers.yaml``."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    job = HydraConfig.get()
    if job.mode == RunMode.MULTIRUN:
        sys.exit("error: no sweeps here: give a list, such as rollouts.dataset=[gsm8k,mmlu]")
    with reported(Path(job.runtime.output_dir) / f"{job.job.name}.log"):
        from routing_pomdp.evaluation.signals.verifier_run import run

        run(config, choices_of(job)["verifier"])


if __name__ == "__main__":
    main()
