"""Where this checkout is, and its folders."""

import os
from pathlib import Path

ROOT = Path(__file__).parents[2]
CONF, DOCS, SCRIPTS = ROOT / "conf", ROOT / "docs", ROOT / "scripts"


def environment(*folders: Path, **changed: str) -> dict[str, str]:
    """This process's environment for one that imports this checkout, and modules in ``folders``."""
    path = os.pathsep.join(map(str, [*folders, ROOT / ".links", ROOT]))
    return os.environ | {"PYTHONPATH": path} | changed
