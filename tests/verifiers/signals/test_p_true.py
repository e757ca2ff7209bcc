"""The probability that the model gives its answer."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing_pomdp.verifiers import PTrue
from routing_pomdp.verifiers.live import Token
from routing_pomdp.verifiers.signals.p_true import _plain, yes_share
from tests.support.clients import Scripted, case_of, completion, signal_of, token


def said(*tokens):
    return Scripted([completion("".join(t.text for t in tokens), tokens)])


def test_every_spelling_of_both_words_counts():
    first = Token(
        "Yes",
        math.log(0.4),
        {"Yes": math.log(0.4), " yes": math.log(0.1), "▁YES": math.log(0.1), "Ġno": math.log(0.1),
         '"No"': math.log(0.1), "Ｎｏ": math.log(0.05), "None": math.log(0.1),
         "Maybe": math.log(0.05)},
    )  # fmt: skip
    client = said(first)
    signal = signal_of(PTrue(), case_of(client))
    assert signal.value == pytest.approx(0.6 / 0.85)
    assert signal.notes == {"mass": pytest.approx(0.85), "no_logprobs": 0.0}
    (call,) = client.calls
    assert (call["samples"], call["max_tokens"], call["top_logprobs"]) == (1, 1, 20)


def test_the_token_itself_counts_where_the_alternatives_leave_it_out():
    signal = signal_of(PTrue(), case_of(said(Token("no", math.log(0.3), {"Yes": math.log(0.1)}))))
    assert signal.value == pytest.approx(0.25)
    assert signal_of(PTrue(), case_of(said(Token(" No", -0.1)))).value == 0.0
    assert signal_of(PTrue(), case_of(said(Token("yes", -0.1)))).value == 1.0


def test_a_leading_space_is_skipped_if_more_tokens_were_asked_for():
    client = said(token("\n", 0.9, yes=0.1), token(" ", 1.0), token("No", 0.8, Yes=0.2))
    assert signal_of(PTrue(max_tokens=3), case_of(client)).value == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("client", "flag"),
    [
        (said(token("Maybe", 0.9, Perhaps=0.1)), 0.0),
        (said(token("\n", 1.0)), 0.0),
        (said(Token("yes", -math.inf)), 0.0),
        (said(Token("yes", math.nan)), 0.0),
        (Scripted(["Yes"]), 1.0),
        (Scripted([completion("", ())]), 1.0),
    ],
)
def test_what_says_neither_is_nothing_said(client, flag):
    signal = signal_of(PTrue(), case_of(client))
    assert math.isnan(signal.value)
    assert signal.notes == {"mass": 0.0, "no_logprobs": flag}


LOGPROBS = st.floats(-1e4, 0)


@given(LOGPROBS, LOGPROBS, st.floats(-1e3, 0))
def test_only_the_ratio_of_the_two_masses_counts(yes, no, shift):
    share, _ = yes_share(Token("yes", yes, {"no": no}))
    shifted, _ = yes_share(Token("yes", yes + shift, {"no": no + shift}))
    assert shifted == pytest.approx(share, rel=1e-6)
    assert 0 <= share <= 1
    other, _ = yes_share(Token("yes", no, {"no": yes}))
    assert share + other == pytest.approx(1)


@given(st.dictionaries(st.text(max_size=5), LOGPROBS), st.text(max_size=5), LOGPROBS)
def test_words_that_are_neither_change_nothing(others, text, logprob):
    neutral = {word: p for word, p in others.items() if _plain(word) not in ("yes", "no")}
    share, mass = yes_share(Token("YES", -1.0, neutral | {"no": -2.0}))
    assert share == pytest.approx(math.exp(-1) / (math.exp(-1) + math.exp(-2)))
    assert mass == pytest.approx(math.exp(-1) + math.exp(-2))
