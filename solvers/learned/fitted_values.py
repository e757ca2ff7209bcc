"""Training of networks with values at all decision points, for `belief_fqi` and `history_net`.

A network is trained on queries simulated from the log, then fine-tuned on the log itself: see
`solvers.learned.belief_fqi`.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, NamedTuple, Self, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from routing_pomdp.envs import RoutingData, RoutingPOMDP
from routing_pomdp.envs.arrays import FloatArray
from routing_pomdp.envs.settings.ranges import (
    Count,
    CountOrZero,
    NotNegative,
    PositiveShare,
    Range,
    Seed,
)
from routing_pomdp.solvers.action_costs import CostRange, packed, unpacked
from routing_pomdp.solvers.decision_points import DecisionPoints, open_loop
from routing_pomdp.solvers.learned.checkpoint import about, plain_settings, save
from routing_pomdp.solvers.learned.returns import Returns
from routing_pomdp.solvers.learned.simulated import simulated
from routing_pomdp.solvers.learned.training import Loop, mean_return
from routing_pomdp.solvers.learned.value_net import NormalScores
from routing_pomdp.solvers.settings import CostRatios, Device, PriceRange
from routing_pomdp.solvers.solver import Policy, Training

Network = TypeVar("Network", bound=nn.Module)
P = TypeVar("P", bound=Policy)


class TargetBuilder:
    """Regression targets and losses at all decision points, as tensors on a device.

    Args:
        points: the decision points.
        device: device of the tensors.
        signals: the scaling of the signals; None where ``x`` has one component per model.

    Attributes:
        points: the ``P`` decision points.
        verified: ``(P, 1, width)`` 1 where a component of ``x`` is observed, else 0.
    """

    def __init__(
        self, points: DecisionPoints, device: torch.device, signals: NormalScores | None = None
    ) -> None:
        self.points, self._device = points, device
        observed = points.verified if signals is None else signals.observed(points.verified)
        self.verified = self._tensor(observed)[:, None]
        self._pays, self._legal = self._tensor(points.pays), self._tensor(points.legal)
        self._target = torch.as_tensor(points.target, device=device)

    def action_costs(self, action_costs: Tensor) -> Tensor:
        """``(P, m, n_actions)`` the cost of each action at action costs ``(m, 2N)``."""
        return torch.einsum("pak,mk->pma", self._pays.to(action_costs), action_costs)

    def open_loop(self, mean: Tensor, action_costs: Tensor) -> Tensor:
        """Open-loop value of each action before its cost: the best plan without observations.

        Args:
            mean: expected scores ``(N,)``, or ``(..., P, B, N)`` by decision point and query.
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
        """Mean squared error of values against the returns of the actions.

        Args:
            values: ``(K, P, B, m, n_actions)`` values of each member before the action's cost.
            action_costs: ``(m, 2N)``.
            returns: returns of all queries.
            rows: ``(B,)`` the queries of the batch.
            fold: ``(B,)`` for each query the member that is not trained on it and makes the later
                decisions; None if every member is trained on every query and their mean decides.
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
            q = (deciding - action_cost[:, None]).masked_fill(~legal, -torch.inf)
            action = nn.functional.one_hot(q.argmax(dim=3), n_actions)
            target = returns.of(rows, action, action_cost).nan_to_num()
        error = (values - target).square() * legal
        if fold is not None and members > 1:
            trained = torch.arange(members, device=fold.device)[:, None] != fold
            error = error * trained[:, None, :, None, None] * (members / (members - 1))
        return error.sum() / (legal.sum() * members * n * m)

    def _tensor(self, array: NDArray[Any]) -> Tensor:
        return torch.as_tensor(array, dtype=torch.float32, device=self._device)


@dataclass(frozen=True)
class FitSettings:
    """How a learner fits a network to a log; a solver that does adds settings of its network.

    Attributes:
        members: of the ensemble, and folds of the log.
        simulations: queries drawn from models of the log; 0 for the log alone.
        resamples: bootstrap resamples of the log that have a model each; 0 for one model, of the
            log as it is.
        pretraining: steps on the simulated queries.
        steps: of fine-tuning on the log, the most; those that are best on validation are kept.
        patience: judgements on validation without a better one after which that ends; null to go
            on to the end and keep the last.
        batch: queries a step.
        action_costs: vectors of action costs drawn a step, for all of its queries.
        learning_rate: of Adam while pretraining; it falls to zero along a cosine.
        tuning_rate: the same while fine-tuning.
        weight_decay: of AdamW while fine-tuning.
        price_range: trained prices; null for the smallest and largest that are asked for.
        cost_ratios: trained cost ratios; null for the log's own costs alone.
        device: "auto" for CUDA where it is there, or a torch device.
        seed: of simulations, folds, initial weights and batches.
        training: see `with_training`.
    """

    members: Annotated[int, Range(1, 1000)] = 4
    simulations: CountOrZero = 8000
    resamples: Annotated[int, Range(0, 10_000)] = 6
    pretraining: CountOrZero = 600
    steps: CountOrZero = 200
    patience: Count | None = 5
    batch: Count = 32
    action_costs: Count = 3
    learning_rate: PositiveShare = 5e-3
    tuning_rate: PositiveShare = 1e-3
    weight_decay: NotNegative = 0.0
    price_range: PriceRange | None = None
    cost_ratios: CostRatios | None = None
    device: Device = "auto"
    seed: Seed = 0
    training: Training = field(default_factory=Training, repr=False, compare=False)

    def with_training(self, training: Training) -> Self:
        return replace(self, training=training)


class Batch(NamedTuple):
    """A batch of training queries.

    Attributes:
        rows: ``(B,)`` rows of the queries.
        x: ``(B, width)`` their signals, scaled by `NormalScores`.
        score: ``(B, N)`` their scores.
        action_costs: ``(m, 2N)``, shared by all queries.
        fold: see `TargetBuilder.loss`.
    """

    rows: Tensor
    x: Tensor
    score: Tensor
    action_costs: Tensor
    fold: Tensor | None


def fit(
    solver: str,
    network: Network,
    loss_of: Callable[[Batch, Returns], Tensor],
    policies_of: Callable[[Network], Sequence[P]],
    settings: FitSettings,
    problem: RoutingPOMDP,
    prices: Sequence[float],
    train: RoutingData,
    signals: NormalScores,
    report: Callable[[Sequence[P], RoutingData], Mapping[str, float]] = lambda policies, data: {},
    **kept: Tensor,
) -> dict[str, Any]:
    """Trains a network on simulated queries, then on the log; the best by validation is kept.

    Args:
        solver: name of its config.
        network: on its device.
        loss_of: the loss of a batch, given what actions return on its queries.
        policies_of: one policy a price, from a copy of the network in double precision on the CPU.
        settings: see `FitSettings`.
        problem: whose rules are learned, and whose belief says which answer is returned.
        prices: that are asked for.
        train: the log.
        signals: their scale.
        report: more for the training curve, from policies and validation queries.
        kept: more for the checkpoint.

    Returns:
        The checkpoint's content, which is kept in the run's folder.
    """
    cost_range = CostRange.of(problem, prices, settings.price_range, settings.cost_ratios)
    metadata = about(solver, plain_settings(settings), problem, settings.training)
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
        x = torch.as_tensor(signals(queries.signal), dtype=torch.float32, device=device)
        score = torch.as_tensor(queries.score, dtype=torch.float32, device=device)
        returns = Returns(points, points.answers(problem, queries), device)
        for step in loop:
            rng = loop.rng(step)
            picked = rng.choice(len(x), min(settings.batch, len(x)), replace=False, shuffle=False)
            rows = torch.as_tensor(picked, device=device)
            action_costs = torch.as_tensor(
                cost_range.draw(settings.action_costs, rng), dtype=x.dtype, device=device
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
            about=metadata,
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
            judge(tuning)  # the network before fine-tuning, as the one to beat
        learn(tuning, train, folds if settings.members > 1 else None, True)
        tuning.finish()
    saved = {
        "about": metadata,
        "rehearsal": StartRollouts.of(train, settings.seed).packed(),
        "terms": packed(cost_range),
        **signals.packed(),
        **kept,
        "network": network.double().cpu().state_dict(),
    }
    if settings.training.folder:
        save(settings.training.folder / "policy.pt", saved)
    return saved


class StartRollouts(NamedTuple):
    """Simulated queries that compare the models to start with: see `choose_start`.

    Attributes:
        score: ``(n, N)``.
        signal: ``(n, N, D)``.
    """

    score: FloatArray
    signal: FloatArray

    @classmethod
    def of(cls, train: RoutingData, seed: int) -> Self:
        """Queries simulated from the training queries, without resampling them."""
        rng = np.random.default_rng([seed, _APART + 2])
        drawn = simulated(train, _START_QUERIES, 0, rng)
        return cls(drawn.score, drawn.signal)

    def packed(self) -> dict[str, Tensor]:
        """The arrays as tensors, for a checkpoint."""
        return {key: torch.as_tensor(value) for key, value in self._asdict().items()}

    @classmethod
    def unpacked(cls, saved: Mapping[str, Tensor]) -> Self:
        """The inverse of `packed`."""
        return cls(saved["score"].numpy(), saved["signal"].numpy())


def choose_start(policy: P, queries: StartRollouts) -> P:
    """The policy with the start that has the best mean return on simulated queries.

    It is unchanged if the rules fix the start. There is no observation before the first call, so
    the value of a start is one number, which a mean over queries estimates better than a network.
    This is one step of policy improvement by rollouts (Bertsekas, Tsitsiklis & Wu, Journal of
    Heuristics 1997).

    Args:
        policy: a dataclass with a field ``start``, an action.
        queries: the simulated queries, at the costs of the policy's problem.
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
    """Restored policies with their best starts; warns of those outside the trained cost range."""
    cost_range, queries = unpacked(saved["terms"]), StartRollouts.unpacked(saved["rehearsal"])
    for policy in policies:
        cost_range.check(policy.problem)
    return [choose_start(policy, queries) for policy in policies]


def check_queries(solver: str, settings: FitSettings, train: RoutingData) -> None:
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
            "solver.steps=0 to train on simulated queries only"
        )


def choose(values: FloatArray, legal: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The greedy actions ``(n,)``; values that differ only by rounding are ties, so that actions do
    not depend on the batch."""
    return np.where(legal, np.round(values, 9), -np.inf).argmax(axis=1)


def grouped(point: NDArray[np.int64]) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """Each decision point that occurs, and its rows."""
    order = np.argsort(point, kind="stable")
    ordered = point[order]
    ends = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True)) + 1
    begin = 0
    for end in ends[: len(point)].tolist():
        yield int(ordered[begin]), order[begin:end]
        begin = end


_APART = 1_000_003  # gives simulations, folds and both trainings different seeds
_START_QUERIES = 4000  # simulated queries on which starts are compared
