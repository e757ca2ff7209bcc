"""`.pomdp` files: exact round trips, another program's files, and refusals that name the line."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing_pomdp.envs import Rules
from routing_pomdp.envs.model.decision_graph import flatten
from routing_pomdp.envs.model.pomdp_file import PomdpFileError, read_pomdp, write_pomdp
from routing_pomdp.solvers.exact.value_iteration import value_iteration
from tests.support.pomdps import TIGER, random_pomdp
from tests.support.problems import random_problem

ARRAYS = ("transition", "observation", "reward", "start")


def _same(a, b):
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)
    for name in ("discount", "states", "actions", "observations"):
        assert getattr(a, name) == getattr(b, name)


def _read(tmp_path, text):
    path = tmp_path / "problem.pomdp"
    path.write_text(text)
    return read_pomdp(path)


@given(seed=st.integers(0, 2**32), states=st.integers(1, 5), symbols=st.integers(1, 4))
def test_a_written_file_reads_back_to_the_last_bit(tmp_path_factory, seed, states, symbols):
    pomdp = random_pomdp(np.random.default_rng(seed), states, 3, symbols)
    path = tmp_path_factory.mktemp("pomdp") / "random.pomdp"
    write_pomdp(pomdp, path)
    _same(read_pomdp(path), pomdp)


def test_a_flattened_routing_problem_reads_back(tmp_path):
    rules = Rules(3, skip=True, free_start=True, verify=True, answer="best")
    pomdp = flatten(random_problem(rules, np.random.default_rng(0)))
    write_pomdp(pomdp, tmp_path / "routing.pomdp")
    _same(read_pomdp(tmp_path / "routing.pomdp"), pomdp)


def test_the_tiger_problem_is_understood(tmp_path):
    tiger = _read(tmp_path, TIGER)
    assert tiger.discount == 0.95
    np.testing.assert_array_equal(tiger.start, [0.5, 0.5])
    np.testing.assert_array_equal(tiger.transition[0], np.eye(2))
    np.testing.assert_array_equal(tiger.observation[0], [[0.85, 0.15], [0.15, 0.85]])
    np.testing.assert_array_equal(tiger.reward, [[-1, -1], [-100, 10], [10, -100]])


def test_a_file_of_pomdp_py_is_read(tmp_path):
    """pomdp-py writes the format by a code of its own."""
    from pomdp_py.problems.tiger.tiger_problem import TigerProblem
    from pomdp_py.utils.interfaces.conversion import to_pomdp_file

    agent = TigerProblem.create("tiger-left", 0.3, 0.15).agent
    path = tmp_path / "tiger.pomdp"
    _, actions, observations = to_pomdp_file(agent, str(path), discount_factor=0.95)
    read = read_pomdp(path)
    listen = [str(action) for action in actions].index("listen")
    assert read.observations == tuple(map(str, observations))
    assert read.observation[listen].max() == pytest.approx(0.85)
    assert sorted(read.reward.ravel()) == [-100, -100, -1, -1, 10, 10]


def test_every_form_of_the_grammar(tmp_path):
    read = _read(
        tmp_path,
        """
        actions: 2   # the preamble comes in any order
        states: a b c
        observations: x y
        discount: 0.5
        values: cost
        start exclude: b
        T: * uniform
        T: 0 : a reset
        T: 1 identity
        T: 1 : b : * 0
        T: 1 : b : c 1.0
        O: * : * : x 1
        O: 1 : c
        0.25 7.5e-1
        R: 0 : * : * : * 2
        R: 0 : a : b
        1 3
        R: 1 : b
        1 1 2 2 4 8
        """,
    )
    np.testing.assert_array_equal(read.start, [0.5, 0, 0.5])
    np.testing.assert_array_equal(read.transition[0, 0], read.start)
    np.testing.assert_array_equal(read.transition[1], [[1, 0, 0], [0, 0, 1], [0, 0, 1]])
    np.testing.assert_array_equal(read.observation[1], [[1, 0], [1, 0], [0.25, 0.75]])
    # From b, action 1 goes to c, where x has 1/4: the cost 4/4 + 8 · 3/4, negated.
    np.testing.assert_allclose(read.reward, [[-2, -2, -2], [0, -7, 0]])


@pytest.mark.parametrize(
    ("before", "after", "line", "reason"),
    [
        ("discount: 0.95", "discount: 1.5", 2, "discount is 1.5"),
        ("discount: 0.95", "discount: high", 2, "expected a number, found 'high'"),
        ("values: reward", "values: money", 3, "expected reward or cost"),
        ("actions: listen open-left open-right", "", 7, "actions is not declared"),
        ("start: uniform", "start: 0.5 0.6", 7, "start sums to 1.1"),
        ("0.85 0.15", "0.85 0.25", 13, "O: listen : tiger-left sums to 1.1"),
        ("0.85 0.15", "0.85 nan", 14, "expected a finite number"),
        ("0.85 0.15", "1.15 -0.15", 13, "a probability is negative"),
        ("R: listen :", "R: whisper :", 19, "'whisper' is none of the actions"),
        ("R: listen : * : * : * -1", "X: 3", 19, "expected start, T, O or R, found 'X'"),
        ("T: listen\nidentity", "T: listen\nreset", 9, "expected a number, found 'reset'"),
        ("tiger-right : * : * -100\n", "tiger-right : * : *", 23, "the file ends too early"),
    ],
)
def test_a_malformed_file_is_refused_with_its_line(tmp_path, before, after, line, reason):
    assert before in TIGER
    with pytest.raises(PomdpFileError, match=rf"problem\.pomdp, line {line}: .*") as caught:
        _read(tmp_path, TIGER.replace(before, after, 1))
    assert reason in str(caught.value)


ROUNDED = """\
discount: 0.9
values: reward
states: 3
actions: 1
observations: 1
start: 0.333333 0.333333 0.333333
T: 0
0.333333 0.333333 0.333333
0.99999 0 0
0 0.4999995 0.5000003
O: 0
uniform
R: 0 : 0 : * : * 3
"""


@pytest.mark.parametrize("mark", ["", "\ufeff"], ids=["plain", "byte-order mark"])
def test_rows_that_are_rounded_to_their_digits_are_normalised(tmp_path, mark):
    read = _read(tmp_path, mark + ROUNDED)
    np.testing.assert_allclose(read.start, np.full(3, 1 / 3), rtol=1e-15)
    np.testing.assert_allclose(read.transition[0, :2], [np.full(3, 1 / 3), [1, 0, 0]], rtol=1e-15)
    np.testing.assert_allclose(read.transition.sum(-1), 1, rtol=1e-15)
    write_pomdp(replace(read, states=("a", "b", "c"), actions=("x",), observations=("o",)),
                tmp_path / "again.pomdp")  # fmt: skip
    np.testing.assert_array_equal(read_pomdp(tmp_path / "again.pomdp").transition, read.transition)


def test_the_value_of_a_rounded_file(tmp_path):
    """The state never changes: 3 at the first of three states, 3 · (1 + .9 + .81) / 3."""
    lines = ROUNDED.splitlines()
    still = _read(tmp_path, "\n".join([*lines[:7], "identity", *lines[10:]]))
    value = value_iteration(still, 3).value.value(still.start)
    assert value == pytest.approx(2.71, abs=1e-12)


@pytest.mark.parametrize(
    ("before", "after", "shown"),
    [
        ("0.4999995 0.5000003", "0.4999800 0.5000003", "sums to 0.9999803 over the states"),
        ("0.4999995 0.5000003", "0.5000303 0.5000003", "sums to 1.0000306 over the states"),
        ("start: 0.333333", "start: 0.333433", "start sums to 1.000099"),
        ("start: 0.333333", "start: -0.333333", "start has a negative probability"),
        ("0.99999 0 0", "0.99999 0_0 0", "expected a number, found '0_0'"),
        ("states: 3", "states: ³", r"states: expected a number or names, found \['³'\]"),
        ("states: 3", "states: 99999999999", "99,999,999,999 states are more than 1,000,000"),
        ("states: 3", "states: 100000", "transitions .* would take 75 GiB of memory"),
        ("observations: 1", "observations: 1000000\nstates: 1000", "would take 7 GiB"),
        ("R: 0 : 0 : *", "R: 0 : ³ : *", "'³' is none of the states"),
    ],
)
def test_a_refusal_shows_the_fault(tmp_path, before, after, shown):
    assert before in ROUNDED
    with pytest.raises(PomdpFileError, match=shown):
        _read(tmp_path, ROUNDED.replace(before, after, 1))


def test_what_is_no_text_is_refused(tmp_path):
    path = tmp_path / "binary.pomdp"
    path.write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(PomdpFileError, match=r"binary\.pomdp: not a text file"):
        read_pomdp(path)


def test_a_name_that_the_format_lacks_is_not_written(tmp_path):
    pomdp = replace(random_pomdp(np.random.default_rng(0)), actions=("stay now", "go"))
    with pytest.raises(ValueError, match="'stay now' is no name"):
        write_pomdp(pomdp, tmp_path / "x.pomdp")
