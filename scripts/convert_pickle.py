"""Converts a pickled pandas table to parquet, CSV or JSON lines without running code in it."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pickle", type=Path, help="a pickled pandas.DataFrame, maybe gzipped")
    parser.add_argument("out", type=Path, help=".parquet, .csv or .jsonl to write")
    arguments = parser.parse_args()
    from routing_pomdp.envs.files.atomic import check_output
    from routing_pomdp.envs.logs.calls_table import write_table
    from routing_pomdp.envs.logs.pickled_table import read_pickled_table
    from routing_pomdp.envs.logs.table_files import file_format

    try:
        file_format(arguments.out)
        check_output(arguments.out, arguments.pickle)
        table = read_pickled_table(arguments.pickle)
    except OSError as error:
        sys.exit(f"error: {error}")
    except ValueError as error:
        sys.exit(f"error: {arguments.pickle}: {error}")
    try:
        write_table(table, arguments.out)
    except OSError as error:
        sys.exit(f"error: {arguments.out}: {error}")
    print(f"written: {arguments.out} ({table.num_rows:,} rows, {table.num_columns} columns)")


if __name__ == "__main__":
    main()
