"""A policy as a tree in text, with the probability of each branch in the fitted model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from routing_pomdp.envs import STAY, RoutingPOMDP
from routing_pomdp.envs.arrays import IntArray
from routing_pomdp.solvers.solver import Policy


def policy_tree(policy: Policy, models: Sequence[str], depth: int | None = None) -> str:
    """A policy's actions at every history that it can reach, with their probabilities.

    Neighbouring symbols with equal branches are merged.

    Args:
        policy: a policy that depends on histories only.
        models: names of the models, cheapest first.
        depth: number of decisions to show; None for all.
    """
    tree = _Tree(policy.problem)
    root = np.zeros(1, dtype=np.int64)
    if policy.problem.rules.free_start:
        branch = tree.decision(policy, root)
    else:
        branch = tree.called(policy, root, 0)
    lines: list[str] = []
    _write(branch, models, lines, "", depth)
    return "\n".join(lines)


@dataclass
class _Branch:
    """One decision and the branches that follow it.

    Attributes:
        model: the model called or verified, or whose answer is returned.
        action: "call", "verify" or "return".
        mass: the probability of the branch.
        after: the following branches, with the symbols that lead there; None without a symbol.
    """

    model: int
    action: str
    mass: float
    after: list[tuple[tuple[int, ...] | None, _Branch]] = field(default_factory=list)

    def shape(self) -> tuple[object, ...]:
        """The branch without its probabilities."""
        return self.model, self.action, tuple((seen, b.shape()) for seen, b in self.after)

    def add(self, other: _Branch) -> None:
        """Adds the probabilities of a branch of the same shape."""
        self.mass += other.mass
        for (_, mine), (_, theirs) in zip(self.after, other.after, strict=True):
            mine.add(theirs)


@dataclass(frozen=True)
class _Tree:
    problem: RoutingPOMDP

    def mass(self, code: IntArray) -> float:
        return float(self.problem.mass(code).sum())

    def decision(self, policy: Policy, code: IntArray) -> _Branch:
        """The branch at one history."""
        problem, rules = self.problem, self.problem.rules
        history = problem.decode(code)
        action, stage = int(policy.act(history)[0]), int(history.stage[0])
        if action == STAY:
            return _Branch(int(problem.best_answer(history)[0]), "return", self.mass(code))
        if action == rules.verify_action:
            branch = _Branch(stage, "verify", self.mass(code))
            branch.after = self.symbols(policy, code, stage, problem.unverified)
            return branch
        return self.called(policy, code, stage + action)

    def called(self, policy: Policy, code: IntArray, model: int) -> _Branch:
        problem, mass = self.problem, self.mass(code)
        branch = _Branch(model, "call", mass)
        if model == problem.n_models - 1:
            history = problem.decode(code)
            history.called[:, model], history.stage[:] = True, model
            answer = int(problem.best_answer(history)[0])
            branch.after = [(None, _Branch(answer, "return", mass))]
        elif problem.rules.verified_at_once[model]:
            branch.after = self.symbols(policy, code, model, 0)
        else:
            following = code + problem.weights[model] * problem.unverified
            branch.after = [(None, self.decision(policy, following))]
        return branch

    def symbols(
        self, policy: Policy, code: IntArray, model: int, digit: int
    ) -> list[tuple[tuple[int, ...] | None, _Branch]]:
        """The branches after each symbol of ``model``, equal neighbours merged."""
        found: list[tuple[tuple[int, ...] | None, _Branch]] = []
        for symbol in range(self.problem.n_symbols):
            following = code + self.problem.weights[model] * (1 + symbol - digit)
            if self.mass(following) == 0:
                continue
            branch = self.decision(policy, following)
            seen, last = found[-1] if found else ((), None)
            if last is not None and last.shape() == branch.shape():
                last.add(branch)
                found[-1] = ((*(seen or ()), symbol), last)
            else:
                found.append(((symbol,), branch))
        return found


def _write(
    branch: _Branch, models: Sequence[str], lines: list[str], indent: str, depth: int | None
) -> None:
    lines.append(f"{indent}{branch.action} {models[branch.model]}  {branch.mass:.1%}")
    if depth is not None and depth <= 1 and branch.after:
        lines[-1] += "  …"
        return
    for seen, after in branch.after:
        following = indent + "  "
        if seen is not None:
            symbols = f"symbol {seen[0]}" if len(seen) == 1 else f"symbols {seen[0]}–{seen[-1]}"
            lines.append(f"{following}{symbols} of {models[branch.model]}:")
            following += "  "
        _write(after, models, lines, following, depth if depth is None else depth - 1)
