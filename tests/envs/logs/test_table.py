"""Several files as one table, and columns under other names."""

from pathlib import Path

import numpy as np
import pytest

from routing_pomdp.envs import Rollouts
from routing_pomdp.envs.logs.calls_table import read_calls
from routing_pomdp.envs.logs.rollouts import RolloutsError
from routing_pomdp.envs.logs.sources import calls_table
from routing_pomdp.verifiers import LoggedSignal
from tests.support.calls import COLUMNS, write

HALF = {name: values[:2] for name, values in COLUMNS.items()}


def of_one_model(folder: Path, model: str, suffix: str = ".csv", **changed) -> Path:
    rows = [i for i, name in enumerate(COLUMNS["model"]) if name == model]
    columns = {name: [values[i] for i in rows] for name, values in COLUMNS.items()}
    return write(folder / f"{model}{suffix}", **(columns | {"model": None} | changed))


def same(one: Rollouts, other: Rollouts) -> bool:
    np.testing.assert_array_equal(one.score, other.score)
    np.testing.assert_array_equal(one.cost, other.cost)
    np.testing.assert_array_equal(one.signals["vote"], other.signals["vote"])
    return one.models == other.models and one.query_id.tolist() == other.query_id.tolist()


@pytest.fixture
def whole(tmp_path):
    (tmp_path / "whole").mkdir()
    return read_calls(write(tmp_path / "whole" / "calls.csv"))


def test_one_file_a_model_is_a_log_by_list_pattern_or_name(tmp_path, whole):
    small, large = of_one_model(tmp_path, "small"), of_one_model(tmp_path, "large", ".jsonl")
    assert same(read_calls([str(small), str(large)]), whole)
    assert same(read_calls({"small": str(small), "large": str(large)}), whole)
    assert read_calls({"S": str(small), "L": str(large)}).models == ("S", "L")
    of_one_model(tmp_path, "large")
    assert same(read_calls(str(tmp_path / "*.csv")), whole)


def test_a_log_may_be_in_parts_of_any_format(tmp_path, whole):
    first = write(tmp_path / "a.csv", **HALF)
    second = write(tmp_path / "b.parquet", **{name: values[2:] for name, values in COLUMNS.items()})
    log = read_calls([str(first), str(second)])
    assert same(log, whole)
    # Parts of a log are of one data set.
    assert set(log.dataset) == {tmp_path.name}


def test_a_column_that_one_file_lacks_is_empty_there(tmp_path):
    first = write(tmp_path / "a.csv", **HALF, latency_ms=[1, 2])
    second = write(tmp_path / "b.csv", **(HALF | {"query_id": ["z", "z"]}))
    log = read_calls([str(first), str(second)])
    np.testing.assert_array_equal(log.latency, [[1, 2], [np.nan, np.nan]])
    first = write(tmp_path / "a.csv", **HALF, split=["train", "train"])
    with pytest.raises(RolloutsError, match=r"'split' is empty in row 1 of .*b\.csv"):
        read_calls([str(first), str(second)])


def test_rows_of_two_files_that_contradict_each_other_are_both_named(tmp_path):
    first = write(tmp_path / "a.csv", query_id=["y", "y", "b", "b"])
    second = write(tmp_path / "b.csv", score=[0.0, 0.0, 1.0, 0.0])
    with pytest.raises(
        RolloutsError, match=r"query 'b' .* row 3 of .*a\.csv and row 3 of .*b\.csv"
    ):
        read_calls([str(first), str(second)])


def test_a_bad_value_is_named_by_its_file_and_its_row_there(tmp_path):
    first = write(tmp_path / "a.csv")
    second = write(tmp_path / "b.csv", query_id=["y", "y", "z", "z"], cost=[1, -1, 1, 1])
    with pytest.raises(RolloutsError, match=r"'cost' is -1.0 in row 2 of .*b\.csv, expected >= 0"):
        read_calls([str(first), str(second)])
    mixed = write(tmp_path / "c.jsonl", query_id=["x", "x", "w", "w"], score=[1, "high", 1, 1])
    with pytest.raises(RolloutsError, match=r"'score' is 'high' in row 2.*c\.jsonl"):
        read_calls([str(first), str(mixed)])


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ([], "rollouts.path is empty"),
        (["{0}/a.csv", "{0}/a.csv"], "a.csv is named twice"),
        ("{0}/*.parquet", "no file has such a name"),
        (["{0}/a.csv", "{0}/no.csv"], "no.csv: there is no such file"),
        ([3], "rollouts.path is 3: expected a file, a pattern"),
        (3, "rollouts.path is 3: expected a file, a pattern"),
        ({"small": None, "large": "{0}/a.csv"}, "rollouts.path is None"),
        ({"small": "{0}/a.csv", "large": "{0}/b.csv"}, "a.csv has a column 'model'"),
    ],
)
def test_files_that_cannot_be_a_log_are_refused(tmp_path, path, message):
    write(tmp_path / "a.csv")
    write(tmp_path / "b.csv")

    def there(name):
        return name.format(tmp_path) if isinstance(name, str) else name

    if isinstance(path, dict):
        path = {key: there(name) for key, name in path.items()}
    else:
        path = [there(name) for name in path] if isinstance(path, list) else there(path)
    with pytest.raises(RolloutsError, match=message):
        read_calls(path)


def test_a_file_may_have_a_name_that_looks_like_a_pattern(tmp_path, whole):
    assert same(read_calls(str(write(tmp_path / "calls[1].csv"))), whole)


# -- columns under other names --------------------------------------------------------------------

OWN = {"qid": "query_id", "llm": "model", "correct": "score", "usd": "cost", "sure": "signal_vote"}
MAPPED = {ours: own for own, ours in OWN.items()}


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".jsonl"])
def test_columns_are_read_by_their_own_names(tmp_path, whole, suffix):
    columns = {own: COLUMNS[ours] for own, ours in OWN.items()} | dict.fromkeys(COLUMNS)
    path = write(tmp_path / f"mine{suffix}", **columns)
    assert same(calls_table(str(path), columns=MAPPED), whole)


def test_one_column_may_be_two_things_and_replaces_one_of_the_name(tmp_path):
    path = write(tmp_path / "calls.csv", prompt=["p", "p", "q", "q"], right=[0, 1, 1, 0])
    log = calls_table(str(path), columns={"query_id": "prompt", "score": "right"})
    assert log.query_id.tolist() == log.prompt.tolist() == ["p", "q"]
    np.testing.assert_array_equal(log.score, [[0, 1], [1, 0]])


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            {"query_id": "qid"},
            r"has no column 'qid' \(rollouts.columns.query_id\): it has \['query",
        ),
        ({"query": "query_id"}, "rollouts.columns names 'query', which no reader looks for"),
        ({"query_id": None}, "has no column None"),
        (["query_id"], "rollouts.columns is .*: expected {NAME: COLUMN, ...}, or null"),
    ],
)
def test_a_mapping_that_means_nothing_is_refused(tmp_path, columns, message):
    with pytest.raises(RolloutsError, match=message):
        calls_table(str(write(tmp_path / "calls.csv")), columns=columns)


def test_a_missing_column_is_named_with_the_one_that_is_nearly_it(tmp_path):
    path = write(tmp_path / "calls.csv", score=None, Score=[1.0] * 4)
    with pytest.raises(RolloutsError, match=r"rollouts.columns=\{score: 'Score'\} reads another"):
        calls_table(str(path))


# -- splits and incomplete queries ----------------------------------------------------------------


@pytest.mark.parametrize("name", ["val", "valid", "dev", "validation"])
def test_validation_has_several_names(tmp_path, name):
    path = write(tmp_path / "calls.csv", split=["train", "train", name, name])
    assert calls_table(str(path)).split.tolist() == ["train", "validation"]


def test_names_of_one_split_may_differ_within_a_query(tmp_path):
    path = write(tmp_path / "calls.csv", split=["train", "train", "val", "dev"])
    assert calls_table(str(path)).split.tolist() == ["train", "validation"]


@pytest.mark.parametrize("name", ["holdout", "Train", "validate"])
def test_a_split_of_another_name_is_refused_with_those_there_are(tmp_path, name):
    path = write(tmp_path / "calls.csv", split=["train", "train", name, name])
    with pytest.raises(RolloutsError, match=rf"'split' is '{name}' in row 3, .*'train', '{name}'"):
        calls_table(str(path))


def test_complete_queries_are_kept_and_the_others_counted(tmp_path, caplog):
    path = write(tmp_path / "calls.csv", query_id=["a", "a", "b", "c"])
    log = calls_table(str(path), complete_only=True)
    assert log.query_id.tolist() == ["a"]
    assert "2 of 3 queries left out" in caplog.text
    with pytest.raises(
        RolloutsError, match=r"keep the complete query by rollouts.complete_only=tr"
    ):
        calls_table(str(path)).require_complete()


def test_that_no_query_is_complete_is_said(tmp_path):
    path = write(tmp_path / "calls.csv", query_id=["a", "b", "c", "d"])
    with pytest.raises(RolloutsError, match="none of 4 queries called each of"):
        calls_table(str(path), complete_only=True)


# -- signals --------------------------------------------------------------------------------------


def test_a_log_without_signals_says_how_to_name_one(tmp_path):
    columns = {"signal_vote": None, "signal_vote_cost": None, "vote": [0.5, 0.2, 0.1, 0.7]}
    path = str(write(tmp_path / "calls.csv", **columns))
    with pytest.raises(ValueError, match=r"no signals: call a .* signal_NAME.* rollouts\.signals"):
        LoggedSignal().signal(calls_table(path))
    for way in ({"signals": {"vote": None}}, {"columns": {"signal_vote": "vote"}}):
        found = LoggedSignal().signal(calls_table(path, **way))
        np.testing.assert_array_equal(found, [[0.5, 0.2], [0.1, 0.7]])


@pytest.mark.parametrize("signals", [["signal_vote"], "signal_vote"])
def test_signals_are_a_mapping(tmp_path, signals):
    with pytest.raises(RolloutsError, match=r"rollouts\.signals is .*: expected \{COLUMN: COLUMN"):
        calls_table(str(write(tmp_path / "calls.csv")), signals=signals)
