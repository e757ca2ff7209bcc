# my_verifiers.py, anywhere on PYTHONPATH
from dataclasses import dataclass

import numpy as np

from envs import Rollouts
from verifiers import Verifier


@dataclass(frozen=True)
class Brevity(Verifier):
    """Short answers are confident ones."""

    scale: float = 20.0

    def signal(self, rollouts: Rollouts) -> np.ndarray:
        return -rollouts.require("tokens_out") / self.scale
