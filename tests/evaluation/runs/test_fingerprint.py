"""A fingerprint changes with whatever a run reads, and with nothing else."""

import importlib
import math
import sys
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import routing_pomdp.evaluation.runs.fingerprint
from routing_pomdp.envs import Rollouts
from routing_pomdp.evaluation.runs.fingerprint import digest, fingerprint

WHOLE = {
    "models": ("small", "large"),
    "query_id": np.array(["q1", "q2", "q3"]),
    "score": np.array([[0.0, 1.0], [1.0, 1.0], [0.0, 0.0]]),
    "cost": np.array([[1.0, 9.0], [1.0, 8.0], [2.0, 9.0]]),
    "signals": {"confidence": np.array([[0.2, 0.9], [0.7, 0.8], [0.1, np.nan]])},
    "split": np.array(["train", "test", "test"]),
    "dataset": np.array(["toy", "toy", "toy"]),
    "signal_costs": {"confidence": np.array([[0.1, 0.2], [0.1, 0.2], [0.1, 0.2]])},
    "answer": np.array([["a", "b"], ["c", "d"], ["e", "f"]], dtype=object),
    "latency": np.array([[10.0, 90.0], [10.0, 80.0], [20.0, 90.0]]),
    "tokens_in": np.array([[5.0, 5.0], [6.0, 6.0], [7.0, 7.0]]),
    "tokens_out": np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]),
    "prompt": np.array(["p", "q", "r"], dtype=object),
    "signal_latency": {"confidence": np.array([[5.0, 9.0], [5.0, 8.0], [6.0, 9.0]])},
    "signal_tokens_in": {"confidence": np.array([[2.0, 3.0], [2.0, 3.0], [4.0, 3.0]])},
    "signal_tokens_out": {"confidence": np.array([[1.0, 1.0], [1.0, 2.0], [1.0, 1.0]])},
}


def changed(value):
    """The same with one cell, or one name, another."""
    if isinstance(value, tuple):
        return (*value[:-1], f"{value[-1]}-2")
    if isinstance(value, dict):
        return {key: changed(array) for key, array in value.items()}
    other = value.copy()
    flat = other.reshape(-1)
    # A split is one of three.
    text = "test" if flat[0] == "train" else "z"
    flat[0] = 1 - flat[0] if other.dtype.kind == "f" else text
    return other


@pytest.mark.parametrize("name", [item.name for item in fields(Rollouts)])
def test_every_field_of_a_log_counts(name):
    assert name in WHOLE, f"{name} is a new field: give it a value in WHOLE"
    log = Rollouts(**WHOLE)
    other = replace(log, **{name: changed(WHOLE[name])})
    assert fingerprint({}, log) == fingerprint({}, Rollouts(**WHOLE))
    assert fingerprint({}, log) != fingerprint({}, other)


def test_names_of_signals_count_and_fields_that_are_missing_do():
    log = Rollouts(**WHOLE)
    renamed = replace(
        log,
        signals={"p_true": WHOLE["signals"]["confidence"]},
        **{
            name: {"p_true": WHOLE[name]["confidence"]}
            for name in ("signal_costs", "signal_latency", "signal_tokens_in", "signal_tokens_out")
        },
    )
    free = replace(log, signal_costs={})
    no_texts = replace(log, answer=None)
    swapped = replace(log, tokens_in=log.tokens_out, tokens_out=log.tokens_in)
    assert len({digest(each) for each in (log, renamed, free, no_texts, swapped)}) == 5


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=3) | st.integers(0, 3), inner, max_size=3)
        | st.lists(st.text(max_size=3), min_size=1, max_size=4).map(np.array)
    ),
    max_leaves=8,
)


def shown(value):
    """A text that is another for every other value."""
    if isinstance(value, np.ndarray):
        return f"array{value.shape}{value.tolist()!r}"
    if isinstance(value, list):
        return f"[{','.join(map(shown, value))}]"
    if isinstance(value, dict):
        return f"{{{','.join(f'{key!r}:{shown(each)}' for key, each in value.items())}}}"
    return repr(value)


@given(PLAIN, PLAIN)
def test_different_values_have_different_digests(one, two):
    assert (digest(one) == digest(two)) == (shown(one) == shown(two))


@pytest.mark.parametrize(
    ("one", "two"),
    [
        (np.zeros((2, 3)), np.zeros((3, 2))),
        (np.zeros(2), np.zeros(4, np.float32)),
        (np.zeros(1), np.zeros(1, np.int64)),
        (np.array(["ab", "c"]), np.array(["a", "bc"])),
        (np.array(["ab", "c"], object), np.array(["a", "bc"], object)),
        (np.array([None, "a"], object), np.array(["None", "a"], object)),
        (np.array([None, "a"], object), np.array(["", "a"], object)),
        (np.array([["a", "b"]], object), np.array([["a"], ["b"]], object)),
        (np.array([1.0, np.nan]), np.array([np.nan, 1.0])),
        (["a", ["b"]], [["a"], "b"]),
        ({"a": {"b": 1}}, {"a": {}, "b": 1}),
        ({"1": 0}, {1: 0}),
        (True, 1),
        (1, 1.0),
        (None, "None"),
    ],
)
def test_what_could_run_together_does_not(one, two):
    assert digest(one) != digest(two)


def test_texts_count_for_what_they_say_in_whatever_kind_of_array():
    words = [f"word {i} é" for i in range(70_000)]  # more than one chunk
    kept = [np.array(words), np.array(words, object)]
    kept.append(np.array(words, dtype=np.dtypes.StringDType()))
    assert len({digest(array) for array in kept}) == 1
    words[69_999] += "!"
    assert digest(np.array(words, object)) != digest(kept[0])


def test_order_in_memory_does_not_count():
    array = np.arange(12.0).reshape(3, 4)
    assert digest(array) == digest(np.asfortranarray(array)) == digest(array[::-1][::-1])


def test_of_what_it_does_not_know_it_says_so():
    with pytest.raises(TypeError, match="no digest of a set"):
        digest([{1, 2}])


def test_the_order_of_keys_does_not_count():
    assert fingerprint({"a": 1, "b": {"c": 2, 3: 4}}, None) == fingerprint(
        {"b": {3: 4, "c": 2}, "a": 1}, None
    )


@pytest.mark.parametrize(
    "config",
    [
        {"solver": {"path": "FILE"}},
        {"verifier": {"parts": [{"prompt": "FILE"}]}},
        {"costs": {"prices": {"FILE": 0.3}}},
        {"rollouts": {"profile": "FILE"}},
        {"solver": {"embedding_model": "FOLDER"}},
    ],
)
def test_the_bytes_of_every_file_that_the_configuration_names_count(config, tmp_path):
    folder = tmp_path / "weights" / "deep"
    folder.mkdir(parents=True)
    file = folder / "w.bin"

    def placed(node):
        if isinstance(node, dict):
            return {placed(key): placed(value) for key, value in node.items()}
        if isinstance(node, list):
            return [placed(value) for value in node]
        return {"FILE": str(file), "FOLDER": str(folder.parent)}.get(node, node)

    found = set()
    for content in (b"one", b"two", b"one"):
        file.write_bytes(content)
        found.add(fingerprint(placed(config), None))
    file.unlink()
    found.add(fingerprint(placed(config), None))
    assert len(found) == 3
    (tmp_path / "other").write_text("nobody names this")
    assert fingerprint(placed(config), None) in found


def test_strings_that_are_no_paths_do_no_harm():
    fingerprint({"a": ["", "\0", "x" * 100_000, "/" * 300, "é\ud800"]}, None)


@pytest.fixture
def plugged(tmp_path, monkeypatch):
    """A user's folder of plug-ins, importable."""
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


TREE = {
    "mine.py": "import json, numpy.linalg\nfrom beside import tool\nclass Mine: pass\n",
    "beside.py": "def tool():\n    import late\n    return late\n",
    "late.py": "from space.inner import thing\n",
    "space/inner.py": "import importlib\nthing = importlib.import_module('by_name')\n",
    "by_name.py": "import mine\n",
    "pack/__init__.py": "from .one import Deep\n",
    "pack/one.py": "from . import two\nfrom ..nowhere import x\nDeep = two\n",
    "pack/two.py": "",
    "pack/never.py": "",
    "aside.py": "",
}
READ = {
    "mine.Mine": {"mine.py", "beside.py", "late.py", "space/inner.py", "by_name.py"},
    "pack.Deep": {"pack/__init__.py", "pack/one.py", "pack/two.py"},
    "pack.two.Deep": {"pack/__init__.py", "pack/one.py", "pack/two.py"},
}


@pytest.mark.parametrize("target", READ)
@pytest.mark.parametrize("imported", [False, True])
def test_a_plug_in_counts_with_what_it_imports_of_the_users_own(target, imported, plugged):
    for name, text in TREE.items():
        (plugged / name).parent.mkdir(exist_ok=True)
        (plugged / name).write_text(text)
    importlib.invalidate_caches()
    if imported and target == "mine.Mine":
        importlib.import_module("mine")
    config = {"solver": {"inner": [{"_target_": target}]}}
    first = fingerprint(config, None)
    counted = set()
    for name, text in TREE.items():
        (plugged / name).write_text(text + "# another\n")
        if fingerprint(config, None) != first:
            counted.add(name)
        (plugged / name).write_text(text)
    assert counted == READ[target]
    assert fingerprint(config, None) == first
    if not imported:
        assert "mine" not in sys.modules


@pytest.mark.parametrize(
    "target",
    [
        "no.such.Thing",
        "mine.Mine",
        "routing_pomdp.verifiers.Nothing",
        "json.nothing",
        "",
        ".",
        "a..b",
    ],
)
def test_a_target_that_is_not_there_is_left_to_who_builds_it(target):
    fingerprint({"verifier": {"_target_": target}}, None)


def test_an_installed_plug_in_counts_by_its_version(monkeypatch):
    config = {"solver": {"_target_": "hypothesis.strategies.text"}}
    first = fingerprint(config, None)
    version = routing_pomdp.evaluation.runs.fingerprint.metadata.version
    monkeypatch.setattr(
        "importlib.metadata.version",
        lambda name: "0.0" if name == "hypothesis" else version(name),
    )
    assert fingerprint(config, None) != first


@pytest.mark.parametrize("package", ["numpy", "torch", "scipy", "scikit-learn"])
def test_versions_of_what_computes_count(package, monkeypatch):
    first = fingerprint({}, None)
    version = routing_pomdp.evaluation.runs.fingerprint.metadata.version
    monkeypatch.setattr(
        "importlib.metadata.version", lambda name: "0.0" if name == package else version(name)
    )
    assert fingerprint({}, None) != first


def test_this_projects_code_and_shipped_files_count(plugged, monkeypatch):
    package = plugged / "shipped"
    (package / "__pycache__").mkdir(parents=True)
    for name in ("__init__.py", "prompt.txt", "__pycache__/x.pyc"):
        (package / name).write_text("")
    (package / ".#lock").symlink_to(Path("nowhere"))  # as editors leave them
    importlib.invalidate_caches()
    monkeypatch.setattr(routing_pomdp.evaluation.runs.fingerprint, "_PACKAGES", ("shipped",))
    found = [fingerprint({}, None)]
    for name in ("__pycache__/x.pyc", "prompt.txt", "__init__.py"):
        (package / name).write_text("# another")
        found.append(fingerprint({}, None))
    assert found[0] == found[1]
    assert len(set(found)) == 3


def test_a_number_that_is_none_counts():
    assert fingerprint({"a": math.nan}, None) != fingerprint({"a": None}, None)
