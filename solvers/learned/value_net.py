"""A network of values that factors into what was seen and what it costs.

The value of an action at a decision point is a product of two small networks,

    Q_a(x, decision point, action costs)  =  w_a(action costs, decision point) + φ(x, decision
    point) · W_a(action costs, decision point),

where ``x`` is what was seen. The features ``φ`` are shared by all prices and cost ratios, and the
heads ``W`` by all queries: to train every query at every decision point for many prices at once is
a product of matrices, and to decide at one price, where the heads are constants, is one too.
Several members (an ensemble) are one network with their features side by side.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import ndtri
from torch import Tensor, nn

from routing_pomdp.envs import RoutingData
from routing_pomdp.solvers.action_costs import action_cost_features
from routing_pomdp.solvers.decision_points import DecisionPoints

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

_BRANCH = 64  # width of the network that reads action costs
_CHUNK = 512  # rows whose features stay in the processor's cache


@dataclass(frozen=True, eq=False)
class NormalScores:
    """Signals on a scale of their own: the normal score of their rank among training queries.

    Whatever a verifier's numbers mean, and however heavy their tails are, they come out between
    about -2.6 and 2.6; a signal that was not seen as 0, like an ordinary one. One that was asked
    for and is missing is 0, too, but each that training had missing comes with an indicator.

    Attributes:
        known: one sorted array of training signals, without missing ones, for each model and
            number, in their order.
        ever: ``((N - 1) · D,)`` which of them training had missing.
    """

    known: tuple[FloatArray, ...]
    ever: NDArray[np.bool_]

    @classmethod
    def of(cls, data: RoutingData) -> NormalScores:
        """From the training queries; the last model's signals are never looked at."""
        columns = data.signal[:, :-1].reshape(len(data), -1).T
        known = tuple(np.sort(column[~np.isnan(column)]) for column in columns)
        return cls(known, np.array([len(column) < len(data) for column in known]))

    @classmethod
    def restored(cls, saved: Mapping[str, Any]) -> NormalScores:
        """From a checkpoint's content, see `packed`."""
        known = tuple(known.numpy() for known in saved["known"])
        ever = saved.get("ever")  # checkpoints that are older than missing signals have none
        return cls(known, np.zeros(len(known), bool) if ever is None else ever.numpy())

    def packed(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        known = [torch.as_tensor(known) for known in self.known]
        return {"known": known, "ever": torch.as_tensor(self.ever)}

    @property
    def width(self) -> int:
        """How many numbers come out: ``(N - 1) · D`` and the indicators."""
        return len(self.known) + int(self.ever.sum())

    def seen(self, verified: NDArray[Any]) -> NDArray[Any]:
        """``(m, width)`` which numbers are seen where answers ``(m, N - 1)`` are verified."""
        cells = np.repeat(verified, len(self.known) // verified.shape[1], axis=1)
        return np.concatenate([cells, cells[:, self.ever]], axis=1)

    def __call__(self, signal: FloatArray, verified: NDArray[np.bool_] | None = None) -> FloatArray:
        """``(n, width)`` from signals ``(n, N, D)``, NaN where there is none.

        Args:
            signal: raw.
            verified: ``(n, N)`` where it was asked for; None for everywhere.
        """
        columns = signal[:, :-1].reshape(len(signal), -1)
        found = np.empty((len(signal), self.width))
        for at, known in enumerate(self.known):
            below = known.searchsorted(columns[:, at], "left")
            # NaN is sorted last: beyond every number on both sides.
            rank = below + known.searchsorted(columns[:, at], "right")
            found[:, at] = self._scales[len(known)][rank]
        silent = np.isnan(columns)
        found[:, : len(self.known)][silent] = 0.0
        if self.ever.any():
            marks = silent[:, self.ever]
            if verified is not None:
                marks = marks & self.seen(verified[:, :-1])[:, len(self.known) :]
            found[:, len(self.known) :] = marks
        return found

    @cached_property
    def _scales(self) -> dict[int, FloatArray]:
        """Normal scores ``(2n + 1,)`` by the number of training signals below and not above, for
        every number ``n`` of training signals."""
        sizes = {len(known) for known in self.known}
        return {n: ndtri((np.arange(2 * n + 1) + 1) / (2 * n + 2)) for n in sizes}


class ValueNet(nn.Module):
    """``K`` members of the network above; at first every value is 0.

    Args:
        members: ``K``.
        width: of ``x``.
        hidden: features of each member.
        points: ``P`` of them.
    """

    code: Tensor

    def __init__(self, members: int, width: int, hidden: int, points: DecisionPoints) -> None:
        super().__init__()
        code = torch.as_tensor(points.code, dtype=torch.get_default_dtype())
        self.register_buffer("code", code, persistent=False)
        n_places, n_code = code.shape
        n_action_costs = 4 * points.rules.n_models
        self._shape = members, n_places, hidden, points.rules.n_actions

        def random(*shape: int, scale: float) -> nn.Parameter:
            return nn.Parameter(torch.randn(members, *shape) * scale)

        self.encoder = random(width, hidden, scale=min(1.0, 2 / math.sqrt(width)))
        self.where = random(n_code, hidden, scale=0.5)
        self.point = nn.Parameter(torch.zeros(members, n_places, hidden))
        self.branch = random(
            n_action_costs + n_code, _BRANCH, scale=1 / math.sqrt(n_action_costs + n_code)
        )
        self.branch_bias = nn.Parameter(torch.zeros(members, 1, _BRANCH))
        self.heads = nn.Parameter(
            torch.zeros(members, _BRANCH, (hidden + 1) * points.rules.n_actions)
        )

    def forward(self, x: Tensor, action_costs: Tensor) -> Tensor:
        """Values ``(K, P, B, m, n_actions)``.

        Args:
            x: ``(P, B, width)``, or ``(K, P, B, width)`` where members see things differently.
            action_costs: ``(m, 2N)``.
        """
        members, n_places, hidden, n_actions = self._shape
        n = x.shape[-2]
        seen = x.expand(members, *x.shape[-3:]).reshape(members, n_places * n, -1)
        features = torch.bmm(seen, self.encoder).view(members, n_places, n, hidden)
        features = torch.relu(features + self._bias()[:, :, None]).flatten(0, 1)
        heads = self._heads(action_costs).permute(0, 2, 3, 1, 4).flatten(3).flatten(0, 1)
        values = torch.baddbmm(heads[:, -1:], features, heads[:, :-1])
        return values.view(members, n_places, n, len(action_costs), n_actions)

    def _bias(self) -> Tensor:
        return self.point + self.code @ self.where

    def _heads(self, action_costs: Tensor) -> Tensor:
        """``(K, m, P, hidden + 1, n_actions)``, the constant last."""
        members, n_places, hidden, n_actions = self._shape
        m = len(action_costs)
        told = torch.cat(
            [
                action_cost_features(action_costs)[:, None].expand(m, n_places, -1),
                self.code.expand(m, *self.code.shape),
            ],
            dim=2,
        )
        told = told.reshape(1, m * n_places, -1).expand(members, -1, -1)
        inner = nn.functional.silu(torch.baddbmm(self.branch_bias, told, self.branch))
        heads = torch.bmm(inner, self.heads)
        return heads.view(members, m, n_places, hidden + 1, n_actions)

    @torch.no_grad()
    def frozen(self, action_costs: FloatArray) -> FrozenValues:
        """The mean of the members at one vector of action costs ``(2N,)``, in NumPy."""
        members, n_places, _, n_actions = self._shape
        heads = (
            self._heads(torch.as_tensor(action_costs, dtype=self.heads.dtype)[None])[:, 0] / members
        )
        side_by_side = heads[:, :, :-1].transpose(0, 1).reshape(n_places, -1, n_actions)
        return FrozenValues(
            self.encoder.permute(1, 0, 2).flatten(1).cpu().numpy(),
            self._bias().transpose(0, 1).flatten(1).cpu().numpy(),
            side_by_side.cpu().numpy(),
            heads[:, :, -1].sum(dim=0).cpu().numpy(),
        )


@dataclass(frozen=True, eq=False)
class FrozenValues:
    """A `ValueNet` at one vector of action costs.

    Attributes:
        encoder: ``(width, H)``, with ``H`` the features of all members together.
        bias: ``(P, H)``.
        heads: ``(P, H, n_actions)``.
        constant: ``(P, n_actions)``.
    """

    encoder: FloatArray
    bias: FloatArray
    heads: FloatArray
    constant: FloatArray

    def __call__(self, point: int, x: FloatArray) -> FloatArray:
        """Values ``(n, n_actions)`` at one decision point from ``x (n, width)``."""
        values = np.empty((len(x), self.constant.shape[1]))
        for begin in range(0, len(x), _CHUNK):
            features = x[begin : begin + _CHUNK] @ self.encoder
            features += self.bias[point]
            np.maximum(features, 0, out=features)
            np.matmul(features, self.heads[point], out=values[begin : begin + _CHUNK])
        values += self.constant[point]
        return values
