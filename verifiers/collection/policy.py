"""Collection policies: which models are asked a query; the others' cells stay missing."""

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

        It must be deterministic, because a resumed collection decides again.

        Args:
            query: the query.
            stage: of the model that answered, 0 for the cheapest.
            signals: verifiers' signals of that answer, by name; NaN for a missing one.
        """


@dataclass(frozen=True)
class AskAll:
    """Every model answers every query, as training and evaluation of routers need."""

    def goes_on(self, query: Query, stage: int, signals: Mapping[str, float]) -> bool:
        return True


@dataclass(frozen=True)
class AskSome:
    """The next model is asked with some probability: answers are missing completely at random.

    Attributes:
        probability: in [0, 1].
        seed: of the draws, which do not depend on the order of queries.

    Raises:
        ValueError: ``probability`` is outside [0, 1].
    """

    probability: Share = 0.5
    seed: Seed = 0

    def __post_init__(self) -> None:
        check_settings(self, "policy")

    def goes_on(self, query: Query, stage: int, signals: Mapping[str, float]) -> bool:
        return _draw(self.seed, query, stage) < self.probability


@dataclass(frozen=True)
class AskBelow:
    """The next model is asked if a signal is low, and otherwise with some probability: answers are
    missing at random.

    Attributes:
        signal: its name.
        threshold: the next model is asked if the signal is below it, or missing.
        explore: the probability that it is asked otherwise.
        seed: of the draws.

    Raises:
        ValueError: ``explore`` is outside [0, 1].
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
