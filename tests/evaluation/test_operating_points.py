"""Operating points chosen on validation: by brute force, and by what they promise and get."""

import numpy as np
import pytest

from routing_pomdp.evaluation.frontier_outcomes import FrontierOutcomes
from routing_pomdp.evaluation.measures import saving_at
from routing_pomdp.evaluation.operating_points import OperatingPointSelection, mixture_for_budget
from tests.support.outcomes import family_of


def tiny(score, cost) -> FrontierOutcomes:
    """One query; the models score .4 and .8 at costs 1 and 10."""
    models = np.array([[0.4, 0.8]]), np.array([[1.0, 10.0]])
    return FrontierOutcomes(np.array([score]), np.array([cost]), *models, *models)


def test_a_budget_between_two_points_mixes_them_to_the_cent():
    validation = tiny([0.5, 0.7, 0.55], [2.0, 6.0, 5.0])
    share = mixture_for_budget(validation, 0.4)
    np.testing.assert_allclose(share, [0.5, 0.5, 0, 0])
    chosen = OperatingPointSelection(validation, validation, resamples=10).at_budget(0.4)
    assert (chosen.promised_score, chosen.promised_cost) == pytest.approx((0.6, 0.4))
    assert chosen.kept


def test_a_budget_below_the_first_point_mixes_with_the_cheapest_model():
    share = mixture_for_budget(tiny([0.5, 0.7], [2.0, 6.0]), 0.15)
    np.testing.assert_allclose(share, [0.5, 0, 0.5])


def test_a_budget_that_buys_the_best_is_not_spent_to_the_end():
    share = mixture_for_budget(tiny([0.9, 0.7], [2.0, 6.0]), 0.9)
    np.testing.assert_allclose(share, [1, 0, 0])


@pytest.mark.parametrize("budget", [0.12, 0.3, 0.6, 2.0])
def test_no_other_mixture_within_the_budget_scores_better_on_validation(budget):
    validation = family_of(seed=3)
    means = validation.means()
    cost = np.append(means.cost, means.slm.cost) / means.llm.cost
    score = np.append(means.score, means.slm.score)
    share = mixture_for_budget(validation, budget)
    assert share.sum() == pytest.approx(1)
    assert share @ cost <= budget + 1e-12
    rng = np.random.default_rng(0)
    mixtures = rng.dirichlet(np.full(len(cost), 0.3), 20_000)
    within = mixtures[mixtures @ cost <= budget]
    assert share @ score >= (within @ score).max() - 1e-12


def test_a_budget_below_the_cheapest_model_is_refused():
    with pytest.raises(ValueError, match=r"a budget of 0\.05 .* buys nothing: the cheapest model"):
        mixture_for_budget(tiny([0.5], [2.0]), 0.05)


def test_the_floor_is_saving_s_choice():
    test, validation = family_of(seed=0), family_of(seed=1)
    for points in (0.0, 1.0, 5.0, 30.0):
        chosen = OperatingPointSelection(test, validation, resamples=20).at_floor(points)
        best = int(validation.model_score.mean(axis=0).argmax())
        saving = saving_at(test.means(), validation.means(), points, best)
        whole = test.model_cost[:, best].mean() / test.model_cost[:, -1].mean()
        assert 1 - chosen.cost / whole == pytest.approx(saving.saving)
        lost = 100 * (test.model_score[:, best].mean() - chosen.score)
        assert lost == pytest.approx(saving.drop)
        assert chosen.kept == (lost <= points + 1e-9)


def test_a_floor_is_below_the_best_single_model_which_may_be_a_cheaper_one():
    # The models score .9 and .8 at costs 1 and 10: a point at .85 and cost .5 loses 5 points.
    models = np.array([[0.9, 0.8]]), np.array([[1.0, 10.0]])
    outcomes = FrontierOutcomes(np.array([[0.85]]), np.array([[0.5]]), *models, *models)
    selection = OperatingPointSelection(outcomes, outcomes, resamples=10)
    at_5, at_4 = selection.at_floor(5), selection.at_floor(4)
    assert (at_5.score, at_5.cost) == pytest.approx((0.85, 0.05))
    assert (at_4.score, at_4.cost) == pytest.approx((0.9, 0.1))


def test_a_price_s_policy_promises_what_it_got_on_validation():
    test, validation = family_of(seed=0), family_of(seed=1)
    chosen = OperatingPointSelection(test, validation, resamples=50).at_price([5, 4, 3, 2, 1, 0], 3)
    assert chosen.promised_score == validation.score[:, 2].mean()
    assert chosen.score == test.score[:, 2].mean()
    assert chosen.cost == test.cost[:, 2].mean() / test.model_cost[:, -1].mean()
    assert chosen.kept is None
    assert chosen.score_interval[0] < chosen.score < chosen.score_interval[1]


def test_intervals_are_those_of_the_mixture_s_mean():
    test, validation = family_of(n=1000, seed=0), family_of(n=1000, seed=1)
    chosen = OperatingPointSelection(test, validation, resamples=4000).at_budget(0.4)
    share = mixture_for_budget(validation, 0.4)
    score = np.column_stack([test.score, test.model_score[:, 0]]) @ share
    width = 2 * 1.96 * score.std() / np.sqrt(1000)
    low, high = chosen.score_interval
    assert high - low == pytest.approx(width, rel=0.06)
