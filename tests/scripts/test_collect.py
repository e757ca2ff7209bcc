"""The command line of collecting: killed, resumed, refused, routed; and that no key leaks."""

import inspect
import json
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import fields
from urllib.request import urlopen

import hydra
import pytest
from omegaconf import OmegaConf

from routing_pomdp.envs.logs.calls_table import read_calls
from routing_pomdp.scripts import collect as collect_script
from routing_pomdp.verifiers.collection import (
    ModelSpec,
    Price,
    collect,
    load_models,
    load_questions,
)
from tests.support.checkout import CONF, DOCS, ROOT, SCRIPTS, environment
from tests.support.collecting import lines, sums, write_questions
from tests.support.commands import command, composed
from tests.support.loopback import Loopback

KEY = "sk-loopback-0123456789abcdef"
OTHER_KEY = "body-key-9876543210"
VOTES = ["++verifiers.votes._target_=tests.support.collecting.Votes", "++verifiers.votes.samples=2"]
NUMBERS = ["scoring=number", "progress=false"]


def program(*arguments):
    return [sys.executable, str(SCRIPTS / "collect.py"), *map(str, arguments)]


def run(*arguments, **more):
    """The command as a program of its own."""
    done = subprocess.run(
        program(*arguments), capture_output=True, text=True, env=environment(**more)
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done


@contextmanager
def server_process(*arguments):
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "tests/support/loopback.py"), *arguments],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process.stdout.readline().strip()
    finally:
        process.kill()
        process.wait()


def stats(url):
    with urlopen(f"{url}/stats") as answered:
        return json.load(answered)


def files(folder, url, n, **options):
    """The arguments that name a file of questions and one of models."""
    write_questions(folder / "questions.jsonl", sums(n))
    options = {"max_tokens": 16, "attempts": 4, "timeout": 10} | options
    entries = [
        {"name": name, "base_url": url, "price": {"in": price, "out": price}} | options
        for name, price in (("small", 1), ("large", 30))
    ]
    (folder / "models.yaml").write_text(json.dumps(entries))
    return [f"questions={folder}/questions.jsonl", f"models={folder}/models.yaml"]


@pytest.mark.slow
def test_after_kill_nine_none_of_the_logged_calls_is_repeated(tmp_path):
    out = tmp_path / "out"
    with server_process("--latency", "0.02") as url:
        given = [*files(tmp_path, url, 120), *VOTES, *NUMBERS, f"out={out}"]
        for calls in (60, 200):  # killed twice
            process = subprocess.Popen(program(*given), env=environment())
            deadline = time.monotonic() + 60
            while time.monotonic() < deadline and process.poll() is None:
                log = out / "log.jsonl"
                if log.exists() and log.read_bytes().count(b'"text":') > calls:
                    break
                time.sleep(0.005)
            process.send_signal(signal.SIGKILL)
            process.wait()
        with (out / "log.jsonl").open("a") as file:
            file.write('{"query":"q1","model":"sm')  # as a power cut may leave it
        kept, before = lines_before_torn(out), stats(url)
        assert 200 < len(kept) < 480
        # What the server delivered and the log lacks was under way when the process was killed.
        assert 0 <= before["delivered"] - len(kept) <= 2 * 32
        done = run(*given)
        after = stats(url)
    assert before["delivered"] - len(kept) <= len(lines(out, "lost")) <= 2 * 32
    assert re.search(r"\d+ calls were under way when the run before was killed", done.stdout)
    assert "log's last line was torn" in done.stdout
    assert f"{480 - len(kept):,} calls made, {len(kept):,} found in the log" in done.stdout
    assert after["delivered"] - before["delivered"] == 480 - len(kept)
    assert lines(out)[: len(kept)] == kept
    keys = Counter((r["query"], r["model"], r["purpose"], r["sample"]) for r in lines(out))
    assert len(keys) == 480
    assert max(keys.values()) == 1
    log = read_calls(out / "calls.parquet")
    assert log.score.shape == (120, 2)
    assert "votes" in log.signals


def lines_before_torn(folder):
    records = map(json.loads, (folder / "log.jsonl").read_text().splitlines()[:-1])
    return [record for record in records if "text" in record]


def test_a_key_is_sent_and_stands_nowhere(tmp_path, monkeypatch):
    """Not in a file, nor in what is printed, nor in errors that repeat it."""
    out = tmp_path / "out"
    with Loopback(latency=0.01) as server:
        options = {"api_key_env": "LOOPBACK_KEY", "extra_body": {"api_key": OTHER_KEY}}
        given = [*files(tmp_path, server.url, 4, **options), *VOTES, *NUMBERS]
        shown = [run(*given, f"out={out}", LOOPBACK_KEY=KEY, OPENAI_LOG="debug")]
        assert server.seen.authorizations == {f"Bearer {KEY}"}
        server.refuse["large"] = (401, {"message": f"the key {KEY} is unknown"})
        monkeypatch.setenv("LOOPBACK_KEY", KEY)
        monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
        shown.append(command("collect", *given, f"out={out}-2", fails=True))
        monkeypatch.delenv("LOOPBACK_KEY")
        assert "the key *** is unknown" in shown[1].stdout
        assert "check the key in LOOPBACK_KEY" in shown[1].stdout
        server.refuse.clear()
        # Another endpoint's key is not sent where none is asked for.
        monkeypatch.setenv("OPENAI_API_KEY", "sk-mine")
        here(*files(tmp_path, server.url, 1), out=tmp_path / "out-3")
        assert server.seen.authorizations == {f"Bearer {KEY}", "Bearer none"}
        with pytest.raises(ValueError, match="environment variable LOOPBACK_KEY is not set"):
            here(*files(tmp_path, server.url, 1, api_key_env="LOOPBACK_KEY"), out=tmp_path / "o")
    said = shown[0].stdout + shown[0].stderr
    assert "Sending HTTP Request" in said  # the client's own log was there
    (tmp_path / "models.yaml").unlink()  # the user's own
    for done in shown:
        assert not any(key in done.stdout + done.stderr for key in (KEY, OTHER_KEY))
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {"log.jsonl", "manifest.json", "calls.parquet"} <= {path.name for path in written}
    for path in written:
        assert not any(key.encode() in path.read_bytes() for key in (KEY, OTHER_KEY)), path


def here(*arguments, out):
    """A collection as the script makes it, in this process: what it reports, and its status."""
    config = composed("collect", *map(str, arguments), "progress=false")
    plan = collect_script.make_plan(config, {"verifier": "none"})
    done = collect(plan, out, progress=False)
    shown = "".join(collect_script.notes(plan)) + "\n".join(collect_script.report(done, out))
    return shown, collect_script.status(done)


def test_a_budget_stops_the_command_with_its_own_status(tmp_path):
    with Loopback() as server:
        given = [*files(tmp_path, server.url, 40), "scoring=number"]
        shown, status = here(*given, "budget.tokens=1000", out=tmp_path / "out")
        assert status == 3
        assert "stopped: the budget does not allow another call" in shown
        assert "queries are incomplete" in shown
        assert server.seen.tokens <= 1000
        shown, status = here(*given, out=tmp_path / "out")
        assert status == 0
        assert "80 answers to 40 queries" in shown


def test_repeated_questions_are_asked_once_and_one_model_is_enough(tmp_path):
    with Loopback() as server:
        given = files(tmp_path, server.url, 3)
        path = tmp_path / "questions.jsonl"
        path.write_text(path.read_text() + path.read_text().splitlines()[1] + "\n")
        models = json.loads((tmp_path / "models.yaml").read_text())
        (tmp_path / "models.yaml").write_text(json.dumps(models[:1]))
        shown, status = here(*given, *VOTES, out=tmp_path / "out")
        assert status == 0
        assert shown.startswith("1 rows of the questions repeat another")
        assert "3 answers to 3 queries; 9 calls made" in shown
        assert "the table cannot be used yet" in shown
        assert "at least 2 models" in shown
        assert server.seen.requests == 9


def test_failed_calls_have_a_status_of_their_own(tmp_path):
    with Loopback(script=["error"] * 4) as server:
        given = files(tmp_path, server.url, 1)
        shown, status = here(*given, out=tmp_path / "out")
        assert status == 4
        assert "failed calls: 1, the first: model 'small' at http://127.0.0.1" in shown
        assert "given up after 4 attempts, the last: status 500: out of order" in shown
        assert here(*given, out=tmp_path / "out")[1] == 0


def test_references_by_number_are_scored_as_the_choices_that_they_are(tmp_path):
    def shape(completion, request, head):
        text = request["messages"][0]["content"]
        letter = re.search(r"([A-D])\. right", text)[1]
        said = {"message": {"content": rf"So $\boxed{{\text{{{letter}}}}}$"}}
        return completion | {"choices": [completion["choices"][0] | said]}

    with Loopback(shape=shape) as server:
        given = [*files(tmp_path, server.url, 0), "scoring=multiple_choice"]
        for first, name in ((0, "zero"), (1, "one")):
            asked = [
                {
                    "prompt": f"Which, {first}-{place}?",
                    "choices": ["right" if i == place else f"wrong {i}" for i in range(4)],
                    "reference": place + first,
                }
                for place in range(4)
            ]
            lines_of = "".join(json.dumps(question) + "\n" for question in asked)
            (tmp_path / "questions.jsonl").write_text(lines_of)
            here(*given, out=tmp_path / name)
            assert (read_calls(tmp_path / name / "calls.parquet").score == 1).all()
        requests = server.seen.requests
        (tmp_path / "questions.jsonl").write_text(json.dumps(asked[0]) + "\n")
        with pytest.raises(ValueError, match=r"count from 0 or from 1: give scoring\.first=0"):
            here(*given, out=tmp_path / "neither")
        assert server.seen.requests == requests


def test_plug_ins_of_ones_own_file_are_named_by_their_target(tmp_path, monkeypatch):
    (tmp_path / "my_plug_ins.py").write_text(
        "from routing_pomdp.verifiers import LiveVerifier\n\n"
        "class Mine(LiveVerifier):\n"
        "    name = 'mine'\n\n"
        "    async def verify(self, case):\n"
        "        return 1 / (len(case.answer.text) - 3)\n\n"
        "def half(answer, references, query, weight=0.5):\n"
        "    return weight\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    mine = ["++verifiers.mine._target_=my_plug_ins.Mine", "scoring._target_=my_plug_ins.half"]
    with Loopback() as server:
        given = [*files(tmp_path, server.url, 30), *VOTES, *mine, "+scoring.weight=0.25"]
        shown, status = here(*given, out=tmp_path / "out")
    assert status == 0
    assert re.search(r"verifier mine failed on \d+ answers.*ZeroDivisionError", shown)
    log = read_calls(tmp_path / "out" / "calls.parquet")
    assert set(log.signals) == {"votes", "mine"}
    assert (log.score == 0.25).all()


def test_a_verifier_made_of_others_is_collected_in_parts(tmp_path):
    live = "{_target_: tests.support.collecting.Votes}"
    logged = "{_target_: routing_pomdp.verifiers.LoggedColumn, column: tokens_out}"
    parts = f"verifiers: {{a: {live}, b: {logged}}}"
    both = f"++verifiers.both={{_target_: routing_pomdp.verifiers.SideBySide, {parts}}}"
    with Loopback() as server:
        here(*files(tmp_path, server.url, 2), both, out=tmp_path / "out")
    assert set(read_calls(tmp_path / "out" / "calls.parquet").signals) == {"votes"}


@pytest.mark.parametrize("table", ["log.jsonl", "../x.csv", "questions.jsonl"])
def test_outputs_that_would_overwrite_something_are_refused_before_anything_is_read(
    table, tmp_path
):
    given = files(tmp_path, "http://127.0.0.1:9/v1", 2)
    (tmp_path / "questions.jsonl").write_text("no questions")  # it is not even read
    with pytest.raises(ValueError, match=r"table|would be overwritten"):
        here(*given, f"out={tmp_path}", f"table={table}", out=tmp_path)
    assert (tmp_path / "questions.jsonl").read_text() == "no questions"


def test_every_file_that_the_configuration_names_is_an_input(tmp_path):
    given = files(tmp_path, "http://127.0.0.1:9/v1", 2)
    for name in ("prompt", "prices"):
        path = tmp_path / f"{name}.csv"
        path.write_text("$question")
        with pytest.raises(ValueError, match=rf"{name}\.csv would be overwritten"):
            here(*given, f"{name}={path}", f"table={name}.csv", f"out={tmp_path}", out=tmp_path)
    (tmp_path / "mine.csv").write_text("rows of a plug-in")
    mine = f"+verifiers.x={{_target_: tests.support.collecting.Length, name: {tmp_path}/mine.csv}}"
    with pytest.raises(ValueError, match=r"mine\.csv would be overwritten"):
        here(*given, mine, "table=mine.csv", f"out={tmp_path}", out=tmp_path)


@pytest.mark.slow
def test_three_commands_lead_from_questions_to_a_routed_frontier(tmp_path):
    with Loopback() as server:
        given = [*files(tmp_path, server.url, 120), "verifier=p_true", *NUMBERS]
        command("collect", *given, f"out={tmp_path}/collected")
    train = ["-m", "solver=exact,threshold", "hydra/launcher=basic"]
    train += ["rollouts=calls_table", f"rollouts.path={tmp_path}/collected/calls.parquet"]
    train += [
        "costs=logged",
        "verifier=p_true",
        "model=joint",
        "env=full",
        "evaluation.prices=[0,0.1,1]",
        f"out={tmp_path}",
        "sweep=mine",
    ]
    command("train", *train)
    assert "exact" in command("compare", tmp_path / "mine").stdout
    assert (tmp_path / "mine" / "frontiers.png").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["questions=???"], "questions is not set: give questions=VALUE"),
        (["questions=none.jsonl"], "none.jsonl"),
        (["scoring=number", "scoring.tolerance=x"], "scoring.tolerance is 'x'"),
        (["policy=ask_below"], "policy.signal is not set"),
        (["budget.tokens=-1"], "budget.tokens is -1"),
        (["budget.tokens=many"], "budget.tokens is 'many'"),
        (["limit=0"], "limit is 0"),
        (["top_logprobs=x"], "top_logprobs is 'x'"),
        (["+verifiers.x={_target_: nonesuch.X}"], "verifiers.x._target_ is 'nonesuch.X'"),
        (["scoring._target_=nonesuch.f"], "scoring._target_ is 'nonesuch.f'"),
    ],
)
def test_bad_input_is_named(arguments, message, tmp_path):
    given = files(tmp_path, "http://127.0.0.1:9/v1", 2)
    with pytest.raises(ValueError, match=re.escape(message)):
        here(*given, *arguments, out=tmp_path / "out")


def test_bad_input_gets_one_line(tmp_path):
    done = command("collect", f"models={tmp_path}/m.yaml", f"out={tmp_path}/out", fails=True)
    assert done.stderr.strip() == "error: questions is not set: give questions=VALUE"


def test_the_documented_files_are_read(tmp_path):
    page = (DOCS / "collect.md").read_text()
    (question,) = re.findall(r"```json\n(.*?)```", page, re.DOTALL)
    (models,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    (tmp_path / "questions.jsonl").write_text(question)
    (tmp_path / "models.yaml").write_text(models)
    (asked,) = load_questions(tmp_path / "questions.jsonl")
    assert asked.references == ("Jane Austen", "Austen")
    small, large = load_models(tmp_path / "models.yaml")
    assert (small.price, large.model) == (Price(0.05, 0.10), "vendor/large-1")
    spec = ModelSpec("x", "http://x")
    assert f"| {spec.concurrency}, {spec.timeout:g} s, {spec.attempts} |" in page
    documented = set(re.findall(r"`(\w+)`", page)) | {"name", "base_url", "model"}
    documented |= {"api_key_env", "price"}
    assert {each.name for each in fields(ModelSpec)} <= documented


def test_help_explains_everything():
    shown = command("collect", "--help").stdout
    for expected in (
        "questions.jsonl",
        "api_key_env",
        "verifier",
        "scoring",
        "policy",
        "Exit status",
    ):
        assert expected in shown
    light = "import sys; sys.argv = ['collect.py']; import collect; "
    light += "print([m for m in ('numpy', 'torch', 'openai', 'pyarrow') if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", light],
        capture_output=True,
        text=True,
        cwd=SCRIPTS,
        check=True,
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("group", ["policy", "scoring"])
def test_each_key_of_every_option_is_a_parameter(group):
    options = sorted(path.stem for path in (CONF / group).glob("*.yaml"))
    assert options
    for option in options:
        node = OmegaConf.load(CONF / group / f"{option}.yaml")
        target = hydra.utils.get_object(node._target_)
        assert set(node) - {"_target_"} == set(inspect.signature(target).parameters)
