"""Plays a policy on a log and writes the episodes as a Minari data set for offline RL."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from routing_pomdp.evaluation.configuration.command_line import reported

SPLITS = ("train", "validation", "test")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("id", help="id of the data set, such as routing/mmlu-random-v0")
    parser.add_argument(
        "--path", type=Path, help="folder of all data sets (default: MINARI_DATASETS_PATH)"
    )
    parser.add_argument(
        "--policy",
        choices=("random", "solver"),
        default="random",
        help="random legal actions, or the policy of the configured solver",
    )
    parser.add_argument("--price", type=float, default=0.3, help="λ (default: 0.3)")
    parser.add_argument("--split", choices=SPLITS, default="train", help="which queries to play")
    parser.add_argument("--repeats", type=int, default=1, help="episodes per query (default: 1)")
    parser.add_argument("--seed", type=int, default=0, help="seed of random actions")
    parser.add_argument(
        "overrides",
        nargs="*",
        help="settings as for scripts/train.py, such as rollouts=profile env=full solver=exact",
    )
    # Settings may also follow options.
    arguments = parser.parse_intermixed_args()
    with reported():
        export(arguments)


def export(arguments: argparse.Namespace) -> None:
    import numpy as np

    from routing_pomdp.envs.gym.offline import play, random_legal, write_minari
    from routing_pomdp.evaluation.configuration.build import build
    from routing_pomdp.evaluation.runs.prepare import fitted_problem
    from routing_pomdp.solvers.solver import for_queries, solved

    if not re.fullmatch(r"[\w./-]+-v\d+", arguments.id):
        raise ValueError(
            f"id is {arguments.id!r}: expected a name and version such as routing/x-v0"
        )
    if not 0 <= arguments.price < float("inf"):
        raise ValueError(f"--price is {arguments.price}: expected a number >= 0")
    if arguments.repeats < 1:
        raise ValueError(f"--repeats is {arguments.repeats}: expected at least 1")
    config, _, problem, splits = fitted_problem(arguments.overrides)
    problem, data = problem.at(arguments.price), splits[SPLITS.index(arguments.split)]
    if not len(data):
        raise ValueError(f"--split is {arguments.split}: it has no queries")
    act, name = random_legal(problem.rules, np.random.default_rng(arguments.seed)), "random"
    if arguments.policy == "solver":
        solver = build(config.solver, "solver")
        policy = for_queries(solved(solver, problem, [arguments.price], splits[0])[0], data)
        # A policy may have rules of its own.
        problem, act, name = policy.problem, policy.act, type(solver).__name__
    episodes = play(data, problem, act, arguments.repeats)
    folder = write_minari(
        arguments.id, episodes, problem, data, path=arguments.path, algorithm=name
    )
    steps = sum(len(episode.action) for episode in episodes)
    mean = sum(float(episode.reward.sum()) for episode in episodes) / len(episodes)
    print(f"written: {folder} ({len(episodes):,} episodes, {steps:,} steps)")
    print(f"mean return {mean:.4f} at λ = {arguments.price:g}")


if __name__ == "__main__":
    main()
