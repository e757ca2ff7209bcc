"""Checkpoints of trained networks.

A checkpoint holds tensors and plain values only. It is read by torch's weights-only loader, so
loading it runs no code. Its metadata is compared with the problem to solve: a network trained for
other models or another verifier would give wrong actions without an error.
"""

from __future__ import annotations

import importlib
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Protocol

import torch

from routing_pomdp.envs import RoutingData, RoutingPOMDP
from routing_pomdp.envs.files.atomic import replacing
from routing_pomdp.envs.settings.ranges import Text
from routing_pomdp.solvers.solver import FrontierSolver, Policy, Training

FORMAT = 2

# The learners that can be restored; a file may name no others.
LEARNERS = {
    "belief_dqn": "routing_pomdp.solvers.learned.belief_dqn.BeliefDQN",
    "belief_fqi": "routing_pomdp.solvers.learned.belief_fqi.BeliefFQI",
    "history_net": "routing_pomdp.solvers.learned.history_net.HistoryNet",
}


class CheckpointError(ValueError):
    """Raised where a checkpoint cannot be used; names the file, its content and what is needed."""


class Learner(Protocol):
    """A solver whose policies can be restored from a checkpoint."""

    @classmethod
    def restored(
        cls, problem: RoutingPOMDP, prices: Sequence[float], saved: Mapping[str, Any]
    ) -> Sequence[Policy]:
        """Policies, one per price, from the content given to `save`; ``saved["about"]`` has been
        checked."""


def about(
    solver: str, settings: Mapping[str, Any], problem: RoutingPOMDP, training: Training
) -> dict[str, Any]:
    """The metadata of a checkpoint.

    Args:
        solver: a key of `LEARNERS`.
        settings: the solver's hyperparameters, as plain values.
        problem: the problem it was trained for.
        training: its ``source`` names models and verifier.
    """
    return {
        "format": FORMAT,
        "solver": solver,
        "settings": dict(settings),
        **_sizes(problem),
        **training.source,
        "torch": torch.__version__.split("+")[0],
    }


def plain_settings(solver: Any) -> dict[str, Any]:
    """A solver's hyperparameters as plain values, without those that only say where it trains."""
    named = {f.name: getattr(solver, f.name) for f in fields(solver)}
    return {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in named.items()
        if key not in ("training", "device")
    }


def _sizes(problem: RoutingPOMDP) -> dict[str, Any]:
    return {
        "n_models": problem.n_models,
        "n_score_vectors": len(problem.prior),
        "n_symbols": problem.n_symbols,
        "n_signals": problem.representative.shape[2],
        "rules": asdict(problem.rules),
    }


def save(path: Path, content: Mapping[str, Any]) -> None:
    """Writes tensors and plain values atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        torch.save(dict(content), file)


def load(path: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """The content of a file written by `save`.

    Raises:
        CheckpointError: there is no such file, or it is not a checkpoint of this format.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: there is no such checkpoint")
    try:
        content = torch.load(path, map_location=device, weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise CheckpointError(
            f"{path}: no checkpoint of tensors and plain values ({type(error).__name__})"
        ) from error
    found = content.get("about") if isinstance(content, dict) else None
    if not isinstance(found, dict) or "format" not in found:
        raise CheckpointError(f"{path}: does not say what it is: expected a learner's checkpoint")
    if found["format"] != FORMAT:
        raise CheckpointError(f"{path}: format {found['format']}, this version reads {FORMAT}")
    return content


def require_fit(
    path: Path, saved: Mapping[str, Any], problem: RoutingPOMDP, source: Mapping[str, Any]
) -> None:
    """Raises unless a checkpoint was trained for a problem like this.

    Args:
        path: file, for the message.
        saved: metadata of the checkpoint.
        problem: the problem to solve.
        source: `Training.source` of this run; keys that only one of the two has are not compared.

    Raises:
        CheckpointError: number of models, verifier, rules or sizes differ.
    """
    for key, needed in {**source, **_sizes(problem)}.items():
        if key in saved and saved[key] != needed:
            raise CheckpointError(
                f"{path}: trained for {key} = {saved[key]}, this problem has {needed}"
            )


@dataclass(frozen=True)
class Restored(FrontierSolver):
    """A learner restored from a checkpoint, without training.

    Attributes:
        path: the checkpoint, ``checkpoints/policy.pt`` in a run's folder.
        training: see `with_training`.
    """

    path: Text
    training: Training = field(default_factory=Training, repr=False, compare=False)

    def with_training(self, training: Training) -> Restored:
        return Restored(self.path, training)

    def solve_frontier(
        self, problem: RoutingPOMDP, prices: Sequence[float], train: RoutingData
    ) -> Sequence[Policy]:
        """Policies, one per price.

        Raises:
            CheckpointError: it cannot be read or was trained for another problem.
        """
        path = Path(self.path)
        saved = load(path)
        name = saved["about"].get("solver")
        if name not in LEARNERS:
            raise CheckpointError(
                f"{path}: of solver {name!r}, which this version does not restore: expected one of "
                f"{list(LEARNERS)}"
            )
        require_fit(path, saved["about"], problem, self.training.source)
        module, _, attribute = LEARNERS[name].rpartition(".")
        learner: Learner = getattr(importlib.import_module(module), attribute)
        return learner.restored(problem, prices, saved)
