"""Benchmarks of the environments: many episodes at once, compared with one at a time.

Times are processor times, which depend less on other programs.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import gymnasium
import numpy as np

from routing_pomdp.envs import RoutingEnv, RoutingVectorEnv
from routing_pomdp.scripts.benchmark.pomdp import EVERYTHING, own

MANY = 4096


def environment() -> Iterator[tuple[str, ...]]:
    """Steps per second of single and vectorised environments with random actions."""
    for rules in ({}, EVERYTHING):
        model = own(5, 8, **rules)
        queries = model.sample(2048, np.random.default_rng(0))
        name = "every option" if rules else "core"
        single = RoutingEnv(queries, problem=model)
        one = steps_per_second(single)
        if not rules:
            pole = steps_per_second(gymnasium.make("CartPole-v1").unwrapped)
            yield (
                "RoutingEnv, reset and step",
                f"{one / 1e3:.0f} k steps/s",
                "≥ 100",
                f"CartPole-v1: {pole / 1e3:.0f} k steps/s",
                f"{one / pole:.1f}×",
            )
        sync = vector_steps_per_second(
            gymnasium.vector.SyncVectorEnv([partial(RoutingEnv, queries, problem=model)] * MANY),
            steps=4,
            repeat=3,
        )
        env = RoutingVectorEnv(MANY, queries, problem=model)
        speed = vector_steps_per_second(env)
        for peer, of in (("SyncVectorEnv", sync), ("RoutingEnv alone", one)):
            yield (
                f"RoutingVectorEnv, {MANY:,} × N = 5, {name}",
                f"{speed / 1e6:.1f} M steps/s",
                "≥ 5",
                f"{peer}: {of / 1e3:.0f} k steps/s",
                f"{speed / of:.0f}×",
            )
        variants: dict[str, dict[str, Any]] = {
            "observations shared": {"copy": False},
            "tensors, no copies": {"copy": False, "backend": "torch"},
            "SAME_STEP autoreset": {"autoreset_mode": "SameStep"},
            "a price per episode": {"price": (0.01, 1.0)},
            "a price and a ratio per episode": {"price": (0.01, 1.0), "ratio": (10.0, 100.0)},
        }
        for variant, options in variants.items():
            env = RoutingVectorEnv(MANY, queries, problem=model, **options)
            yield as_row(f"{name}, {variant}", env)
        yield as_row(f"{name}, queries drawn from the model", RoutingVectorEnv(MANY, model))
    best = own(5, 8, **EVERYTHING, answer="best")
    queries = best.sample(2048, np.random.default_rng(0))
    yield as_row("every option, best answer", RoutingVectorEnv(MANY, queries, problem=best))


def as_row(what: str, env: RoutingVectorEnv) -> tuple[str, ...]:
    return f"… {what}", f"{vector_steps_per_second(env) / 1e6:.1f} M steps/s"


def steps_per_second(env: Any, steps: int = 200_000) -> float:
    actions = np.random.default_rng(0).integers(env.action_space.n, size=steps).tolist()
    env.reset(seed=0)
    started = time.process_time()
    for action in actions:
        _, _, terminated, truncated, _ = env.step(action)
        if terminated or truncated:
            env.reset()
    return steps / (time.process_time() - started)


def vector_steps_per_second(env: Any, steps: int = 100, repeat: int = 7) -> float:
    """Environment steps per second, with resets, of the fastest of several runs."""
    rng = np.random.default_rng(0)
    actions = rng.integers(env.single_action_space.n, size=(steps, env.num_envs))
    env.reset(seed=0)
    best = float("inf")
    for _ in range(repeat):
        started = time.process_time()
        for action in actions:
            env.step(action)
        best = min(best, time.process_time() - started)
    return float(actions.size / best)
