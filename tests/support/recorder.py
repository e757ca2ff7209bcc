"""A tracker for the tests: it leaves a file in the run's folder once the run has ended well."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

NAME = "recorded.json"


@dataclass(frozen=True)
class Recorder:
    """Keeps what it is told."""

    keeps: bool = True

    @contextmanager
    def run(self, *, folder: Path, **about: Any) -> Iterator[_Recorded]:
        recorded = _Recorded({"about": about, "curves": [], "figures": [], "tables": []})
        yield recorded
        (folder / NAME).write_text(json.dumps(recorded.told))


@dataclass(frozen=True)
class _Recorded:
    told: dict[str, Any]

    def log(self, curve: str, row: Any) -> None:
        self.told["curves"].append([curve, row])

    def frontier(self, points: Any) -> None:
        self.told["frontier"] = points

    def summary(self, measures: Any) -> None:
        self.told["summary"] = measures

    def table(self, name: str, columns: Any, rows: Any) -> None:
        self.told["tables"].append(name)

    def figure(self, name: str, path: Path) -> None:
        self.told["figures"].append(name)

    def artifact(self, path: Path, name: str, kind: str) -> None:
        self.told["artifact"] = str(path)
