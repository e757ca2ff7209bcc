"""RouterBench's wide table and tables of votes, from small copies of their form."""

import csv
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from routing_pomdp.envs.costs.cost_model import CostModel
from routing_pomdp.envs.logs.rollouts import RolloutsError
from routing_pomdp.envs.logs.wide_table import routerbench, votes

# The columns of the release (withmartian/routerbench, its README): one model is a path.
WIDE = {
    "sample_id": ["mmlu.1", "mmlu.2", "gsm.1"],
    "prompt": ["['Ask one']", "['Ask two']", "['Ask three']"],
    "eval_name": ["mmlu-law", "mmlu-law", "grade-school-math"],
    "big/model-1106": [1.0, 1.0, 0.75],
    "small-v1": [0.0, 1.0, 0.25],
    "big/model-1106|model_response": ["['A']", "['B']", "['7']"],
    "small-v1|model_response": ["['C']", "['B']", "['8']"],
    "big/model-1106|total_cost": [0.01, 0.02, 0.03],
    "small-v1|total_cost": [0.001, 0.002, 0.003],
    "oracle_model_to_route_to": ["big/model-1106", "small-v1", "big/model-1106"],
}


def write(folder, columns, suffix=".parquet"):
    path = folder / f"routerbench{suffix}"
    if suffix == ".parquet":
        pyarrow.parquet.write_table(pa.table(columns), path)
    else:
        with path.open("w", newline="") as file:
            table = csv.writer(file)
            table.writerow(columns)
            table.writerows(zip(*columns.values(), strict=True))
    return str(path)


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_the_wide_table_is_read_cheapest_model_first(tmp_path, suffix):
    log = routerbench(write(tmp_path, WIDE, suffix))
    assert log.models == ("small-v1", "big/model-1106")
    np.testing.assert_array_equal(log.score, [[0, 1], [1, 1], [0.25, 0.75]])
    np.testing.assert_allclose(log.cost, [[0.001, 0.01], [0.002, 0.02], [0.003, 0.03]])
    assert log.query_id.tolist() == WIDE["sample_id"]
    assert log.prompt.tolist() == WIDE["prompt"]
    assert log.answer.tolist() == [["['C']", "['A']"], ["['B']", "['B']"], ["['8']", "['7']"]]
    assert log.dataset.tolist() == WIDE["eval_name"]
    assert log.signals == {}
    assert log.require_complete() is log


def test_a_data_set_and_models_are_chosen_by_name(tmp_path):
    path = write(tmp_path, WIDE)
    log = routerbench(path, models=["big/model-1106", "small-v1"], dataset="mmlu-law")
    assert len(log) == 2
    assert log.models[0] == "big/model-1106"
    with pytest.raises(RolloutsError, match=r"rollouts.dataset is 'mmlu'.*grade-school-math"):
        routerbench(path, dataset="mmlu")


def test_ids_and_answers_may_be_absent(tmp_path):
    kept = {k: v for k, v in WIDE.items() if k != "sample_id" and "response" not in k}
    log = routerbench(write(tmp_path, kept))
    assert log.query_id.tolist() == ["row-1", "row-2", "row-3"]
    assert log.answer is None


def test_an_empty_score_is_a_model_that_was_not_called(tmp_path):
    path = write(tmp_path, WIDE | {
        "middle": [1.0, None, 1.0], "middle|total_cost": [0.002, None, 0.002],
        "middle|model_response": ["a", "", "b"],
    })  # fmt: skip
    log = routerbench(path)
    assert log.models == ("small-v1", "middle", "big/model-1106")
    np.testing.assert_array_equal(log.score[:, 1], [1, np.nan, 1])
    chosen = routerbench(path, models=["small-v1", "big/model-1106"])
    assert chosen.require_complete() is chosen
    assert routerbench(path, complete_only=True).query_id.tolist() == ["mmlu.1", "gsm.1"]


def test_a_model_that_is_not_chosen_may_hold_anything(tmp_path):
    path = write(tmp_path, WIDE | {"odd": ["?", "?", "?"], "odd|total_cost": [-1.0, 0.0, 0.0]})
    assert len(routerbench(path, models=["small-v1", "big/model-1106"])) == 3
    with pytest.raises(RolloutsError, match="column 'odd' holds text"):
        routerbench(path)


def test_without_costs_the_columns_or_the_choice_order_the_models(tmp_path):
    free = {k: v for k, v in WIDE.items() if not k.endswith("|total_cost")}
    log = routerbench(write(tmp_path, free))
    assert log.models == ("big/model-1106", "small-v1")
    assert log.cost is None
    with pytest.raises(
        ValueError, match=r"no answer costs: .*MODEL\|total_cost.* or set costs.ratio"
    ):
        CostModel(None).fit(log)
    assert CostModel(10).fit(log).call.tolist() == [1, 10]
    bare = {k: v for k, v in free.items() if not k.endswith("|model_response")}
    path = write(tmp_path, bare)
    assert routerbench(path, models=["small-v1", "big/model-1106"]).models[0] == "small-v1"
    with pytest.raises(RolloutsError, match=r"without costs, rollouts\.models names the columns"):
        routerbench(path)


def test_costs_of_some_models_only_are_refused_by_the_column_that_is_missing(tmp_path):
    changed = WIDE | {"free": [1.0, 1.0, 1.0], "free|model_response": ["a", "b", "c"]}
    path = write(tmp_path, changed)
    with pytest.raises(RolloutsError, match=r"no column 'free\|total_cost', but others have costs"):
        routerbench(path, models=["small-v1", "free"])


def test_prompt_and_data_set_may_have_other_names(tmp_path):
    renamed = {{"prompt": "question", "eval_name": "bench"}.get(k, k): v for k, v in WIDE.items()}
    log = routerbench(
        write(tmp_path, renamed), columns={"prompt": "question", "eval_name": "bench"}
    )
    assert log.prompt.tolist() == WIDE["prompt"]
    assert log.dataset.tolist() == WIDE["eval_name"]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"small-v1": [0, 1, 2.0]}, r"column 'small-v1' is 2.0 in row 3, expected in \[0, 1\]"),
        ({"small-v1|total_cost": [0, -1.0, 0]}, r"'small-v1\|total_cost' is -1.0 in row 2"),
        ({"small-v1": None}, r"no column 'small-v1'"),
        ({"small-v1|total_cost": None}, r"found 1 columns MODEL\|total_cost, expected at least 2"),
        ({"eval_name": None}, r"no column 'eval_name'"),
    ],
)
def test_errors_name_file_column_and_row(tmp_path, changed, message):
    columns = {k: v for k, v in (WIDE | changed).items() if v is not None}
    path = write(tmp_path, columns)
    with pytest.raises(RolloutsError, match=message) as refused:
        routerbench(path)
    assert str(refused.value).startswith(path)


@pytest.mark.parametrize("name", ["routerbench_0shot.pkl", "r.pickle", "r.pkl.gz"])
def test_a_pickle_is_refused_with_the_command_that_converts_it(tmp_path, name):
    (tmp_path / name).write_bytes(b"")
    stem = name.split(".")[0]
    with pytest.raises(RolloutsError) as refused:
        routerbench(str(tmp_path / name))
    command = f"python scripts/convert_pickle.py {tmp_path / name} {tmp_path / stem}.parquet"
    assert command in str(refused.value)


# -- votes ----------------------------------------------------------------------------------------

ROWS = [
    {"query_id": "a", "model": "s", "score": 1, "answer": "Paris", "cost": 1, "votes_cost": 8,
     "votes": ["paris", " Paris.", "Lyon", "PARIS"]},
    {"query_id": "a", "model": "l", "score": 0, "answer": "Rome", "cost": 9, "votes_cost": 72,
     "votes": ["Paris", "Paris", "Rome", "Rome"]},
    {"query_id": "b", "model": "s", "score": 0, "answer": "4", "cost": 1, "votes_cost": 8,
     "votes": ["1", "2", "3", "5"]},
    {"query_id": "b", "model": "l", "score": 1, "answer": "5", "cost": 9, "votes_cost": 72,
     "votes": None},
]  # fmt: skip


def votes_file(folder, rows=ROWS, suffix=".jsonl"):
    path = folder / f"votes{suffix}"
    if suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif suffix == ".parquet":
        pyarrow.parquet.write_table(pa.Table.from_pylist(rows), path)
    else:
        with path.open("w", newline="") as file:
            table = csv.DictWriter(file, rows[0])
            table.writeheader()
            for row in rows:
                listed = "" if row["votes"] is None else json.dumps(row["votes"])
                table.writerow(row | {"votes": listed})
    return str(path)


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet", ".csv"])
def test_shares_margins_and_agreement_of_the_samples(tmp_path, suffix):
    log = votes(votes_file(tmp_path, suffix=suffix))
    assert log.models == ("s", "l")
    signals = log.signals
    np.testing.assert_array_equal(signals["vote_share"], [[0.75, 0.5], [0, np.nan]])
    np.testing.assert_array_equal(signals["vote_margin"], [[0.5, 0], [0, np.nan]])
    np.testing.assert_allclose(signals["vote_agreement"], [[0.625, 0.5], [0.25, np.nan]])
    for name in signals:
        np.testing.assert_array_equal(log.signal_costs[name], [[8, 72], [8, 72]])


def test_without_an_answer_the_share_is_that_of_the_most_frequent_sample(tmp_path):
    rows = [{k: v for k, v in row.items() if k not in ("answer", "votes_cost")} for row in ROWS]
    log = votes(votes_file(tmp_path, rows), models=["l", "s"])
    np.testing.assert_array_equal(log.signals["vote_share"], [[0.5, 0.75], [np.nan, 0.25]])
    assert log.signal_costs == {}


def test_logged_signals_stay_beside_the_votes(tmp_path):
    rows = [row | {"signal_sure": 0.5} for row in ROWS]
    assert set(votes(votes_file(tmp_path, rows)).signals) == {
        "sure", "vote_share", "vote_margin", "vote_agreement",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("votes_of_row", "shown"), [("Paris", "'Paris'"), ('{"a": 1}', "a"), ("3", "'3'")]
)
def test_what_is_no_list_is_refused_by_row(tmp_path, votes_of_row, shown):
    rows = [row | {"votes": "[]"} for row in ROWS]
    rows[2]["votes"] = votes_of_row
    with pytest.raises(RolloutsError, match=rf"column 'votes' is .*{shown}.* in row 3, expected a"):
        votes(votes_file(tmp_path, rows))


def test_numbers_are_one_vote_however_they_are_written(tmp_path):
    rows = [
        {"query_id": "q", "model": model, "score": 1, "cost": cost, "answer": "10", "votes": votes}
        for model, cost, votes in (("s", 1, [10.0, 10.0, 7.0]), ("l", 9, [10.0, 1e1, 10.5]))
    ]
    log = votes(votes_file(tmp_path, rows))
    np.testing.assert_allclose(log.signals["vote_share"], [[2 / 3, 2 / 3]])
    rows[0]["votes"], rows[1]["votes"] = ["10", "10.0", "$10"], ["1e1", "3.5", "35"]
    log = votes(votes_file(tmp_path, rows))
    np.testing.assert_allclose(log.signals["vote_share"], [[1, 1 / 3]])


def test_an_empty_sample_is_a_vote_for_nothing(tmp_path):
    rows = [row | {"answer": "", "votes": listed} for row, listed in zip(
        ROWS, [["", None, "x", "x"], [None, ""], ["x"], ["A", "a", "the"]], strict=True
    )]  # fmt: skip
    log = votes(votes_file(tmp_path, rows))
    np.testing.assert_array_equal(log.signals["vote_share"], [[0, 0], [0, 0]])
    np.testing.assert_allclose(log.signals["vote_margin"], [[0.5, 0], [1, 1 / 3]])
    np.testing.assert_allclose(log.signals["vote_agreement"], [[0.25, 0], [1, 5 / 9]])
