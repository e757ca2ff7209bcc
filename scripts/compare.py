"""Makes a report of the finished runs of a sweep: tables, figures, significance tests."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from routing_pomdp.evaluation.configuration.command_line import reported


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="Writes to the sweep's folder: comparison.csv and .md (the table that is printed), "
        "report.md with tables/*.csv (one table per measure, differences with Holm's correction, "
        "wins, ΔIBC by region, operating points selected on validation), frontiers.png and .svg, "
        "curves over cost ratios and training sizes, and policy maps. Measures are on the test "
        "split, with bootstrap intervals.",
    )
    parser.add_argument("sweep", type=Path, help="folder of a sweep, such as runs/demo")
    parser.add_argument("--out", type=Path, help="folder to write to; by default the sweep's")
    parser.add_argument(
        "--reference", help="solver that the others are compared with; static by default"
    )
    parser.add_argument("--log-cost", action="store_true", help="a logarithmic cost axis")
    parser.add_argument(
        "--headline",
        type=Path,
        help="write one panel more, a PNG for readers who see such a figure for the first time: "
        "the leading router in the middle setting of the first row",
    )
    parser.add_argument(
        "--wandb",
        choices=("online", "offline"),
        help="log the report's tables and figures to W&B too, as a run of the sweep's group; sent "
        "later, if offline, by: wandb sync SWEEP/report/wandb/offline-run-*",
    )
    parser.add_argument("--project", default="routing-pomdp", help="in W&B")
    arguments = parser.parse_args()
    with reported():
        compare(arguments)


def compare(arguments: argparse.Namespace) -> None:
    """Prints a sweep's table and writes the table and the report."""
    from routing_pomdp.envs.files.atomic import write_text
    from routing_pomdp.evaluation.runs.run_folder import read_sweep
    from routing_pomdp.evaluation.sweeps.comparison import (
        comparison_csv,
        comparison_table,
        sort_runs,
    )
    from routing_pomdp.evaluation.sweeps.conclusion import conclusion
    from routing_pomdp.evaluation.sweeps.sweep_report import sweep_report

    sweep: Path = arguments.sweep
    out: Path = arguments.out or sweep
    runs, left_out = read_sweep(sweep)
    for reason in left_out:
        print(f"left out: {reason}", file=sys.stderr)
    settings = sort_runs(runs)
    out.mkdir(parents=True, exist_ok=True)
    write_text(out / "comparison.csv", comparison_csv(settings))
    write_text(out / "comparison.md", comparison_table(settings, "github") + "\n")
    print(comparison_table(settings, "simple"))
    report = sweep_report(runs, out, arguments.reference, arguments.log_cost)
    page = report.write(out, f"Sweep {sweep.name}")
    if arguments.wandb:
        from routing_pomdp.evaluation.tracker import WandbTracker

        tracker = WandbTracker(arguments.wandb, arguments.project)
        report.track(tracker, out / "report", runs[0].about["sweep"])
    written = [out / "comparison.csv", out / "comparison.md", page, *report.figures.values()]
    if arguments.headline:
        from routing_pomdp.evaluation.sweeps.sweep_report import draw_headline

        written.append(draw_headline(settings, arguments.headline))
    print("\n" + conclusion(settings))
    print(f"Open {report.figures['frontiers']} and {page}.")
    print("\nwritten: " + ", ".join(map(str, written)))


if __name__ == "__main__":
    main()
