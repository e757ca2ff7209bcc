"""Values at all decision points of logged queries: what `belief_fqi` and `history_net` share.

First on queries simulated from the log, then a little on the log itself: see
`solvers.learned.belief_fqi`.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, NamedTuple, Protocol, Self, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from routing_pomdp.envs import RoutingData, RoutingPOMDP
from routing_pomdp.solvers.action_costs import CostRange, unpacked
from routing_pomdp.solvers.decision_points import DecisionPoints, open_loop
from routing_pomdp.solvers.learned.returns import Returns
from routing_pomdp.solvers.learned.simulated import simulated
from routing_pomdp.solvers.learned.training import Loop, mean_return
from routing_pomdp.solvers.learned.value_net import NormalScores
from routing_pomdp.solvers.solver import Policy, Training

FloatArray = NDArray[np.float64]
Network = TypeVar("Network", bound=nn.Module)
P = TypeVar("P", bound=Policy)


class TargetBuilder:
    """Decision points and their action costs on a device.

    Attributes:
        points: ``P`` of them.
        verified: ``(P, 1, width)`` 1 where a number of ``x`` is seen, else 0.
    """

    def __init__(
        self, points: DecisionPoints, device: torch.device, seen: NormalScores | None = None
    ) -> None:
        self.points, self._device = points, device
        numbers = points.verified if seen is None else seen.seen(points.verified)
        self.verified = self._tensor(numbers)[:, None]
        self._pays, self._legal = self._tensor(points.pays), self._tensor(points.legal)
        self._target = torch.as_tensor(points.target, device=device)

    def action_costs(self, action_costs: Tensor) -> Tensor:
        """``(P, m, n_actions)`` what each action pays at action costs ``(m, 2N)``."""
        return torch.einsum("pak,mk->pma", self._pays.to(action_costs), action_costs)

    def open_loop(self, mean: Tensor, action_costs: Tensor) -> Tensor:
        """Each action's worth before its own action cost to whom nothing more is shown.

        Args:
            mean: scores ``(N,)``, or ``(..., P, B, N)`` where they differ by decision point and
                query.
            action_costs: ``(m, 2N)``.

        Returns:
            ``(..., P, B, m, n_actions)``; ``B`` is 1 for ``(N,)``.
        """
        mean = mean.expand(len(self.points), 1, -1) if mean.ndim == 1 else mean
        mean = mean[..., None, :]
        worth = torch.stack(open_loop(self.points.rules, mean, action_costs.to(mean)), dim=-1)
        target = self._target.view(len(self.points), 1, 1, -1)
        found = worth.gather(-1, target.clamp_min(0).expand(*worth.shape[:-1], -1))
        stays = mean.expand_as(worth).gather(
            -1, target[..., :1].clamp_min(0).expand(*worth.shape[:-1], -1)
        )
        return torch.cat([stays, found[..., 1:]], dim=-1)

    def loss(
        self,
        values: Tensor,
        action_costs: Tensor,
        returns: Returns,
        rows: Tensor,
        fold: Tensor | None,
    ) -> Tensor:
        """Mean squared error of values against what actions returned.

        Args:
            values: ``(K, P, B, m, n_actions)`` before the action's own action cost.
            action_costs: ``(m, 2N)``.
            returns: of the queries.
            rows: ``(B,)`` which.
            fold: ``(B,)`` the one member that is not taught these queries and decides there;
                None if all are taught all, and their mean decides.
        """
        members, _, n, m, n_actions = values.shape
        action_cost, legal = self.action_costs(action_costs), self._legal > 0
        legal = legal[:, None, None]
        with torch.no_grad():
            if fold is None:
                deciding = values.mean(dim=0)
            else:
                own = fold.view(1, 1, n, 1, 1).expand(1, *values.shape[1:])
                deciding = values.gather(0, own)[0]
            open_to = (deciding - action_cost[:, None]).masked_fill(~legal, -torch.inf)
            action = nn.functional.one_hot(open_to.argmax(dim=3), n_actions)
            target = returns.of(rows, action, action_cost).nan_to_num()
        error = (values - target).square() * legal
        if fold is not None and members > 1:
            taught = torch.arange(members, device=fold.device)[:, None] != fold
            error = error * taught[:, None, :, None, None] * (members / (members - 1))
        return error.sum() / (legal.sum() * members * n * m)

    def _tensor(self, array: NDArray[Any]) -> Tensor:
        return torch.as_tensor(array, dtype=torch.float32, device=self._device)


class Settings(Protocol):
    """How a learner fits its network: see `BeliefFQI`."""

    @property
    def members(self) -> int: ...
    @property
    def simulations(self) -> int: ...
    @property
    def resamples(self) -> int: ...
    @property
    def pretraining(self) -> int: ...
    @property
    def steps(self) -> int: ...
    @property
    def patience(self) -> int | None: ...
    @property
    def batch(self) -> int: ...
    @property
    def action_costs(self) -> int: ...
    @property
    def learning_rate(self) -> float: ...
    @property
    def tuning_rate(self) -> float: ...
    @property
    def weight_decay(self) -> float: ...
    @property
    def seed(self) -> int: ...
    @property
    def training(self) -> Training: ...


class Batch(NamedTuple):
    """A batch of queries to learn from.

    Attributes:
        rows: ``(B,)`` which queries.
        x: ``(B, width)`` their signals, as `NormalScores` has them.
        score: ``(B, N)``.
        action_costs: ``(m, 2N)``, the same for all.
        fold: as of `TargetBuilder.loss`.
    """

    rows: Tensor
    x: Tensor
    score: Tensor
    action_costs: Tensor
    fold: Tensor | None


def fit(
    network: Network,
    loss_of: Callable[[Batch, Returns], Tensor],
    policies_of: Callable[[Network], Sequence[P]],
    settings: Settings,
    problem: RoutingPOMDP,
    train: RoutingData,
    seen: NormalScores,
    terms: CostRange,
    told: Mapping[str, Any],
    report: Callable[[Sequence[P], RoutingData], Mapping[str, float]] = lambda policies, data: {},
) -> None:
    """Trains a network on simulated queries, then on the log; the best by validation is kept.

    Args:
        network: on its device.
        loss_of: the loss of a batch, given what actions return on its queries.
        policies_of: one policy a price, from a copy of the network in double precision on the CPU.
        settings: see `BeliefFQI`.
        problem: whose rules are learned, and whose belief says which answer is returned.
        train: the log.
        seen: scales the signals.
        terms: to draw action costs from.
        told: what checkpoints say of themselves.
        report: more for the training curve, from policies and validation queries.
    """
    device, points = next(network.parameters()).device, DecisionPoints.of(problem.rules)
    validation = settings.training.validation

    def judge(loop: Loop) -> None:
        if validation is None or not len(validation):
            loop.log()
        else:
            policies = policies_of(copy.deepcopy(network).double().cpu())
            found = mean_return(policies, validation)
            if settings.patience is not None:
                loop.judge(found)
            loop.log(validation=found, **report(policies, validation))

    def learn(loop: Loop, queries: RoutingData, fold: Tensor | None, judged: bool) -> None:
        x = torch.as_tensor(seen(queries.signal), dtype=torch.float32, device=device)
        score = torch.as_tensor(queries.score, dtype=torch.float32, device=device)
        returns = Returns(points, points.answers(problem, queries), device)
        for step in loop:
            rng = loop.rng(step)
            picked = rng.choice(len(x), min(settings.batch, len(x)), replace=False, shuffle=False)
            rows = torch.as_tensor(picked, device=device)
            action_costs = torch.as_tensor(
                terms.draw(settings.action_costs, rng), dtype=x.dtype, device=device
            )
            of = None if fold is None else fold[rows]
            loop.descend(loss_of(Batch(rows, x[rows], score[rows], action_costs, of), returns))
            if loop.due(step):
                judge(loop) if judged else loop.log()

    def loop(
        name: str, steps: int, seed: int, rate: float, decay: float, patience: int | None
    ) -> Loop:
        optimiser = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=decay)
        return Loop(
            {"network": network},
            optimiser,
            steps=steps,
            seed=seed,
            about=told,
            training=settings.training,
            schedule=torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps),
            every=max(1, steps // 10),
            patience=patience,
            name=name,
        )

    if settings.simulations and settings.pretraining:
        rng = np.random.default_rng([settings.seed, _APART])
        drawn = simulated(train, settings.simulations, settings.resamples, rng)
        steps, rate = settings.pretraining, settings.learning_rate
        first = loop("pretraining", steps, settings.seed, rate, 0.0, None)
        learn(first, drawn, None, False)
    if settings.steps:
        order = np.random.default_rng([settings.seed, _APART + 1]).permutation(len(train))
        folds = torch.as_tensor(order % settings.members, device=device)
        seed, rate, decay = settings.seed + _APART, settings.tuning_rate, settings.weight_decay
        tuning = loop("tuning", settings.steps, seed, rate, decay, settings.patience)
        if settings.patience is not None and tuning.best_value == -math.inf:
            judge(tuning)  # what fine-tuning has to beat
        learn(tuning, train, folds if settings.members > 1 else None, True)
        tuning.finish()


class StartRollouts(NamedTuple):
    """Queries simulated from the log, to try out on where to start: see `rehearsed`.

    Attributes:
        score: ``(n, N)``.
        signal: ``(n, N, D)``.
    """

    score: FloatArray
    signal: FloatArray

    @classmethod
    def of(cls, train: RoutingData, seed: int) -> Self:
        """From the training queries, without doubt about them."""
        rng = np.random.default_rng([seed, _APART + 2])
        drawn = simulated(train, _REHEARSAL, 0, rng)
        return cls(drawn.score, drawn.signal)

    def packed(self) -> dict[str, Tensor]:
        """As a checkpoint holds it."""
        return {key: torch.as_tensor(value) for key, value in self._asdict().items()}

    @classmethod
    def unpacked(cls, saved: Mapping[str, Tensor]) -> Self:
        """The inverse of `packed`."""
        return cls(saved["score"].numpy(), saved["signal"].numpy())


def choose_start(policy: P, queries: StartRollouts) -> P:
    """The policy started where that returns the most on simulated queries, if it may choose.

    Nothing was seen before the first call, so what a start is worth is one number a price, which
    a mean over queries tells better than a network: one step of policy improvement by rollouts
    (Bertsekas, Tsitsiklis & Wu, Journal of Heuristics 1997).

    Args:
        policy: a dataclass with a field ``start``, an action.
        queries: to try the starts on, at the costs of the policy's problem.
    """
    problem = policy.problem
    if not problem.rules.free_start:
        return policy
    data = RoutingData(
        score=queries.score,
        call_cost=np.broadcast_to(problem.costs.call, queries.score.shape),
        verify_cost=np.broadcast_to(problem.costs.verify, queries.score.shape),
        signal=queries.signal,
    )
    starts = [replace(policy, start=1 + model) for model in range(problem.n_models)]  # type: ignore[type-var]
    return starts[int(np.argmax([mean_return([started], data) for started in starts]))]


def ready(policies: Sequence[P], saved: Mapping[str, Any]) -> list[P]:
    """Policies from a checkpoint's content, rehearsed; warns of those outside its terms."""
    terms, tried = unpacked(saved["terms"]), StartRollouts.unpacked(saved["rehearsal"])
    for policy in policies:
        terms.check(policy.problem)
    return [choose_start(policy, tried) for policy in policies]


def plain_settings(settings: Settings) -> dict[str, Any]:
    """Hyperparameters as a checkpoint names them; where the training runs is none of them."""
    apart = ("training", "device")
    values = {f.name: getattr(settings, f.name) for f in fields(settings) if f.name not in apart}  # type: ignore[arg-type]
    return {
        key: list(value) if isinstance(value, tuple) else value for key, value in values.items()
    }


def check_queries(solver: str, settings: Settings, train: RoutingData) -> None:
    """Raise ValueError for too few training queries, or no queries in the validation split."""
    least, validation = max(2, settings.members), settings.training.validation
    if len(train) < least:
        raise ValueError(
            f"solver={solver} learns from {len(train)} training queries, fewer than "
            f"solver.members={least}: log more, or lower solver.members"
        )
    stops = settings.steps and settings.patience is not None
    if stops and validation is not None and not len(validation):
        raise ValueError(
            f"solver={solver} stops by the validation split, which is empty: raise "
            "evaluation.validation, or set solver.patience=null to train to the end or "
            "solver.steps=0 to train on simulated queries alone"
        )


def choose(values: FloatArray, legal: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The greedy actions ``(n,)``; values that differ by rounding alone count as the same, so that
    an action never depends on what else is in the batch."""
    return np.where(legal, np.round(values, 9), -np.inf).argmax(axis=1)


def grouped(point: NDArray[np.int64]) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """The rows at each decision point that occurs."""
    order = np.argsort(point, kind="stable")
    sorted_places = point[order]
    ends = np.flatnonzero(np.append(sorted_places[1:] != sorted_places[:-1], True)) + 1
    begin = 0
    for end in ends[: len(point)].tolist():
        yield int(sorted_places[begin]), order[begin:end]
        begin = end


_APART = 1_000_003  # keeps the generators of simulations, folds and both trainings apart
_REHEARSAL = 4000
