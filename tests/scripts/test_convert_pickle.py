"""The converter of pickled tables, as a user runs it."""

import pytest

from routing_pomdp.envs.logs.wide_table import routerbench
from tests.envs.logs.test_pickled_table import Calls
from tests.support.commands import command

pandas = pytest.importorskip("pandas")

TABLE = {
    "sample_id": ["a", "b"],
    "prompt": ["one", "two"],
    "eval_name": ["mmlu", "mmlu"],
    "s": [0.0, 1.0],
    "l": [1.0, 1.0],
    "s|total_cost": [0.1, 0.1],
    "l|total_cost": [1.0, 2.0],
    "count": [1, 2],
}


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".jsonl"])
def test_a_pickled_table_is_converted_and_read(tmp_path, suffix):
    pandas.DataFrame(TABLE).to_pickle(tmp_path / "r.pkl")
    done = command("convert_pickle", tmp_path / "r.pkl", tmp_path / f"r{suffix}")
    assert "2 rows, 8 columns" in done.stdout
    log = routerbench(str(tmp_path / f"r{suffix}"))
    assert log.score.tolist() == [[0, 1], [1, 1]]
    assert log.cost[:, 1].tolist() == [1.0, 2.0]


def test_what_cannot_be_converted_is_one_line_and_writes_nothing(tmp_path):
    pandas.to_pickle(Calls(eval, f"open({str(tmp_path / 'ran')!r}, 'w')"), tmp_path / "bad.pkl")
    pandas.DataFrame(TABLE).to_pickle(tmp_path / "r.pkl")
    (tmp_path / "same.csv").write_bytes((tmp_path / "r.pkl").read_bytes())
    for source, target, message in (
        ("bad.pkl", "x.parquet", r"bad.pkl: it asks for builtins.eval, which no table needs"),
        ("r.pkl", "x.xlsx", "expected .parquet, .csv"),
        ("absent.pkl", "x.csv", "absent.pkl"),
        ("r.pkl", "absent/x.csv", "absent/x.csv"),
        ("same.csv", "same.csv", "same.csv is read, and would be overwritten"),
    ):
        done = command("convert_pickle", tmp_path / source, tmp_path / target, fails=True)
        assert message in done.stderr
        assert done.stderr.count("\n") == 1
        assert target == source or not (tmp_path / target).exists()
    assert not (tmp_path / "ran").exists()
