"""Calls that come about without an answer: retried, counted, paid for once, never scored 0."""

import json
from dataclasses import replace

import numpy as np
import pytest

from routing_pomdp.envs.logs.calls_table import read_calls
from routing_pomdp.scripts import collect as collect_script
from routing_pomdp.verifiers.collection import AskBelow
from tests.support.collecting import Votes, lines, run, specs
from tests.support.loopback import Loopback


def changed(choice=None, every=None, of="small", times=10**9, **fields):
    """A server's change: ``choice`` and ``fields`` go into the first responses of a model."""
    left = [times]

    def shape(completion, request, head):
        content = request["messages"][0]["content"]
        if request["model"] != of or (every and not every(content)) or left[0] < 1:
            return completion
        left[0] -= 1
        return completion | {"choices": [completion["choices"][0] | (choice or {})]} | fields

    return shape


def said(content, finish="stop", **message):
    return {"message": {"content": content} | message, "finish_reason": finish}


def reported(done, folder):
    return "\n".join(collect_script.report(done, folder))


@pytest.mark.parametrize(
    "failure",
    [
        {"error": {"message": "upstream failed", "code": 502}},
        {"choice": {"error": {"message": "gone", "code": 504}}},
        {"choice": said("Answer: 1", "error")},
        {"choice": said(None, "network_error")},
        {"choice": said(None)},
        {"choice": said("  \n")},
        {"choice": said(None, "tool_calls", tool_calls=[{"id": "1"}])},
    ],
)
def test_a_failure_that_passes_is_asked_again_and_leaves_no_trace_in_the_table(failure, tmp_path):
    with Loopback(shape=changed(**failure, times=2)) as server:
        done = run(tmp_path, server, 4)
    assert not done.outcome.incomplete
    assert not done.outcome.unanswered
    assert done.ledger.retried == 2
    assert server.seen.requests == 8 + 2
    log = read_calls(tmp_path / "calls.parquet")
    assert not np.isnan(log.score).any()
    assert "" not in log.answer.ravel().tolist()
    # What the server made was paid for, and stays counted.
    budget = done.ledger.budget
    assert budget.spent.tokens + budget.lost.tokens >= server.seen.tokens


@pytest.mark.parametrize(
    ("choice", "kind", "attempts", "told"),
    [
        (said(None, "length"), "cut", 1, "were cut at max_tokens, 4 of them before any answer"),
        (said("<think>well, 3", "length"), "cut", 1, "4 of them before any answer"),
        (said(None), "empty", 3, "4 of 4 answers were empty"),
        (said("<think>hm</think>"), "empty", 3, "4 of 4 answers were empty"),
        (said("The", "content_filter"), "filtered", 1, "4 of 4 answers were filtered or refused"),
        (said(None, refusal="no"), "filtered", 1, "4 of 4 answers were filtered or refused"),
    ],
)
def test_what_stays_without_an_answer_is_a_missing_cell_and_is_paid_for_once(
    choice, kind, attempts, told, tmp_path
):
    with Loopback(shape=changed(choice)) as server:
        done = run(tmp_path, specs(server.url, ("small", "medium", "large")), 4, [Votes()])
        asked = server.seen.requests
        # Nothing is asked about an answer that is not there.
        assert asked == 4 * (attempts + 1 + 2 + 1)
        again = run(tmp_path, specs(server.url, ("small", "medium", "large")), 4, [Votes()])
        assert server.seen.requests == asked
    assert again.ledger.budget.spent == done.ledger.budget.spent
    assert done.ledger.budget.spent.tokens == server.seen.tokens
    for outcome in (done.outcome, again.outcome):
        assert outcome.cells == 8
        assert outcome.unanswered == {0, 1, 2, 3}
        assert not outcome.incomplete
        assert outcome.answers["small"].missing == {kind: 4}
        assert outcome.answers["large"].missing == {}
    assert collect_script.status(again) == 0
    # A model without any answer has no row.
    assert read_calls(tmp_path / "calls.parquet").models == ("medium", "large")
    text = reported(again, tmp_path)
    assert told in text
    assert "model small: 4 cells are left empty" in text
    assert "4 of 4 queries lack a model's answer" in text
    assert "model large" not in text


def test_a_missing_cell_is_left_out_of_the_table_and_so_is_its_query_if_asked_for(tmp_path):
    shape = changed(said(None, "length"), every=lambda asked: "1" in asked)
    with Loopback(shape=shape) as server:
        done = run(tmp_path, server, 12)
        log = read_calls(tmp_path / "calls.parquet")
        missing = np.isnan(log.score[:, 0])
        assert 0 < missing.sum() == len(done.outcome.unanswered) < 12
        assert not np.isnan(log.score[:, 1]).any()
        run(tmp_path, server, 12, only_complete=True)
    complete = read_calls(tmp_path / "calls.parquet")
    assert len(complete) == 12 - missing.sum()
    assert not np.isnan(complete.score).any()


def test_a_cut_answer_with_text_is_scored_counted_and_marked(tmp_path):
    import pyarrow.parquet

    def shape(completion, request, head):
        (choice,) = completion["choices"]
        if request["model"] != "small":
            return completion
        return completion | {"choices": [choice | {"finish_reason": "length"}]}

    with Loopback(shape=shape) as server:
        done = run(tmp_path, server, 4)
    assert done.outcome.cells == 8
    assert not done.outcome.unanswered
    assert "model small: 4 of 4 answers were cut at max_tokens: a larger" in reported(
        done, tmp_path
    )
    rows = pyarrow.parquet.read_table(tmp_path / "calls.parquet").to_pylist()
    assert [row["finish_reason"] for row in rows] == ["length", "stop"] * 4


def test_an_answer_among_the_thoughts_alone_is_scored(tmp_path):
    def shape(completion, request, head):
        (choice,) = completion["choices"]
        thoughts = choice["message"]["content"]
        message = {"content": None, "reasoning_content": f"6? No.\n{thoughts}"}
        return completion | {"choices": [choice | {"message": message}]}

    with Loopback(shape=shape) as server:
        run(tmp_path / "thoughts", server, 20)
    with Loopback() as server:
        run(tmp_path / "plain", server, 20)
    scores = [read_calls(tmp_path / name / "calls.parquet").score for name in ("thoughts", "plain")]
    np.testing.assert_array_equal(*scores)


def test_a_lasting_failure_costs_its_attempts_a_run_and_is_tried_again_by_the_next(tmp_path):
    with Loopback(shape=changed(said("Answer: 1", "error"))) as server:
        models = specs(server.url, attempts=2)
        for runs in (1, 2):
            done = run(tmp_path, models, 3)
            assert server.seen.requests == 3 * 2 * runs
            assert done.outcome.incomplete == {0, 1, 2}
            assert collect_script.status(done) == 4
    with Loopback() as server:
        done = run(tmp_path, specs(server.url, attempts=2), 3)
    assert done.outcome.cells == 6


def test_a_policy_goes_on_where_there_is_no_answer(tmp_path):
    with Loopback(shape=changed(said(None, "length"))) as server:
        policy = AskBelow("votes", 0.5, explore=0.0)
        run(tmp_path, specs(server.url, ("small", "medium", "large")), 4, [Votes()], policy=policy)
    assert not np.isnan(read_calls(tmp_path / "calls.parquet").score[:, 0]).any()


def test_an_old_log_is_read_and_what_failed_in_it_is_asked_again(tmp_path):
    """Failures, empty and cut answers stood in it as answers of score 0."""
    with Loopback() as server:
        run(tmp_path, server, 4)
        log = tmp_path / "log.jsonl"
        records = {r["query"]: r for r in lines(tmp_path) if r["model"] == "small"}
        others = [r for r in lines(tmp_path) if r["model"] != "small"]
        records["q0"] |= {"text": "", "finish_reason": "error"}
        records["q1"] |= {"text": "", "finish_reason": "length"}
        records["q2"] |= {"text": "", "finish_reason": "stop"}
        log.write_text(
            "".join(json.dumps(record) + "\n" for record in [*records.values(), *others])
        )
        before = server.seen.requests
        done = run(tmp_path, server, 4)
        assert server.seen.requests == before + 1
        assert done.outcome.unanswered == {1, 2}
        assert done.outcome.answers["small"].missing == {"cut": 1, "empty": 1}
        run(tmp_path, server, 4)
        assert server.seen.requests == before + 1
    np.testing.assert_array_equal(
        np.isnan(read_calls(tmp_path / "calls.parquet").score[:, 0]), [False, True, True, False]
    )


def test_a_wrong_answer_of_every_model_is_still_a_wrong_answer(tmp_path):
    with Loopback(shape=changed(said("I do not know"))) as server:
        done = run(tmp_path, [replace(spec) for spec in specs(server.url)], 3)
    assert done.outcome.cells == 6
    np.testing.assert_array_equal(read_calls(tmp_path / "calls.parquet").score[:, 0], 0)
