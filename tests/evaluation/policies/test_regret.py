"""Regret curves: what they hold, and what is drawn of them."""

import numpy as np
import pytest

from routing_pomdp.envs import Rules
from routing_pomdp.evaluation.policies.regret import RegretCurve, regret_curve, regret_figure
from routing_pomdp.solvers import Exact
from tests.support.problems import random_policy, random_problem


def test_the_exact_policy_has_no_regret_and_a_random_one_loses_what_its_value_lacks():
    problem = random_problem(Rules(3, skip=True), np.random.default_rng(0))
    rng = np.random.default_rng(1)

    def search(simulations, price):
        at = problem.at(price)
        return Exact().solve(at) if simulations > 10 else random_policy(at, rng)

    curve = regret_curve("some", search, problem, [1, 100], [0.1, 0.5])
    assert curve.regret.shape == (2, 2)
    assert (curve.regret[0] > 1e-3).all()
    np.testing.assert_allclose(curve.regret[1], 0, atol=1e-12)


def test_the_figure_shows_every_mean_the_worst_and_the_target():
    curve = RegretCurve("pomcp", (10, 100), np.array([[0.02, 0.04], [0.0, 0.002]]))
    figure = regret_figure({"one": [curve], "two": [curve]}, "title", target=0.005)
    shown = [axes for axes in figure.axes if axes.get_visible()]
    assert [axes.get_title("left") for axes in shown] == ["one", "two"]
    for axes in shown:
        lines = {tuple(np.round(line.get_ydata(), 6)) for line in axes.get_lines()}
        assert (0.03, 0.001) in lines
        assert (0.005, 0.005) in lines
        corners = axes.collections[0].get_paths()[0].vertices
        assert corners[:, 1].max() == pytest.approx(0.04)
        assert axes.get_ylim()[0] == 0


@pytest.mark.parametrize("curves", [{}, {"one": []}])
def test_nothing_to_draw_is_refused(curves):
    with pytest.raises(ValueError, match="no curve"):
        regret_figure(curves, "title")
