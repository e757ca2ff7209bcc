"""Differences between solvers: paired, adjusted, counted, and over seeds."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing_pomdp.evaluation.bootstrap import bootstrap_weights, intervals
from routing_pomdp.evaluation.frontier_outcomes import FrontierOutcomes
from routing_pomdp.evaluation.measures import measure
from routing_pomdp.evaluation.significance import (
    Difference,
    Resampled,
    across_seeds,
    holm,
    resamples_for,
    win_tie_loss,
)
from tests.support.outcomes import coin, family_of, rows_of


def difference(a, b, resamples=1000, level=0.95, seed=0) -> Difference:
    """AIQ of ``a`` minus ``b``."""
    return Resampled({"a": a, "b": b}, "aiq", resamples, seed).against("b", level)["a"]


def test_paired_difference_equals_resampling_in_a_loop():
    a, b = family_of(skill=0.5), family_of(skill=0.0)
    weights = bootstrap_weights(len(a), 40, seed=2)
    loop = []
    for counts in weights:
        rows = np.repeat(np.arange(len(a)), counts.astype(int))
        loop.append(measure(rows_of(a, rows), a).aiq - measure(rows_of(b, rows), b).aiq)
    result = difference(a, b, resamples=40, level=0.9, seed=2)
    assert result.difference == pytest.approx(measure(a, a).aiq - measure(b, b).aiq)
    np.testing.assert_allclose([result.low, result.high], np.quantile(loop, [0.05, 0.95]))
    fewer = min(np.sum(np.array(loop) <= 0), np.sum(np.array(loop) >= 0))
    assert result.p_value == pytest.approx(min(1, 2 * (fewer + 1) / 41))


def test_identical_families_do_not_differ_at_all():
    result = difference(family_of(), family_of(), resamples=100)
    assert (result.difference, result.low, result.high, result.p_value) == (0, 0, 0, 1)


def test_pairing_finds_a_difference_that_unpaired_intervals_hide():
    a, b = family_of(skill=0.4), family_of(skill=0.25)
    paired = difference(a, b, resamples=500)
    apart = [intervals(family, family, resamples=500)["aiq"] for family in (a, b)]
    assert paired.low > 0
    assert paired.p_value < 0.05
    assert apart[0][0] < apart[1][1]


def test_the_p_value_is_uniform_when_families_differ_by_chance_alone():
    rng, small = np.random.default_rng(4), 0
    for trial in range(200):
        thrown = coin(150, 0.5, rng)
        scores = rng.random((2, 150, 1)) < 0.6
        a, b = (
            FrontierOutcomes(
                s.astype(float), thrown.cost, thrown.model_score, thrown.model_cost,
                thrown.oracle_score, thrown.oracle_cost,
            )
            for s in scores
        )  # fmt: skip
        small += difference(a, b, resamples=200, seed=trial).p_value <= 0.1
    assert 0.05 <= small / 200 <= 0.17


def test_families_on_other_queries_are_refused():
    with pytest.raises(ValueError, match="b: model_score differs from the other families'"):
        difference(family_of(seed=0), family_of(seed=1))


def test_holm_by_hand():
    # 0.01·3 = .03, 0.02·2 = .04, 0.03·1 = .03, raised to .04 to stay in order.
    np.testing.assert_allclose(holm([0.03, 0.01, 0.02]), [0.04, 0.03, 0.04])
    np.testing.assert_allclose(holm([0.6, 0.7]), [1.0, 1.0])
    found = holm([0.02, float("nan"), 0.04])
    np.testing.assert_allclose([found[0], found[2]], [0.04, 0.04])
    assert np.isnan(found[1])
    assert holm([]) == []


@given(st.lists(st.floats(0.0001, 1), min_size=1, max_size=12), st.floats(0.001, 0.5))
def test_holm_rejects_what_stepping_down_rejects(p_values, alpha):
    """Its definition: the smallest is tried at alpha/m, the next at alpha/(m - 1) … until one
    fails."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    rejected = set()
    for step, i in enumerate(order):
        if p_values[i] * (len(p_values) - step) > alpha:
            break
        rejected.add(i)
    assert {i for i, p in enumerate(holm(p_values)) if p <= alpha} == rejected


def test_adjusted_values_are_never_smaller():
    families = {str(i): family_of(skill=skill) for i, skill in enumerate((0.0, 0.1, 0.3, 0.5))}
    for found in Resampled(families, "gap_closed", 200).against("0").values():
        assert found.p_holm >= found.p_value
        assert found.low <= found.difference <= found.high


def test_a_reference_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match=r"the reference 'x' is none of the solvers \['a'\]"):
        Resampled({"a": family_of()}, "aiq", 10).against("x")


def test_several_seeds_count_as_their_mean_in_every_resample():
    one, two = family_of(skill=0.2), family_of(skill=0.7)
    apart = Resampled({"one": one, "two": two}, "gap_closed", 200)
    together = Resampled({"both": [one, two], "one": one}, "gap_closed", 200)
    np.testing.assert_allclose(
        together.samples["both"], (apart.samples["one"] + apart.samples["two"]) / 2
    )
    assert together.point["both"] == pytest.approx((apart.point["one"] + apart.point["two"]) / 2)
    assert apart.best() == "two"


def test_wins_ties_and_losses_are_counted_from_both_sides():
    better = {
        "good": family_of(skill=0.8),
        "bad": family_of(skill=0.0),
        "same": family_of(skill=0.8),
    }
    settings = [Resampled(better, "aiq", 300, seed) for seed in (0, 1)]
    settings.append(Resampled({"good": family_of(seed=5), "bad": family_of(seed=5)}, "aiq", 300))
    count = win_tie_loss(settings)
    assert count["good", "bad"] == (2, 1, 0)
    assert count["bad", "good"] == (0, 1, 2)
    assert count["good", "same"] == (0, 2, 0)


def test_seeds_widen_the_interval_and_are_summed_up():
    same = [family_of()] * 3
    alone = across_seeds(same[:1], "aiq")
    assert np.isnan(alone.deviation)
    still = across_seeds(same, "aiq")
    assert still.deviation == pytest.approx(0, abs=1e-12)
    assert still.mean == pytest.approx(measure(same[0], same[0]).aiq)
    assert still.high - still.low == pytest.approx(alone.high - alone.low, rel=0.15)
    varied = [family_of(skill=skill) for skill in (0.0, 0.4, 0.8)]
    wide = across_seeds(varied, "aiq")
    assert wide.deviation == pytest.approx(np.std([measure(f, f).aiq for f in varied], ddof=1))
    assert wide.high - wide.low > 1.3 * (still.high - still.low)


@pytest.mark.parametrize("solvers", [2, 9, 20])
def test_a_clear_difference_among_many_solvers_can_be_significant(solvers):
    """With too few resamples Holm's correction alone would make everything a tie."""
    pairs = solvers * (solvers - 1) // 2
    resamples = resamples_for(pairs)
    assert holm([2 / (resamples + 1)] + [1.0] * (pairs - 1))[0] < 0.05
    assert resamples >= 1000
