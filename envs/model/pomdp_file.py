"""Reading and writing of the ``.pomdp`` format of Cassandra's pomdp-solve, also read by SARSOP.

The reader covers the grammar except for corner cases of names: preamble in any order, names or
numbers, wildcards, single entries, rows, matrices, ``uniform``, ``identity``, ``reset``, ``start``
in all its forms, costs instead of rewards. Later entries override earlier ones.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from routing_pomdp.envs.arrays import FloatArray
from routing_pomdp.envs.files.atomic import write_text
from routing_pomdp.envs.model.finite_pomdp import FinitePOMDP, require_memory

Index = int | slice

_TOKEN = re.compile(r"[:*]|[^\s:*]+")
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
_PREAMBLE = ("discount", "values", "states", "actions", "observations")
_SECTIONS = (*_PREAMBLE, "start", "T", "O", "R")
_KEYWORDS = ("uniform", "identity", "reset", "include", "exclude", "reward", "cost")
_MOST_NAMES = 10**6
# Rows in files are rounded to decimal digits; pomdp-solve accepts sums this far from 1.
_ROUNDED = 1e-5 + 1e-12
_EXACT = 1e-9  # the tolerance of `FinitePOMDP`


class PomdpFileError(ValueError):
    """A ``.pomdp`` file cannot be read; the message names the file, the line and the reason."""


def read_pomdp(path: str | Path) -> FinitePOMDP:
    """The POMDP in a ``.pomdp`` file. Rewards that depend on the next state or the observation are
    replaced by their expectation, which changes no value and no policy.

    Raises:
        PomdpFileError: the file is malformed or incomplete.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise PomdpFileError(f"{path}: not a text file ({error})") from None
    return _Reader(path, text).read()


def write_pomdp(pomdp: FinitePOMDP, path: str | Path) -> None:
    """Writes a file from which `read_pomdp` restores the POMDP to the last bit.

    Raises:
        ValueError: the format does not allow a name.
    """
    for group in (pomdp.states, pomdp.actions, pomdp.observations):
        for name in group:
            if not _NAME.fullmatch(name) or name in _KEYWORDS:
                raise ValueError(f"{name!r} is no name of the .pomdp format: letters, digits, _, -")
        if len(set(group)) < len(group):
            raise ValueError(f"a name of the .pomdp format occurs twice in {list(group)}")
    lines = [
        f"discount: {pomdp.discount!r}",
        "values: reward",
        f"states: {' '.join(pomdp.states)}",
        f"actions: {' '.join(pomdp.actions)}",
        f"observations: {' '.join(pomdp.observations)}",
        f"start: {' '.join(map(repr, pomdp.start.tolist()))}",
    ]
    states, observations = pomdp.states, pomdp.observations
    for a, action in enumerate(pomdp.actions):
        for s, after in np.argwhere(pomdp.transition[a]):
            probability = float(pomdp.transition[a, s, after])
            lines.append(f"T: {action} : {states[s]} : {states[after]} {probability!r}")
        for after, o in np.argwhere(pomdp.observation[a]):
            probability = float(pomdp.observation[a, after, o])
            lines.append(f"O: {action} : {states[after]} : {observations[o]} {probability!r}")
        for s in np.flatnonzero(pomdp.reward[a]):
            lines.append(f"R: {action} : {states[s]} : * : * {float(pomdp.reward[a, s])!r}")
    write_text(path, "\n".join(lines) + "\n")


@dataclass(frozen=True)
class _Token:
    text: str
    line: int


@dataclass
class _Reader:
    """A recursive-descent parser with one method for each section of the file."""

    path: Path
    text: str
    tokens: list[_Token] = field(init=False)
    at: int = 0
    sign: float = 1.0
    discount: float | None = None
    names: dict[str, tuple[str, ...]] = field(default_factory=dict)
    numbers: dict[str, dict[str, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.tokens = [
            _Token(match.group(), number)
            for number, line in enumerate(self.text.splitlines(), 1)
            for match in _TOKEN.finditer(line.split("#", 1)[0])
        ]

    def read(self) -> FinitePOMDP:
        while self.at < len(self.tokens) and self._peek().text in _PREAMBLE:
            self._preamble(self._next().text)
        declared = {*self.names, *(["discount"] if self.discount else [])}
        for key in ("discount", "states", "actions", "observations"):
            if key not in declared:
                raise self._error(f"{key} is not declared before {self._found()}")
        n_states, n_actions = len(self.names["states"]), len(self.names["actions"])
        n_observations = len(self.names["observations"])
        self.transition = self._table((n_actions, n_states, n_states), "transitions")
        self.observation = self._table((n_actions, n_states, n_observations), "observations")
        self.lines = {key: np.zeros((n_actions, n_states), dtype=int) for key in "TO"}
        self.rewards: list[tuple[list[Index], FloatArray]] = []
        self.start: FloatArray | None = None
        while self.at < len(self.tokens):
            section = self._next()
            if section.text == "start":
                self.start = self._start()
            elif section.text in ("T", "O"):
                self._probabilities(section)
            elif section.text == "R":
                self._reward()
            else:
                raise self._error(
                    f"expected start, T, O or R, found {section.text!r}", section.line
                )
        self._check_rows()
        start = np.full(n_states, 1 / n_states) if self.start is None else self.start
        assert self.discount is not None
        return FinitePOMDP(
            self.transition,
            self.observation,
            self._expected_reward(),
            self.discount,
            start,
            self.names["states"],
            self.names["actions"],
            self.names["observations"],
        )

    # -- tokens -------------------------------------------------------------------------------

    def _error(self, reason: str, line: int | None = None) -> PomdpFileError:
        if line is None:
            last = self.tokens[min(self.at, len(self.tokens) - 1)].line if self.tokens else 1
            line = last
        return PomdpFileError(f"{self.path}, line {line}: {reason}")

    def _table(self, shape: tuple[int, ...], what: str) -> FloatArray:
        try:
            require_memory(shape, what)
        except ValueError as error:
            raise PomdpFileError(f"{self.path}: {error}") from None
        return np.zeros(shape)

    def _peek(self) -> _Token:
        if self.at == len(self.tokens):
            raise self._error("the file ends too early")
        return self.tokens[self.at]

    def _found(self) -> str:
        return repr(self.tokens[self.at].text) if self.at < len(self.tokens) else "the end"

    def _next(self) -> _Token:
        token = self._peek()
        self.at += 1
        return token

    def _expect(self, text: str) -> None:
        token = self._next()
        if token.text != text:
            raise self._error(f"expected {text!r}, found {token.text!r}", token.line)

    def _takes(self, text: str) -> bool:
        """Whether the next token is ``text``; if so, it is consumed."""
        if self.at < len(self.tokens) and self.tokens[self.at].text == text:
            self.at += 1
            return True
        return False

    def _number(self) -> float:
        token = self._next()
        try:
            number = float(token.text if "_" not in token.text else "")
        except ValueError:
            raise self._error(f"expected a number, found {token.text!r}", token.line) from None
        if not np.isfinite(number):
            raise self._error(f"expected a finite number, found {token.text!r}", token.line)
        return number

    def _numbers(self, n: int) -> FloatArray:
        return np.array([self._number() for _ in range(n)])

    def _ends(self) -> bool:
        """Whether a new section, or the end of the file, comes next."""
        if self.at == len(self.tokens):
            return True
        follows = self.tokens[self.at + 1].text if self.at + 1 < len(self.tokens) else ""
        here = self.tokens[self.at].text
        return here in _SECTIONS and (follows == ":" or here == "start")

    # -- sections -----------------------------------------------------------------------------

    def _preamble(self, key: str) -> None:
        self._expect(":")
        if key == "discount":
            line, self.discount = self._peek().line, self._number()
            if not 0 < self.discount <= 1:
                raise self._error(f"discount is {self.discount}: expected (0, 1]", line)
        elif key == "values":
            token = self._next()
            if token.text not in ("reward", "cost"):
                raise self._error(
                    f"values: expected reward or cost, found {token.text!r}", token.line
                )
            self.sign = -1.0 if token.text == "cost" else 1.0
        else:
            line, names = self._peek().line, []
            while not self._ends():
                names.append(self._next().text)
            count = _whole(names[0]) if len(names) == 1 else None
            if count is not None and count > _MOST_NAMES:
                raise self._error(f"{count:,} {key} are more than {_MOST_NAMES:,}", line)
            if count:
                names = [str(i) for i in range(count)]
            elif not names or not all(map(_NAME.fullmatch, names)):
                raise self._error(f"{key}: expected a number or names, found {names}", line)
            if len(set(names)) < len(names):
                raise self._error(f"{key}: a name occurs twice", line)
            self.names[key] = tuple(names)
            self.numbers[key] = {name: i for i, name in enumerate(names)}

    def _index(self, key: str) -> Index:
        token = self._next()
        if token.text == "*":
            return slice(None)
        if token.text in self.numbers[key]:
            return self.numbers[key][token.text]
        number = _whole(token.text)
        if number is not None and number < len(self.names[key]):
            return number
        raise self._error(f"{token.text!r} is none of the {key}", token.line)

    def _start(self) -> FloatArray:
        n = len(self.names["states"])
        if self._takes("include") or self._takes("exclude"):
            included = self.tokens[self.at - 1].text == "include"
            self._expect(":")
            chosen = np.zeros(n, dtype=bool)
            while not self._ends():
                chosen[self._index("states")] = True
            chosen = chosen == included
            if not chosen.any():
                raise self._error("start leaves no state")
            return chosen / chosen.sum()
        self._expect(":")
        if self._takes("uniform"):
            return np.full(n, 1 / n)
        line, following = self._peek().line, self.at
        while not self._ends():
            self.at += 1
        given, self.at = self.at - following, following
        if given == 1 and n > 1:
            start = np.zeros(n)
            start[self._index("states")] = 1.0
            return start
        start = self._numbers(n)
        if (start < 0).any():
            raise self._error("start has a negative probability", line)
        if abs(start.sum() - 1) > _ROUNDED:
            raise self._error(f"start sums to {_digits(start.sum())}: expected 1", line)
        return _normalised(start)

    def _probabilities(self, section: _Token) -> None:
        """``T: a [: s [: s']]`` or ``O: a [: s' [: o]]``, followed by a number, row or matrix."""
        key = section.text
        table, columns = (
            (self.transition, "states") if key == "T" else (self.observation, "observations")
        )
        self._expect(":")
        index = [self._index("actions")]
        for group in ("states", columns):
            if not self._takes(":"):
                break
            index.append(self._index(group))
        self.lines[key][tuple(index[:2])] = section.line
        rows, width = table.shape[1:]
        given: FloatArray | float
        if len(index) == 3:
            given = self._number()
        elif self._takes("uniform"):
            given = 1 / width
        elif len(index) == 2:
            # In a row of T, `reset` stands for the initial belief.
            given = self._initial() if key == "T" and self._takes("reset") else self._numbers(width)
        elif self._takes("identity"):
            if rows != width:
                raise self._error("identity needs as many columns as rows", section.line)
            given = np.eye(rows)
        else:
            given = self._numbers(rows * width).reshape(rows, width)
        if np.any(np.asarray(given) < 0):
            raise self._error("a probability is negative", section.line)
        table[tuple(index)] = given

    def _initial(self) -> FloatArray:
        if self.start is None:
            raise self._error("reset needs start to be declared before")
        return self.start

    def _reward(self) -> None:
        """``R: a : s [: s' [: o]]``, followed by a number, row or matrix."""
        self._expect(":")
        groups = ("actions", "states", "states", "observations")
        index: list[Index] = [self._index(groups[0])]
        for group in groups[1:]:
            if not self._takes(":"):
                break
            index.append(self._index(group))
        n_states, n_observations = len(self.names["states"]), len(self.names["observations"])
        if len(index) == 4:
            value = np.array(self._number())
        elif len(index) == 3:
            value = self._numbers(n_observations)
        elif len(index) == 2:
            value = self._numbers(n_states * n_observations).reshape(n_states, n_observations)
        else:
            raise self._error("R needs at least an action and a state")
        self.rewards.append((index, value))

    # -- the result ---------------------------------------------------------------------------

    def _check_rows(self) -> None:
        """Checks that rows sum to one up to the rounding of their digits, and normalises them."""
        for key, table, columns in (
            ("T", self.transition, "states"),
            ("O", self.observation, "observations"),
        ):
            total = table.sum(axis=2)
            bad = np.argwhere(np.abs(total - 1) > _ROUNDED)
            if len(bad):
                a, s = bad[0]
                line = int(self.lines[key][a, s]) or len(self.text.splitlines())
                raise self._error(
                    f"{key}: {self.names['actions'][a]} : {self.names['states'][s]} sums to "
                    f"{_digits(total[a, s])} over the {columns}, expected 1 within 1e-5",
                    line,
                )
            table[:] = _normalised(table)

    def _expected_reward(self) -> FloatArray:
        n_actions, n_states, n_observations = self.observation.shape
        # Axes that no entry uses have length 1: most files use neither of the last two.
        by_next = any(len(index) < 3 or index[2] != slice(None) for index, _ in self.rewards)
        by_observation = any(len(index) < 4 or index[3] != slice(None) for index, _ in self.rewards)
        shape = (
            n_actions,
            n_states,
            n_states if by_next else 1,
            n_observations if by_observation else 1,
        )
        table = self._table(shape, "rewards by action, state, next state and observation")
        for index, value in self.rewards:
            table[tuple(index)] = value
        if not by_next and not by_observation:
            return self.sign * table[:, :, 0, 0]
        joint: Sequence[FloatArray] = (self.transition, self.observation)
        if by_next and by_observation:
            return self.sign * np.einsum("ast,ato,asto->as", *joint, table)
        if by_next:
            return self.sign * np.einsum("ast,ast->as", self.transition, table[..., 0])
        return self.sign * np.einsum("ast,ato,aso->as", *joint, table[:, :, 0])


def _whole(text: str) -> int | None:
    """A non-negative integer in plain digits; None for anything else."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None


def _normalised(rows: FloatArray) -> FloatArray:
    """Rows scaled to sum to one. Rows that already do within `_EXACT` are unchanged, so that a
    written file reads back to the last bit."""
    total = rows.sum(axis=-1, keepdims=True)
    return np.where(np.abs(total - 1) > _EXACT, rows / total, rows)


def _digits(total: float) -> str:
    """A sum with enough digits to show its error."""
    return f"{total:.10g}"
