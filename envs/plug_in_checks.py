"""Common parts of `check_solver` and `check_verifier`: an example log, claims and their errors."""

from __future__ import annotations

import pickle
import random
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from routing_pomdp.envs.logs.rollouts import Rollouts
from routing_pomdp.envs.settings.checks import declared

_WORDS = np.array(["river", "stone", "cloud", "paper", "music", "train", "garden", "winter"])


class CheckError(ValueError):
    """A plug-in breaks a claim.

    Attributes:
        claim: its name, as in ``skip``.
    """

    def __init__(self, claim: str, message: str) -> None:
        super().__init__(message)
        self.claim = claim


@dataclass
class Claims:
    """Runs the checks of a plug-in's claims.

    Attributes:
        plug_in: the object to check.
        known: names of all claims.
        skip: names of the claims to leave out.
        case: the case being tried, for messages.

    Raises:
        ValueError: ``skip`` names an unknown claim.
    """

    plug_in: Any
    known: Collection[str]
    skip: Collection[str] = ()
    case: str = field(default="", init=False)

    def __post_init__(self) -> None:
        if unknown := sorted(set(self.skip) - set(self.known)):
            raise ValueError(f"skip names {unknown[0]!r}: expected some of {', '.join(self.known)}")

    def hold(self, claim: str, check: Callable[[], str | None], case: str = "") -> None:
        """Runs a check unless its claim is skipped; raises `CheckError` if the check raises or
        returns a message."""
        if claim in self.skip:
            return
        self.case = case or self.case
        name = type(self.plug_in).__name__
        try:
            problem = check()
        except CheckError:
            raise
        except Exception as error:  # of a plug-in, which may raise anything
            kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
            raise CheckError(claim, self._text(name, claim, f"fails: {kind}{error}")) from error
        if problem:
            raise CheckError(claim, self._text(name, claim, problem))

    def _text(self, name: str, claim: str, problem: str) -> str:
        where = f" [{self.case}]" if self.case else ""
        return f"{name} breaks the claim {claim!r}: {problem}{where}"


def example_log(
    n: int = 120, seed: int = 0, signals: Collection[str] = ("confidence",)
) -> Rollouts:
    """A log with every column: three models, prompts, answers and informative signals.

    The signals are log-probabilities. Every other query is a training query, the rest are test
    queries.

    Args:
        n: how many queries.
        seed: of all draws.
        signals: names of the signals.
    """
    rng = np.random.default_rng(seed)
    hard = rng.random(n) < 0.5
    chance = np.where(hard[:, None], [0.25, 0.5, 0.9], [0.8, 0.9, 0.98])
    score = (rng.random((n, 3)) < chance).astype(float)
    cost = np.array([0.01, 0.1, 1.0]) * rng.uniform(0.8, 1.2, (n, 1))
    words = _WORDS[rng.integers(len(_WORDS), size=(n, 6))].tolist()
    prompt = [
        f"{'prove' if h else 'name'} {' '.join(row[:3])} {i}"
        for i, (h, row) in enumerate(zip(hard, words, strict=True))
    ]
    answer = [
        [f"{'surely' if s else 'perhaps'} {word}" for s, word in zip(right, row[3:], strict=True)]
        for right, row in zip(score, words, strict=True)
    ]
    drawn = {
        name: np.log(np.clip(rng.normal(0.15 + 0.7 * score, 0.12), 0.01, 0.99)) for name in signals
    }
    return Rollouts(
        models=("small", "medium", "large"),
        query_id=np.array([f"q{i}" for i in range(n)]),
        score=score,
        cost=cost,
        signals=drawn,
        signal_costs=dict.fromkeys(signals, 0.01 * cost),
        split=np.where(np.arange(n) % 2, "test", "train"),
        dataset=np.full(n, "example"),
        answer=np.array(answer, dtype=object),
        latency=rng.uniform(100, 2000, (n, 3)),
        tokens_in=np.repeat(rng.integers(20, 60, (n, 1)), 3, axis=1).astype(float),
        tokens_out=rng.integers(1, 40, (n, 3)) + 20 * (1 - score),
        prompt=np.array(prompt, dtype=object),
    )


def mirrored(values: NDArray[Any], score: NDArray[np.float64]) -> NDArray[Any]:
    """``values (n, …)`` of one model, swapped between queries with right and wrong answers."""
    order = np.argsort(np.nan_to_num(score, nan=0.5), kind="stable")
    found = values.copy()
    found[order] = values[order[::-1]]
    return found


def fault_of_settings(plug_in: Any) -> str | None:
    """The error message if a plug-in does not store its settings as dataclass fields, else None."""
    if not is_dataclass(plug_in) or isinstance(plug_in, type):
        return "it is no dataclass: decorate it with @dataclass(frozen=True)"
    names = {item.name for item in fields(plug_in)}
    cls: Callable[..., Any] = type(plug_in)
    if odd := sorted(set(declared(cls).kinds) - names):
        return f"its argument {odd[0]!r} is no dataclass field: settings are fields"
    if odd := sorted(name for name in vars(plug_in) if name not in names and name[0] != "_"):
        return f"it keeps {odd[0]!r} outside its dataclass fields: settings are fields"
    replace(plug_in)
    return None


@contextmanager
def untouched(**objects: Any) -> Iterator[list[str]]:
    """Yields a list to which an error message is added if the block changes one of the objects."""
    problems: list[str] = []
    before = _contents(objects)
    yield problems
    after = _contents(objects)
    changed = [path for path in {**before, **after} if before.get(path) != after.get(path)]
    problems += [f"it changes {path}: make a copy" for path in changed[:1]]


@contextmanager
def own_random_numbers() -> Iterator[list[str]]:
    """Yields a list to which an error message is added for each global random state that the block
    draws from.

    The block runs with fixed states; the earlier ones are restored after it. Importing a library
    may draw too, so the block should not be the first to import one.
    """
    problems: list[str] = []
    torch = sys.modules.get("torch")
    kept = random.getstate(), np.random.get_state(), torch and torch.get_rng_state()  # noqa: NPY002
    random.seed(4)
    np.random.seed(4)  # noqa: NPY002
    if torch:
        torch.manual_seed(4)
    try:
        states = _random_states()
        yield problems
        for name, state in _random_states().items():
            if name in states and state != states[name]:
                problems.append(
                    f"it draws from {name}, the global random state: use a generator of its own, "
                    "np.random.default_rng(self.seed)"
                )
    finally:
        random.setstate(kept[0])
        np.random.set_state(kept[1])  # noqa: NPY002
        if torch:
            torch.set_rng_state(kept[2])


def _random_states() -> dict[str, Any]:
    states: dict[str, Any] = {
        "numpy.random": pickle.dumps(np.random.get_state()),  # noqa: NPY002
        "random": random.getstate(),
    }
    if torch := sys.modules.get("torch"):
        states["torch"] = torch.get_rng_state().numpy().tobytes()
    return states


def _contents(value: Any, path: str = "") -> dict[str, Any]:
    """Arrays and plain values in an object, by path."""
    if isinstance(value, np.ndarray):
        return {path: (value.shape, value.tolist() if value.dtype == object else value.tobytes())}
    if is_dataclass(value) and not isinstance(value, type):
        parts: dict[Any, Any] = {
            item.name: getattr(value, item.name, None) for item in fields(value)
        }
    elif isinstance(value, Mapping):
        parts = dict(value)
    elif isinstance(value, list | tuple):
        parts = dict(enumerate(value))
    else:
        return {path: value if isinstance(value, int | float | str | None) else type(value)}
    found: dict[str, Any] = {}
    for name, part in parts.items():
        found |= _contents(part, f"{path}.{name}" if path else str(name))
    return found
