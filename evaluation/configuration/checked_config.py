"""The check of a configuration before Hydra makes a folder or starts a job."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from routing_pomdp.evaluation.configuration.command_line import reported
from routing_pomdp.evaluation.configuration.progress import sweep_overrides


class CheckedConfig(Callback):
    """Ends the process if a configuration has a fault.

    It exits because Hydra turns exceptions of callbacks into warnings.

    Args:
        schema: name of the configuration's class in `evaluation.configuration.schema`.
    """

    def __init__(self, schema: str) -> None:
        self._schema = schema

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        self._check(config, swept=())

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        # Swept keys are checked in each run: one bad value does not stop the others.
        keys = [override.key_or_group for override in sweep_overrides(config)]
        self._check(config, swept=[re.split(r"[./@]", key)[0] for key in keys])

    def _check(self, config: DictConfig, swept: Collection[str]) -> None:
        with reported():
            from routing_pomdp.evaluation.configuration import schema

            for key, wrong in schema.faults(config, getattr(schema, self._schema)):
                if key not in swept:
                    raise ValueError(wrong)
