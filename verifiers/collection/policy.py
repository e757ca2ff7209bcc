"""Which models a query is put to: all of them, or a sampled part, which leaves cells missing."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from routing_pomdp.envs.settings.checks import check_settings
from routing_pomdp.envs.settings.ranges import Finite, Seed, Share, Text
from routing_pomdp.verifiers.live import Query


class CollectionPolicy(Protocol):
    """Decides after each model whether the next one is asked too."""

    def goes_on(self, query: Query, stage: int, signals: Mapping[str, float]) -> bool:
        """Whether the model after this stage is asked.

        It must decide alike when it is asked again: a collection that is resumed asks again.

        Args:
            query: what was asked.
            stage: of the model that answered, 0 for the cheapest.
            signals: what verifiers said of that answer, by name; NaN where they said nothing.
        """


@dataclass(frozen=True)
class AskAll:
    """Every model answers every query: what training and evaluation of routers want."""

    def goes_on(self, query: Query, stage: int, signals: Mapping[str, float]) -> bool:
        return True


@dataclass(frozen=True)
class AskSome:
    """The next model is asked with some probability.

    Attributes:
        probability: in [0, 1].
        seed: of the draws; a query's draws are its own, whatever the order of queries.

    Raises:
        ValueError: no probability.
    """

    probability: Share = 0.5
    seed: Seed = 0

    def __post_init__(self) -> None:
        check_settings(self, "policy")

    def goes_on(self, query: Query, stage: int, signals: Mapping[str, float]) -> bool:
        return _draw(self.seed, query, stage) < self.probability


@dataclass(frozen=True)
class AskBelow:
    """The next model is asked where a signal is low, and now and then all the same.

    Attributes:
        signal: its name.
        threshold: an answer with a signal below it goes on, as does one without a signal.
        explore: the probability that another one goes on too.
        seed: of the draws.

    Raises:
        ValueError: ``explore`` is no probability.
    """

    signal: Text
    threshold: Finite
    explore: Share = 0.1
    seed: Seed = 0

    def __post_init__(self) -> None:
        check_settings(self, "policy")

    def goes_on(self, query: Query, stage: int, signals: Mapping[str, float]) -> bool:
        if self.signal not in signals:
            raise ValueError(
                f"policy.signal is {self.signal!r}: the verifiers give {sorted(signals)}"
            )
        stays = signals[self.signal] >= self.threshold
        return not stays or _draw(self.seed, query, stage) < self.explore


def _draw(seed: int, query: Query, stage: int) -> float:
    drawn = hashlib.sha256(f"{seed}\x1f{query.query_id}\x1f{stage}".encode()).digest()
    return int.from_bytes(drawn[:7], "big") / 256**7
