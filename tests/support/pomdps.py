"""Small finite POMDPs: the tiger problem, random ones, and their value by plain recursion."""

from __future__ import annotations

import numpy as np

from routing_pomdp.envs.model.finite_pomdp import FinitePOMDP

TIGER = """\
# Kaelbling, Littman & Cassandra (1998), section 5.1
discount: 0.95
values: reward
states: tiger-left tiger-right
actions: listen open-left open-right
observations: hear-left hear-right
start: uniform
T: listen
identity
T: open-left uniform
T: open-right
uniform
O: listen
0.85 0.15
0.15 0.85
O: open-left
uniform
O: open-right uniform
R: listen : * : * : * -1
R: open-left : tiger-left : * : * -100
R: open-left : tiger-right : * : * 10
R: open-right : tiger-left : * : * 10
R: open-right : tiger-right : * : * -100
"""


def random_pomdp(
    rng: np.random.Generator, states: int = 3, actions: int = 2, symbols: int = 2, gap: float = 0.1
) -> FinitePOMDP:
    """Random tables; a ``gap`` of one in ten entries is impossible."""

    def rows(*shape: int) -> np.ndarray:
        table = rng.dirichlet(np.ones(shape[-1]), size=shape[:-1])
        table *= rng.random(table.shape) > gap
        table[..., 0] += 1e-3
        return table / table.sum(axis=-1, keepdims=True)

    return FinitePOMDP(
        rows(actions, states, states),
        rows(actions, states, symbols),
        rng.normal(size=(actions, states)),
        float(rng.uniform(0.5, 1)),
        rows(states),
        tuple(f"s{i}" for i in range(states)),
        tuple(f"a{i}" for i in range(actions)),
        tuple(f"o{i}" for i in range(symbols)),
    )


def tree_value(pomdp: FinitePOMDP, belief: list[float], horizon: int) -> float:
    """The optimal value of ``horizon`` decisions from a belief, by walking every branch."""
    if horizon == 0:
        return 0.0
    states = range(pomdp.n_states)
    best = -np.inf
    for a in range(len(pomdp.actions)):
        value = sum(belief[s] * pomdp.reward[a, s] for s in states)
        for o in range(len(pomdp.observations)):
            after = [
                pomdp.observation[a, t, o]
                * sum(belief[s] * pomdp.transition[a, s, t] for s in states)
                for t in states
            ]
            mass = sum(after)
            if mass > 0:
                onward = tree_value(pomdp, [b / mass for b in after], horizon - 1)
                value += pomdp.discount * mass * onward
        best = max(best, value)
    return float(best)
