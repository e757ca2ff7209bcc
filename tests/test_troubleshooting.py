"""docs/troubleshooting.md shows the messages that its commands print."""

import re

import pytest

from tests.support.checkout import DOCS
from tests.support.commands import command

PAGE = DOCS / "troubleshooting.md"
COLUMNS = ["query_id", "model", "score", "cost", "signal_confidence"]
CALLS = [
    [f"q{i}", model, (i * 7 + 3 * large) % 5 > 1, 0.03 if large else 0.001, (i * 13 % 17) / 17]
    for i in range(40)
    for large, model in enumerate(("small", "large"))
]


def shown():
    """``(command, message)`` of the page."""
    for block in re.findall(r"```text\n(.*?)```", PAGE.read_text(), re.DOTALL):
        yield from re.findall(r"^\$ (.*)\n(.*)$", block, re.MULTILINE)


@pytest.fixture
def logs(tmp_path, monkeypatch):
    """The logs that the page names, each with what is wrong with it."""

    def write(name, columns, rows):
        lines = [",".join(str(value) for value in row) for row in [columns, *rows]]
        (tmp_path / f"{name}.csv").write_text("\n".join(lines).replace("True", "1") + "\n")

    write("calls", COLUMNS, CALLS)
    write("other_names", ["qid", "llm", "right"], [row[:3] for row in CALLS])
    write("no_costs", [*COLUMNS[:3], COLUMNS[4]], [[*row[:3], row[4]] for row in CALLS])
    write("twice", COLUMNS, [*CALLS, CALLS[4]])
    write("percent", COLUMNS, [[*row[:2], 100 * row[2], *row[3:]] for row in CALLS])
    write("gaps", COLUMNS, [row for i, row in enumerate(CALLS) if i % 7])
    write("holdout", [*COLUMNS, "split"],
          [[*row, "holdout" if i % 4 > 1 else "train"] for i, row in enumerate(CALLS)])  # fmt: skip
    write("few", COLUMNS, CALLS[:4])
    write("no_signals", COLUMNS[:4], [row[:4] for row in CALLS])
    write("two_signals", [*COLUMNS, "signal_margin"], [[*row, row[4]] for row in CALLS])
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(("line", "message"), list(shown()))
def test_a_command_prints_the_message_of_the_page(line, message, logs):
    script, *arguments = line.split()
    found = command(script.removeprefix("routing-"), *arguments, fails=True).stderr
    (found,) = [line for line in found.splitlines() if line.startswith("error: ")]
    if message.endswith("…"):
        found = found[: len(message) - 1] + "…"
    assert found == message


def test_the_page_shows_messages():
    assert len(list(shown())) > 15
