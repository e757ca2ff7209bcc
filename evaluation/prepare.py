"""From a configuration and a log to the fitted problem and the three splits."""

from __future__ import annotations

from omegaconf import DictConfig

from envs import CostModel, Replay, Rollouts, RoutingPOMDP, Rules
from evaluation.build import build, plain
from verifiers import fitted, make_replay, paid, seen_before


def prepare(
    config: DictConfig, loaded: Rollouts, cost_model: CostModel
) -> tuple[RoutingPOMDP, Replay, Replay, Replay]:
    """The problem fitted on the training queries, and the three splits ready to replay."""
    chosen = config.evaluation
    rollouts = loaded.require_complete()
    rollouts = rollouts.with_split("test", chosen.test, chosen.split_seed)
    rollouts = rollouts.with_split("validation", chosen.validation, chosen.split_seed)
    rollouts = rollouts.thinned("train", chosen.train_size, chosen.split_seed)
    train_log = rollouts.where("train")
    verifier = fitted(build(config.verifier, "verifier"), train_log)
    costs = cost_model.fit(train_log, paid(verifier, train_log))
    train_set, validation, test = (
        make_replay(rollouts.where(split), verifier, cost_model, costs)
        for split in ("train", "validation", "test")
    )
    before, seen = config.pre_query.verifier, None
    if before is not None:
        ahead = fitted(build(before, "pre_query.verifier"), train_log)
        seen = build(config.pre_query.observation, "pre_query.observation")
        unit = 0.0 if train_log.cost is None else costs.unit / float(train_log.cost[:, -1].mean())
        train_set, validation, test = (
            seen_before(replay, ahead, unit) for replay in (train_set, validation, test)
        )
    env = plain(config.env)
    levels = env.pop("levels")
    problem = RoutingPOMDP.fit(
        train_set,
        build(config.observation, "observation"),
        costs,
        Rules(len(rollouts.models), pre_query=seen is not None, **env),
        levels=levels,
        pre=seen,
    )
    return problem, train_set, validation, test
