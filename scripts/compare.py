"""Turns the finished runs of a sweep into one table and one figure."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="Writes comparison.csv, comparison.md, frontiers.png and frontiers.svg beside the "
        "runs, and prints the table. Figures are on the test split with bootstrap intervals.",
    )
    parser.add_argument("sweep", type=Path, help="folder of a sweep, such as runs/demo")
    parser.add_argument("--out", type=Path, help="folder to write to; by default the sweep's")
    parser.add_argument("--log-cost", action="store_true", help="a logarithmic cost axis")
    arguments = parser.parse_args()
    try:
        compare(arguments.sweep, arguments.out or arguments.sweep, arguments.log_cost)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")


def compare(sweep: Path, out: Path, log_cost: bool = False) -> None:
    """Prints a sweep's table, and writes it and the figure to ``out``."""
    from evaluation.comparison import comparison_csv, comparison_table, panel, sort_runs
    from evaluation.figures import save_figure, sweep_figure
    from evaluation.runs import load_all

    settings = sort_runs(load_all(sweep))
    out.mkdir(parents=True, exist_ok=True)
    (out / "comparison.csv").write_text(comparison_csv(settings))
    (out / "comparison.md").write_text(comparison_table(settings, "github") + "\n")
    panels = [panel(setting, runs) for setting, runs in settings.items()]
    written = save_figure(sweep_figure(panels, log_cost=log_cost), out / "frontiers")
    print(comparison_table(settings, "simple"))
    print(
        "\nwritten: "
        + ", ".join(map(str, (out / "comparison.csv", out / "comparison.md", *written)))
    )


if __name__ == "__main__":
    main()
