"""Logs of other tools as calls tables, on files written by hand after the tools' own schemas."""

import json
import math

import numpy as np
import pytest

from routing_pomdp.envs.logs.calls_table import read_calls, write_table
from routing_pomdp.envs.logs.conversion import langfuse, litellm, lm_eval
from routing_pomdp.envs.logs.rollouts import RolloutsError
from tests.support.other_logs import (
    choice,
    harness,
    judgement,
    lines,
    observation,
    sample,
    spend,
    spend_file,
)

# -- lm-evaluation-harness (EleutherAI, lm_eval/loggers/evaluation_tracker.py) -------------------


def log_of(calls, folder):
    write_table(calls.table(), folder / "calls.parquet")
    return read_calls(folder / "calls.parquet")


def test_samples_of_the_harness_become_calls_of_the_folders_model(tmp_path):
    files = [
        harness(tmp_path, "org__small", lines=[sample(0), sample(1, exact_match=0.0)]),
        harness(tmp_path, "org__large", lines=[sample(1), sample(0)]),
    ]
    log = log_of(lm_eval(files), tmp_path)
    assert log.models == ("org/small", "org/large")
    assert log.query_id.tolist() == ["gsm8k/0", "gsm8k/1"]
    np.testing.assert_array_equal(log.score, [[1, 1], [0, 1]])
    assert log.prompt.tolist() == ["Question: 0", "Question: 1"]
    assert log.answer[1].tolist() == ["2", "2"]
    assert set(log.dataset) == {"gsm8k"}
    assert log.cost is None
    assert log.signals == {}


def test_of_multiple_choice_the_likeliest_is_the_answer_and_its_probability_a_signal(tmp_path):
    likely = [math.log(0.1), math.log(0.6), math.log(0.1)]
    files = [
        harness(tmp_path, model, task="arc_easy", lines=[choice(7, likely, acc=1.0)])
        for model in ("s", "l")
    ]
    log = log_of(lm_eval(files), tmp_path)
    assert log.answer.tolist() == [["1", "1"]]
    np.testing.assert_allclose(log.signals["choice_probability"], [[0.75, 0.75]])


def test_the_older_form_of_arguments_is_a_prompt_too(tmp_path):
    file = harness(tmp_path, lines=[sample(0, arguments=[["Say it.", {"until": []}]])])
    assert lm_eval([file]).table()["prompt"].to_pylist() == ["Say it."]


def test_one_metric_and_one_filter_are_chosen_by_name(tmp_path):
    lines = [sample(0, metrics=["acc", "acc_norm"], acc=0.0, acc_norm=1.0)]
    file = harness(tmp_path, lines=lines)
    with pytest.raises(
        RolloutsError, match=r"row 1 has the metrics \['acc', 'acc_norm'\]: name on"
    ):
        lm_eval([file])
    assert lm_eval([file], metric="acc_norm").table()["score"].to_pylist() == [1.0]
    with pytest.raises(RolloutsError, match="row 1 has no metric 'bleu'"):
        lm_eval([file], metric="bleu")
    both = harness(tmp_path, lines=[sample(0), sample(0, filter="flexible", exact_match=0.0)])
    with pytest.raises(RolloutsError, match=r"the filters \['flexible', 'strict-match'\]"):
        lm_eval([both])
    calls = lm_eval([both], filter="flexible")
    assert calls.table()["score"].to_pylist() == [0.0]
    assert calls.left_out == {"of another filter": 1}
    with pytest.raises(RolloutsError, match="--filter is 'no'"):
        lm_eval([both], filter="no")


def test_models_that_answered_different_documents_are_not_compared(tmp_path):
    files = [
        harness(tmp_path, "s", lines=[sample(0)]),
        harness(tmp_path, "l", lines=[sample(0, doc_hash="other")]),
    ]
    with pytest.raises(RolloutsError, match="row 1: document 0 of gsm8k is another one than in"):
        lm_eval(files)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"exact_match": 45.0}, r"row 1: exact_match is 45.0, expected a number in \[0, 1\]"),
        ({"exact_match": [1.0]}, r"row 1 has the metrics \[\]"),
        ({"doc_id": None, "drop": "doc_id"}, "row 1 has no 'doc_id'"),
        ({"drop": "filtered_resps"}, "row 1 has no 'filtered_resps'"),
    ],
)
def test_a_sample_that_cannot_be_used_is_named(tmp_path, changed, message):
    line = sample(0, **changed)
    line.pop(line.pop("drop", None), None)
    with pytest.raises(RolloutsError, match=message):
        lm_eval([harness(tmp_path, lines=[line])])


def test_a_file_whose_name_tells_no_task_is_refused(tmp_path):
    with pytest.raises(RolloutsError, match="expected samples_TASK_TIME"):
        lm_eval([harness(tmp_path, lines=[sample(0)], name="results.jsonl")])


def test_a_second_run_is_refused_or_one_of_them_is_kept(tmp_path):
    again = "samples_gsm8k_2024-09-01T00-00-00.000000.jsonl"
    files = [
        harness(tmp_path, lines=[sample(0)]),
        harness(tmp_path, lines=[sample(0, exact_match=0.0)], name=again),
    ]
    with pytest.raises(RolloutsError, match=r"again \(before: .*row 1\): keep one by --repeated"):
        lm_eval(files)
    assert lm_eval(files, repeated="first").table()["score"].to_pylist() == [1.0]
    assert lm_eval(files, repeated="last").table()["score"].to_pylist() == [0.0]


# -- LiteLLM (BerriAI, schema.prisma, model LiteLLM_SpendLogs) ----------------------------------


OK = "metadata.spend_logs_metadata.ok"


@pytest.mark.parametrize("name", ["spend.jsonl", "spend.json", "spend.csv"])
def test_spend_logs_become_calls(tmp_path, name):
    rows = [spend(i, m) for i in (1, 2) for m in ("gpt-small", "gpt-large")]
    for row in rows[1::2]:
        row["spend"] = 0.03
    log = log_of(litellm([spend_file(tmp_path, rows, name)], score=OK), tmp_path)
    assert log.models == ("gpt-small", "gpt-large")
    assert len(log) == 2
    np.testing.assert_array_equal(log.score, [[1, 1], [0, 0]])
    np.testing.assert_array_equal(log.cost, [[0.0015, 0.03]] * 2)
    np.testing.assert_array_equal(log.latency, np.full((2, 2), 500.0))
    np.testing.assert_array_equal(log.tokens_in, np.full((2, 2), 20))
    np.testing.assert_array_equal(log.tokens_out, np.full((2, 2), 10))
    assert log.prompt[0] == "Be brief.\n\nQuestion 1?"
    assert log.answer[0].tolist() == ["Answer 1", "Answer 1"]


def test_queries_are_told_apart_by_a_field_and_scores_may_stand_in_a_table(tmp_path):
    rows = [spend(i, m, messages={}) for i in (1, 2) for m in ("s", "l")]
    file = spend_file(tmp_path, rows)
    scores = tmp_path / "scores.csv"
    scores.write_text("request_id,score\nchatcmpl-s-1,0.5\nchatcmpl-l-1,1\nchatcmpl-l-2,true\n")
    calls = litellm([file], query="metadata.spend_logs_metadata.case", scores=scores)
    assert calls.left_out == {"without a score": 1}
    log = log_of(calls, tmp_path)
    assert log.query_id.tolist() == ["c1", "c2"]
    np.testing.assert_array_equal(log.score, [[0.5, 1], [np.nan, 1]])


def test_what_is_no_answer_of_a_model_is_left_out_and_counted(tmp_path):
    rows = [
        spend(1),
        spend(2, status="failure"),
        spend(3, cache_hit="True"),
        spend(4, call_type="aembedding"),
    ]
    calls = litellm([spend_file(tmp_path, rows)], score=OK)
    assert len(calls.rows) == 1
    assert calls.left_out == {
        "failed": 1, "answered by the cache": 1, "of the type aembedding": 1,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"spend": -1.0}, "row 1: spend is -1.0, expected a number >= 0"),
        ({"spend": "many"}, "row 1: spend is 'many'"),
        ({"spend": None}, "row 1 has no 'spend'"),
        ({"request_id": ""}, "row 1 has no 'request_id'"),
        ({"model": "", "model_group": None}, "row 1 has no 'model_group' or 'model'"),
        ({"messages": "{}"}, "row 1 has no messages .*store_prompts_in_spend_logs"),
        ({"endTime": "yesterday"}, "row 1: .* are no two times"),
        ({"metadata": {"spend_logs_metadata": {"ok": 7}}}, r"\.ok is 7, expected a number in"),
        ({"status": "failure"}, "no call is left: 1 failed"),
    ],
)
def test_a_spend_log_that_cannot_be_used_is_named(tmp_path, changed, message):
    with pytest.raises(RolloutsError, match=message):
        litellm([spend_file(tmp_path, [spend(1, **changed)])], score=OK).table()


def test_spend_logs_need_scores_from_somewhere(tmp_path):
    with pytest.raises(RolloutsError, match="spend logs hold no scores: name the field"):
        litellm([spend_file(tmp_path, [spend(1)])])


# -- Langfuse (docs: blob storage export field reference; API: ObservationsView) ----------------


def test_observations_and_scores_become_calls(tmp_path):
    models = {"small": 0.003, "large": 0.05}
    file = lines(
        tmp_path / "observations.jsonl",
        [observation(i, m, total_cost=c) for i in (1, 2) for m, c in models.items()]
        + [observation(3, type="SPAN"), observation(4, level="ERROR"), observation(5)],
    )
    scores = lines(tmp_path / "s.jsonl", [judgement(i, m) for i in (1, 2) for m in models])
    calls = langfuse([file], scores=scores)
    assert calls.left_out == {"no GENERATION": 1, "of level ERROR": 1, "without a score": 1}
    log = log_of(calls, tmp_path)
    assert log.models == ("small", "large")
    np.testing.assert_array_equal(log.score, [[1, 1], [0, 0]])
    np.testing.assert_array_equal(log.cost, [[0.003, 0.05]] * 2)
    np.testing.assert_array_equal(log.latency, np.full((2, 2), 250.0))
    np.testing.assert_array_equal(log.tokens_in, np.full((2, 2), 12))
    np.testing.assert_array_equal(log.tokens_out, np.full((2, 2), 5))
    assert log.prompt.tolist() == ["Question 1?", "Question 2?"]
    assert log.answer[1].tolist() == ["Answer 2", "Answer 2"]


def test_the_names_of_the_interface_are_understood(tmp_path):
    row = {
        "id": "o", "traceId": "t", "type": "GENERATION", "model": "m", "level": "DEFAULT",
        "startTime": "2024-05-29T13:46:19.963Z", "endTime": "2024-05-29T13:46:20.463Z",
        "input": {"messages": [{"role": "user", "content": "Why?"}]}, "output": "So.",
        "usageDetails": {"input": 3, "output": 4}, "costDetails": {"total": 0.5},
        "metadata": {"query": "q", "right": True},
    }  # fmt: skip
    path = tmp_path / "observations.json"
    path.write_text(json.dumps({"data": [row], "meta": {"page": 1}}))
    (call,) = langfuse([path], query="metadata.query", score="metadata.right").table().to_pylist()
    assert call == {
        "query_id": "q", "model": "m", "score": 1.0, "cost": 0.5, "answer": "So.",
        "prompt": "Why?", "latency_ms": 500.0, "tokens_in": 3.0, "tokens_out": 4.0,
    }  # fmt: skip


def test_a_traces_score_is_that_of_its_only_generation(tmp_path):
    file = lines(
        tmp_path / "o.jsonl",
        [observation(1), observation(3), observation(3, id="second", input="another")],
    )
    scores = lines(tmp_path / "s.jsonl", [judgement(i, observation_id=None) for i in (1, 3)])
    calls = langfuse([file], scores=scores)
    assert len(calls.rows) == 1
    assert calls.left_out == {"without a score": 2}


@pytest.mark.parametrize(
    ("observed", "judged", "message"),
    [
        ({}, {"value": 3.0}, r"row 1: score 'accuracy' is 3.0, expected a number in \[0, 1\]"),
        ({}, {"data_type": "CATEGORICAL"}, "'accuracy' is CATEGORICAL, expected NUMERIC or BOO"),
        ({}, {"observation_id": None, "trace_id": None}, "row 1 has no 'trace_id' or 'traceId'"),
        ({"provided_model_name": ""}, {}, "row 1 has no 'provided_model_name'"),
        ({"input": ""}, {}, "row 1 has no 'input': which query does it answer"),
        ({"total_cost": -1}, {}, "row 1: total_cost is -1, expected a number >= 0"),
        ({"type": None}, {}, "row 1 has no 'type'"),
    ],
)
def test_an_observation_or_a_score_that_cannot_be_used_is_named(
    tmp_path, observed, judged, message
):
    file = lines(tmp_path / "o.jsonl", [observation(1, **observed)])
    scores = lines(tmp_path / "s.jsonl", [judgement(1, **judged)])
    with pytest.raises(RolloutsError, match=message):
        langfuse([file], scores=scores)


def test_one_of_several_scores_is_named_and_scores_may_not_contradict_each_other(tmp_path):
    file = lines(tmp_path / "o.jsonl", [observation(1)])
    rows = [judgement(1), judgement(1, name="style", value=0.0)]
    scores = lines(tmp_path / "s.jsonl", rows)
    with pytest.raises(RolloutsError, match=r"scores \['accuracy', 'style'\]: name one by --score"):
        langfuse([file], scores=scores)
    assert langfuse([file], scores=scores, score="style").table()["score"].to_pylist() == [0.0]
    with pytest.raises(RolloutsError, match="has no score 'tone'"):
        langfuse([file], scores=scores, score="tone")
    scores = lines(tmp_path / "s.jsonl", [judgement(1), judgement(1, value=0.5)])
    with pytest.raises(RolloutsError, match=r"row 2: score 'accuracy' .* is 0.5, and 1.0"):
        langfuse([file], scores=scores)
