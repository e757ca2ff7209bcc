# my_verifiers.py, anywhere on PYTHONPATH
from dataclasses import dataclass

import numpy as np

from routing_pomdp.envs import Rollouts
from routing_pomdp.verifiers import Verifier


@dataclass(frozen=True)
class Brevity(Verifier):
    """Short answers are confident ones."""

    scale: float = 20.0

    def signal(self, rollouts: Rollouts) -> np.ndarray:
        return -rollouts.require("tokens_out") / self.scale
