"""Fits a statistical profile to a log and compares its simulation with the log."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from routing_pomdp.evaluation.configuration.command_line import reported

if TYPE_CHECKING:
    from routing_pomdp.envs import Rollouts
    from routing_pomdp.envs.profiles import Profile

_SIMULATED = 200_000


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="The profile is a few hundred numbers, without text of queries or answers. "
        "Use it as rollouts=profile rollouts.profile=FILE.yaml, or load_profile('FILE.yaml').",
    )
    parser.add_argument(
        "--path",
        required=True,
        help="a calls table (parquet, CSV or JSON lines); with --dataset, a folder of "
        "DATASET.CHAIN.SPLIT.calls.parquet files",
    )
    parser.add_argument("--dataset", help="which data set of the folder")
    parser.add_argument("--chain", default="llama", help="which chain of models (default: llama)")
    parser.add_argument(
        "--split",
        default="train",
        help="the split of the log to fit (default: train); 'all' for everything",
    )
    parser.add_argument(
        "--models", nargs="+", help="only these models of the calls table, cheapest first"
    )
    parser.add_argument("--signal", help="the signal; may be left out where the log has one only")
    parser.add_argument("--name", help="the profile's name (default: the output file's)")
    parser.add_argument("--source", default="", help="where the log came from, for the file")
    parser.add_argument("--out", type=Path, required=True, help="the YAML file to write")
    arguments = parser.parse_args()
    with reported():
        fit(arguments)


def fit(arguments: argparse.Namespace) -> None:
    """Fits and writes the profile, and prints the comparison."""
    from routing_pomdp.envs.files.atomic import check_output
    from routing_pomdp.envs.logs.sources import calls_table, rational_cascades
    from routing_pomdp.envs.profiles import fit_profile, load_profile, save_profile

    if arguments.out.suffix not in (".yaml", ".yml"):
        raise ValueError(f"--out is {arguments.out}: expected a name that ends in .yaml")
    check_output(arguments.out, Path(arguments.path))
    if arguments.dataset is None:
        log = calls_table(arguments.path, models=arguments.models)
    else:
        log = rational_cascades(arguments.path, arguments.dataset, chain=arguments.chain)
    if arguments.split != "all":
        log = log.where(arguments.split)
    signal = arguments.signal or _only(sorted(log.signals))
    name = arguments.name or arguments.out.stem
    save_profile(fit_profile(log, signal, name, arguments.source), arguments.out)
    print(comparison(log, load_profile(arguments.out)))
    print(f"\nwritten: {arguments.out}")


def comparison(log: Rollouts, profile: Profile) -> str:
    """A table of the log and a simulation by model, and the largest difference of each kind."""
    import numpy as np
    from tabulate import tabulate

    from routing_pomdp.envs.profiles import describe, simulate

    logged = describe(log, profile.signal)
    simulated = simulate(profile, _SIMULATED, seed=0)
    drawn = describe(simulated, profile.signal)
    own = np.diag(logged.auroc), np.diag(drawn.auroc)
    columns = np.column_stack([logged.accuracy, drawn.accuracy, *own])
    table = tabulate(
        [[None if np.isnan(cell) else cell for cell in row] for row in columns],
        headers=["score, log", "simulated", "AUROC, log", "simulated"],
        showindex=list(log.models),
        floatfmt=".3f",
        missingval="-",
    )
    worst = {
        "score": logged.accuracy - drawn.accuracy,
        "AUROC, own model": own[0] - own[1],
        "AUROC, other model": (logged.auroc - drawn.auroc)[~np.eye(len(log.models), dtype=bool)],
        "correlation of scores": logged.phi - drawn.phi,
        "rank correlation of signals": logged.spearman - drawn.spearman,
    }
    # A statistic that no model has is left out (a signal of only one model has no pairs).
    largest = [
        [kind, np.nanmax(np.abs(gaps))] for kind, gaps in worst.items() if not np.isnan(gaps).all()
    ]
    return "\n\n".join(
        [
            f"{profile.name}: {profile.queries} queries of split {profile.split!r}, "
            f"signal {profile.signal!r}",
            table,
            tabulate(largest, headers=["largest difference", "log - simulated"], floatfmt=".3f"),
        ]
    )


def _only(signals: list[str]) -> str:
    if len(signals) != 1:
        raise ValueError(f"the log has the signals {signals}: name one with --signal")
    return signals[0]


if __name__ == "__main__":
    main()
