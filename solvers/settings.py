"""Checks of solvers' settings; a setting out of range is named by its config key."""

from __future__ import annotations

from typing import Any, get_args


def check_least(solver: object, **least: float) -> None:
    """Raise ValueError unless each of these settings is at least so much."""
    for key, smallest in least.items():
        if not getattr(solver, key) >= smallest:
            raise ValueError(
                f"solver.{key} is {getattr(solver, key)}: expected at least {smallest}"
            )


def check_shares(solver: object, *keys: str) -> None:
    """Raise ValueError unless each of these settings is in (0, 1]."""
    for key in keys:
        if not 0 < getattr(solver, key) <= 1:
            raise ValueError(f"solver.{key} is {getattr(solver, key)}: expected in (0, 1]")


def check_words(solver: object, **literals: Any) -> None:
    """Raise ValueError unless each of these settings is a word of its ``Literal``."""
    for key, literal in literals.items():
        if getattr(solver, key) not in get_args(literal):
            raise ValueError(
                f"solver.{key} is {getattr(solver, key)!r}: expected one of {get_args(literal)}"
            )


def check_count(what: str, count: int, most: int, models: int) -> None:
    """Raise ValueError where a solver would enumerate more than it should; the line names the
    sizes and what to do."""
    if count > most:
        raise ValueError(
            f"{models} models make {count:,} {what} or more, expected at most {most:,}: choose "
            "fewer models (rollouts.models=[…]), rules that allow less (env=core), or a solver "
            "such as static or pairwise_envelope"
        )
