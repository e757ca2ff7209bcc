"""The fitted routing problem as a POMDP: export it, show a policy, solve a .pomdp file."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from routing_pomdp.evaluation.configuration.command_line import reported

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from omegaconf import DictConfig

    from routing_pomdp.envs import RoutingData, RoutingPOMDP
    from routing_pomdp.solvers import Policy

_OVERRIDES = (
    "settings as for scripts/train.py, such as rollouts=profile costs.ratio=50 solver=exact"
)
# Five models each, which exact planning enumerates in a second.
_PROFILES = ("gsm8k", "medmcqa", "mmlu", "triviaqa", "truthfulqa")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)

    export = commands.add_parser("export", help="write the fitted problem as a .pomdp file")
    export.add_argument("file", type=Path, help="file to write")
    export.add_argument("--discount", type=float, default=1.0, help="for solvers that need one < 1")

    show = commands.add_parser("show", help="print a solver's policy as a tree")
    show.add_argument("--depth", type=int, help="number of decisions to show (default: all)")
    show.add_argument("--figure", type=Path, help="PNG or SVG of the alpha vectors, if any")

    regret = commands.add_parser("regret", help="regret of POMCP to exact on the shipped profiles")
    regret.add_argument("--figure", type=Path, help="PNG or SVG of the curves")
    regret.add_argument(
        "--simulations",
        type=int,
        nargs="+",
        default=[10, 30, 100, 300, 1000],
        help="numbers of simulations per plan",
    )
    regret.add_argument("--prices", type=float, nargs="+", default=[0.05, 0.2, 0.5], help="λ")
    regret.add_argument(
        "--profiles", nargs="+", default=list(_PROFILES), help=f"default: {' '.join(_PROFILES)}"
    )

    for command in (export, show, regret):
        if command is not regret:
            command.add_argument("--price", type=float, default=0.3, help="λ (default: 0.3)")
        command.add_argument("overrides", nargs="*", help=_OVERRIDES)

    solve = commands.add_parser("solve", help="solve a .pomdp file by exact value iteration")
    solve.add_argument("file", type=Path, help="file to read")
    solve.add_argument("--horizon", type=int, help="number of decisions (default: infinite)")
    solve.add_argument(
        "--precision", type=float, default=1e-9, help="error of the value of an infinite horizon"
    )
    solve.add_argument("--max-vectors", type=int, default=10_000, help="largest set to prune")
    solve.add_argument("--seconds", type=float, help="time limit for the value and each bound")
    solve.add_argument(
        "--out", type=Path, help="write the alpha vectors (.alpha, or SARSOP's .policy)"
    )

    check = commands.add_parser("value", help="the value of another solver's alpha vectors")
    check.add_argument("file", type=Path, help="the .pomdp file")
    check.add_argument("vectors", type=Path, help="an .alpha file, or SARSOP's .policy")

    arguments = parser.parse_args()
    with reported():
        globals()[f"_{arguments.command}"](arguments)


def _export(arguments: argparse.Namespace) -> None:
    from routing_pomdp.envs.model.decision_graph import flatten
    from routing_pomdp.envs.model.pomdp_file import write_pomdp
    from routing_pomdp.solvers import Exact

    _, problem, _, _ = _fitted(arguments)
    flat = flatten(problem, arguments.discount)
    write_pomdp(flat, arguments.file)
    steps = 2 * problem.n_models if problem.rules.verify else problem.n_models
    print(f"written: {arguments.file} ({flat.n_states:,} states, {len(flat.actions)} actions)")
    print(f"exact value: {Exact().solve(problem).value:.9f}, with a horizon of {steps} or more")


def _show(arguments: argparse.Namespace) -> None:
    from routing_pomdp.evaluation.configuration.build import build
    from routing_pomdp.evaluation.evaluate import model_value
    from routing_pomdp.evaluation.policies.policy_tree import policy_tree
    from routing_pomdp.solvers import QueryPolicy
    from routing_pomdp.solvers.exact.alpha_vectors import AlphaPolicy
    from routing_pomdp.solvers.exact.bounds import Bounds
    from routing_pomdp.solvers.solver import solved

    config, problem, train, models = _fitted(arguments)
    solver = build(config.solver, "solver")
    policy = solved(solver, problem, [arguments.price], train)[0]
    if isinstance(policy, QueryPolicy):
        raise ValueError("the policy reads texts or scores and has no tree: choose another solver")
    if arguments.figure and not isinstance(policy, AlphaPolicy):
        raise ValueError("--figure draws alpha vectors: choose solver=alpha_vectors")
    bounds = Bounds.of(problem)
    print(policy_tree(policy, models, arguments.depth))
    print(
        f"\nvalue in the model {model_value(policy):.4f} at λ = {arguments.price:g}; bounds: "
        f"open loop {bounds.blind:.4f}, fast informed {bounds.fib:.4f}, QMDP {bounds.qmdp:.4f}"
    )
    if isinstance(policy, AlphaPolicy) and arguments.figure:
        from routing_pomdp.evaluation.plots.alpha_figure import alpha_figure

        figure = alpha_figure(policy, models, f"alpha vectors at λ = {arguments.price:g}")
        _save(figure, arguments.figure)
        print(f"written: {arguments.figure}")


def _regret(arguments: argparse.Namespace) -> None:
    from routing_pomdp.evaluation.policies.regret import regret_curve, regret_figure
    from routing_pomdp.solvers.search.pomcp import POMCP

    simulations, prices = sorted(set(arguments.simulations)), arguments.prices
    for price in prices:
        _check_price("--prices", price)
    given, curves = arguments.overrides, {}
    for name in arguments.profiles:
        arguments.overrides = ["env=full", f"rollouts.profile={name}", *given]
        _, problem, _, _ = _fitted(arguments)

        def search(simulations: int, price: float, problem: RoutingPOMDP = problem) -> Policy:
            return POMCP(simulations=simulations).solve(problem.at(price))

        label = f"pomcp, {problem.n_symbols} bins"
        curve = regret_curve(label, search, problem, simulations, prices)
        curves[name] = [curve]
        worst = zip(curve.simulations, curve.regret.max(axis=1), strict=True)
        shown = ", ".join(f"{regret:.4f} at {n:,}" for n, regret in worst)
        print(f"{name}, {label}, worst price: {shown}", flush=True)
    if arguments.figure:
        at = ", ".join(f"{price:g}" for price in prices)
        figure = regret_figure(curves, f"Model regret by profile, λ = {at}")
        _save(figure, arguments.figure)
        print(f"written: {arguments.figure}")


def _save(figure: Figure, path: Path) -> None:
    from routing_pomdp.envs.files.atomic import replacing

    with replacing(path) as file:
        figure.savefig(file, format=path.suffix[1:] or "png", dpi=150)


def _solve(arguments: argparse.Namespace) -> None:
    from tqdm import tqdm

    from routing_pomdp.envs.files.atomic import check_output
    from routing_pomdp.envs.model.pomdp_file import read_pomdp
    from routing_pomdp.solvers.exact.alpha_files import write_alpha
    from routing_pomdp.solvers.exact.bounds import fib_bound, qmdp_bound
    from routing_pomdp.solvers.exact.pruning import Deadline
    from routing_pomdp.solvers.exact.value_iteration import Solution, value_iteration

    if arguments.out:
        check_output(arguments.out, arguments.file)
    pomdp = read_pomdp(arguments.file)
    with tqdm(unit="backup", total=arguments.horizon, disable=None, leave=False) as bar:

        def show(solution: Solution) -> None:
            bar.set_postfix_str(f"{len(solution.value.vectors):,} vectors, ± {solution.error:.1e}")
            bar.update()

        found = value_iteration(
            pomdp,
            arguments.horizon,
            arguments.precision,
            arguments.max_vectors,
            arguments.seconds,
            show,
        )
    if found.stopped:
        print(f"stopped at the time limit of {arguments.seconds:g} s: only bounds are known")
    value = float(found.value.value(pomdp.start))
    first = pomdp.actions[int(found.value.act(pomdp.start[None])[0])]
    print(f"value at the start {value:.9f} (± {found.error:.1e}), first action {first}")
    print(f"{len(found.value.vectors)} alpha vectors after {found.iterations} iterations")
    for name, bound in (("fast informed bound", fib_bound), ("QMDP", qmdp_bound)):
        vectors = bound(pomdp, arguments.horizon, Deadline.after(arguments.seconds))
        print(f"{name}: {(vectors @ pomdp.start).max():.9f}")
    if arguments.out:
        write_alpha(found.value, arguments.out)
        print(f"written: {arguments.out}")


def _value(arguments: argparse.Namespace) -> None:
    from routing_pomdp.envs.model.pomdp_file import read_pomdp
    from routing_pomdp.solvers.exact.alpha_files import read_alpha

    pomdp, value = read_pomdp(arguments.file), read_alpha(arguments.vectors)
    if value.vectors.shape[1] != pomdp.n_states or value.actions.max() >= len(pomdp.actions):
        raise ValueError(
            f"{arguments.vectors} has vectors of {value.vectors.shape[1]} states and actions up to "
            f"{value.actions.max()}: {arguments.file} has {pomdp.n_states} states and "
            f"{len(pomdp.actions)} actions"
        )
    first = pomdp.actions[int(value.act(pomdp.start[None])[0])]
    print(f"value at the start {float(value.value(pomdp.start)):.9f}, first action {first}")


def _fitted(
    arguments: argparse.Namespace,
) -> tuple[DictConfig, RoutingPOMDP, RoutingData, tuple[str, ...]]:
    from routing_pomdp.evaluation.runs.prepare import fitted_problem

    price = getattr(arguments, "price", 0.0)
    _check_price("--price", price)
    config, loaded, problem, (train, _, _) = fitted_problem(arguments.overrides)
    return config, problem.at(price), train, loaded.models


def _check_price(option: str, price: float) -> None:
    if not 0 <= price < float("inf"):
        raise ValueError(f"{option} is {price}: expected a number >= 0")


if __name__ == "__main__":
    main()
