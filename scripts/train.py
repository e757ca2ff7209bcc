"""One run of one configuration, or with ``-m`` a sweep: log → problem → policies → measures."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

# Heavy imports are inside functions so that --help is fast.
import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from routing_pomdp.evaluation.configuration.command_line import choices_of, failed_run, reported

if TYPE_CHECKING:
    from routing_pomdp.evaluation.runs.run_folder import Run


@reported()
@hydra.main(version_base="1.3", config_path="pkg://routing_pomdp.conf", config_name="train")
def main(config: DictConfig) -> str:
    job = HydraConfig.get()
    multirun = job.mode == RunMode.MULTIRUN
    log = Path(job.runtime.output_dir) / f"{job.job.name}.log"
    started = datetime.now(UTC).isoformat()
    if multirun:  # a failed run does not stop the sweep
        try:
            run = train(config, choices_of(job))
        except Exception as error:
            return failed_run(error, log, " ".join(job.overrides.task))
    else:
        with reported(log):
            run = train(config, choices_of(job))
            from routing_pomdp.evaluation.sweeps.comparison import run_table

            print(run_table(run))
            if run.guarantee:
                print(f"\nguarantee: {run.guarantee['says']}")
    earlier = run.about["finished"] < started
    if earlier and not multirun:
        print("(finished earlier: force=true repeats it)")
    return one_line(run) + "  finished earlier" * earlier


def train(config: DictConfig, choices: Mapping[str, str]) -> Run:
    """Checks a configuration and runs it, as `evaluation.runs.solver_run.run` does."""
    from routing_pomdp.evaluation.configuration.schema import Train, check
    from routing_pomdp.evaluation.runs.solver_run import run

    check(config, Train)
    return run(config, choices)


def one_line(run: Run) -> str:
    """A run's outcome in one line, for the log of a sweep."""
    from routing_pomdp.evaluation.runs.run_panel import shown_costs

    measures, about = run.measures, run.about
    figures = "  ".join(
        f"{label} {'   –  ' if measures[key] is None else format(measures[key], '6.3f')}"
        for label, key in (("AIQ", "aiq"), ("gap closed", "gap_closed"))
    )
    return (
        f"{about['solver']:<12} {about['dataset']:<12} costs {shown_costs(about):<12} {figures}"
        f"  {about['seconds']['all']:5.1f} s"
    )


if __name__ == "__main__":
    main()
