"""Returns of every action at every decision point, as tensors: the targets of the learners."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from routing_pomdp.envs.arrays import FloatArray
from routing_pomdp.solvers.decision_points import DecisionPoints


class Returns:
    """Returns of every action at every decision point of logged queries, for any later decisions.

    Args:
        points: the decision points.
        answers: ``(n, P, 2)`` scores returned, see `DecisionPoints.answers`.
        device: device of the results.
    """

    def __init__(self, points: DecisionPoints, answers: FloatArray, device: torch.device) -> None:
        stays = torch.as_tensor(answers, dtype=torch.float32, device=device).permute(1, 0, 2)
        self._answers = stays.contiguous()
        ends_last = points.target == points.rules.n_models - 1
        self._which = torch.as_tensor(ends_last.astype(np.int64), device=device)
        after = torch.as_tensor(points.following, device=device)
        self._levels = [
            (at, after[at], after[at] >= 0)
            for depth in range(int(points.depth.max()) + 1)
            for at in [torch.as_tensor(np.flatnonzero(points.depth == depth), device=device)]
        ]

    def __len__(self) -> int:
        return self._answers.shape[1]

    def of(self, rows: Tensor, action: Tensor, action_costs: Tensor) -> Tensor:
        """Returns from each decision point on, before the cost of the first action.

        Args:
            rows: ``(B,)`` queries.
            action: ``(P, B, m, n_actions)`` one-hot decisions at each decision point.
            action_costs: ``(P, m, n_actions)`` cost of each action.

        Returns:
            ``(P, B, m, n_actions)``; may be NaN for illegal actions.
        """
        n_points, n, m, n_actions = action.shape
        ended = self._answers[:, rows]
        gained = ended.gather(2, self._which[:, None].expand(-1, n, -1))
        result = gained[:, :, None].expand(n_points, n, m, n_actions).clone()
        value = torch.empty(n_points, n, m, dtype=result.dtype, device=result.device)
        for at, after, goes_on in self._levels:
            found = result[at]
            if goes_on.any():
                later = value[after.clamp_min(0)].permute(0, 2, 3, 1)
                found = torch.where(goes_on[:, None, None], later, found)
                result[at] = found
            taken = action[at] > 0
            value[at] = torch.where(taken, found - action_costs[at, None], 0.0).sum(dim=3)
        return result
