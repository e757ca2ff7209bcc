"""`Loop`: a training loop with checkpoints, early stopping and a check for finite losses.

An interrupted training continues from its last checkpoint and gives the same result, bit for bit:
each step has a random generator of its own.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from routing_pomdp.envs import Episodes, RoutingData
from routing_pomdp.solvers.learned.checkpoint import CheckpointError, load, save
from routing_pomdp.solvers.solver import Policy, Training


class TrainingError(ValueError):
    """Raised where a training fails; the message names the step and the last checkpoint."""


class Loop:
    """The steps of one training.

    ::

        loop = Loop({"network": network}, optimiser, steps=1000, seed=0, about=…, training=…)
        for step in loop:
            batch = loop.rng(step).integers(n, size=64)
            loop.descend(loss_of(batch))
            if loop.due(step):
                loop.judge(validation_return(network))
        loop.finish()  # the best by validation are in the networks now

    Args:
        modules: everything with weights, by name: what is optimised and slow copies of it.
        optimiser: of some of them.
        steps: of gradient descent.
        seed: of every step's generator.
        about: what the checkpoints say of themselves; one that says otherwise is not gone on with.
        training: where the curve goes, and where checkpoints are kept.
        schedule: of the learning rate, stepped after each descent.
        every: steps between rows of the curve, judgements and checkpoints.
        patience: judgements without a better one after which the training ends; None for never.
        name: of the checkpoint file, for learners of several networks.
    """

    def __init__(
        self,
        modules: Mapping[str, nn.Module],
        optimiser: torch.optim.Optimizer,
        *,
        steps: int,
        seed: int,
        about: Mapping[str, Any],
        training: Training,
        schedule: torch.optim.lr_scheduler.LRScheduler | None = None,
        every: int | None = None,
        patience: int | None = None,
        name: str = "training",
    ) -> None:
        self._modules, self._optimiser, self._schedule = modules, optimiser, schedule
        self._steps, self._seed, self._patience = steps, seed, patience
        self._every = every or max(1, steps // 50)
        self._about, self._training = dict(about), training
        self._name = name
        self._path = training.folder / f"{name}.pt" if training.folder else None
        self._step = self._stale = 0
        self._saved_at: int | None = None
        self._best: dict[str, dict[str, Tensor]] | None = None
        self._best_value = -math.inf
        self._loss = math.nan
        if self._path and self._path.is_file():
            self._resume(self._path)

    @property
    def best_value(self) -> float:
        """The best evaluation so far; -∞ before the first."""
        return self._best_value

    def __iter__(self) -> Iterator[int]:
        while self._step < self._steps and not self._exhausted:
            self._step += 1
            yield self._step
            if self.due(self._step):
                self._save()

    @property
    def _exhausted(self) -> bool:
        return self._patience is not None and self._stale >= self._patience

    def due(self, step: int) -> bool:
        """Whether to evaluate and log at a step: at regular intervals and at the last one."""
        return step % self._every == 0 or step == self._steps

    def rng(self, step: int) -> np.random.Generator:
        """The random generator of a step."""
        return np.random.default_rng([self._seed, step])

    def descend(self, loss: Tensor) -> None:
        """Makes one gradient step.

        Raises:
            TrainingError: the loss or its gradient is not finite. Networks and the last checkpoint
                are unchanged.
        """
        self._loss = loss.item()
        self._optimiser.zero_grad()
        if math.isfinite(self._loss):
            loss.backward()
            parameters = [p for group in self._optimiser.param_groups for p in group["params"]]
            gradients = [p.grad for p in parameters if p.grad is not None]
            norm = nn.utils.get_total_norm(gradients).item()
        if not math.isfinite(self._loss) or not math.isfinite(norm):
            what = "gradient" if math.isfinite(self._loss) else "loss"
            kept = f"no checkpoint of its {self._name} was kept"
            if self._saved_at:
                kept = f"the checkpoint of step {self._saved_at} stays in {self._path}"
            raise TrainingError(
                f"{self._about.get('solver', 'training')}: the {what} is no finite number at step "
                f"{self._step} of {self._steps}: {kept}; lower the solver's learning rate"
            )
        self._optimiser.step()
        if self._schedule is not None:
            self._schedule.step()

    def log(self, **row: float) -> None:
        """Records a row of the training curve."""
        if self._training.log:
            self._training.log({"step": self._step, "loss": self._loss, **row})

    def judge(self, value: float) -> None:
        """Records an evaluation of the current networks, larger is better; keeps the best."""
        if value > self._best_value:
            self._best_value, self._stale = value, 0
            self._best = {
                name: copy.deepcopy(module.state_dict()) for name, module in self._modules.items()
            }
        else:
            self._stale += 1

    def finish(self) -> None:
        """Restores the best networks; the last ones stay if none was evaluated."""
        if self._best is not None:
            for name, module in self._modules.items():
                module.load_state_dict(self._best[name])

    def _save(self) -> None:
        if self._path is None:
            return
        save(
            self._path,
            {
                "about": self._about,
                "step": self._step,
                "stale": self._stale,
                "loss": self._loss,
                "best_value": self._best_value,
                "best": self._best,
                "modules": {name: module.state_dict() for name, module in self._modules.items()},
                "optimiser": self._optimiser.state_dict(),
                "schedule": self._schedule.state_dict() if self._schedule else None,
            },
        )
        self._saved_at = self._step

    def _resume(self, path: Path) -> None:
        content = load(path)
        for key in sorted({*content["about"], *self._about}):
            ours, theirs = self._about.get(key), content["about"].get(key)
            if ours != theirs:
                raise CheckpointError(
                    f"{path}: begun with {key} = {theirs}, now it is {ours}: delete it to train "
                    "anew"
                )
        for name, module in self._modules.items():
            module.load_state_dict(content["modules"][name])
        self._optimiser.load_state_dict(content["optimiser"])
        if self._schedule is not None:
            self._schedule.load_state_dict(content["schedule"])
        self._step, self._stale, self._loss = content["step"], content["stale"], content["loss"]
        self._best, self._best_value = content["best"], content["best_value"]
        self._saved_at = self._step


def device_of(name: str) -> torch.device:
    """A torch device by name; "auto" is CUDA if available, otherwise the CPU.

    Raises:
        ValueError: the device cannot be used.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"solver.device is {name!r}, which cannot be used: {reason}") from error
    return device


def mean_return(policies: Sequence[Policy], data: RoutingData) -> float:
    """Mean return over queries and policies, each policy at its own price (DESIGN §1)."""
    total = 0.0
    for policy in policies:
        problem = policy.problem
        episodes = Episodes(data, problem.rules)
        rate = problem.price / problem.costs.unit
        while len(episodes):
            ended, paid = episodes.step(policy.act(episodes.history))
            answer = problem.best_answer(ended)
            total += float(data.score[ended.query, answer].sum() - rate * paid.sum())
    return total / (len(policies) * len(data))
