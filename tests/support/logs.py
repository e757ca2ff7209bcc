"""Small logs with several signals, for the tests of verifiers and of what they are worth."""

from __future__ import annotations

import numpy as np

from routing_pomdp.envs import Rollouts


def log_of(n=400, n_models=3, seed=0, split=(0.5, 0.0, 0.5), **changed) -> Rollouts:
    """Queries of varying difficulty, with two calibrated-free signals and their costs.

    "sharp" is a log-probability that tells right from wrong well and costs half an answer; "dull"
    is a real number that tells little, for free.
    """
    rng = np.random.default_rng(seed)
    ease = rng.normal(size=(n, 1))
    skill = np.linspace(-0.5, 1.5, n_models)
    score = (rng.random((n, n_models)) < 1 / (1 + np.exp(-2 * (ease + skill)))).astype(float)
    sharp = -np.logaddexp(0, -(3 * score - 1 + rng.normal(0, 1.2, (n, n_models))))
    dull = 5 + score + rng.normal(0, 1.5, (n, n_models))
    cost = np.geomspace(1, 20, n_models) * rng.uniform(0.8, 1.2, (n, 1))
    names = np.array(["train", "validation", "test"])
    arrays = {
        "models": tuple(f"m{i}" for i in range(n_models)),
        "query_id": np.array([f"q{i}" for i in range(n)]),
        "score": score,
        "cost": cost,
        "signals": {"sharp": sharp, "dull": dull},
        "signal_costs": {"sharp": 0.5 * cost},
        "split": names[rng.choice(3, size=n, p=split)],
        "dataset": np.full(n, "toy"),
        "tokens_out": rng.integers(1, 200, size=(n, n_models)).astype(float),
    }
    return Rollouts(**(arrays | changed))
