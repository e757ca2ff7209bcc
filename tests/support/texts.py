"""Logs with prompts and answers in which a word gives something away."""

from __future__ import annotations

import numpy as np

from routing_pomdp.envs import Rollouts, RoutingData

WORDS = np.array(["river", "stone", "cloud", "paper", "music", "train", "garden", "winter"])


def log_with_texts(
    n: int, seed: int, prompt_tells: bool = False, answer_tells: bool = False
) -> RoutingData:
    """Three models, each ten times as dear as the one before.

    Args:
        n: queries.
        seed: of everything.
        prompt_tells: "easy" prompts are answered right by every model, "hard" ones by the last.
        answer_tells: right answers hold the word "surely", others "perhaps".
    """
    rng = np.random.default_rng(seed)
    hard = rng.random(n) < 0.5
    score = (rng.random((n, 3)) < [0.5, 0.7, 0.95]).astype(float)
    if prompt_tells:
        score = np.where(hard[:, None], [0.0, 0.0, 1.0], 1.0)
    filler = [" ".join(rng.choice(WORDS, 4)) for _ in range(n)]
    prompt = [f"{'hard' if h else 'easy'} {text}" if prompt_tells else text
              for h, text in zip(hard, filler, strict=True)]  # fmt: skip
    said = np.where(score > 0, "surely", "perhaps") if answer_tells else np.full((n, 3), "well")
    answer = np.array([[f"{word} {rng.choice(WORDS)}" for word in row] for row in said], object)
    call, verify = np.array([0.01, 0.1, 1.0]), np.array([0.005, 0.05, 0.0])
    rollouts = Rollouts(
        models=("s", "m", "l"),
        query_id=np.array([f"q{i}" for i in range(n)]),
        score=score,
        cost=np.broadcast_to(call, (n, 3)).copy(),
        signals={"confidence": rng.random((n, 3))},
        split=np.full(n, "train"),
        dataset=np.full(n, "toy"),
        answer=answer,
        prompt=np.array(prompt, dtype=object),
    )
    return RoutingData(
        score,
        np.broadcast_to(call, (n, 3)),
        np.broadcast_to(verify, (n, 3)),
        rollouts.signals["confidence"][..., None],
        rollouts,
    )
