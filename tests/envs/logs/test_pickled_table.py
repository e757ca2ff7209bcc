"""Pickled tables are read as data; whatever else a pickle asks for is neither imported nor run."""

import gzip
import os
import pickle
import pickletools
import random
import struct
import sys

import pytest

from routing_pomdp.envs.logs.pickled_table import PickledTableError, read_pickled_table

pandas = pytest.importorskip("pandas")

TABLE = {
    "sample_id": ["a", "b"],
    "prompt": ["one", None],
    "s": [0.0, 1.5],
    "count": [1, -2],
    "right": [True, False],
    "é": ["", "ß"],
}


def _read(tmp_path, content):
    path = tmp_path / "table.pkl"
    path.write_bytes(content)
    return read_pickled_table(path)


@pytest.mark.parametrize("protocol", range(2, 6))
@pytest.mark.parametrize("kind", ["str", "object", "string"])
@pytest.mark.parametrize("zipped", [False, True])
def test_tables_of_every_protocol_are_read_as_they_were(tmp_path, protocol, kind, zipped):
    table = pandas.DataFrame(TABLE).astype({"sample_id": kind, "prompt": kind})
    content = pickle.dumps(table, protocol=protocol)
    found = _read(tmp_path, gzip.compress(content) if zipped else content)
    assert found.to_pydict() == TABLE


@pytest.mark.parametrize(
    "table",
    [
        pandas.DataFrame(TABLE)[["count", "s", "prompt"]],
        pandas.DataFrame(TABLE).iloc[::-1],
        pandas.DataFrame(TABLE).iloc[:0],
        pandas.DataFrame(TABLE).set_index("sample_id"),
        pandas.DataFrame([[1, 2.5], [3, 4.5]]),
        pandas.DataFrame(),
    ],
    ids=["other order", "reversed", "no rows", "an index", "numbered columns", "nothing"],
)
@pytest.mark.parametrize("protocol", [2, 5])
def test_tables_of_every_shape_are_read_as_pandas_has_them(tmp_path, table, protocol):
    found = _read(tmp_path, pickle.dumps(table, protocol=protocol))
    rows = table.astype(object).where(table.notna(), None)
    assert found.column_names == [str(name) for name in table.columns]
    assert [list(row.values()) for row in found.to_pylist()] == rows.to_numpy().tolist()


def test_names_of_numpy_1_are_known(tmp_path):
    table = pandas.DataFrame(TABLE).astype({"sample_id": object, "prompt": object, "é": object})
    table.columns = table.columns.astype(object)
    old = pickle.dumps(table, protocol=2)
    assert b"cnumpy._core.multiarray" in old
    old = old.replace(b"cnumpy._core.multiarray", b"cnumpy.core.multiarray")
    assert _read(tmp_path, old).to_pydict() == TABLE


# -- what is no table ---------------------------------------------------------------------------


class Calls:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def _named(module, name, *arguments):
    """A pickle that calls any name, whether it is there or not."""
    values = b"".join(pickle.dumps(value, protocol=0)[:-1] for value in arguments)
    return f"c{module}\n{name}\n".encode() + b"(" + values + b"tR."


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("os", "system"),
        ("builtins", "eval"),
        ("builtins", "getattr"),
        ("pandas", "read_pickle"),
        ("pandas.core.frame", "read_pickle"),
        ("numpy.f2py.__main__", "dtype"),
        ("numpy.testing", "runstring"),
        ("numpy.ndarray", "dtype"),
        ("pyarrow.lib", "ndarray"),
        ("pandas.sneaky", "DataFrame"),
        ("sneaky", "DataFrame"),
    ],
)
def test_a_name_that_no_table_needs_is_refused_before_anything_is_imported(
    tmp_path, monkeypatch, module, name
):
    (tmp_path / "sneaky.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)
    with pytest.raises(PickledTableError, match="which no table needs"):
        _read(tmp_path, _named(module, name, f"touch {tmp_path}/ran"))
    assert set(sys.modules) == before
    assert not (tmp_path / "ran").exists()


def test_a_call_inside_a_table_never_runs(tmp_path):
    table = pandas.DataFrame({"a": pandas.Series([1, None], dtype=object)})
    table.loc[1, "a"] = Calls(os.mkdir, str(tmp_path / "ran"))
    for protocol in range(2, 6):
        with pytest.raises(PickledTableError, match="mkdir, which no table needs"):
            _read(tmp_path, pickle.dumps(table, protocol=protocol))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no complete pickle"),
        (b"not a pickle", "no complete pickle"),
        (b"\x1f\x8bnot gzip", "damaged gzip"),
        (pickle.dumps([1, 2]), "it holds list, expected a pandas.DataFrame"),
        (pickle.dumps(pandas.Series([1])), "pandas.core.series.Series|pandas.Series"),
        (pickle.dumps(pandas.DataFrame({"a": [[1], {}]})), "'a'|holds list"),
        (pickle.dumps(pandas.DataFrame([[1, 2]], columns=["a", "a"])), "two columns of one name"),
        (pickle.dumps(pandas.DataFrame({"a": [1j]})), "numpy's type 'c16', which is not read"),
        # A number that asks for memory which the file does not fill.
        (_named("builtins", "bytearray", 99999999999), "it holds bytes, expected"),
        (b"\x96" + struct.pack("<Q", 1 << 62) + b".", "no complete pickle"),
        (b"\x8e" + struct.pack("<Q", 1 << 62) + b".", "no complete pickle"),
        (b"Nr\xff\xff\xff\xff.", "it holds NoneType"),
        (pickle.dumps(pandas.DataFrame(TABLE))[:-40], "no complete pickle"),
    ],
)
def test_what_is_no_table_is_refused(tmp_path, content, message):
    with pytest.raises(PickledTableError, match=message):
        _read(tmp_path, content)


def test_bytes_that_a_table_does_not_hold_are_not_allocated(tmp_path):
    table = pickle.dumps(pandas.DataFrame({"a": [1]}), protocol=5)
    table = table[:2] + table[11:]  # without the frame, whose length would no longer be right
    # A column's buffer is replaced by a call for 10^11 bytes.
    at, size = next(
        (place, len(held))
        for op, held, place in pickletools.genops(table)
        if op.name == "BYTEARRAY8"
    )
    bomb = b"cbuiltins\nbytearray\n(I99999999999\ntR"
    with pytest.raises(PickledTableError, match="asks for 99,999,999,999 bytes"):
        _read(tmp_path, table[:at] + bomb + table[at + 9 + size :])


def test_no_damage_is_more_than_a_refusal(tmp_path):
    """Bytes changed, dropped and inserted at random: a table, or one kind of error."""
    table = pandas.DataFrame(TABLE)
    sound = [
        pickle.dumps(each, protocol=protocol)
        for each in (table, table.astype({"prompt": object}))
        for protocol in (2, 5)
    ]
    rng = random.Random(0)
    refused = 0
    for _ in range(400):
        content = bytearray(rng.choice(sound))
        at = rng.randrange(len(content))
        content[at : at + rng.randrange(2)] = rng.randbytes(rng.randrange(3))
        try:
            _read(tmp_path, bytes(content))
        except PickledTableError:
            refused += 1
    assert refused > 200
