"""A study of verifiers from its configuration: to the terminal, a folder and a tracker."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from omegaconf import DictConfig

from routing_pomdp.envs import Rollouts, Rules
from routing_pomdp.envs.files.atomic import replacing, write_text
from routing_pomdp.envs.files.secrets import masked
from routing_pomdp.evaluation.configuration.build import build, plain
from routing_pomdp.evaluation.runs.prepare import load_logs, split_log
from routing_pomdp.evaluation.signals.verifier_report import (
    HEADER,
    LEGEND,
    left_out,
    summary,
    text_rows,
    value_csv,
    value_rows,
    verifier_csv,
    verifier_page,
    verifier_table,
)
from routing_pomdp.evaluation.signals.verifier_study import Judgement, Study, judge_all
from routing_pomdp.verifiers import LoggedSignal, Verifier


def run(config: DictConfig, chosen: str) -> None:
    """Evaluates verifiers, and prints, writes and tracks the results (scripts/value_verifiers.py).

    Args:
        config: composed from ``conf/value_verifiers.yaml``.
        chosen: the option of the group ``verifier``.

    Raises:
        ValueError: the configuration or a log is invalid, or no verifier could be evaluated.
    """
    tracker = build(config.tracker, "tracker")
    judgements, failed = [], []
    for loaded in load_logs(config.rollouts):
        log = split_log(loaded, config.evaluation)
        judged, broken = judge_all(log, makers(config, chosen, log), study(config, log))
        judgements += judged
        failed += broken
    notes = left_out(failed)
    if not judgements:
        raise ValueError("no verifier could be evaluated\n" + "\n".join(notes))

    folder = Path(config.out) / config.sweep
    folder.mkdir(parents=True, exist_ok=True)
    pictures = draw(judgements, config, folder)
    write_text(folder / "verifiers.csv", verifier_csv(judgements))
    write_text(folder / "values.csv", value_csv(judgements))
    page = verifier_page(judgements, failed, [png.name for png, _ in pictures.values()])
    write_text(folder / "verifiers.md", page)
    print(verifier_table(judgements, "simple"))
    print(f"\n{LEGEND}")
    print(f"\nwritten: {folder}/verifiers.csv, .md, .png and .svg, values.csv")
    for note in notes:
        print(note, file=sys.stderr)
    with tracker.run(
        folder=folder,
        name=f"verifiers-{config.sweep}",
        group=config.sweep,
        job_type="verifiers",
        config=masked(plain(config)),
    ) as tracked:
        tracked.summary(summary(judgements))
        tracked.table("verifiers", HEADER, text_rows(judgements))
        values = value_rows(judgements)
        columns = list(dict.fromkeys(key for row in values for key in row))
        tracked.table("values", columns, [[row.get(key) for key in columns] for row in values])
        for name, (png, _) in pictures.items():
            tracked.figure(name, png)


def draw(
    judgements: list[Judgement], config: DictConfig, folder: Path
) -> dict[str, tuple[Path, Path]]:
    """Draws the verifiers, and their likelihoods if ``config.likelihoods``; returns the paths of
    PNG and SVG by name."""
    # Imported here so that computing does not load matplotlib.
    from routing_pomdp.evaluation.plots.figures import save_figure
    from routing_pomdp.evaluation.signals.verifier_figure import verifier_figure

    if config.likelihoods:
        for one in judgements:
            draw_likelihoods(one, folder / "likelihoods", str(config.observation._target_))
    figure = verifier_figure(judgements, "Value of the verifiers")
    return {"verifiers": save_figure(figure, folder / "verifiers")}


def study(config: DictConfig, log: Rollouts) -> Study:
    """The settings of the study of a log's verifiers."""
    env = plain(config.env)
    levels = env.pop("levels")
    return Study(
        cost_model=build(config.costs, "costs"),
        observation=build(config.observation, "observation"),
        rules=Rules(log.n_models, **env),
        levels=levels,
        prices=list(config.evaluation.prices),
        bins=config.bins,
        shuffles=config.shuffles,
        resamples=config.evaluation.resamples,
        level=config.evaluation.level,
        seed=config.seed,
    )


def makers(config: DictConfig, chosen: str, log: Rollouts) -> dict[str, Callable[[], Verifier]]:
    """Functions that make each verifier of the study: the log's own signals, then the others."""
    found: dict[str, Callable[[], Verifier]] = {
        name: partial(LoggedSignal, name) for name in sorted(log.signals)
    }
    others = {str(name): (node, f"verifiers.{name}") for name, node in config.verifiers.items()}
    is_logged = config.verifier._target_ == "routing_pomdp.verifiers.LoggedSignal"
    if not (is_logged and config.verifier.transform is None):
        others = {chosen: (config.verifier, "verifier"), **others}
        if chosen in config.verifiers:
            raise ValueError(f"verifiers.{chosen} is the name of verifier={chosen}: choose another")
    for name, (node, group) in others.items():
        if name in found:
            raise ValueError(f"{group}: the log has a signal {name!r} already: choose another name")
        found[name] = partial(build, node, group)
    if not found:
        raise ValueError(
            f"the log {log.title} has no signals, and no verifier is named: give verifier=NAME, or "
            "+verifiers.mine='{_target_: my_verifiers.Mine}'"
        )
    return found


def draw_likelihoods(judged: Judgement, folder: Path, observation: str) -> None:
    """Draws a fitted observation model over its training queries, as PNG."""
    from routing_pomdp.evaluation.plots.likelihood_figure import likelihood_figure

    kind = observation.rpartition(".")[2]
    figure = likelihood_figure(
        judged.problem, judged.train, judged.models, f"{judged.log}, {judged.verifier}: {kind}"
    )
    folder.mkdir(parents=True, exist_ok=True)
    # Names of logs and verifiers can be any text, names of files cannot.
    name = re.sub(r"[^\w.+-]+", "_", f"{judged.log}.{judged.verifier}")
    with replacing(folder / f"{name}.png") as file:
        figure.savefig(file, format="png", dpi=130)
