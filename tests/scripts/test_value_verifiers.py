"""The command that judges verifiers: its configuration, what it writes, tracks and refuses."""

import csv
import inspect
import re
from contextlib import contextmanager

import pytest

import routing_pomdp.evaluation.tracker
from routing_pomdp.envs.logs.calls_table import write_calls
from routing_pomdp.envs.logs.sources import rational_cascade_names
from routing_pomdp.evaluation.runs.prepare import load_logs
from routing_pomdp.evaluation.signals.verifier_report import CHAIN, HEADER
from routing_pomdp.evaluation.signals.verifier_run import makers, run
from routing_pomdp.evaluation.signals.verifier_study import Study
from tests.support import commands
from tests.support.checkout import CONF
from tests.support.logs import log_of

QUICK = [
    "evaluation.prices=[0, 0.1, 1]",
    "evaluation.resamples=20",
    "shuffles=1",
    "observation.bins=4",
]
SMALL = ["rollouts.profile=mmlu", "rollouts.queries={train: 150, test: 150}", *QUICK]


def composed(*overrides):
    return commands.composed("value_verifiers", *map(str, overrides))


class Recorder:
    """A tracker that keeps what it is told."""

    told: dict = {}  # noqa: RUF012

    @contextmanager
    def run(self, **about):
        self.told.clear()
        self.told["about"] = about
        yield self

    def summary(self, measures):
        self.told["summary"] = measures

    def table(self, name, columns, rows):
        self.told[name] = (columns, rows)

    def figure(self, name, path):
        self.told["figure"] = (name, path)


def test_every_log_composes_and_every_key_is_used():
    for path in (CONF / "rollouts").glob("*.yaml"):
        assert composed(f"rollouts={path.stem}").rollouts.dataset is None
    asked = set(inspect.signature(Study).parameters)
    assert {"bins", "shuffles", "seed"} <= asked
    own = {"bins", "shuffles", "seed", "likelihoods", "verifiers", "sweep", "out"}
    groups = {"rollouts", "costs", "verifier", "observation", "env", "evaluation", "tracker"}
    assert set(composed()) == own | groups


def test_several_logs_are_one_table_one_figure_and_one_tracked_run(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(routing_pomdp.evaluation.tracker, "NoTracker", Recorder)
    config = composed(*SMALL, "rollouts.profile=[gsm8k,mmlu]", f"out={tmp_path}", "sweep=s",
                      "+verifier@verifiers.nothing=none",
                      "rollouts.models=[llama3.2-1b,llama3.1-405b]")  # fmt: skip
    run(config, "logged")
    folder = tmp_path / "s"
    rows = list(csv.DictReader((folder / "verifiers.csv").open()))
    assert {(row["log"], row["verifier"]) for row in rows} == {
        (log, verifier)
        for log in ("gsm8k", "mmlu")
        for verifier in ("confidence_logprob", "nothing")
    }
    for row in rows:
        if row["verifier"] == "nothing" and row["model"] == CHAIN:
            assert float(row["value_choice"]) == pytest.approx(0, abs=1e-12)
            assert row["pays_choice"] == "never"
    printed = capsys.readouterr().out
    for row in rows:
        assert re.search(rf"\b{re.escape(row['log'])}\b", printed)
    assert sorted(path.name for path in folder.rglob("*.*")) == [
        "gsm8k.confidence_logprob.png", "gsm8k.nothing.png", "mmlu.confidence_logprob.png",
        "mmlu.nothing.png", "values.csv", "verifiers.csv", "verifiers.md", "verifiers.png",
        "verifiers.svg",
    ]  # fmt: skip
    told = Recorder.told
    assert told["about"]["group"] == "s"
    assert told["about"]["job_type"] == "verifiers"
    assert told["verifiers"][0] == HEADER
    assert len(told["verifiers"][1]) == 2 * 2 * 3
    assert told["figure"] == ("verifiers", folder / "verifiers.png")
    assert "gsm8k/confidence_logprob/value_choice" in told["summary"]


def test_all_real_logs_are_read_by_default_and_a_list_in_its_order(shared_logs):
    real = [f"rollouts.path={shared_logs}", "rollouts=rational_cascades"]
    names = ["gsm8k", "medmcqa", "mmlu", "triviaqa", "truthfulqa"]
    assert rational_cascade_names(shared_logs) == names
    assert [log.title for log in load_logs(composed(*real).rollouts)] == names
    two = composed(*real, "rollouts.dataset=[triviaqa,gsm8k]")
    assert [log.title for log in load_logs(two.rollouts)] == ["triviaqa", "gsm8k"]


def test_the_logs_signals_come_first_and_the_groups_verifier_only_where_it_is_another():
    log = log_of()
    assert list(makers(composed(), "logged", log)) == ["dull", "sharp"]
    exp = composed("verifier.name=sharp", "verifier.transform=exp")
    assert list(makers(exp, "logged", log)) == ["dull", "sharp", "logged"]
    more = composed("verifier=column", "+verifier@verifiers.merged=merge")
    assert list(makers(more, "column", log)) == ["dull", "sharp", "column", "merged"]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["bins=1"], "bins is 1"),
        (["evaluation.prices=[-1]"], "price is -1: expected a finite number >= 0"),
        (["rollouts=rational_cascades"], "rollouts.path is not set"),
        (["rollouts=rational_cascades", "rollouts.path=nowhere"], "nowhere has no DATASET.llama"),
        (["rollouts.profile=[]"], "rollouts.profile is empty"),
        (["rollouts.profile=nonesuch"], "nonesuch"),
        (
            ["+verifiers.confidence_logprob={_target_: routing_pomdp.verifiers.NoSignal}"],
            "the log has a signal 'confidence_logprob' already",
        ),
        (
            ["verifier=column", "+verifiers.logged={_target_: routing_pomdp.verifiers.NoSignal}"],
            "verifiers.logged is the name of verifier=logged",
        ),
        (
            ["observation.bins=400"],
            "no verifier could be evaluated\nleft out: confidence_logprob on",
        ),
    ],
)
def test_bad_input_is_refused_by_name(overrides, message, tmp_path):
    arguments = [a for a in SMALL if a.partition("=")[0] not in overrides[0]]
    if any("rational" in override for override in overrides):
        arguments = QUICK
    with pytest.raises((ValueError, OSError), match=re.escape(message)):
        run(composed(*arguments, *overrides, f"out={tmp_path}"), "logged")


def test_a_log_without_signals_needs_a_verifier(tmp_path):
    write_calls(log_of(signals={}, signal_costs={}), tmp_path / "calls.csv")
    silent = ["rollouts=calls_table", f"rollouts.path={tmp_path}/calls.csv", *QUICK]
    with pytest.raises(ValueError, match="has no signals, and no verifier is named"):
        run(composed(*silent, f"out={tmp_path}"), "logged")
    run(composed(*silent, "verifier=column", "likelihoods=false", f"out={tmp_path}"), "column")
    assert not (tmp_path / "verifiers" / "likelihoods").exists()


def test_sweeps_are_refused_with_what_to_give_instead():
    done = commands.command("value_verifiers", "-m", "seed=0,1", fails=True)
    assert "give a list, such as rollouts.dataset=[gsm8k,mmlu]" in done.stderr


def test_help_explains_it():
    shown = commands.command("value_verifiers", "--help").stdout
    assert (
        "python scripts/value_verifiers.py rollouts=rational_cascades rollouts.path=FOLDER" in shown
    )
    assert "shuffles: 20" in shown
