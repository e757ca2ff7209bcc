"""Preparation of a run: the fitted problem and the three splits of a log."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from hydra import compose, initialize_config_module
from omegaconf import DictConfig, OmegaConf

from routing_pomdp.envs import CostModel, Rollouts, RoutingData, RoutingPOMDP, Rules
from routing_pomdp.envs.logs import sources
from routing_pomdp.evaluation.configuration.build import build, plain
from routing_pomdp.evaluation.configuration.schema import Train, check
from routing_pomdp.evaluation.model_fit import Data, Model
from routing_pomdp.verifiers import charged, fitted, make_routing_data, seen_before
from routing_pomdp.verifiers.observation.histogram import count_on_missing


def load_logs(rollouts: DictConfig) -> list[Rollouts]:
    """The logs that a ``rollouts`` node names.

    ``dataset`` and ``profile`` may be lists, one log each; ``dataset: null`` means every data set
    of a folder of `rational_cascades`.

    Raises:
        ValueError: the configuration is invalid or a log cannot be used.
    """
    node = plain(rollouts)
    if node.get("dataset", "") is None:
        if (
            node["_target_"] == "routing_pomdp.envs.logs.sources.rational_cascades"
            and node.get("path") != "???"
        ):
            node["dataset"] = sources.rational_cascade_names(node["path"], node["chain"])
        elif node["_target_"] not in _TAKE_DATASET:
            del node["dataset"]
    for key in ("dataset", "profile"):
        if isinstance(several := node.get(key), list):
            if not several:
                raise ValueError(f"rollouts.{key} is empty: expected at least one name")
            return [_load(node | {key: name}) for name in several]
    return [_load(node)]


# Readers for which ``dataset: null`` means all queries of the file.
_TAKE_DATASET = (
    "routing_pomdp.envs.logs.sources.automix",
    "routing_pomdp.envs.logs.wide_table.routerbench",
)


def _load(node: dict[Any, Any]) -> Rollouts:
    loaded: Rollouts = build(OmegaConf.create(node), "rollouts")
    return loaded


def split_log(loaded: Rollouts, evaluation: DictConfig) -> Rollouts:
    """A complete log with training, validation and test queries, split as in ``evaluation``."""
    seed = again = evaluation.split_seed
    if evaluation.train_seed is not None:
        again = evaluation.train_seed
    rollouts = loaded.require_complete()
    if evaluation.resplit:
        rollouts = replace(rollouts, split=np.full(len(rollouts), "train"))
    rollouts = rollouts.with_split("test", evaluation.test, seed)
    rollouts = rollouts.with_split("validation", evaluation.validation, again)
    return rollouts.thinned("train", evaluation.train_size, again)


def fitted_problem(
    overrides: Sequence[str],
) -> tuple[DictConfig, Rollouts, RoutingPOMDP, tuple[RoutingData, RoutingData, RoutingData]]:
    """The configuration of ``train.py`` with some settings, its log, and the results of `prepare`.

    Raises:
        ValueError: the configuration or the log is invalid.
    """
    with initialize_config_module("routing_pomdp.conf", version_base="1.3"):
        config = compose("train", list(overrides))
    check(config, Train)
    loaded, costs = build(config.rollouts, "rollouts"), build(config.costs, "costs")
    problem, *splits = prepare(config, loaded, costs)
    return config, loaded, problem, (splits[0], splits[1], splits[2])


def prepare(
    config: DictConfig, loaded: Rollouts, cost_model: CostModel
) -> tuple[RoutingPOMDP, RoutingData, RoutingData, RoutingData]:
    """The problem fitted on the training queries, and the three splits."""
    rollouts = split_log(loaded, config.evaluation)
    train_log = rollouts.where("train")
    verifier = fitted(build(config.verifier, "verifier"), train_log)
    costs = cost_model.fit(train_log, charged(verifier, train_log, cost_model))
    train_set, validation, test = (
        make_routing_data(rollouts.where(split), verifier, cost_model, costs)
        for split in ("train", "validation", "test")
    )
    before, seen = config.pre_query.verifier, None
    if before is not None:
        ahead = fitted(build(before, "pre_query.verifier"), train_log)
        seen = build(config.pre_query.observation, "pre_query.observation")
        logged = cost_model.priced(train_log).cost
        unit = 0.0 if logged is None else costs.unit / float(logged[:, -1].mean())
        train_set, validation, test = (
            seen_before(data, ahead, unit, cost_model) for data in (train_set, validation, test)
        )
    observation = build(config.observation, "observation")
    splits = (train_set, validation, test)
    if any(np.isnan(data.signal[:, :-1]).any() for data in splits):
        count_on_missing(observation)
    if seen is not None and any(np.isnan(data.require_pre_signal()).any() for data in splits):
        count_on_missing(seen)
    env = plain(config.env)
    levels = env.pop("levels")
    model = build(config.model, "model", Model)
    problem = model.fit(
        Data(
            train_set,
            observation,
            costs,
            Rules(len(rollouts.models), pre_query=seen is not None, **env),
            list(config.evaluation.prices),
            levels=levels,
            pre=seen,
        )
    )
    return problem, train_set, validation, test
