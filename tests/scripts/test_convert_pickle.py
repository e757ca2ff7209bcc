"""Pickled tables are converted; what else a pickle asks for is refused and never runs."""

import io
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from envs.wide_table import routerbench

pandas = pytest.importorskip("pandas")

ROOT = Path(__file__).parents[2]
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


def convert(*arguments):
    return subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "convert_pickle.py"), *map(str, arguments)],
        capture_output=True,
        text=True,
    )


def test_a_pickled_table_is_converted_and_read(tmp_path):
    pandas.DataFrame(TABLE).to_pickle(tmp_path / "r.pkl")
    done = convert(tmp_path / "r.pkl", tmp_path / "r.parquet")
    assert done.returncode == 0, done.stderr
    assert routerbench(str(tmp_path / "r.parquet")).cost[:, 1].tolist() == [1.0, 2.0]


@pytest.fixture(scope="module")
def unpickler():
    sys.path.insert(0, str(ROOT / "scripts"))
    try:
        from convert_pickle import TableUnpickler
    finally:
        sys.path.pop(0)
    return TableUnpickler


@pytest.mark.parametrize("protocol", range(2, 6))
@pytest.mark.parametrize("kind", ["str", "object"])
def test_tables_of_every_protocol_are_read_as_they_were(unpickler, protocol, kind):
    table = pandas.DataFrame(TABLE).astype({"prompt": kind})
    found = unpickler(io.BytesIO(pickle.dumps(table, protocol=protocol))).load()
    pandas.testing.assert_frame_equal(found, table)


def test_names_of_older_versions_are_found_where_they_moved(unpickler):
    table = pandas.DataFrame(TABLE).astype({"prompt": object, "eval_name": object,
                                            "sample_id": object})  # fmt: skip
    table.columns = table.columns.astype(object)
    old = pickle.dumps(table, protocol=2)
    assert b"cnumpy._core.multiarray" in old
    old = old.replace(b"cnumpy._core.multiarray", b"cnumpy.core.multiarray")
    found = unpickler(io.BytesIO(old)).load()
    assert found["count"].tolist() == [1, 2]


class Malicious:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def _targets(folder):
    import os

    import numpy.testing

    yield "os.system", Malicious(os.system, f"touch {folder}/ran")
    yield "builtins.eval", Malicious(eval, f"open('{folder}/ran', 'w')")
    yield "builtins.getattr", Malicious(getattr, "", "join")
    yield "pandas.read_pickle", Malicious(pandas.read_pickle, f"{folder}/other.pkl")
    yield "numpy.testing.runstring", Malicious(numpy.testing.runstring, "1", {})


def test_nothing_else_runs(tmp_path):
    for name, bad in _targets(tmp_path):
        (tmp_path / "bad.pkl").write_bytes(pickle.dumps(bad))
        done = convert(tmp_path / "bad.pkl", tmp_path / "bad.parquet")
        assert done.returncode == 1
        assert "which no table needs" in done.stderr, name
        assert not (tmp_path / "ran").exists()
        assert not (tmp_path / "bad.parquet").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it is no complete pickle"),
        (pickle.dumps([1, 2]), "it holds list, expected a pandas.DataFrame"),
        (b"not a pickle", "error: "),
    ],
)
def test_what_is_no_table_is_refused(tmp_path, content, message):
    (tmp_path / "bad.pkl").write_bytes(content)
    done = convert(tmp_path / "bad.pkl", tmp_path / "bad.parquet")
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_an_unknown_format_is_refused(tmp_path):
    pandas.DataFrame(TABLE).to_pickle(tmp_path / "r.pkl")
    done = convert(tmp_path / "r.pkl", tmp_path / "r.xlsx")
    assert "expected .parquet, .csv or .jsonl" in done.stderr


def test_csv_and_json_lines_are_written_too(tmp_path):
    pandas.DataFrame(TABLE).to_pickle(tmp_path / "r.pkl")
    for suffix in (".csv", ".jsonl"):
        assert convert(tmp_path / "r.pkl", tmp_path / f"r{suffix}").returncode == 0
        assert routerbench(str(tmp_path / f"r{suffix}")).score.tolist() == [[0, 1], [1, 1]]
