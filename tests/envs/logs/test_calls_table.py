"""The calls table: what it means, that it keeps everything, and how it refuses bad input."""

from dataclasses import fields
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from routing_pomdp.envs import Rollouts
from routing_pomdp.envs.logs.calls_table import read_calls, write_calls
from routing_pomdp.envs.logs.rollouts import RolloutsError
from tests.support.calls import COLUMNS, refused, write

SUFFIXES = [".parquet", ".csv", ".csv.gz", ".jsonl", ".jsonl.gz", ".ndjson"]


@pytest.fixture(params=[".parquet", ".csv", ".jsonl"])
def path(request, tmp_path) -> Path:
    return tmp_path / f"calls{request.param}"


# -- what a table means ---------------------------------------------------------------------------


def test_rows_are_aligned_by_query_and_model(path):
    log = read_calls(write(path))
    assert log.models == ("small", "large")
    assert log.query_id.tolist() == ["a", "b"]
    np.testing.assert_array_equal(log.score, [[1, 0.5], [0, 1]])
    np.testing.assert_array_equal(log.cost, [[1, 9], [2, 8]])
    np.testing.assert_array_equal(log.signals["vote"], [[0.5, 0.25], [np.nan, 0.75]])
    np.testing.assert_array_equal(log.signal_costs["vote"], [[0.1, 0.2], [np.nan, 0.3]])


def test_without_the_columns_all_is_training_data_named_after_the_file(path):
    log = read_calls(write(path))
    assert log.split.tolist() == ["train", "train"]
    assert log.dataset.tolist() == ["calls", "calls"]
    assert log.answer is log.prompt is log.latency is log.tokens_in is log.tokens_out is None


def test_queries_come_in_the_order_of_first_appearance(path):
    log = read_calls(write(path, query_id=["z", "b", "b", "z"]))
    assert log.query_id.tolist() == ["z", "b"]
    np.testing.assert_array_equal(log.score, [[1, 1], [0, 0.5]])


def test_a_row_that_is_not_there_was_never_called(path):
    log = read_calls(write(path, query_id=["a", "a", "b", "c"]))
    np.testing.assert_array_equal(log.score, [[1, 0.5], [0, np.nan], [np.nan, 1]])


def test_models_are_ordered_by_rank_then_by_mean_cost_then_by_appearance(path):
    backward = [9.0, 1.0, 8.0, 2.0]
    assert read_calls(write(path, cost=backward)).models == ("large", "small")
    assert read_calls(write(path, cost=None)).models == ("small", "large")
    ranked = read_calls(write(path, model_rank=[7, 3, 7, 3]))
    assert ranked.models == ("large", "small")
    np.testing.assert_array_equal(ranked.cost, [[9, 1], [8, 2]])


def test_correctness_is_a_score(path):
    log = read_calls(write(path, score=None, correct=[True, False, False, True]))
    np.testing.assert_array_equal(log.score, [[1, 0], [0, 1]])


def test_every_further_column_is_kept(path):
    log = read_calls(
        write(
            path,
            dataset=["m", "m", "n", "n"],
            split=["train", "train", "test", "test"],
            answer=["A", "B", "C", "D"],
            prompt=["p", "p", "q", "q"],
            latency_ms=[1.5, 2.5, 3.5, 4.5],
            tokens_in=[1, 2, 3, 4],
            tokens_out=[5, 6, 7, 8],
            comment=["ignored"] * 4,
        )
    )
    assert log.dataset.tolist() == ["m", "n"]
    assert log.split.tolist() == ["train", "test"]
    assert log.answer.tolist() == [["A", "B"], ["C", "D"]]
    assert log.prompt.tolist() == ["p", "q"]
    np.testing.assert_array_equal(log.latency, [[1.5, 2.5], [3.5, 4.5]])
    np.testing.assert_array_equal(log.tokens_in, [[1, 2], [3, 4]])
    np.testing.assert_array_equal(log.tokens_out, [[5, 6], [7, 8]])


@pytest.mark.parametrize("ids", [["007", "007", "7", "7"], ["NA", "NA", "null", "null"]])
def test_ids_that_look_like_something_else_stay_text(path, ids):
    assert read_calls(write(path, query_id=ids)).query_id.tolist() == ids[::2]


@pytest.mark.parametrize("ids", [["2024-01-01"] * 2 + ["2024-01-02"] * 2, [3, 3, 4, 4]])
def test_dates_and_whole_numbers_are_ids_as_they_are_written(path, ids):
    log = read_calls(write(path, query_id=ids, answer=["2024-01-01"] * 4))
    assert log.query_id.tolist() == [str(ids[0]), str(ids[2])]
    assert log.answer[0, 0] == "2024-01-01"


def test_a_signal_may_have_a_name_that_ends_like_a_cost(path):
    log = read_calls(write(path, signal_low_cost=[0.0, 1.0, 1.0, 0.0]))
    assert set(log.signals) == {"vote", "low_cost"}
    assert set(log.signal_costs) == {"vote"}


def test_signals_may_be_other_columns_named_by_the_caller(path):
    write(path, margin=[1.0, 2.0, 3.0, 4.0], usd=[0.0] * 4)
    log = read_calls(path, signals={"margin": "usd", "signal_vote": None})
    assert set(log.signals) == {"margin", "vote"}
    assert set(log.signal_costs) == {"margin"}
    with pytest.raises(RolloutsError, match="no column 'entropy'"):
        read_calls(path, signals={"entropy": None})


def test_categories_that_no_row_uses_are_no_models_or_queries(tmp_path):
    table = pa.table(COLUMNS)
    ghosts = pa.DictionaryArray.from_arrays
    table = table.set_column(0, "query_id", ghosts(pa.array([2, 2, 1, 1]), ["ghost", "b", "a"]))
    table = table.set_column(1, "model", ghosts(pa.array([1, 0, 1, 0]), ["large", "small", "no"]))
    pyarrow.parquet.write_table(table, tmp_path / "calls.parquet")
    log = read_calls(tmp_path / "calls.parquet")
    assert log.query_id.tolist() == ["a", "b"]
    assert log.models == ("small", "large")
    np.testing.assert_array_equal(log.score, [[1, 0.5], [0, 1]])


def test_decimals_are_numbers(tmp_path):
    costs = [Decimal("0.25"), Decimal("9.50")] * 2
    log = read_calls(write(tmp_path / "calls.parquet", cost=costs))
    np.testing.assert_array_equal(log.cost, [[0.25, 9.5]] * 2)


def test_a_row_may_hold_a_long_document(path):
    document = "word " * 500_000
    log = read_calls(write(path, prompt=[document] * 4))
    assert log.prompt.tolist() == [document] * 2


# -- round trips ----------------------------------------------------------------------------------

# numpy's fixed-width strings drop NULs at the end, and no file holds lone surrogates.
TEXT = st.sampled_from(["007", "NA", "null", "true", "2024-01-01", " a ", "\r\n"]) | st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=8
)
SPLIT = st.sampled_from(["train", "validation", "test"])
UNIT = st.floats(0, 1)
COST = st.floats(0, allow_infinity=False)
NUMBER = st.floats(allow_nan=False)


@st.composite
def logs(draw) -> Rollouts:
    """Logs with missing cells and signals, each query and each model called at least once."""
    models = draw(st.lists(TEXT, min_size=2, max_size=4, unique_by=str.strip))
    ids = draw(st.lists(TEXT, min_size=1, max_size=5, unique_by=str.strip))
    n, n_models = len(ids), len(models)
    called = np.array(draw(st.lists(st.booleans(), min_size=n * n_models, max_size=n * n_models)))
    called = called.reshape(n, n_models)
    called[:, 0] = True
    called[0] = True
    emitted = called & np.array([draw(st.booleans()) for _ in models])

    def cells(numbers: st.SearchStrategy, where: np.ndarray) -> np.ndarray:
        drawn = draw(st.lists(numbers, min_size=n * n_models, max_size=n * n_models))
        return np.where(where, np.array(drawn, dtype=float).reshape(n, n_models), np.nan)

    def texts(size: int) -> np.ndarray:
        return np.array(draw(st.lists(TEXT, min_size=size, max_size=size)), dtype=object)

    maybe = draw(st.booleans())
    answers = texts(n * n_models).reshape(n, n_models)
    answers[~called] = None
    tokens = st.integers(0, 10**6)
    return Rollouts(
        models=tuple(models),
        query_id=np.array(ids),
        score=cells(UNIT, called),
        cost=cells(COST, called) if draw(st.booleans()) else None,
        signals={"one": cells(NUMBER, emitted), "two": cells(NUMBER, called)},
        signal_costs={"one": cells(COST, emitted)} if maybe else {},
        split=np.array(draw(st.lists(SPLIT, min_size=n, max_size=n))),
        dataset=np.array(
            draw(st.lists(st.sampled_from(["007", "NA", " a "]), min_size=n, max_size=n))
        ),
        answer=answers if maybe else None,
        latency=cells(COST, called) if maybe else None,
        tokens_in=cells(tokens, called) if maybe else None,
        tokens_out=cells(tokens, called) if maybe else None,
        prompt=texts(n) if maybe else None,
        signal_latency={"two": cells(COST, called)} if maybe else {},
        signal_tokens_in={"one": cells(tokens, emitted)} if maybe else {},
        signal_tokens_out={"one": cells(tokens, emitted)} if maybe else {},
    )


def _assert_equal(found: Rollouts, expected: Rollouts) -> None:
    assert found.models == expected.models
    for field in fields(Rollouts):
        one, other = getattr(found, field.name), getattr(expected, field.name)
        if isinstance(other, dict):
            assert one.keys() == other.keys()
            for key in other:
                np.testing.assert_array_equal(one[key], other[key])
        elif field.name != "models":
            assert (one is None) == (other is None), field.name
            if other is not None:
                np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("suffix", SUFFIXES)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(log=logs())
def test_what_is_written_is_read_back_exactly(tmp_path, suffix, log):
    write_calls(log, tmp_path / f"log{suffix}")
    _assert_equal(read_calls(tmp_path / f"log{suffix}"), log)


def test_signals_whose_columns_would_clash_are_not_written(tmp_path):
    log = read_calls(write(tmp_path / "calls.parquet", signal_low=[0.0] * 4))
    clash = dict(log.signals) | {"low_cost": log.signals["low"]}
    clashing = Rollouts(**{f.name: getattr(log, f.name) for f in fields(log)} | {"signals": clash})
    with pytest.raises(RolloutsError, match=r"'low_cost' would be read as the cost of .*'low'"):
        write_calls(clashing, tmp_path / "clash.csv")
    assert not (tmp_path / "clash.csv").exists()


def test_an_unknown_suffix_is_not_written(tmp_path):
    log = read_calls(write(tmp_path / "calls.csv"))
    for name in ("calls.xlsx", "calls", "calls.parquet.gz"):
        with pytest.raises(RolloutsError, match="unknown format"):
            write_calls(log, tmp_path / name)
        assert not (tmp_path / name).exists()


# -- bad input ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["query_id", "model", "score"])
def test_a_missing_column_is_named_with_those_there_are(path, name):
    message = refused(write(path, **{name: None}))
    assert f"no column {name!r}: it has [" in message


@pytest.mark.parametrize("value", [-0.5, 1.5, np.nan, np.inf])
def test_a_score_outside_the_unit_interval_is_refused(tmp_path, value):
    message = refused(write(tmp_path / "calls.jsonl", score=[1.0, 0.5, value, 1.0]))
    assert f"column 'score' is {value} in row 3, expected in [0, 1]" in message


def test_an_empty_score_is_a_model_that_was_not_called(path):
    log = read_calls(write(path, score=[1.0, None, 0.0, 1.0], cost=[1.0, None, 2.0, 8.0]))
    np.testing.assert_array_equal(log.score, [[1, np.nan], [0, 1]])
    with pytest.raises(
        RolloutsError, match=r"large \(1 of 2 .*the complete query by rollouts.compl"
    ):
        log.require_complete()
    assert log.chosen(None, complete_only=True).query_id.tolist() == ["b"]


def test_a_column_of_scores_without_a_score_is_refused(path):
    assert "column 'score' is empty in all rows" in refused(write(path, score=[None] * 4))


@pytest.mark.parametrize("value", [-0.5, None])
def test_a_cost_that_is_missing_or_negative_is_refused(path, value):
    shown = "nan" if value is None else value
    message = refused(write(path, cost=[1.0, value, 2.0, 8.0]))
    assert f"column 'cost' is {shown} in row 2, expected >= 0" in message


@pytest.mark.parametrize("value", [-0.5, None])
def test_a_cost_of_a_signal_that_is_missing_or_negative_is_refused(path, value):
    shown = "nan" if value is None else value
    message = refused(write(path, signal_vote_cost=[0.1, value, None, 0.3]))
    assert f"column 'signal_vote_cost' is {shown} in row 2, expected >= 0" in message


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".jsonl"])
def test_infinite_and_missing_signals_are_read_and_written_as_they_are(tmp_path, suffix):
    values = [-np.inf, 0.5, np.inf, None]
    log = read_calls(
        write(tmp_path / f"calls{suffix}", signal_vote=values, signal_vote_cost=[0.1] * 4)
    )
    found = log.signals["vote"][~np.isnan(log.score)]
    np.testing.assert_array_equal(np.sort(found), [-np.inf, 0.5, np.inf, np.nan])
    write_calls(log, again := tmp_path / f"again{suffix}")
    np.testing.assert_array_equal(read_calls(again).signals["vote"], log.signals["vote"])


def test_not_a_number_is_no_number_in_json(tmp_path):
    message = refused(write(tmp_path / "calls.jsonl", score=[1.0, float("nan"), 0.0, 1.0]))
    assert "column 'score' is nan in row 2" in message


def test_a_call_that_is_there_twice_is_refused_with_both_rows(path):
    message = refused(write(path, query_id=["b", "a", "b", "b"]))
    assert "query 'b' calls model 'small' in rows 1 and 3" in message


@pytest.mark.parametrize("name", ["query_id", "model", "split", "dataset"])
@pytest.mark.parametrize("empty", ["", None])
def test_an_empty_name_is_refused(path, name, empty):
    message = refused(write(path, **{name: ["a", empty, "a", "a"]}))
    assert f"column {name!r} is empty in row 2" in message


@pytest.mark.parametrize("name", ["score", "cost", "signal_vote", "model_rank", "latency_ms"])
@pytest.mark.parametrize("first", ["1", "", None])
def test_text_among_numbers_is_refused(path, name, first):
    message = refused(write(path, **{name: [first, "0.5", "many", "1"]}))
    assert f"column {name!r} holds " in message
    assert "expected numbers: row 3 is 'many'" in message


def test_what_is_neither_number_nor_text_is_refused(tmp_path):
    lists = [["x"]] * 4
    message = refused(write(tmp_path / "calls.parquet", answer=lists))
    assert "column 'answer' holds list" in message
    message = refused(write(tmp_path / "calls.parquet", score=lists))
    assert "column 'score' holds list" in message


@pytest.mark.parametrize("name", ["split", "dataset"])
def test_what_is_one_value_a_query_may_not_change_within_one(path, name):
    message = refused(write(path, **{name: ["x", "x", "x", "y"]}))
    assert f"column {name!r} changes within query 'b' in row 4" in message


def test_ranks_must_tell_models_apart(path):
    message = refused(write(path, model_rank=[0, 1, 0, 2]))
    assert "'model_rank' differs between rows of model 'large' (row 2)" in message
    assert "two models have one model_rank" in refused(write(path, model_rank=[1, 1, 1, 1]))


def test_a_log_of_one_model_is_refused(path):
    message = refused(write(path, query_id=["a", "b", "c", "d"], model=["small"] * 4))
    assert "at least 2 models" in message


def test_an_unknown_split_is_refused_with_those_there_are(path):
    with pytest.raises(RolloutsError, match=r"no split 'test'.*\['train'\]"):
        read_calls(write(path)).where("test")
