"""A figure of alpha vectors: the value along an edge of the belief simplex."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from routing_pomdp.envs import STAY
from routing_pomdp.evaluation.plots.figures import COLOURS
from routing_pomdp.solvers.exact.alpha_vectors import AlphaPolicy


def alpha_figure(policy: AlphaPolicy, models: Sequence[str], title: str) -> Figure:
    """One panel per stage: the alpha vectors coloured by action, and the value function.

    Along the axis the belief moves from the class in which the last called model is worst to the
    one in which it is best. With two models, or right after the first call under the conditioning
    ``own``, these are the only classes.

    Args:
        policy: the policy with its alpha vectors.
        models: names of the models, cheapest first.
        title: title of the figure.
    """
    problem = policy.problem
    shown = [
        i
        for i, node in enumerate(policy.graph.nodes)
        if node.called and node.verified and i in policy.values and len(node.prior) > 1
    ]
    figure = Figure(figsize=(3.1 * len(shown) + 0.4, 3.2), layout="constrained")
    grid = figure.subplots(1, len(shown), squeeze=False, sharey=True)[0]
    share = np.linspace(0, 1, 201)[:, None]
    used: set[int] = set()
    for axes, i in zip(grid, shown, strict=True):
        node, value = policy.graph.nodes[i], policy.values[i]
        weight = problem.prior * (node.members >= 0)
        score = node.belief((weight * problem.score[:, node.stage])[None])[0] / node.prior
        worst, best = int(score.argmin()), int(score.argmax())
        for vector, action in zip(value.vectors, value.actions.tolist(), strict=True):
            used.add(action)
            axes.plot([0, 1], vector[[worst, best]], color=_colour(action), lw=0.8, alpha=0.7)
        edge = np.zeros((len(share), len(node.prior)))
        edge[:, worst], edge[:, best] = 1 - share[:, 0], share[:, 0]
        axes.plot(share[:, 0], value.value(edge), color="black", lw=1.8)
        called = " + ".join(models[m] for m in node.called)
        axes.set_title(f"{called} called: {len(value.vectors)} vectors", fontsize=8)
        axes.set_xlabel(f"belief that {models[node.stage]} is right", fontsize=8)
        # Vectors far below the value function are cut off.
        low = value.value(edge).min()
        axes.set_ylim(low - 0.25 * (np.ptp(value.value(edge)) + 0.1), None)
        axes.spines[["top", "right"]].set_visible(False)
    grid[0].set_ylabel("value from here on", fontsize=8)
    for action in sorted(used):
        grid[-1].plot([], [], color=_colour(action), label=problem.rules.label(action))
    grid[-1].plot([], [], color="black", lw=1.8, label="value")
    figure.legend(loc="outside right upper", frameon=False, fontsize=8)
    figure.suptitle(title, fontsize=10, x=0.01, ha="left")
    return figure


def _colour(action: int) -> str:
    return "#9A9A9A" if action == STAY else COLOURS[(action - 1) % len(COLOURS)]
