"""YAML files of users: plain values alone, and no key twice."""

import pytest

from routing_pomdp.envs.files.yaml_files import read_yaml
from routing_pomdp.envs.profiles import load_profile
from routing_pomdp.verifiers.collection.models import ConfigError, load_models, load_prices


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3\n", "line 3: the key 'a' is given twice"),
        ("- {a: 1, a: 1}\n", "line 1: the key 'a' is given twice"),
        ("a: {b: [1, {c: 1, c: 2}]}\n", "the key 'c' is given twice"),
        ("a: !!python/object/apply:os.system [true]\n", "is not YAML: line 1: could not determine"),
        ("a: [1\n", "is not YAML: line 2"),
        ("a: 'SECRET\n", "is not YAML: line 2"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_file_and_line(text, message, tmp_path):
    path = tmp_path / "file.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=rf"file\.yaml.*{message}") as refused:
        read_yaml(path)
    assert "SECRET" not in str(refused.value)
    assert "\n" not in str(refused.value)


def test_repeated_anchors_merges_and_keys_of_other_kinds_are_no_repetition(tmp_path):
    path = tmp_path / "file.yaml"
    path.write_text("x: &x {a: 1}\ny: {<<: *x, a: 2}\n'1': a\n1: b\n")
    assert read_yaml(path) == {"x": {"a": 1}, "y": {"a": 2}, "1": "a", 1: "b"}


def test_models_prices_and_profiles_are_read_so(tmp_path):
    path = tmp_path / "file.yaml"
    path.write_text("a: {in: 1, out: 1}\na: {in: 2, out: 2}\n")
    for read in (load_models, load_prices):
        with pytest.raises(ConfigError, match="the key 'a' is given twice"):
            read(path)
    path.write_text("name: a\nname: b\n")
    with pytest.raises(ValueError, match="the key 'name' is given twice"):
        load_profile(path)


def test_a_models_concurrency_has_an_upper_bound(tmp_path):
    path = tmp_path / "models.yaml"
    path.write_text("- {name: a, base_url: 'http://x', concurrency: 1000000000}\n")
    with pytest.raises(ConfigError, match="concurrency is 1000000000: expected a whole number"):
        load_models(path)
