"""Families of outcomes for the tests of measures and their uncertainty."""

from __future__ import annotations

import numpy as np

from routing_pomdp.evaluation.frontier_outcomes import FrontierOutcomes


def family_of(n=300, M=6, N=3, seed=0, skill=0.3):
    """A family that calls the last model more often, and a little better than at random."""
    rng = np.random.default_rng(seed)
    model_score = (rng.random((n, N)) < np.linspace(0.4, 0.8, N)).astype(float)
    model_cost = np.geomspace(1, 20, N) * rng.uniform(0.5, 1.5, (n, 1))
    need = model_score[:, -1] - model_score[:, 0]
    dear = rng.random((n, M)) + skill * need[:, None] > np.linspace(1.2, 0.1, M)
    score = np.where(dear, model_score[:, -1:], model_score[:, :1])
    cost = np.where(dear, model_cost[:, -1:] + model_cost[:, :1], model_cost[:, :1])
    oracle_score = np.stack([model_score[:, 0], model_score.max(axis=1)], axis=1)
    oracle_cost = np.stack([model_cost[:, 0], 0.4 * model_cost[:, -1]], axis=1)
    return FrontierOutcomes(score, cost, model_score, model_cost, oracle_score, oracle_cost)


def rows_of(outcomes, rows):
    return FrontierOutcomes(*(getattr(outcomes, k)[rows] for k in outcomes.__dataclass_fields__))


def coin(n, p, rng):
    """SLM always wrong and free, LLM right with probability p at cost 1; the family is the LLM."""
    right = (rng.random((n, 1)) < p).astype(float)
    models = np.hstack([np.zeros((n, 1)), right]), np.tile([0.0, 1.0], (n, 1))
    return FrontierOutcomes(right, np.ones((n, 1)), *models, np.ones((n, 1)), np.full((n, 1), 0.5))
