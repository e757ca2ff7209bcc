"""The source `profile` of ``conf/rollouts/profile.yaml``: rollouts simulated from a profile."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from routing_pomdp.envs.logs.rollouts import Rollouts, RolloutsError
from routing_pomdp.envs.logs.sources import Split, out_of_domain
from routing_pomdp.envs.profiles.files import load_profile
from routing_pomdp.envs.profiles.profile import simulate
from routing_pomdp.envs.settings.ranges import Names, Range, Seed, Text


def profile(
    profile: Text,
    queries: Mapping[Split, Annotated[int, Range(1, 10_000_000)]],
    seed: Seed,
    models: Names | None = None,
    train_on: Text | None = None,
) -> Rollouts:
    """Queries simulated from a profile.

    Args:
        profile: the name of a shipped one, or the path of a YAML file.
        queries: how many for each split.
        seed: of the simulation.
        models: as `calls_table`.
        train_on: another profile, for out-of-domain training: all splits but "test" are simulated
            from it.

    Raises:
        ValueError: there is no such profile, or it cannot be simulated from.
    """
    log = _simulated(profile, queries, seed).select(models)
    if train_on in (None, profile):
        return log
    assert train_on is not None
    elsewhere = _simulated(train_on, queries, seed).select(models)
    return out_of_domain(elsewhere.take(elsewhere.split != "test"), log.where("test"))


def _simulated(profile: str, queries: Mapping[Split, int], seed: int) -> Rollouts:
    try:
        return simulate(load_profile(profile), queries, seed)
    except RolloutsError as error:
        raise RolloutsError(f"profile {profile}: {error}") from error
