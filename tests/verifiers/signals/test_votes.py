"""Signals from comparing answers, from another model, and from the prompt alone."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing_pomdp.verifiers import Agreement, Entailment, PreQuery, SelfConsistency, emitted, paid
from routing_pomdp.verifiers.answers.canonical import canonical
from routing_pomdp.verifiers.live import Query
from routing_pomdp.verifiers.signals.entailment import judgement
from routing_pomdp.verifiers.signals.pre_query import probability
from tests.support.clients import Scripted, case_of, signal_of
from tests.support.logs import log_of

CHOICES = Query("q", "Which is a fish?", "", ("a trout", "a toad", "a tern"))
OPEN = Query("q", "Where?", "")


# -- self-consistency -------------------------------------------------------------------------


def test_the_vote_share_of_a_choice_by_hand():
    client = Scripted(["A", "(A)", "The answer is B.", "a trout", "who knows", "A) a trout"])
    case = case_of(client, "A", query=CHOICES)
    signal = signal_of(SelfConsistency(samples=6), case)
    assert signal.value == 4 / 6
    assert signal.notes == {"unparsable": 1.0, "distinct": 2.0, "lead": 3.0}
    (call,) = client.calls
    assert (call["messages"], call["samples"], call["temperature"]) == (case.messages, 6, 0.7)


def test_the_vote_share_of_a_number_by_hand():
    client = Scripted(["#### 1,200", "It is 1200.0", "1200 km", "none", "The answer is 12"])
    signal = signal_of(SelfConsistency(samples=5, kind="number"), case_of(client, "1200"))
    assert signal.value == 3 / 5
    assert signal.notes == {"unparsable": 1.0, "distinct": 2.0, "lead": 2.0}


def test_the_vote_share_of_a_short_text_by_hand():
    client = Scripted(["the Zürich", "ZÜRICH.", "Zu\u0308rich", "Bern", "Bern!", ""])
    signal = signal_of(SelfConsistency(samples=6), case_of(client, "Zürich", query=OPEN))
    assert signal.value == 3 / 6
    assert signal.notes == {"unparsable": 1.0, "distinct": 2.0, "lead": 1.0}


def test_a_sample_is_what_it_gives_for_its_answer_whatever_it_says_before():
    said = [
        "<think>Rome?</think>I think so.\nAnswer: Paris",
        "**Final answer:** The Paris.",
        "Paris",
        "Answer: Rome\nNo.\nAnswer: paris",
        "Answer:\nParis",
        "<think>Paris",
    ]
    signal = signal_of(SelfConsistency(samples=6), case_of(Scripted(said), "Paris", query=OPEN))
    assert signal.value == 5 / 6
    assert signal.notes["unparsable"] == 1.0


def test_a_model_that_always_says_a_agrees_with_itself():
    for said in ("A", "the", "+", "B"):
        signal = signal_of(
            SelfConsistency(samples=3), case_of(Scripted([said] * 3), said, query=OPEN)
        )
        assert signal.value == 1.0


def test_one_number_is_one_vote_in_every_verifier_and_kind():
    written = ["10", "10.0", "1e1", "Answer: 10.00", r"\boxed{10}"]
    for kind in ("auto", "text", "number"):
        case = case_of(Scripted(written), "10", query=OPEN)
        assert signal_of(SelfConsistency(samples=5, kind=kind), case).value == 1.0
        assert signal_of(Agreement(kind=kind), case_of(None, *written, query=OPEN)).value == 1.0


def test_a_returned_answer_that_ties_or_loses_has_its_own_share_all_the_same():
    tie = signal_of(SelfConsistency(samples=4), case_of(Scripted(["x", "y", "y", "x"]), "x"))
    assert (tie.value, tie.notes["lead"]) == (0.5, 0.0)
    lost = signal_of(SelfConsistency(samples=4), case_of(Scripted(["y", "y", "y", "z"]), "x"))
    assert (lost.value, lost.notes["lead"], lost.notes["distinct"]) == (0.0, -3.0, 2.0)


@pytest.mark.parametrize("said", [["", "?!"], []])
def test_no_answer_agrees_with_no_answer(said):
    for returned in ("...", "Rome"):
        signal = signal_of(SelfConsistency(samples=2), case_of(Scripted(said), returned))
        assert signal.value == 0.0


@given(st.lists(st.sampled_from(["x", "y", "z", ""]), min_size=1, max_size=9))
def test_the_shares_of_all_possible_answers_sum_to_that_of_readable_votes(said):
    def ask(returned):
        return signal_of(SelfConsistency(samples=len(said)), case_of(Scripted(said), returned))

    found = [ask(returned) for returned in ("x", "y", "z")]
    assert all(0 <= signal.value <= 1 for signal in found)
    readable = 1 - found[0].notes["unparsable"] / len(said)
    assert sum(signal.value for signal in found) == pytest.approx(readable)


# -- agreement --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answers", "value", "compared"),
    [
        (["Paris"], 0.5, 0),
        (["Paris", "paris."], 1.0, 1),
        (["Paris", "Rome"], 0.0, 1),
        (["Paris", "Rome", "The Paris"], 0.5, 2),
        (["", ""], 0.0, 1),
        (["İstanbul", "İSTANBUL"], 1.0, 1),
        (["Ⅷ", "viii"], 1.0, 1),
    ],
)
def test_agreement_with_the_answers_paid_for(answers, value, compared):
    client = Scripted([])
    signal = signal_of(Agreement(), case_of(client, *answers))
    assert signal.value == value
    assert signal.notes == {"compared": compared}
    assert client.calls == []


def test_agreement_of_choices_and_numbers():
    case = case_of(None, "(B)", "It must be a toad", query=CHOICES)
    assert signal_of(Agreement(), case).value == 1.0
    assert signal_of(Agreement("agreement", "text"), case).value == 0.0
    assert signal_of(Agreement(kind="number"), case_of(None, "0.50", "1/2")).value == 1.0


@given(st.lists(st.text(max_size=4), min_size=1, max_size=5))
def test_agreement_is_a_share(answers):
    assert 0 <= signal_of(Agreement(), case_of(None, *answers)).value <= 1


def test_an_answer_equals_itself_in_every_form():
    for text, query, kind in (("B", CHOICES, "auto"), ("3.5", OPEN, "number"), ("x", OPEN, "text")):
        form = canonical(text, query, kind)
        assert form
        assert canonical(form, query, kind) == form


# -- entailment -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "worth"),
    [
        ("entailed", 1.0),
        ("**Contradicted.**", 0.0),
        ("NEUTRAL", 0.5),
        ("This is an entailment.", 1.0),
        ("neutral, not entailed", 0.5),
        ("not entailed", None),
        ("It isn't clearly entailed", None),
        ("entailed or contradicted", None),
        ("ｅｎｔａｉｌｅｄ", 1.0),
        ("<think>neutral or contradicted?</think>entailed", 1.0),
        ("not contradicted?</think>entailed", 1.0),
        ("<think>entailed", None),
        ("maybe", None),
        ("", None),
    ],
)
def test_a_judgement_is_read_or_left_unread(text, worth):
    assert judgement(text) == worth


def test_the_judge_is_asked_and_nobody_else():
    judge, own = Scripted(["entailed", "neutral", "hm", "contradicted"]), Scripted([])
    case = case_of(own, "Paris", judges={"judge": judge})
    signal = signal_of(Entailment(samples=4, temperature=0.5), case)
    assert signal.value == pytest.approx(0.5)
    assert signal.notes == {"unparsable": 1.0, "no_verdict": 0.0}
    assert own.calls == []
    assert "Paris is the capital." in judge.calls[0]["messages"][0]["content"]
    unread = signal_of(Entailment(), case_of(own, judges={"judge": Scripted(["hm"])}))
    assert np.isnan(unread.value)
    assert unread.notes["no_verdict"] == 1.0


def test_a_judge_that_is_not_there_is_named():
    case = case_of(None, judges={"nli": Scripted([])})
    for verifier in (Entailment(), PreQuery(judge="judge")):
        with pytest.raises(ValueError, match=r"verifier.judge is 'judge', .* judges \['nli'\]"):
            signal_of(verifier, case)


# -- before the query is answered -------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "guess"),
    [
        ("85", 0.85),
        ("85%", 0.85),
        ("about 12.5 %", 0.125),
        ("0.85", 0.85),
        ("0", 0.0),
        ("100", 1.0),
        ("101", None),
        ("-3", None),
        ("high", None),
        ("90? No.</think>85", 0.85),
        ("<think>90", None),
    ],
)
def test_a_guess_is_a_probability(text, guess):
    assert probability(text) == guess


def test_the_guess_is_asked_once_a_query_and_sees_no_answer():
    client = Scripted(["80", "pass", "40%"])
    signal = signal_of(PreQuery(samples=3), case_of(client, "Atlantis"))
    assert signal.value == pytest.approx(0.6)
    assert signal.notes == {"unparsable": 1.0}
    assert "Atlantis" not in client.calls[0]["messages"][0]["content"]
    assert math.isnan(signal_of(PreQuery(), case_of(client, "Atlantis", "Paris")).value)
    assert len(client.calls) == 1
    assert math.isnan(signal_of(PreQuery(), case_of(Scripted(["?"]))).value)


def test_a_judge_can_guess():
    judge = Scripted(["70"])
    assert signal_of(PreQuery(judge="j"), case_of(None, judges={"j": judge})).value == 0.7


def test_the_log_is_read_so_that_every_answer_has_its_querys_signal():
    logged = np.array([[0.2, np.nan, np.nan], [np.nan, 0.4, np.nan], [np.nan] * 3])
    cost = np.array([[0.1, np.nan, np.nan], [np.nan, 0.2, np.nan], [np.nan] * 3])
    log = log_of(3, signals={"pre_query": logged}, signal_costs={"pre_query": cost})
    found = emitted(PreQuery(), log)[..., 0]
    np.testing.assert_array_equal(found, np.repeat([[0.2], [0.4], [np.nan]], 3, axis=1))
    np.testing.assert_array_equal(paid(PreQuery(), log), [[0.1, 0, 0], [0, 0.2, 0], [0, 0, 0]])
