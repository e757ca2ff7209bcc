"""Commands of this project in one process in which no heavy package can be imported.

``python -m tests.support.heavy_imports`` reads a list of commands, each a script and its arguments,
as JSON from stdin. It prints, as JSON, of each command what it printed, how it ended, and where it
asked for which heavy package; and which modules of this project ask for one when they are imported.
"""

from __future__ import annotations

import contextlib
import io
import json
import pkgutil
import runpy
import sys
from importlib import import_module
from pathlib import Path

from tests.support.checkout import ROOT, SCRIPTS

HEAVY = ("torch", "sklearn", "matplotlib", "pomdp_py")


class Refusal:
    """Refuses the heavy packages to whoever asks, and notes who it was."""

    def __init__(self):
        self.asked = []

    def find_spec(self, name, path=None, target=None):
        if name not in HEAVY:
            return
        frame, inside = sys._getframe(), None
        while inside is None and frame is not None:
            file, what = Path(frame.f_code.co_filename), frame.f_code.co_name
            file = file.resolve() if file.is_absolute() else file  # else "<frozen …>"
            if file.is_relative_to(ROOT) and file != Path(__file__) and what != "<module>":
                inside = f"{file.relative_to(ROOT)}:{what}"
            frame = frame.f_back
        self.asked.append([name, inside])
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def run(refusal, script, *arguments):
    """What a command printed, its exit status or last words, and what it asked for."""
    refusal.asked = []
    sys.argv = [script, *arguments]
    printed, status = io.StringIO(), 0
    with contextlib.redirect_stdout(printed):
        try:
            runpy.run_path(str(SCRIPTS / script), run_name="__main__")
        except SystemExit as end:
            status = end.code
    return {"printed": printed.getvalue(), "status": status, "asked": list(refusal.asked)}


def needs():
    """Module -> the heavy package that its import asks for, of all modules that ask for one."""
    from routing_pomdp.envs.lazy import FOLDERS  # not before the heavy packages are refused

    found = {}
    for folder in FOLDERS:
        package = f"routing_pomdp.{folder}"
        for module in pkgutil.walk_packages(import_module(package).__path__, f"{package}."):
            try:
                import_module(module.name)
            except ModuleNotFoundError as error:
                if error.name in HEAVY:  # else it is an optional package that is not installed
                    found[module.name] = error.name
    return found


if __name__ == "__main__":
    refusal = Refusal()
    sys.meta_path.insert(0, refusal)
    done = [run(refusal, *command) for command in json.load(sys.stdin)]
    print(json.dumps({"commands": done, "needs": needs()}))
