"""Tests of a mean loss: against enumeration, scipy's binomial tail and repeated draws."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from routing_pomdp.evaluation.loss_tests import (
    betting_p_value,
    exact_p_value,
    loss_p_value,
    queries_needed,
)


@pytest.mark.parametrize(("n", "epsilon"), [(20, 0.0), (25, 0.05), (40, 0.1)])
def test_the_exact_test_errs_at_most_as_often_as_its_level_at_every_share_of_discordant_queries(
    n, epsilon
):
    level = 0.1
    rejected = np.array(
        [
            (worse, better, n - worse - better)
            for worse in range(n + 1)
            for better in range(n + 1 - worse)
            if exact_p_value(worse, better, n, epsilon, level) <= level
        ]
    )
    sizes = []
    for share in np.linspace(max(epsilon, 0.001), 1, 60):
        worse, better = (share + epsilon) / 2, (share - epsilon) / 2
        odds = [worse, better, max(0.0, 1 - worse - better)]
        sizes.append(stats.multinomial.pmf(rejected, n, odds).sum())
    assert max(sizes) <= level
    assert max(sizes) > 0.6 * level  # and is not idle


def test_the_exact_test_sums_the_probabilities_of_what_lies_further_below_the_limit():
    # By enumeration at the shares of discordant queries within their interval, one by one.
    n, worse, better, epsilon, level = 30, 1, 3, 0.1, 0.1
    gamma = 0.05 * level
    low, high = stats.binomtest(worse + better, n).proportion_ci(1 - gamma, method="exact")

    def further(w, b):
        return (w - b - n * epsilon) / np.sqrt(max(w + b, n * epsilon))

    outcomes = [(w, b, n - w - b) for w in range(n + 1) for b in range(n + 1 - w)]
    counted = [o for o in outcomes if further(*o[:2]) <= further(worse, better) + 1e-12]
    worst = 0.0
    for share in np.linspace(max(low, epsilon), high, 400):
        odds = [(share + epsilon) / 2, (share - epsilon) / 2, 1 - share]
        worst = max(worst, stats.multinomial.pmf(counted, n, odds).sum())
    assert exact_p_value(worse, better, n, epsilon, level) == pytest.approx(worst + gamma, abs=1e-3)


def test_a_policy_that_never_differs_is_judged_by_the_binomial_tail_or_worse():
    # No loss among n has probability (1 − ε)^n at the limit where the policy never wins.
    for n in (50, 115, 200):
        tail = stats.binomtest(0, n, 0.02, alternative="less").pvalue
        assert tail <= exact_p_value(0, 0, n, 0.02, 0.1) <= 1
    assert exact_p_value(0, 0, 200, 0.02, 0.1) < 0.1 < exact_p_value(0, 0, 50, 0.02, 0.1)


def test_what_loses_as_much_as_the_limit_is_never_certified():
    assert exact_p_value(5, 0, 50, 0.1, 0.1) == 1
    assert exact_p_value(0, 0, 50, 0.0, 0.1) == 1
    assert exact_p_value(0, 0, 0, 0.1, 0.1) == 1


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 300), st.floats(0, 0.3), st.floats(0, 0.3), st.floats(0, 0.3), st.floats(0, 0.2)
)
def test_a_tighter_limit_is_harder_to_certify(n, worse, better, epsilon, less):
    losses, wins = int(n * worse), int(n * better)
    wide = exact_p_value(losses, wins, n, epsilon, 0.1)
    tight = exact_p_value(losses, wins, n, max(0.0, epsilon - less), 0.1)
    # An ordering by a studentised mean is monotone up to the ties that a step of ε makes.
    assert tight >= wide - 0.02 or tight > 0.1


def test_betting_by_hand():
    # Two queries of loss 0 in [−1, 1] against a mean of 0.5: x = .5, m = .75, variance first ¼.
    # log(1/.1) = 2.3026: the first bet √(2·2.3026/(2·.25)) = 3.035 is capped at .75/.25 = 3. Then
    # the mean is .5 and the variance .25/2: √(4.605/.25) is capped too. Capital (1 + 3·.25)².
    found = betting_p_value([0.0, 0.0], 0.5, 0.1, -1.0, 1.0)
    assert found == pytest.approx(1.75**-2)


def test_betting_errs_at_most_as_often_as_its_level():
    # Graded losses of mean .05 exactly, skewed so that most are 0.
    rng = np.random.default_rng(0)
    values, odds = [0.0, 0.5, 1.0, -0.25], [0.80, 0.06, 0.045, 0.095]
    limit = float(np.dot(values, odds))
    errors = sum(
        betting_p_value(rng.choice(values, 150, p=odds), limit, 0.1, -1.0, 1.0, seed=i) <= 0.1
        for i in range(600)
    )
    assert errors <= stats.binom.ppf(0.999, 600, 0.1)


def test_betting_does_not_mind_the_order_of_the_log():
    # A log sorted by domain: the policy wins early on and loses more later.
    sorted_log = np.concatenate([-np.ones(100), np.ones(200)])
    assert betting_p_value(sorted_log, 0.3, 0.1, -1.0, 1.0) > 0.1


def test_betting_says_at_once_what_the_range_decides():
    assert betting_p_value([0.1], 1.0, 0.1, 0.0, 1.0) == 0
    assert betting_p_value([0.1], 0.0, 0.1, 0.0, 1.0) == 1
    assert betting_p_value([], 0.5, 0.1, 0.0, 1.0) == 1
    with pytest.raises(ValueError, match=r"values from 0 to 2: expected all in \[0, 1\]"):
        betting_p_value([0.0, 2.0], 0.5, 0.1, 0.0, 1.0)


def test_the_variance_counts_not_the_range():
    # 300 queries that hardly ever differ certify 3 points; the same mean with wild losses does not.
    quiet = np.repeat([1.0, -1.0, 0.0], [2, 2, 296])
    wild = np.repeat([1.0, -1.0], [150, 150])
    for binary in (True, False):
        assert loss_p_value(quiet, 0.03, 0.1, binary) <= 0.1
        assert loss_p_value(wild, 0.03, 0.1, binary) > 0.1


@pytest.mark.parametrize("binary", [True, False])
def test_the_queries_needed_are_those_that_certify(binary):
    loss = np.repeat([1.0, -1.0, 0.0], [3, 3, 94])
    needed = queries_needed(loss, 0.03, 0.1, binary)
    assert needed is not None
    assert 100 < needed < 1000

    p = {}
    for n in (0.7 * needed, 1.4 * needed):
        each = round(0.03 * n)
        scaled = np.repeat([1.0, -1.0, 0.0], [each, each, round(n) - 2 * each])
        p[n < needed] = loss_p_value(scaled, 0.03, 0.1, binary)
    assert p[False] <= 0.1 < p[True]
    assert queries_needed(loss, 0.0, 0.1, binary) is None  # a mean of 0 is not below 0
    assert queries_needed(loss, 0.03, 0.1, binary, most=50) is None
