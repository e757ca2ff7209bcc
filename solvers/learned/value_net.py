"""A value network that factors into a function of observations and a function of action costs.

The value of an action ``a`` at a decision point ``p`` with observations ``x`` and action costs
``c`` is

    Q_a(x, p, c)  =  w_a(c, p) + φ(x, p) · W_a(c, p).

All prices and cost ratios share the features ``φ``, and all queries share the heads ``W``. Training
all queries at all decision points for many prices is therefore a matrix product. So is a decision
at one price, where the heads are constants. The members of an ensemble are one network with their
features side by side.
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
from routing_pomdp.envs.arrays import FloatArray
from routing_pomdp.solvers.action_costs import action_cost_features
from routing_pomdp.solvers.decision_points import DecisionPoints

_BRANCH = 64  # width of the network that reads action costs
_CHUNK = 512  # rows whose features stay in the processor's cache


@dataclass(frozen=True, eq=False)
class NormalScores:
    """Scales signals to the normal scores of their ranks among the training signals.

    The result lies between about -2.6 and 2.6, whatever the scale and tails of the signals. A
    signal that was not verified is 0. A verified signal that is missing is 0 too, with an indicator
    if training ever has it missing.

    Attributes:
        reference: sorted training signals without missing ones, one array for each model and
            component.
        ever: ``((N - 1) · D,)`` which signals are ever missing in training.
    """

    reference: tuple[FloatArray, ...]
    ever: NDArray[np.bool_]

    @classmethod
    def of(cls, data: RoutingData) -> NormalScores:
        """Fits the scaling to training queries; the last model has no signals."""
        columns = data.signal[:, :-1].reshape(len(data), -1).T
        reference = tuple(np.sort(column[~np.isnan(column)]) for column in columns)
        return cls(reference, np.array([len(column) < len(data) for column in reference]))

    @classmethod
    def restored(cls, saved: Mapping[str, Any]) -> NormalScores:
        """The scaling from a checkpoint's content, see `packed`."""
        reference = tuple(column.numpy() for column in saved["known"])
        ever = saved.get("ever")  # missing in old checkpoints
        return cls(reference, np.zeros(len(reference), bool) if ever is None else ever.numpy())

    def packed(self) -> dict[str, Any]:
        """The scaling as tensors, for a checkpoint."""
        reference = [torch.as_tensor(column) for column in self.reference]
        return {"known": reference, "ever": torch.as_tensor(self.ever)}

    @property
    def width(self) -> int:
        """Number of scaled components: ``(N - 1) · D`` signals and the indicators."""
        return len(self.reference) + int(self.ever.sum())

    def observed(self, verified: NDArray[Any]) -> NDArray[Any]:
        """``(m, width)`` which components are observed if answers ``(m, N - 1)`` are verified."""
        cells = np.repeat(verified, len(self.reference) // verified.shape[1], axis=1)
        return np.concatenate([cells, cells[:, self.ever]], axis=1)

    def __call__(self, signal: FloatArray, verified: NDArray[np.bool_] | None = None) -> FloatArray:
        """Scaled components ``(n, width)`` of signals ``(n, N, D)``.

        Args:
            signal: raw signals, NaN where not verified or missing.
            verified: ``(n, N)`` which answers were verified; None for all.
        """
        columns, n = signal[:, :-1].reshape(len(signal), -1), len(self.reference)
        found = np.empty((len(signal), self.width))
        for at, reference in enumerate(self.reference):
            below = reference.searchsorted(columns[:, at], "left")
            # NaN is sorted last, so its rank is the largest; it is set to 0 below.
            rank = below + reference.searchsorted(columns[:, at], "right")
            found[:, at] = self._scales[len(reference)][rank]
        silent = np.isnan(columns)
        found[:, :n][silent] = 0.0
        if self.ever.any():
            marks = silent[:, self.ever]
            if verified is not None:
                marks = marks & self.observed(verified[:, :-1])[:, n:]
            found[:, n:] = marks
        return found

    @cached_property
    def _scales(self) -> dict[int, FloatArray]:
        """For each number ``n`` of training signals, normal scores ``(2n + 1,)`` by the number of
        signals below plus the number not above."""
        sizes = {len(reference) for reference in self.reference}
        return {n: ndtri((np.arange(2 * n + 1) + 1) / (2 * n + 2)) for n in sizes}


class ValueNet(nn.Module):
    """An ensemble of ``K`` networks as above; every value is 0 before training.

    Args:
        members: ``K``.
        width: number of components of ``x``.
        hidden: number of features of each member.
        points: the ``P`` decision points.
    """

    code: Tensor

    def __init__(self, members: int, width: int, hidden: int, points: DecisionPoints) -> None:
        super().__init__()
        code = torch.as_tensor(points.code, dtype=torch.get_default_dtype())
        self.register_buffer("code", code, persistent=False)
        n_points, n_code = code.shape
        n_action_costs = 4 * points.rules.n_models
        self._shape = members, n_points, hidden, points.rules.n_actions

        def random(*shape: int, scale: float) -> nn.Parameter:
            return nn.Parameter(torch.randn(members, *shape) * scale)

        self.encoder = random(width, hidden, scale=min(1.0, 2 / math.sqrt(width)))
        self.where = random(n_code, hidden, scale=0.5)
        self.point = nn.Parameter(torch.zeros(members, n_points, hidden))
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
            x: ``(P, B, width)``, or ``(K, P, B, width)`` if members have different inputs.
            action_costs: ``(m, 2N)``.
        """
        members, n_points, hidden, n_actions = self._shape
        n = x.shape[-2]
        inputs = x.expand(members, *x.shape[-3:]).reshape(members, n_points * n, -1)
        features = torch.bmm(inputs, self.encoder).view(members, n_points, n, hidden)
        features = torch.relu(features + self._bias()[:, :, None]).flatten(0, 1)
        heads = self._heads(action_costs).permute(0, 2, 3, 1, 4).flatten(3).flatten(0, 1)
        values = torch.baddbmm(heads[:, -1:], features, heads[:, :-1])
        return values.view(members, n_points, n, len(action_costs), n_actions)

    def _bias(self) -> Tensor:
        return self.point + self.code @ self.where

    def _heads(self, action_costs: Tensor) -> Tensor:
        """``(K, m, P, hidden + 1, n_actions)``, the constant last."""
        members, n_points, hidden, n_actions = self._shape
        m = len(action_costs)
        inputs = torch.cat(
            [
                action_cost_features(action_costs)[:, None].expand(m, n_points, -1),
                self.code.expand(m, *self.code.shape),
            ],
            dim=2,
        )
        inputs = inputs.reshape(1, m * n_points, -1).expand(members, -1, -1)
        inner = nn.functional.silu(torch.baddbmm(self.branch_bias, inputs, self.branch))
        heads = torch.bmm(inner, self.heads)
        return heads.view(members, m, n_points, hidden + 1, n_actions)

    @torch.no_grad()
    def frozen(self, action_costs: FloatArray) -> FrozenValues:
        """The mean of the members at fixed action costs ``(2N,)``, as NumPy arrays."""
        members, n_points, _, n_actions = self._shape
        heads = (
            self._heads(torch.as_tensor(action_costs, dtype=self.heads.dtype)[None])[:, 0] / members
        )
        side_by_side = heads[:, :, :-1].transpose(0, 1).reshape(n_points, -1, n_actions)
        return FrozenValues(
            self.encoder.permute(1, 0, 2).flatten(1).cpu().numpy(),
            self._bias().transpose(0, 1).flatten(1).cpu().numpy(),
            side_by_side.cpu().numpy(),
            heads[:, :, -1].sum(dim=0).cpu().numpy(),
        )


@dataclass(frozen=True, eq=False)
class FrozenValues:
    """A `ValueNet` at fixed action costs.

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
