"""The tree of a policy: its shares are probabilities, and its leaves are what is returned."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing_pomdp.envs import Rules
from routing_pomdp.evaluation.policies.policy_tree import policy_tree
from routing_pomdp.solvers import Exact
from routing_pomdp.solvers.exact.alpha_vectors import AlphaVectorIteration
from tests.support.problems import every_rules, name_of, problems, random_policy, random_problem

NAMES = ("tiny", "small", "large", "huge")


def _shares(text, word):
    return [float(share) for share in re.findall(rf"{word} \w+  ([\d.]+)%", text)]


@given(problem=problems(), seed=st.integers(0, 2**32))
def test_every_query_is_returned_once(problem, seed):
    policy = random_policy(problem, np.random.default_rng(seed))
    returned = _shares(policy_tree(policy, NAMES), "return")
    # Shares are shown to 0.1 of a percent.
    assert sum(returned) == pytest.approx(100, abs=0.06 * len(returned))


@pytest.mark.parametrize("rules", every_rules(3), ids=name_of)
def test_calls_of_the_tree_are_those_of_a_data(rules):
    from routing_pomdp.evaluation.evaluate import evaluate

    problem = random_problem(rules, np.random.default_rng(3), symbols=3, price=0.1)
    policy = Exact().solve(problem)
    text = policy_tree(policy, NAMES)
    played = evaluate(policy, problem.sample(200_000, np.random.default_rng(0)))
    assert sum(_shares(text, "call")) == pytest.approx(100 * played.calls.mean(), abs=1)
    for model, name in enumerate(NAMES[:3]):
        share = sum(float(s) for s in re.findall(rf"return {name}  ([\d.]+)%", text))
        assert share == pytest.approx(100 * (played.answer == model).mean(), abs=1)


def test_a_tree_in_full():
    """Two models, two symbols that tell all: the wrong answers go on."""
    problem = random_problem(Rules(2), np.random.default_rng(0), symbols=2, price=0.1)
    from dataclasses import replace

    problem = replace(
        problem,
        score=np.array([[0.0, 1.0], [1.0, 1.0]]).repeat(2, axis=0),
        prior=np.array([0.25, 0.0, 0.75, 0.0]),
        likelihood=np.array([[[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]]]),
    )
    assert policy_tree(Exact().solve(problem), NAMES) == "\n".join(
        [
            "call tiny  100.0%",
            "  symbol 0 of tiny:",
            "    call small  25.0%",
            "      return small  25.0%",
            "  symbol 1 of tiny:",
            "    return tiny  75.0%",
        ]
    )


def test_depth_cuts_the_tree():
    problem = random_problem(Rules(4), np.random.default_rng(1), price=0.05)
    text = policy_tree(Exact().solve(problem), NAMES, depth=1)
    assert text == "call tiny  100.0%  …"


def test_the_figure_shows_every_vector_and_the_value():
    from routing_pomdp.evaluation.plots.alpha_figure import alpha_figure

    problem = random_problem(Rules(3), np.random.default_rng(1), price=0.1)
    policy = AlphaVectorIteration("statistic").solve(problem)
    figure = alpha_figure(policy, NAMES, "title")
    panels = [axes for axes in figure.axes if axes.get_title()]
    assert len(panels) == 2
    for axes, i in zip(panels, (1, 2), strict=True):
        drawn = [line for line in axes.lines if len(line.get_xdata())]
        assert len(drawn) == len(policy.values[i].vectors) + 1
        value = drawn[-1].get_ydata()
        assert value[0] == pytest.approx(max(line.get_ydata()[0] for line in drawn[:-1]))
        assert (np.diff(value, 2) >= -1e-12).all()  # convex
