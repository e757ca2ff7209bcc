"""The scripts as functions of this process: a command costs no start of Python."""

from __future__ import annotations

import importlib
import logging
import re
import sys
from collections.abc import Iterator
from contextlib import chdir, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from functools import cache
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING
from unittest.mock import patch

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf, open_dict

from routing_pomdp.envs.files.atomic import write_bytes
from tests.support.checkout import CONF

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from routing_pomdp.evaluation.runs.run_folder import Run


@dataclass(frozen=True)
class Done:
    """How a command ended, and what it printed."""

    returncode: int
    stdout: str
    stderr: str


def command(script: str, *arguments: object, fails: bool = False, folder: Path | str = ".") -> Done:
    """``python scripts/SCRIPT.py ARGUMENTS``, in this process.

    Args:
        script: its name.
        arguments: as on a command line.
        fails: whether it must: it must end well otherwise.
        folder: to run it in.
    """
    main = importlib.import_module(f"routing_pomdp.scripts.{script}").main
    out, err, status = StringIO(), StringIO(), None
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level  # Hydra sets its own
    GlobalHydra.instance().clear()
    with (
        chdir(folder),
        patch.object(sys, "argv", [f"{script}.py", *map(str, arguments)]),
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        try:
            main()
        except SystemExit as end:
            status = end.code
        finally:
            root.handlers[:], root.level = handlers, level
    if isinstance(status, str):
        err.write(f"{status}\n")
    done = Done(status if isinstance(status, int) else int(status is not None), out.getvalue(),
                err.getvalue())  # fmt: skip
    assert (done.returncode != 0) == fails, done.stdout + done.stderr
    return done


def composed(name: str, *overrides: str) -> DictConfig:
    """The configuration conf/NAME.yaml with overrides, as Hydra composes it."""
    return _composed(name, overrides)[0]


def train(*overrides: str, draws: bool = False) -> Run:
    """One run of scripts/train.py, without its figures unless it ``draws``; the finished run."""
    from routing_pomdp.scripts import train as script

    config, choices = _composed("train", overrides)
    if draws:
        return script.train(config, choices)
    with patch("routing_pomdp.evaluation.runs.solver_run.draw", lambda run: {}):
        return script.train(config, choices)


def by_hydra(name: str, *overrides: str) -> tuple[DictConfig, dict[str, str]]:
    """A configuration, and the option chosen in each group."""
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose(name, list(overrides), return_hydra_config=True)
    choices = dict(config.hydra.runtime.choices)
    with open_dict(config):
        del config["hydra"]
    return config, choices


_base = cache(by_hydra)
_PLAIN = re.compile(r"[\w.]+=.*", re.DOTALL)


def _composed(name: str, overrides: tuple[str, ...]) -> tuple[DictConfig, dict[str, str]]:
    """As `by_hydra` says, without its quarter of a second where options are plain files, keys are
    there already, and the configuration itself sets none of its options' keys."""
    if name != "train":
        return by_hydra(name, *overrides)
    config, choices = _base(name)
    nodes, keys = {}, []
    for override in overrides:
        key, _, value = override.partition("=")
        file = CONF / key / f"{value}.yaml"
        if not _PLAIN.fullmatch(override) or (key in choices and not file.is_file()):
            return by_hydra(name, *overrides)
        if key in choices:
            nodes[key] = OmegaConf.load(file)
            choices = choices | {key: value}
        else:
            keys.append(override)
    if any("defaults" in node for node in nodes.values()) or "experiment" in nodes:
        return by_hydra(name, *overrides)
    own = OmegaConf.load(CONF / f"{name}.yaml")
    config = config.copy()
    with open_dict(config):
        for key, node in nodes.items():
            config[key] = OmegaConf.merge(node, own[key]) if key in own else node
    config.merge_with_dotlist(keys)
    return config, choices


@contextmanager
def unrendered() -> Iterator[dict[Path, Figure]]:
    """Figures are made but not rendered, which takes a second each: files take their places. Gives
    the figures by path without suffix."""
    drawn: dict[Path, Figure] = {}

    def save(figure: Figure, stem: Path) -> tuple[Path, Path]:
        drawn[stem] = figure
        png, svg = (stem.with_name(f"{stem.name}.{kind}") for kind in ("png", "svg"))
        for path in (png, svg):
            write_bytes(path, b"drawn")
        return png, svg

    with patch("routing_pomdp.evaluation.plots.figures.save_figure", save):
        yield drawn
