"""A made-up profile, and what it takes for two to be equal."""

from __future__ import annotations

import numpy as np
import pytest

from routing_pomdp.envs.profiles import Marginal, Profile
from routing_pomdp.envs.profiles.profile import MEANS

SIGNAL = "confidence_logprob"
LLAMA_PROFILES = ("gsm8k", "medmcqa", "mmlu", "triviaqa", "truthfulqa")
"""The shipped profiles of one chain of five models."""


def binary(accuracy: float) -> Marginal:
    return Marginal(np.array([0, 1 - accuracy, 1 - accuracy, 1]), np.array([0.0, 0, 1, 1]))


def known_profile() -> Profile:
    """Three models; a graded score, an atom at 0 with a heavy tail, a discrete signal."""
    N = 3
    base = np.array([0.9, 0.6, 0.5, 0.6, 0.3, 0.7])
    correlation = np.round(np.outer(base, base), 4)
    correlation[0, 1] = correlation[1, 0] = 0.5
    correlation[0, 5] = correlation[5, 0] = -0.1
    np.fill_diagonal(correlation, 1.0)
    return Profile(
        name="known",
        dataset="made-up",
        split="train",
        queries=500,
        source="made up",
        models=("small", "medium", "large"),
        signal=SIGNAL,
        scores=(
            binary(0.6),
            binary(0.8),
            Marginal(np.array([0, 0.2, 0.2, 0.5, 0.5, 1]), np.array([0, 0, 0.5, 0.5, 1, 1])),
        ),
        signals=(
            Marginal(np.array([0, 0.05, 0.3, 0.7, 1]), np.array([-40.0, -10, -1, 0, 0])),
            Marginal(np.array([0, 0.25, 0.25, 0.6, 0.6, 1]), np.array([0, 0, 0.5, 0.5, 1, 1])),
            Marginal(np.array([0.0, 1]), np.array([0.0, 1])),
        ),
        correlation=correlation,
        answer_cost=np.array([1.0, 2, 50]),
        signal_cost=np.full(N, 0.5),
    )


def assert_equal(one: Profile, other: Profile, within: float) -> None:
    for field in ("name", "dataset", "split", "queries", "source", "models", "signal"):
        assert getattr(one, field) == getattr(other, field)
    assert one.correlation == pytest.approx(other.correlation, abs=within)
    for field in MEANS:
        if getattr(one, field) is None:
            assert getattr(other, field) is None
        else:
            assert getattr(one, field) == pytest.approx(getattr(other, field), nan_ok=True)
    marginals = zip(one.scores + one.signals, other.scores + other.signals, strict=True)
    for ours, theirs in marginals:
        if ours is None:
            assert theirs is None
        else:
            assert ours.levels == pytest.approx(theirs.levels, abs=1e-9)
            assert ours.values == pytest.approx(theirs.values, rel=1e-4, abs=1e-12)
