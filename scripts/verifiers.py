"""What the verifiers of a log are worth to a router: one table, one figure."""

from __future__ import annotations

import sys
from pathlib import Path

# This file is called what a package is called: in its own folder it would be found in its place.
sys.path[:] = [folder for folder in sys.path if Path(folder) != Path(__file__).parent]

# Nothing heavier is imported up here: --help must answer at once.
import hydra  # noqa: E402
from hydra.core.hydra_config import HydraConfig  # noqa: E402
from hydra.types import RunMode  # noqa: E402
from omegaconf import DictConfig  # noqa: E402


@hydra.main(version_base="1.3", config_path="../conf", config_name="verifiers")
def main(config: DictConfig) -> None:
    from evaluation.verifier_run import run

    try:
        if HydraConfig.get().mode == RunMode.MULTIRUN:
            raise ValueError("no sweeps here: give a list, such as rollouts.dataset=[gsm8k,mmlu]")
        run(config, HydraConfig.get().runtime.choices["verifier"])
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
