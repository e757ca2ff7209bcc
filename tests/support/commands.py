"""The scripts as functions of this process: a command costs no start of Python."""

from __future__ import annotations

import importlib.util
from types import ModuleType
from typing import Any
from unittest.mock import patch

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import open_dict

from tests.support.checkout import CONF, SCRIPTS


def script(name: str) -> ModuleType:
    """scripts/NAME.py as a module."""
    spec = importlib.util.spec_from_file_location(name, SCRIPTS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def train(*overrides: str) -> Any:
    """One run of scripts/train.py, without its figures; the finished run."""
    module = script("train")
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("train", list(overrides), return_hydra_config=True)
    choices = dict(config.hydra.runtime.choices)
    with open_dict(config):
        del config["hydra"]
    with patch("routing_pomdp.evaluation.runs.solver_run.draw", lambda run: {}):
        return module.train(config, choices)
