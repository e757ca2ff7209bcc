"""Which decisions an episode offers, held to the definition in words."""

import numpy as np
import pytest

from routing_pomdp.envs import ESCALATE, STAY, Rules
from tests.support.problems import every_rules, name_of


def _legal(rules: Rules, stage: int, verified: bool) -> set[int]:
    """The definition, one sentence a line."""
    n = rules.n_models
    if stage == n - 1 or (stage < 0 and not rules.free_start):
        return set()  # nothing is left to decide, or nothing to decide yet
    if stage < 0:
        return set(range(1, n + 1))  # any model first, but there is no answer to stay with
    legal = {STAY, ESCALATE}
    if rules.skip:
        legal |= set(range(1, n - stage))  # any later model
    if rules.verify and not verified:
        legal.add(rules.n_actions - 1)  # an answer is verified at most once
    return legal


@pytest.mark.parametrize("n", [2, 3, 5])
def test_masks_offer_exactly_what_the_options_say(n):
    for rules in every_rules(n):
        assert rules.masks.shape == (n + 1, 2, rules.n_actions)
        for stage in range(-1, n):
            for verified in (False, True):
                row = rules.masks[stage + 1, int(verified)]
                assert set(np.flatnonzero(row)) == _legal(rules, stage, verified), name_of(rules)


def test_every_action_is_legal_somewhere():
    for rules in every_rules(4):
        used = rules.masks.any(axis=(0, 1))
        assert used.all(), name_of(rules)


def test_the_number_of_actions_is_that_of_the_options():
    assert Rules(5).n_actions == 2
    assert Rules(5, verify=True).n_actions == 3
    assert Rules(5, skip=True).n_actions == 5
    assert Rules(5, free_start=True).n_actions == 6
    assert Rules(5, skip=True, free_start=True, verify=True).n_actions == 7


def test_with_two_models_skipping_is_escalating():
    np.testing.assert_array_equal(Rules(2, skip=True).masks, Rules(2).masks)


def test_no_action_is_called_verify_where_verification_is_forced():
    assert Rules(3).verify_action == -1
    assert Rules(3, verify=True).verify_action == 2
    assert Rules(3, skip=True, verify=True).verify_action == 3


def test_labels_are_for_people():
    rules = Rules(4, skip=True, verify=True)
    labels = [rules.label(action) for action in range(rules.n_actions)]
    assert labels == ["STAY", "ESCALATE", "SKIP+2", "SKIP+3", "VERIFY"]
    assert Rules(4).label(-1) == "-1"


def test_masks_cannot_be_changed():
    with pytest.raises(ValueError, match="read-only"):
        Rules(3).masks[0] = True


def test_equal_rules_are_one_value():
    assert Rules(3, skip=True) == Rules(3, skip=True)
    assert len({Rules(3), Rules(3), Rules(4)}) == 2


@pytest.mark.parametrize("n", [1, 0, -2])
def test_fewer_than_two_models_are_refused(n):
    with pytest.raises(ValueError, match=f"at least 2 models, found {n}"):
        Rules(n)


def test_an_unknown_answer_rule_is_refused_with_those_known():
    with pytest.raises(ValueError, match=r"env\.answer is 'first'.*'last', 'best'"):
        Rules(3, answer="first")


def test_answers_that_a_decision_follows_are_verified_at_once_unless_that_is_an_action():
    assert Rules(3).verified_at_once.tolist() == [True, True, False]
    assert not Rules(3, verify=True).verified_at_once.any()
