"""Converts the logs of other tools into a calls table, which scripts/train.py reads.

lm_eval    sample logs of lm-evaluation-harness: MODEL/samples_TASK_TIME.jsonl
litellm    spend logs of LiteLLM's proxy
langfuse   observations exported from Langfuse, with exported scores
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from routing_pomdp.envs.logs.conversion import Calls


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="What each field becomes: docs/log_format.md.",
    )
    parser.add_argument("tool", choices=("lm_eval", "litellm", "langfuse"))
    parser.add_argument("files", nargs="+", type=Path, help="its logs")
    parser.add_argument("--out", type=Path, required=True, help=".parquet, .csv or .jsonl to write")
    parser.add_argument("--model", help="lm_eval: the model of all files (default: their folders)")
    parser.add_argument("--metric", help="lm_eval: the metric that is the score, such as acc")
    parser.add_argument("--filter", help="lm_eval: the filter whose samples are read")
    parser.add_argument(
        "--query",
        help="litellm, langfuse: the field that is equal in all calls of one query, such as "
        "metadata.query_id (default: a hash of the prompt)",
    )
    parser.add_argument(
        "--score",
        help="litellm, langfuse: the field that holds the score, such as metadata.score; with "
        "langfuse --scores, the name of the score",
    )
    parser.add_argument(
        "--scores",
        type=Path,
        help="a file of scores: for litellm of request_id and score, for langfuse as exported",
    )
    parser.add_argument(
        "--repeated",
        choices=("refuse", "first", "last"),
        default="refuse",
        help="which call is kept if a model answered a query more than once",
    )
    arguments = parser.parse_args()
    try:
        print(convert(arguments))
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")


def convert(arguments: argparse.Namespace) -> str:
    """Converts a log; returns a summary of what was written and left out.

    Raises:
        ValueError: an option belongs to another tool, or a log cannot be used.
    """
    from routing_pomdp.envs.files.atomic import check_output
    from routing_pomdp.envs.logs.calls_table import write_table
    from routing_pomdp.envs.logs.table_files import file_format

    own = {"lm_eval": ("model", "metric", "filter")}.get(
        arguments.tool, ("query", "score", "scores")
    )
    for name in ("model", "metric", "filter", "query", "score", "scores"):
        if name not in own and getattr(arguments, name) is not None:
            raise ValueError(f"--{name} is no option of {arguments.tool}")
    file_format(arguments.out)
    check_output(arguments.out, *arguments.files, *([arguments.scores] if arguments.scores else []))
    calls = _read(arguments, {name: getattr(arguments, name) for name in own})
    table = calls.table()
    part = arguments.out.with_name(f".part-{arguments.out.name}")
    try:
        write_table(table, part)
        part.replace(arguments.out)
    finally:
        part.unlink(missing_ok=True)
    return _summary(calls, arguments.out)


def _read(arguments: argparse.Namespace, options: dict[str, object]) -> Calls:
    from routing_pomdp.envs.logs import conversion

    read = getattr(conversion, arguments.tool)
    found: Calls = read(arguments.files, repeated=arguments.repeated, **options)
    return found


def _summary(calls: Calls, out: Path) -> str:
    models = Counter(model for _, model in calls.rows)
    asked = Counter(query for query, _ in calls.rows)
    complete = sum(count == len(models) for count in asked.values())
    lines = [f"written: {out}, {len(calls.rows)} calls on {len(asked)} queries"]
    lines += [f"  {model}: {count} calls" for model, count in models.items()]
    lines += [f"  left out: {count} {why}" for why, count in sorted(calls.left_out.items())]
    if complete < len(asked):
        lines.append(
            f"  {complete} of {len(asked)} queries were answered by all {len(models)} models: "
            "rollouts.complete_only=true keeps only those"
        )
    if not any(row.get("cost") is not None for row in calls.rows.values()):
        lines.append("  it has no costs: give costs=ratio costs.ratio=…")
    if not any(name.startswith("signal_") and value is not None
               for row in calls.rows.values() for name, value in row.items()):  # fmt: skip
        lines.append(
            "  it has no signals: give verifier=none, or one that reads prompts or answers"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
