"""One run of one configuration, or with ``-m`` a sweep: log → problem → policies → measures."""

from __future__ import annotations

import re
import shutil
import sys
import time
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

# Nothing heavier is imported up here: --help must answer at once.
import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

if TYPE_CHECKING:
    from envs import Rollouts
    from evaluation.runs import Run

# What does not change a run's numbers, and so does not make it another run.
_ELSEWHERE = ("tracker", "sweep", "out", "force", "threads", "hydra")


@hydra.main(version_base="1.3", config_path="../conf", config_name="train")
def main(config: DictConfig) -> str:
    multirun = HydraConfig.get().mode == RunMode.MULTIRUN
    started = datetime.now(UTC).isoformat()
    try:
        run = train(config, dict(HydraConfig.get().runtime.choices))
    except (ValueError, OSError) as error:
        if multirun:
            raise  # the sweep goes on, and reports it
        sys.exit(f"error: {error}")
    if not multirun:
        from evaluation.comparison import run_table

        print(run_table(run))
    earlier = run.about["finished"] < started
    if earlier and not multirun:
        print("(finished earlier: force=true repeats it)")
    return one_line(run) + "  finished earlier" * earlier


def train(config: DictConfig, choices: dict[str, str]) -> Run:
    """Runs a configuration, unless it is finished already.

    Args:
        config: as composed from ``conf/train.yaml``.
        choices: the option chosen in each group.

    Returns:
        The finished run, as it stands on disk.

    Raises:
        ValueError: a bad configuration or log.
    """
    from evaluation import runs
    from evaluation.build import build, check_prices, plain
    from evaluation.prepare import prepare
    from evaluation.report import report
    from evaluation.tracker import masked
    from solvers import Training
    from solvers.by_symbol import BySymbol

    started = time.perf_counter()
    check_prices(config.evaluation.prices)
    cost_model, solver = build(config.costs, "costs"), build(config.solver, "solver")
    tracker = build(config.tracker, "tracker")
    loaded: Rollouts = build(config.rollouts, "rollouts")
    settings = {str(key): value for key, value in plain(config).items() if key not in _ELSEWHERE}
    dataset = loaded.title
    ratio = "logged" if config.costs.ratio is None else f"{config.costs.ratio:g}"
    mark = runs.fingerprint(settings, loaded)
    name = f"{choices['solver']}-{dataset}-ratio{ratio}-seed{config.seed}-{mark}"
    # Names of data sets come from logs: any text, which a folder's name is not.
    folder = Path(config.out) / config.sweep / re.sub(r"[^\w.+-]+", "_", name)
    if not config.force and (finished := runs.load(folder)):
        return finished

    problem, train_set, validation, test = prepare(config, loaded, cost_model)
    about = {
        "solver": choices["solver"],
        "dataset": dataset,
        "costs": ratio,
        "verifier": choices["verifier"],
        "observation": choices["observation"],
        "model": choices["model"],
        "env": choices["env"],
        "pre_query": choices["pre_query"],
        "seed": config.seed,
        "sweep": config.sweep,
        "commit": runs.git_commit(),
        "fingerprint": mark,
        "models": list(loaded.models),
        "queries": {"train": len(train_set), "validation": len(validation), "test": len(test)},
        "config": masked(settings),
    }
    with tracker.run(
        folder=folder,
        name=name,
        group=config.sweep,
        job_type=choices["solver"],
        config=about,
    ) as tracked:
        if torch := sys.modules.get("torch"):
            torch.set_num_threads(config.threads)
        prices, chosen = list(config.evaluation.prices), config.evaluation
        if config.force:  # trained anew, too
            shutil.rmtree(folder / "checkpoints", ignore_errors=True)
        if problem.rules.pre_query:
            solver = BySymbol(solver)
        solver = solver.with_training(
            Training(
                log=partial(tracked.log, "train"),
                validation=validation,
                folder=folder / "checkpoints",
                source={"models": list(loaded.models), "verifier": plain(config.verifier)},
            )
        )
        policies = solver.solve_frontier(problem, prices, train_set)
        solved = time.perf_counter()
        if (checkpoint := folder / "checkpoints" / "policy.pt").is_file():
            tracked.artifact(checkpoint, name, "model")
        found = report(
            policies,
            problem,
            prices,
            validation,
            test,
            loaded.models,
            resamples=chosen.resamples,
            level=chosen.level,
            seed=config.seed,
            regret=chosen.regret,
            budgets=chosen.budgets,
            floors=chosen.floors,
        )
        about |= {
            "seconds": {"solve": solved - started, "all": time.perf_counter() - started},
            "finished": datetime.now(UTC).isoformat(),
        }
        runs.save(folder, about, found)
        OmegaConf.save(OmegaConf.create(masked(plain(config))), folder / "config.yaml")
        finished = runs.load(folder)
        assert finished is not None
        tracked.frontier(sorted(found.points, key=lambda point: point["cost"] or 0.0))
        tracked.summary(found.measures)
        for figure, path in draw(finished).items():
            tracked.figure(figure, path)
        tables = {"chosen": found.chosen}
        if found.beliefs:
            tables["belief_calibration"] = found.beliefs.rows
        for table, rows in tables.items():
            if rows:
                tracked.table(table, list(rows[0]), [list(row.values()) for row in rows])
    return finished


def draw(run: Run) -> dict[str, Path]:
    """Draws a run's frontier, what its policies do, and how honest their belief is if they hold
    one, into its folder; returns the PNGs by name."""
    import numpy as np

    from evaluation.comparison import Setting, panel
    from evaluation.figures import frontier_figure, save_figure
    from evaluation.policy_figure import policy_figure
    from evaluation.reliability_figure import belief_figure

    shown = panel(Setting(run.about["dataset"], run.about["costs"]), {run.about["solver"]: run})
    title = f"{run.about['dataset']}, costs {run.about['costs']}"
    figure = frontier_figure(shown.curves, shown.static, shown.oracle, shown.models, title)
    maps = run.maps()
    some = dict.fromkeys(np.linspace(0, len(maps) - 1, 5).round().astype(int).tolist())
    policies = policy_figure(
        {f"λ = {run.points[i]['price']:g}": maps[i] for i in some}, run.about["models"], title
    )
    figures = {"frontier": figure, "policies": policies}
    if run.beliefs is not None:
        queries = run.about["queries"]["test"]
        figures["beliefs"] = belief_figure(
            run.beliefs["rows"],
            run.beliefs["diagrams"],
            run.about["models"],
            f"{title}: beliefs at all places of {queries:,} test queries",
        )
    return {name: save_figure(figure, run.folder / name)[0] for name, figure in figures.items()}


def one_line(run: Run) -> str:
    """A run's outcome in one line, for the log of a sweep."""
    measures, about = run.measures, run.about
    figures = "  ".join(
        f"{label} {'   –  ' if measures[key] is None else format(measures[key], '6.3f')}"
        for label, key in (("AIQ", "aiq"), ("gap closed", "gap_closed"))
    )
    return (
        f"{about['solver']:<12} {about['dataset']:<12} ratio {about['costs']:<7} {figures}"
        f"  {about['seconds']['all']:5.1f} s"
    )


if __name__ == "__main__":
    main()
