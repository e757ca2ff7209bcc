"""A run from its configuration: solve, measure, draw and track."""

from __future__ import annotations

import math
import re
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from routing_pomdp.envs import CostModel, Rollouts, RoutingData, RoutingPOMDP
from routing_pomdp.envs.files.atomic import write_text
from routing_pomdp.envs.files.secrets import masked
from routing_pomdp.evaluation.configuration.build import build, plain
from routing_pomdp.evaluation.runs import run_folder as runs
from routing_pomdp.evaluation.runs.fingerprint import digest, files_of, fingerprint
from routing_pomdp.evaluation.runs.prepare import prepare
from routing_pomdp.evaluation.runs.report import report
from routing_pomdp.evaluation.runs.run_figures import draw
from routing_pomdp.evaluation.runs.run_folder import Run
from routing_pomdp.evaluation.runs.run_guarantee import Tolerance, apart
from routing_pomdp.evaluation.runs.run_lock import alone_in
from routing_pomdp.evaluation.tracker import NoTracker, TrackedRun, Tracker
from routing_pomdp.solvers import Solver, Training
from routing_pomdp.solvers.pre_query import PreQueryConditioned
from routing_pomdp.solvers.solver import solved

# What does not change a run's numbers, and so does not make it another run.
_ELSEWHERE = ("tracker", "sweep", "out", "force", "threads", "figures", "hydra")


def run(config: DictConfig, choices: Mapping[str, str]) -> Run:
    """Runs a configuration, or the missing steps of an unfinished run.

    Args:
        config: composed from ``conf/train.yaml``.
        choices: the option chosen in each group.

    Returns:
        The finished run.

    Raises:
        ValueError: the configuration or the log is invalid.
    """
    started = time.perf_counter()
    cost_model = build(config.costs, "costs", CostModel)
    solver = build(config.solver, "solver", Solver)
    tracker = build(config.tracker, "tracker", Tracker)
    keeps = getattr(tracker, "keeps", True)
    loaded: Rollouts = build(config.rollouts, "rollouts", Rollouts)
    settings = {str(key): value for key, value in plain(config).items() if key not in _ELSEWHERE}
    data = digest(loaded)
    mark = fingerprint(settings, data)
    costs = cost_model.label if cost_model.ratio is None else f"ratio{cost_model.label}"
    name = f"{choices['solver']}-{loaded.title}-{costs}-seed{config.seed}-{mark}"
    # Names of data sets can be any text, names of folders cannot.
    folder = Path(config.out) / config.sweep / re.sub(r"[^\w.+-]+", "_", name)
    with alone_in(folder):
        found = None if config.force else _earlier(folder)
        complete = found and not found.missing() and (found.drawn or not config.figures)
        if found and complete and (found.tracked or not keeps):
            return found
        if found is None:
            problem, *splits = prepare(config, loaded, cost_model)
            if config.force:
                runs.discard(folder)
            about = {
                "solver": choices["solver"],
                "dataset": loaded.title,
                "costs": cost_model.label,
                "unit": cost_model.unit_name,
                "verifier": choices["verifier"],
                "observation": choices["observation"],
                "model": choices["model"],
                "env": choices["env"],
                "pre_query": choices["pre_query"],
                "seed": config.seed,
                "sweep": config.sweep,
                "commit": runs.git_commit(),
                "fingerprint": mark,
                "data": data,
                "files": files_of(settings),
                "models": list(loaded.models),
                "queries": dict(
                    zip(("train", "validation", "test"), map(len, splits), strict=True)
                ),
                "config": masked(settings),
            }
        with (NoTracker() if found and found.tracked else tracker).run(
            folder=folder,
            name=name,
            group=config.sweep,
            job_type=choices["solver"],
            config=found.about if found else about,
        ) as tracked:
            if found is None:
                found = _computed(config, folder, solver, problem, splits, about, started, tracked)
            else:
                for row in found.training:
                    tracked.log("train", row)
            files = _published(found, config, name, tracked)
        return runs.finish(found, files, found.tracked or keeps)


def _earlier(folder: Path) -> Run | None:
    """The finished or computed run in a folder; a damaged one is reported and discarded."""
    try:
        return runs.load(folder) or runs.computed(folder)
    except runs.DamagedRunError as error:
        print(f"damaged, and run anew: {error}", file=sys.stderr)
        runs.discard(folder)
        return None


def _computed(
    config: DictConfig,
    folder: Path,
    solver: Solver,
    problem: RoutingPOMDP,
    splits: list[RoutingData],
    about: Mapping[str, Any],
    started: float,
    tracked: TrackedRun,
) -> Run:
    """Solves, measures and writes the results."""
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(config.threads)
    train_set, validation, test = splits
    prices, chosen = list(config.evaluation.prices), config.evaluation
    training: list[dict[str, Any]] = []

    def log(row: Mapping[str, float]) -> None:
        tracked.log("train", row)
        training.append({key: v if math.isfinite(v) else None for key, v in row.items()})

    if problem.rules.pre_query:
        solver = PreQueryConditioned(solver)
    training_of_run = Training(
        log=log,
        validation=validation,
        folder=folder / runs.CHECKPOINTS,
        source={"models": about["models"], "verifier": plain(config.verifier)},
    )
    tolerance, asked = None, chosen.guarantee
    if asked.epsilon is None:
        solver = solver.with_training(training_of_run)
    else:
        solver, calibrating = apart(solver, training_of_run, validation, config.seed)
        tolerance = Tolerance(
            str(about["solver"]),
            asked.epsilon,
            asked.delta,
            train_set,
            calibrating,
            asked.by_dataset,
        )
    policies = solved(solver, problem, prices, train_set)
    found_after = time.perf_counter()
    found = report(
        policies,
        problem,
        prices,
        validation,
        test,
        about["models"],
        resamples=chosen.resamples,
        level=chosen.level,
        seed=config.seed,
        regret=chosen.regret,
        budgets=chosen.budgets,
        floors=chosen.floors,
        usd=about["unit"] == "USD",
        tolerance=tolerance,
    )
    seconds = {"solve": found_after - started, "all": time.perf_counter() - started}
    finished = datetime.now(UTC).isoformat()
    return runs.keep(folder, {**about, "seconds": seconds, "finished": finished}, found, training)


def _published(run: Run, config: DictConfig, name: str, tracked: TrackedRun) -> list[str]:
    """Draws a run, writes its configuration and sends everything to the tracker; returns the names
    of the files written."""
    text = OmegaConf.to_yaml(OmegaConf.create(masked(plain(config))))
    write_text(run.folder / "config.yaml", text)
    figures = draw(run) if config.figures else {}
    if (checkpoint := run.folder / runs.CHECKPOINTS / "policy.pt").is_file():
        tracked.artifact(checkpoint, name, "model")
    tracked.frontier(sorted(run.points, key=lambda point: point["cost"] or 0.0))
    tracked.summary(run.measures)
    for figure, (png, _) in figures.items():
        tracked.figure(figure, png)
    tables = {"chosen": run.chosen}
    if run.guarantee:
        plain_cells = {k: v for k, v in run.guarantee.items() if not isinstance(v, list)}
        tables["guarantee"] = [plain_cells]
    if run.beliefs:
        tables["belief_calibration"] = run.beliefs["rows"]
    for table, rows in tables.items():
        if rows:
            tracked.table(table, list(rows[0]), [list(row.values()) for row in rows])
    return ["config.yaml", *(path.name for paths in figures.values() for path in paths)]
