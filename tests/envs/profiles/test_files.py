"""Profiles as files: what is saved loads as it was, and what is wrong in one is named."""

from dataclasses import replace

import numpy as np
import pytest

from routing_pomdp.envs.profiles import load_profile, save_profile
from tests.support.profiles import assert_equal, known_profile


def test_a_saved_profile_loads_as_it_was(tmp_path):
    signals = known_profile().signals
    for profile in (
        known_profile(),
        replace(known_profile(), answer_cost=None, signal_cost=None, latency=np.array([1, 2, 3.5])),
        replace(
            known_profile(),
            signals=(signals[0], None, None),
            signal_cost=np.array([0.1, np.nan, np.nan]),
            correlation=known_profile().correlation[:4, :4],
            tokens_in=np.array([100.0, 100, 120]),
            signal_latency=np.array([7.5, np.nan, np.nan]),
        ),
    ):
        save_profile(profile, tmp_path / "known.yaml")
        assert_equal(load_profile(tmp_path / "known.yaml"), profile, within=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("models:", "modells:"), "unknown key 'modells'"),
        (("signal: confidence_logprob\n", ""), "lacks 'signal'"),
        (("queries: 500", "queries: many"), "queries is 'many'"),
        (("name: small\n", "name: medium\n"), "all distinct"),
        (
            ("answer_cost: 1.0\n", "answer_cost: -1\n"),
            "answer_cost of model 'small' is -1: expected",
        ),
        (("answer_cost: 1.0\n", "answer_cost: cheap\n"), r"models\[0\].answer_cost is 'cheap'"),
        (("  answer_cost: 1.0\n", ""), r"models\[0\] has no answer_cost"),
        (("levels: [0.0, 0.4, 0.4, 1.0]", "levels: [0.0, 0.5, 0.4, 1.0]"), "must not decrease"),
        (("levels: [0.0, 0.4, 0.4, 1.0]", "levels: [0.0, 0.4, 1.0]"), r"models\[0\].score: .*one"),
        (("levels: [0.0, 0.4, 0.4, 1.0]", "levels: [0.0, 0.4, 0.4, 0.9]"), "from 0 to 1"),
        (("values: [0.0, 0.0, 1.0, 1.0]", "values: [0.0, 0.0, 1.0, 7.0]"), r"expected \[0, 1\]"),
        (("- [1.0, 0.5,", "- [1.0, 0.4,"), "symmetric"),
        (("- [1.0, 0.5,", "- [2.0, 0.5,"), "diagonal"),
        (("- [1.0, 0.5,", "- [0.5,"), "correlation is .*expected numbers"),
        (("correlation:", "correlation: [[1.0, 0.0], [0.0, 1.0]]\nother:"), "unknown key 'other'"),
        (("name: known", "name: known/1"), "name is 'known/1'"),
        (("name: known", "name: [known"), "is not YAML"),
    ],
)
def test_a_bad_file_is_refused_by_key(tmp_path, change, message):
    path = tmp_path / "known.yaml"
    save_profile(known_profile(), path)
    text = path.read_text()
    assert change[0] in text
    path.write_text(text.replace(*change, 1))
    with pytest.raises(ValueError, match=message) as refused:
        load_profile(path)
    assert str(path) in str(refused.value)


def test_a_matrix_of_another_size_or_of_no_variables_is_refused():
    profile = known_profile()
    with pytest.raises(ValueError, match=r"shape \(4, 4\): expected \(6, 6\)"):
        replace(profile, correlation=np.eye(4))
    impossible = np.full((6, 6), -0.9)
    np.fill_diagonal(impossible, 1)
    with pytest.raises(ValueError, match=r"eigenvalue -3\.5"):
        replace(profile, correlation=impossible)


def test_an_unknown_profile_is_refused_with_the_shipped_ones():
    with pytest.raises(ValueError, match=r"no profile 'mmlux'.*gsm8k, letters_chain, letters_mmlu"):
        load_profile("mmlux")


def test_numbers_that_yaml_reads_as_text_count(tmp_path):
    path = tmp_path / "known.yaml"
    save_profile(known_profile(), path)
    path.write_text(path.read_text().replace("answer_cost: 1.0\n", "answer_cost: 1e-5\n"))
    assert load_profile(path).answer_cost[0] == 1e-5
