"""Signals from the log-probabilities of the answer's own tokens."""

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from routing_pomdp.verifiers import AnswerLogprob, Margin
from routing_pomdp.verifiers.live import Answer, Token
from routing_pomdp.verifiers.signals.answer_logprob import answer_tokens
from tests.support.clients import Scripted, case_of, completion, signal_of, token

# "The answer is B", of which "B" is the answer.
SAID = (
    token("The", 0.9, A=0.1),
    token(" answer", 0.8, _word=0.1),
    token(" is", 1.0, _was=0.25),
    token(" B", 0.5, _C=0.3, _D=0.2),
)


def answer(text, tokens=SAID):
    whole = "".join(t.text for t in tokens)
    return Answer("m0", text, completion(whole, tokens))


def case(text, tokens=SAID):
    found = case_of(Scripted([]), text)
    return type(found)(found.query, (answer(text, tokens),), found.messages, found.client)


@pytest.mark.parametrize(
    ("reduction", "expected"),
    [
        ("mean", math.log(0.9 * 0.8 * 1.0 * 0.5) / 4),
        ("sum", math.log(0.9 * 0.8 * 1.0 * 0.5)),
        ("first", math.log(0.9)),
        ("least", math.log(0.5)),
    ],
)
def test_the_log_probability_of_the_completion_by_hand(reduction, expected):
    signal = signal_of(AnswerLogprob(reduction=reduction, span="completion"), case("B"))
    assert signal.value == pytest.approx(expected)
    assert signal.notes == {"no_logprobs": 0.0}


@pytest.mark.parametrize(
    ("reduction", "expected"),
    [("first", 0.8), ("mean", (0.8 + 0.7 + 0.75 + 0.2) / 4), ("least", 0.2)],
)
def test_the_margin_over_the_completion_by_hand(reduction, expected):
    signal = signal_of(Margin(reduction=reduction, span="completion"), case("B"))
    assert signal.value == pytest.approx(expected)


def test_the_answers_own_tokens_are_found_in_the_completion():
    assert signal_of(AnswerLogprob(), case("B")).value == pytest.approx(math.log(0.5))
    assert signal_of(Margin(), case("B")).value == pytest.approx(0.2)
    tokens = [Token(text, -1.0) for text in ("A", "b", "; ", "B", " but", " no", ": ", "A", "!")]
    assert answer_tokens(answer("A", tokens), "answer") == tokens[7:8]
    assert answer_tokens(answer("no: A", tokens), "answer") == tokens[5:8]
    assert answer_tokens(answer("Ab", tokens), "answer") == tokens[0:2]


@pytest.mark.parametrize("text", ["C", "answe", "", "  "])
def test_an_answer_that_does_not_stand_in_the_completion_is_judged_by_all_of_it(text):
    assert answer_tokens(answer(text), "answer") == SAID


def test_characters_cut_by_tokens_do_not_break_it():
    pieces = [Token("caf", -1.0), Token("\ufffd", -2.0), Token("\ufffd", -3.0)]
    assert signal_of(AnswerLogprob(), case("café", pieces)).value == -2.0
    whole = [Token("是", -1.0), Token("巴黎", -4.0), Token("。", -1.0)]
    assert signal_of(AnswerLogprob(span="completion"), case("巴黎", whole)).value == -2.0


@given(
    st.lists(st.text(alphabet="ab (.\n", min_size=1, max_size=3), min_size=1, max_size=8),
    st.data(),
)
def test_the_tokens_found_cover_the_answer_and_no_more(texts, data):
    tokens = [Token(text, -1.0) for text in texts]
    whole = "".join(texts)
    begin = data.draw(st.integers(0, len(whole) - 1))
    wanted = whole[begin : data.draw(st.integers(begin + 1, len(whole)))].strip()
    found = answer_tokens(answer(wanted, tokens), "answer")
    if len(found) < len(tokens):
        assert wanted in "".join(t.text for t in found)
        assert wanted not in "".join(t.text for t in found[1:])
        assert wanted not in "".join(t.text for t in found[:-1])


def test_missing_log_probabilities_are_nothing_said():
    for tokens in (None, (), (Token("B", math.nan),)):
        found = case_of(Scripted([]), "B", tokens=tokens)
        for verifier in (AnswerLogprob(), Margin()):
            signal = signal_of(verifier, found)
            assert math.isnan(signal.value)
            assert signal.notes == {"no_logprobs": 1.0}


def test_a_token_without_a_second_one_has_no_margin():
    alone = (Token("x", -0.1), token("B", 0.6, C=0.2))
    assert signal_of(Margin(span="completion"), case("B", alone)).value == pytest.approx(0.4)
    assert math.isnan(signal_of(Margin(), case("x", alone[:1])).value)


def test_a_sampled_token_that_was_not_the_likeliest_has_the_margin_of_its_place():
    odd = (Token("B", math.log(0.1), {"A": math.log(0.6), "C": math.log(0.25)}),)
    assert signal_of(Margin(), case("B", odd)).value == pytest.approx(0.35)
    tied = (token("B", 0.4, C=0.4),)
    assert signal_of(Margin(), case("B", tied)).value == 0.0


def test_a_probability_of_0_is_a_finite_signal():
    impossible = (Token("B", -math.inf, {"B": -math.inf, "C": 0.0}),)
    assert signal_of(AnswerLogprob(), case("B", impossible)).value == -1e4
    assert signal_of(Margin(), case("B", impossible)).value == 1.0


def test_log_probabilities_above_0_by_rounding_are_0():
    assert signal_of(AnswerLogprob(), case("B", (Token("B", 1e-7, {"C": -40.0}),))).value == 0.0
    assert signal_of(Margin(), case("B", (Token("B", 1e-7, {"C": -800.0}),))).value == 1.0


@given(st.lists(st.tuples(st.floats(-100, 0), st.floats(-100, 0)), min_size=1, max_size=6))
@example([(-5.5884116359160056e-157, 0.0)] * 3)
def test_margins_are_in_the_unit_interval_and_log_probabilities_at_most_0(pairs):
    tokens = [Token("B ", own, {"B ": own, "C": other}) for own, other in pairs]
    for reduction in ("first", "mean", "least"):
        assert 0 <= signal_of(Margin(reduction=reduction), case("B", tokens)).value <= 1
    every = {
        reduction: signal_of(AnswerLogprob(reduction=reduction, span="completion"),
                             case("B", tokens)).value
        for reduction in ("mean", "sum", "first", "least")
    }  # fmt: skip
    assert every["sum"] <= every["least"] <= every["mean"] <= 0
    assert every["least"] <= every["first"]


def test_they_ask_for_what_they_read():
    assert (AnswerLogprob().top_logprobs, Margin().top_logprobs) == (0, 2)


@pytest.mark.parametrize("make", [AnswerLogprob, Margin])
def test_bad_settings_are_refused_by_key(make):
    for key in ("reduction", "span"):
        with pytest.raises(ValueError, match=f"verifier.{key} is 'max'"):
            make(**{key: "max"})
